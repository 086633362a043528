"""A party's page about invoices: issued and received, with every CDR that the two do not agree on."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from starlette.routing import BaseRoute

from emobility.domain.identifiers import PartyId
from emobility.domain.invoice_reconciliation import LineVerdict
from emobility.domain.money import decimal_from_e4
from emobility.protocols.ocpi.invoice_reconciliation import ReconciliationRecord, Reconciliations, ReconciliationShown
from emobility.runtime.access import Access
from emobility.runtime.operator_page import Link, OperatorPages, Section, Shown, Visit
from emobility.runtime.settings import Settings

BELOW: Final = "/{party}/invoice-page"
LINES_SHOWN_MAX: Final = 500


class ReconciliationPage:
    """Its pages."""

    def __init__(self, reconciliations: Reconciliations) -> None:
        self._reconciliations = reconciliations
        self.routes = (("GET", "/", self.overview), ("GET", "/{other}/{record_id}", self.one))

    async def overview(self, visit: Visit) -> Shown:
        """List all invoices, the newest of each counterparty first."""
        records = await self._reconciliations.records(_own(visit))
        columns = ("With", "Issued by", "Invoice", "Period", "CDRs", "Stated", "Accepted", "State")
        return Shown(title="Invoices", sections=(Section(columns=columns, rows=[_row(each) for each in records]),))

    async def one(self, visit: Visit) -> Shown:
        """Show the CDRs of one invoice, those that differ first."""
        named = visit.request.path_params
        record = await self._reconciliations.record(_own(visit), PartyId(named["other"]), named["record_id"])
        return Shown(title=f"Invoice {record.invoice_id} with {record.counterparty}", sections=(_lines(record),))


def _row(record: ReconciliationShown) -> tuple[object, ...]:
    return (
        record.counterparty,
        record.issued_by,
        Link(text=record.invoice_id, path=f"/{record.counterparty}/{record.record_id}"),
        f"{_day(record.period_since)} to {_day(record.period_until)}",
        record.cdrs,
        _amount(record.stated_e4, record.currency),
        _amount(record.accepted_e4, record.currency) if record.answered_at else "-",
        f"{record.state} ({len(record.differing)})" if record.differing else record.state,
    )


def _lines(record: ReconciliationRecord) -> Section:
    ordered = sorted(record.answers, key=lambda each: each.verdict is LineVerdict.ACCEPTED)
    rows = [
        (each.cdr_id, each.verdict, _amount(each.stated_e4, record.currency), _amount(each.booked_e4, None), each.see)
        for each in ordered[:LINES_SHOWN_MAX]
    ]
    text = f"{record.state}. {len(record.lines)} CDRs are invoiced; {len(rows)} answers are shown."
    columns = ("CDR", "Answer", "Invoiced", f"In the books of {_answerer(record)}", "See")
    return Section(heading="CDRs", text=text, columns=columns, rows=rows)


def _answerer(record: ReconciliationRecord) -> PartyId:
    return record.counterparty if record.issued_by == record.party_id else record.party_id


def _amount(amount_e4: int | None, currency: str | None) -> str:
    return "-" if amount_e4 is None else f"{decimal_from_e4(amount_e4)} {currency or ''}".rstrip()


def _day(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _own(visit: Visit) -> PartyId:
    assert visit.party_id is not None, "the page is a party's"
    return visit.party_id


def reconciliation_pages(reconciliations: Reconciliations, access: Access, settings: Settings) -> list[BaseRoute]:
    """Return the routes of the page, for a service's app."""
    ports = reconciliations.ports
    pages = OperatorPages(
        access=access,
        clock=ports.clock,
        randomness=ports.randomness,
        master_key=settings.master_key_bytes,
        below=BELOW,
        owner="Invoices",
        links=(Link(text="Invoices", path="/"),),
        is_https=settings.public_url.startswith("https://"),
    )
    return pages.routes(ReconciliationPage(reconciliations).routes)
