"""Drivers' invoices over HTTP: how the MSP stands on them, a month's run, and each document in four forms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.domain.invoicing.invoice import Invoice, TradeParty
from emobility.ports.ports import Ports
from emobility.protocols.en16931.cii import cii_of
from emobility.runtime.access import Access
from emobility.runtime.invoice_file import invoice_file
from emobility.runtime.invoice_page import invoice_page
from services.driver_mobility.api import answer, party_of, read_body
from services.driver_mobility.invoice_records import RetailInvoiceRecord
from services.driver_mobility.retail_invoicing import NoSuchRetailInvoice, RetailInvoicing

Handler = Callable[[Request, PartyId], Awaitable[Response]]


class SellerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}/seller."""

    name: str
    country: str
    vat_id: str
    time_zone: str
    street: str | None = None
    city: str | None = None
    post_code: str | None = None
    registration: str | None = None


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/invoices: a month such as 2026-11 that is over."""

    month: str


class RetailInvoiceAPI:
    """Routes for all MSPs hosted here."""

    def __init__(self, ports: Ports, access: Access) -> None:
        self._access = access
        self._invoicing = RetailInvoicing(ports)

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("PUT", "/{party}/seller", self.put_seller),
            ("POST", "/{party}/invoices", self.issue),
            ("GET", "/{party}/invoices", self.list_all),
            ("GET", "/{party}/drivers/{driver_id}/invoices", self.list_of_driver),
            ("GET", "/{party}/invoices/{number}.xml", self.show_xml),
            ("GET", "/{party}/invoices/{number}.html", self.show_page),
            ("GET", "/{party}/invoices/{number}.pdf", self.show_pdf),
            ("GET", "/{party}/invoices/{number}", self.show),
        ):
            app.add_api_route(path, self._guarded(handler), methods=[method])

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            emsp_id = party_of(request.path_params["party"])
            await self._access.party(request, emsp_id)
            try:
                return await handler(request, emsp_id)
            except NoSuchRetailInvoice as missing:
                return answer({"error": type(missing).__name__, "detail": str(missing)}, 404)

        return guarded

    async def put_seller(self, request: Request, emsp_id: PartyId) -> Response:
        """Enter how the MSP stands on invoices."""
        asked = await read_body(request, SellerRequest)
        values = {name: value for name, value in msgspec.structs.asdict(asked).items() if name != "time_zone"}
        await self._invoicing.enter_seller(emsp_id, TradeParty(**values), time_zone=asked.time_zone)
        return Response(status_code=204)

    async def issue(self, request: Request, emsp_id: PartyId) -> Response:
        """Invoice a month; say who waits, and why."""
        asked = await read_body(request, RunRequest)
        return answer(await self._invoicing.issue(emsp_id, asked.month))

    async def list_all(self, _: Request, emsp_id: PartyId) -> Response:
        """List documents, newest first."""
        return answer([_shown(row) for row in await self._invoicing.documents(emsp_id)])

    async def list_of_driver(self, request: Request, emsp_id: PartyId) -> Response:
        """List a driver's documents."""
        driver_id = request.path_params["driver_id"]
        return answer([_shown(row) for row in await self._invoicing.documents(emsp_id, driver_id)])

    async def show(self, request: Request, emsp_id: PartyId) -> Response:
        """Show a document."""
        return answer(await self._document(request, emsp_id))

    async def show_xml(self, request: Request, emsp_id: PartyId) -> Response:
        """Hand a document out as EN 16931 wants it (CII)."""
        document = cii_of(await self._document(request, emsp_id))
        return Response(document, media_type="application/xml", headers={"Cache-Control": "no-store"})

    async def show_page(self, request: Request, emsp_id: PartyId) -> Response:
        """Show a document to people."""
        return invoice_page(await self._document(request, emsp_id))

    async def show_pdf(self, request: Request, emsp_id: PartyId) -> Response:
        """Hand a document out for people and machines in one (Factur-X)."""
        return await invoice_file(await self._document(request, emsp_id))

    async def _document(self, request: Request, emsp_id: PartyId) -> Invoice:
        return await self._invoicing.document(emsp_id, request.path_params["number"])


def _shown(row: RetailInvoiceRecord) -> dict[str, Any]:
    return {
        "number": row.number,
        "type": row.invoice.document_type,
        "driver_id": row.driver_id,
        "month": row.month,
        "currency": row.currency,
        "gross_cents": row.gross_cents,
        "exact_e4": row.exact_e4,
        "carried_e4": row.carried_e4,
        "residue_e4": row.residue_e4,
        "bills": row.bills,
        "takes_back_from": row.invoice.preceding,
        "issued_at": row.issued_at,
    }
