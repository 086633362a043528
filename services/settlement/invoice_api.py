"""Invoices between companies over HTTP: how a company stands on them, issuing, and each document in five forms."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.domain.invoicing.invoice import TradeParty
from emobility.ports.ports import Ports
from emobility.protocols.en16931.cii import cii_of
from emobility.runtime.access import Access
from emobility.runtime.invoice_file import invoice_file
from emobility.runtime.invoice_page import invoice_page
from services.settlement.annex_pages import annex_table
from services.settlement.api import ROWS_MAX, NotHere, NotUnderstood, answer, of_party, party_of, read_body
from services.settlement.exposure import SIDES
from services.settlement.invoice_records import COMPANY, INVOICE, InvoiceRecord
from services.settlement.invoicing import Invoicing, NoSuchInvoice

NO_STORE = {"Cache-Control": "no-store"}


class CompanyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}/company."""

    name: str
    country: str
    street: str | None = None
    city: str | None = None
    post_code: str | None = None
    vat_id: str | None = None
    registration: str | None = None


class InvoiceAPI:
    """Routes for all companies that settle here; a document is shown to its two parties."""

    def __init__(self, ports: Ports, access: Access) -> None:
        self._ports = ports
        self._access = access
        self._invoicing = Invoicing(ports)

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("GET", "/{party}/company", self.show_company),
            ("PUT", "/{party}/company", self.put_company),
            ("PUT", "/{party}/self-billing/{emsp}", self.agree),
            ("DELETE", "/{party}/self-billing/{emsp}", self.end),
            ("GET", "/{party}/invoices", self.list_invoices),
            ("POST", "/{party}/invoices", self.issue),
            ("GET", "/{party}/invoices/{number}.xml", self.show_xml),
            ("GET", "/{party}/invoices/{number}.html", self.show_page),
            ("GET", "/{party}/invoices/{number}.pdf", self.show_pdf),
            ("GET", "/{party}/invoices/{number}/annex.csv", self.show_annex),
            ("GET", "/{party}/invoices/{number}", self.show),
        ):
            app.add_api_route(path, of_party(self._access, handler), methods=[method])

    async def show_company(self, _: Request, party_id: PartyId) -> Response:
        """Show how the company stands on invoices."""
        async with self._ports.units.begin() as unit:
            row = await unit.table(COMPANY).get(party_id)
        if row is None:
            raise NotHere(f"{party_id} has not said how it stands on invoices (PUT /settlement/{party_id}/company)")
        return answer(row.company)

    async def put_company(self, request: Request, party_id: PartyId) -> Response:
        """Enter it. The VAT number's form is checked; whether it was given to somebody, only a register knows."""
        asked = await read_body(request, CompanyRequest)
        if not asked.name.strip():
            raise NotUnderstood("a company has a name")
        await self._invoicing.enter_company(party_id, TradeParty(**msgspec.structs.asdict(asked)))
        return Response(status_code=204)

    async def agree(self, request: Request, party_id: PartyId) -> Response:
        """Let an MSP make the invoices in the CPO's name."""
        emsp_id = party_of(request.path_params["emsp"])
        await self._invoicing.agree_on_self_billing(party_id, emsp_id, is_agreed=True)
        return Response(status_code=204)

    async def end(self, request: Request, party_id: PartyId) -> Response:
        """Make them itself again."""
        emsp_id = party_of(request.path_params["emsp"])
        await self._invoicing.agree_on_self_billing(party_id, emsp_id, is_agreed=False)
        return Response(status_code=204)

    async def list_invoices(self, _: Request, party_id: PartyId) -> Response:
        """List documents that the party made or got, newest first."""
        async with self._ports.units.begin() as unit:
            rows = [
                row
                for side in SIDES
                for row in await unit.table(INVOICE).select({side: party_id}, order_by=("-issued_at",), limit=ROWS_MAX)
            ]
        rows.sort(key=lambda row: (row.issued_at, row.number), reverse=True)
        return answer([_shown(row) for row in rows[:ROWS_MAX]])

    async def issue(self, _: Request, party_id: PartyId) -> Response:
        """Issue what is the party's to issue; say what waits, and for what."""
        return answer(await self._invoicing.issue(party_id))

    async def show(self, request: Request, party_id: PartyId) -> Response:
        """Show a document."""
        row = await self._document(request, party_id)
        return answer(_shown(row) | {"invoice": row.invoice})

    async def show_xml(self, request: Request, party_id: PartyId) -> Response:
        """Hand a document out as EN 16931 wants it (CII)."""
        row = await self._document(request, party_id)
        return Response(cii_of(row.invoice), media_type="application/xml", headers=NO_STORE)

    async def show_page(self, request: Request, party_id: PartyId) -> Response:
        """Show a document to people."""
        return invoice_page((await self._document(request, party_id)).invoice)

    async def show_pdf(self, request: Request, party_id: PartyId) -> Response:
        """Hand a document out for people and machines in one (Factur-X), its CDRs with it."""
        row = await self._document(request, party_id)
        return await invoice_file(row.invoice, annex_table(await self._invoicing.annex_csv(row)))

    async def show_annex(self, request: Request, party_id: PartyId) -> Response:
        """Hand out the CDRs of a document: the bytes whose hash it names."""
        table = await self._invoicing.annex_csv(await self._document(request, party_id))
        return Response(table, media_type="text/csv", headers=NO_STORE)

    async def _document(self, request: Request, party_id: PartyId) -> InvoiceRecord:
        try:
            return await self._invoicing.document(party_id, request.path_params["number"])
        except NoSuchInvoice as missing:
            raise NotHere(str(missing)) from missing


def _shown(row: InvoiceRecord) -> dict[str, Any]:
    return {
        "number": row.number,
        "type": row.invoice.document_type,
        "cpo": row.cpo_id.code,
        "emsp": row.emsp_id.code,
        "issuer": row.issuer.code,
        "statement": row.statement_hash.hex(),
        "currency": row.currency,
        "net_cents": row.invoice.net_cents,
        "tax_cents": row.invoice.tax_cents,
        "gross_cents": row.gross_cents,
        "payable_cents": row.invoice.payable_cents,
        "due_on": row.invoice.due_on,
        "annex_sha256": row.annex_sha256,
        "issued_at": row.issued_at,
    }
