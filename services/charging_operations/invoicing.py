"""What a CPO invoices its eMSPs: a reconciliation record per pair and statement period, and its own books for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from fastapi import Request

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.batch.period import period_at
from emobility.domain.errors import EmobilityError, RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.invoice_reconciliation import BookedCDR, Standing
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.invoice_reconciliation import (
    NoSuchRecord,
    ReconciliationRecord,
    Reconciliations,
    ReconciliationShown,
    shown,
)
from emobility.runtime.access import TokenRole
from services.charging_operations.office import NotFound, Office, signed_agreements
from services.charging_operations.records import CDRS, CPO, DISPUTE, CDRRecord
from services.charging_operations.routes import Route, RouteTable, party_of, read_body

ISSUED_AFTER: Final = timedelta(minutes=30)
"""How long after its end a period is invoiced: by then what was issued in it is stored, and has mostly arrived."""
ROWS_AT_ONCE: Final = 500

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CPOBooks:
    """The CDRs a CPO issued (`Books`): an eMSP that invoices in reverse must have them as they are here."""

    async def booked(
        self, unit: UnitOfWork, own: PartyId, counterparty: PartyId, cdr_ids: Sequence[str]
    ) -> list[BookedCDR]:
        """See `Books`."""
        rows = await unit.table(CDRS).select({"party_id": own, "emsp_id": counterparty, "cdr_id": tuple(cdr_ids)})
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
        """See `Books`."""
        found: list[BookedCDR] = []
        while at_most is None or len(found) < at_most:
            rows = await unit.table(CDRS).select(
                {"party_id": own, "emsp_id": counterparty},
                since=("last_updated", since),
                before=("last_updated", until),
                order_by=("cdr_id",),
                offset=len(found),
                limit=ROWS_AT_ONCE,
            )
            found += await _booked(unit, own, counterparty, rows)
            if len(rows) < ROWS_AT_ONCE:
                break
        return found


async def _booked(unit: UnitOfWork, own: PartyId, emsp_id: PartyId, rows: Sequence[CDRRecord]) -> list[BookedCDR]:
    disputes = await unit.table(DISPUTE).select(
        {"party_id": own, "emsp_id": emsp_id, "cdr_id": tuple(row.cdr_id for row in rows)}
    )
    disputed = {each.cdr_id for each in disputes if each.answer is None}
    credits_ = await unit.table(CDRS).select(
        {"party_id": own, "cdr_id": tuple(row.credited_by for row in rows if row.credited_by is not None)}
    )
    credited_at = {each.cdr_id: each.last_updated for each in credits_}
    return [
        BookedCDR(
            cdr_id=row.cdr_id,
            standing=Standing.DISPUTED if row.cdr_id in disputed else Standing.ACCEPTED,
            amount_e4=row.cdr.total_cost.excl_e4,
            currency=row.cdr.currency,
            credited_by=row.credited_by,
            credited_at=None if row.credited_by is None else credited_at.get(row.credited_by),
        )
        for row in rows
    ]


class LeavesUninvoiced(RuleBroken):
    """CDRs from before the period are on no invoice, and would be on none: what comes next begins after it."""

    def __init__(self, cdrs: int) -> None:
        self.cdrs = cdrs
        super().__init__(f"{cdrs} CDRs from before this period are not invoiced: invoice them first, or begin earlier")


class CDRsStillArriving(RuleBroken):
    """A period ended just now: a CDR that is being stored would be on no invoice."""

    def __init__(self, complete_at: datetime) -> None:
        self.complete_at = complete_at
        super().__init__(f"CDRs of this period may still be stored: invoice it from {complete_at.isoformat()} on")


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicePeriod:
    """What to invoice an eMSP: CDRs issued from `since` until before `until`, under a number of one's own."""

    counterparty: PartyId
    since: datetime
    until: datetime
    invoice_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoicing:
    """Invoices each statement period once it is over."""

    office: Office
    reconciliations: Reconciliations

    async def issue_due(self) -> None:
        """Invoice every period that is over and has CDRs nobody invoiced, and answer anew what was invoiced to us.

        A pair that fails holds up no other.
        """
        async with self.office.ports.units.begin() as unit:
            parties = [row.party_id for row in await unit.table(CPO).select()]
            terms = {own: await signed_agreements(unit, own) for own in parties}
        for own, agreements in terms.items():
            for emsp_id in sorted({each.emsp_id for each in agreements}):
                of_pair = [each for each in agreements if each.emsp_id == emsp_id]
                try:
                    await self._issue_pair(own, emsp_id, of_pair)
                except Unavailable:
                    raise
                except EmobilityError as error:
                    _log.warning("not_invoiced", own=own.code, emsp=emsp_id.code, reason=str(error))
            await self.reconciliations.look_again(own)  # at what its eMSPs invoiced in reverse

    async def issue(self, own: PartyId, asked: InvoicePeriod) -> list[ReconciliationRecord]:
        """Invoice a period that an operator names.

        Raises:
            LeavesUninvoiced, CDRsStillArriving: CDRs would be on no invoice.
            CutsShort, NotAPeriod, NothingToInvoice: as `Reconciliations.issue` does.
        """
        complete_at = asked.until + ISSUED_AFTER
        if asked.until <= self.office.now() < complete_at:
            raise CDRsStillArriving(complete_at)
        async with self.office.ports.units.begin() as unit:
            after = await self.reconciliations.last_until(unit, own, asked.counterparty)
            left = 0
            if after is None or after < asked.since:
                left = await unit.table(CDRS).count(
                    {"party_id": own, "emsp_id": asked.counterparty},
                    since=None if after is None else ("last_updated", after),
                    before=("last_updated", asked.since),
                )
        if left:
            raise LeavesUninvoiced(left)
        return await self.reconciliations.issue(
            own, asked.counterparty, since=asked.since, until=asked.until, invoice_id=asked.invoice_id
        )

    async def _issue_pair(self, own: PartyId, emsp_id: PartyId, agreements: Sequence[RoamingAgreement]) -> None:
        while (period := await self._next_period(own, emsp_id, agreements)) is not None:
            await self.reconciliations.issue(own, emsp_id, since=period[0], until=period[1])

    async def _next_period(
        self, own: PartyId, emsp_id: PartyId, agreements: Sequence[RoamingAgreement]
    ) -> tuple[datetime, datetime] | None:
        """Return the period of the first CDR after the last record, if it is over."""
        async with self.office.ports.units.begin() as unit:
            after = await self.reconciliations.last_until(unit, own, emsp_id)
            rows = await unit.table(CDRS).select(
                {"party_id": own, "emsp_id": emsp_id},
                since=None if after is None else ("last_updated", after),
                order_by=("last_updated",),
                limit=1,
            )
        if not rows:
            return None
        issued_at = rows[0].last_updated
        terms = _terms_at(agreements, issued_at)
        since, until = period_at(terms.statement_period, terms.time_zone, issued_at)
        if until + ISSUED_AFTER > self.office.now():
            return None
        return (since if after is None else max(since, after)), until


def _terms_at(agreements: Sequence[RoamingAgreement], at: datetime) -> RoamingAgreement:
    """The version that was the last to begin by then; a CDR before all of them goes by the first."""
    begun = [each for each in agreements if each.valid_from <= at]
    if not begun:
        return min(agreements, key=lambda each: each.valid_from)
    return max(begun, key=lambda each: (each.valid_from, each.version))


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicingAPI:
    """Routes of invoice reconciliation."""

    invoicing: Invoicing
    reconciliations: Reconciliations

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        one = "/invoice-reconciliations/{counterparty}/{record_id}"
        routes.add(
            "Invoices",
            [
                Route("GET", "/invoice-reconciliations", self.list_invoices, None, list[ReconciliationShown]),
                Route(
                    "POST",
                    "/invoice-reconciliations",
                    self.invoice_period,
                    InvoicePeriod,
                    list[ReconciliationShown],
                    status=201,
                ),
                Route("GET", one, self.show_invoice, None, ReconciliationRecord),
                Route("DELETE", one, self.withdraw_invoice, None, None),
            ],
            writes=TokenRole.OWNER,
        )

    async def list_invoices(self, _: Request, party_id: PartyId) -> Any:
        """List invoices issued and received, with what differs."""
        return await self.reconciliations.records(party_id)

    async def invoice_period(self, request: Request, party_id: PartyId) -> Any:
        """Tell an eMSP which CDRs of a period are invoiced; again: what changed."""
        asked = await read_body(request, InvoicePeriod)
        return [shown(each) for each in await self.invoicing.issue(party_id, asked)]

    async def show_invoice(self, request: Request, party_id: PartyId) -> Any:
        """Show an invoice with every CDR and every answer."""
        try:
            return await self.reconciliations.record(party_id, *_named(request))
        except NoSuchRecord as error:
            raise NotFound(str(error)) from error

    async def withdraw_invoice(self, request: Request, party_id: PartyId) -> Any:
        """Take an invoice of ours back; it stays in the list, and its period is not invoiced again by itself."""
        try:
            await self.reconciliations.withdraw(party_id, *_named(request))
        except NoSuchRecord as error:
            raise NotFound(str(error)) from error


def _named(request: Request) -> tuple[PartyId, str]:
    return party_of(request.path_params["counterparty"]), request.path_params["record_id"]
