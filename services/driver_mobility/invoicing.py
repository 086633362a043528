"""Invoices that CPOs send an MSP, compared with the CDRs it accepted; over HTTP for its operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from emobility.domain.identifiers import PartyId
from emobility.domain.invoice_reconciliation import BookedCDR, Standing
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.invoice_reconciliation import NoSuchRecord, Reconciliations, shown
from emobility.runtime.access import Access
from services.driver_mobility.api import answer, party_of, read_body
from services.driver_mobility.records import CDRS, CDRRecord, CDRState

ARRIVED_WITHIN: Final = timedelta(days=60)
"""How long after it was issued a CDR arrives at the latest, to be looked for as missing from an invoice."""
ROWS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class MSPBooks:
    """The CDRs an MSP received, and what it decided (`Books`)."""

    async def booked(
        self, unit: UnitOfWork, own: PartyId, counterparty: PartyId, cdr_ids: Sequence[str]
    ) -> list[BookedCDR]:
        """See `Books`."""
        rows = await unit.table(CDRS).select({"party_id": own, "cpo_id": counterparty, "cdr_id": tuple(cdr_ids)})
        return await _booked(unit, own, counterparty, rows)

    async def owed(
        self,
        unit: UnitOfWork,
        own: PartyId,
        counterparty: PartyId,
        *,
        since: datetime,
        until: datetime,
        at_most: int | None = None,
    ) -> list[BookedCDR]:
        """See `Books`. Only what was accepted, or accepted and credited later."""
        states = (CDRState.ACCEPTED, CDRState.CREDITED)
        found: list[BookedCDR] = []
        seen = 0
        while at_most is None or seen < at_most:
            rows = await unit.table(CDRS).select(
                {"party_id": own, "cpo_id": counterparty, "state": states},
                since=("received_at", since),
                before=("received_at", until + ARRIVED_WITHIN),
                order_by=("cdr_id",),
                offset=seen,
                limit=ROWS_AT_ONCE,
            )
            of_period = [row for row in rows if since <= row.cdr.issued_at < until]
            found += await _booked(unit, own, counterparty, of_period)
            seen += len(rows)
            if len(rows) < ROWS_AT_ONCE:
                break
        return found


async def _booked(unit: UnitOfWork, own: PartyId, cpo_id: PartyId, rows: Sequence[CDRRecord]) -> list[BookedCDR]:
    names = tuple(row.credited_by for row in rows if row.credited_by is not None)
    credits_ = await unit.table(CDRS).select({"party_id": own, "cpo_id": cpo_id, "cdr_id": names}) if names else []
    credited_at = {each.cdr_id: each.cdr.issued_at for each in credits_}
    return [
        BookedCDR(
            cdr_id=row.cdr_id,
            standing=_STANDING[row.state],
            amount_e4=row.cdr.total_cost.excl_e4,
            currency=row.cdr.currency,
            credited_by=row.credited_by,
            credited_at=None if row.credited_by is None else credited_at.get(row.credited_by),
        )
        for row in rows
    ]


_STANDING: Final = {
    CDRState.RECEIVED: Standing.UNDECIDED,
    CDRState.WAITING: Standing.UNDECIDED,
    CDRState.ACCEPTED: Standing.ACCEPTED,
    CDRState.DISPUTED: Standing.DISPUTED,
    CDRState.CREDITED: Standing.ACCEPTED,
}


class InvoicePeriodRequest(msgspec.Struct, frozen=True, kw_only=True):
    """In reverse billing: what the MSP invoices itself in the name of a CPO."""

    counterparty: PartyId
    since: datetime
    until: datetime
    invoice_id: str | None = None


class InvoicingAPI:
    """Routes of invoice reconciliation, as the CPO's back office has them."""

    def __init__(self, access: Access, reconciliations: Reconciliations) -> None:
        self._access = access
        self._reconciliations = reconciliations

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        one = "/invoice-reconciliations/{counterparty}/{record_id}"
        for method, path, handler, status in (
            ("GET", "/invoice-reconciliations", self._list, 200),
            ("POST", "/invoice-reconciliations", self._issue, 201),
            ("GET", one, self._show, 200),
            ("DELETE", one, self._withdraw, 200),
        ):
            app.add_api_route(f"/{{party}}{path}", self._guarded(handler, status), methods=[method])

    def _guarded(self, handler: Any, status: int) -> Any:
        async def guarded(request: Request) -> Response:
            emsp_id = party_of(request.path_params["party"])
            await self._access.party(request, emsp_id)
            try:
                return answer(await handler(request, emsp_id), status)
            except NoSuchRecord as error:
                raise HTTPException(status_code=404, detail=str(error)) from error

        return guarded

    async def _list(self, _: Request, emsp_id: PartyId) -> Any:
        return await self._reconciliations.records(emsp_id)

    async def _issue(self, request: Request, emsp_id: PartyId) -> Any:
        asked = await read_body(request, InvoicePeriodRequest)
        made = await self._reconciliations.issue(
            emsp_id, asked.counterparty, since=asked.since, until=asked.until, invoice_id=asked.invoice_id
        )
        return [shown(each) for each in made]

    async def _show(self, request: Request, emsp_id: PartyId) -> Any:
        return await self._reconciliations.record(emsp_id, *_named(request))

    async def _withdraw(self, request: Request, emsp_id: PartyId) -> Any:
        await self._reconciliations.withdraw(emsp_id, *_named(request))
        return {}


def _named(request: Request) -> tuple[PartyId, str]:
    return party_of(request.path_params["counterparty"]), request.path_params["record_id"]
