"""What is kept of a driver, why and until when: counted from the rows, by the law of each country that they touch.

The erasure of a driver rests on the same count, so what an operator is shown before is what happens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.retention import DocumentKind, RetentionTerms
from emobility.ports.unit_of_work import UnitOfWork
from services.driver_mobility.invoice_records import RETAIL_INVOICE
from services.driver_mobility.pages import every
from services.driver_mobility.records import (
    ACCOUNT,
    BILL,
    CDRS,
    DRIVER,
    ERASURE,
    LOGIN,
    PAYMENT_ORDER,
    QUOTE,
    TOKEN,
    CDRState,
    Driver,
    ErasureRecord,
    ErasureState,
    KeptDocuments,
    PaymentState,
    QuoteState,
    RetentionDuty,
)

CONTRACT: Final = "the contract (GDPR art. 6(1)(b)); erased with the driver"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriversDocuments:
    """What there is of a driver.

    Attributes:
        kept: By kind and law; without a date what goes with the driver.
        duties: Why something must be kept: by law, and what keeps books open besides.
        token_subjects: That stand in CDRs.
    """

    kept: tuple[KeptDocuments, ...]
    duties: tuple[RetentionDuty, ...]
    token_subjects: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOfDriver:
    """A line of `wattroam retention`: a driver, whether erased, and what is kept until when."""

    driver_id: str
    state: str
    until: datetime | None
    duties: tuple[RetentionDuty, ...]
    kept: tuple[KeptDocuments, ...]


async def documents_of(
    unit: UnitOfWork, terms: RetentionTerms, driver: Driver, *, now: datetime, erased: ErasureRecord | None = None
) -> DriversDocuments:
    """Count a driver's documents and say until when the law asks for them.

    `erased`: their erasure, if it is over and counted anew. It deleted the rows of tokens, and names their keys; what
    is unpaid or disputed had the time of one document to be settled, and is given no more.
    """
    of_driver = {"party_id": driver.party_id, "driver_id": driver.driver_id}
    home = driver.party_id.country_code
    tokens = await every(unit, TOKEN, of_driver)
    quotes = await every(unit, QUOTE, of_driver)
    ended = () if erased is None else (*erased.restricted_subjects, *erased.destroyed_subjects)
    seen = {token.token_subject for token in tokens} | {quote.token_subject for quote in quotes}
    subjects = tuple(seen.union(ended))
    cdrs = await every(unit, CDRS, {"party_id": driver.party_id, "token_subject": subjects}) if subjects else []
    places = {(cdr.cpo_id, cdr.cdr_id): cdr.cdr.location.country for cdr in cdrs}
    bills = await every(unit, BILL, of_driver)
    invoices = await every(unit, RETAIL_INVOICE, of_driver)
    orders = await every(unit, PAYMENT_ORDER, of_driver)
    of_bill = {bill.bill_id: (home, places.get((bill.cpo_id, bill.cdr_id), home)) for bill in bills}
    of_invoice = {row.number: {home}.union(*(of_bill.get(bill_id, ()) for bill_id in row.bills)) for row in invoices}
    found = [
        *((DocumentKind.RETAIL_BILL, bill.billed_at, of_bill[bill.bill_id]) for bill in bills),
        *((DocumentKind.RETAIL_INVOICE, row.issued_at, of_invoice[row.number]) for row in invoices),
        *((DocumentKind.PAYMENT, order.ordered_at, of_bill.get(order.bill_id or "", (home,))) for order in orders),
        *((DocumentKind.CDR, cdr.received_at, (home, cdr.cdr.location.country)) for cdr in cdrs),
        *(
            (DocumentKind.SIGNED_METER_RECORD, cdr.received_at, (home, cdr.cdr.location.country))
            for cdr in cdrs
            if cdr.cdr.signed_data is not None
        ),
        *((DocumentKind.QUOTE, quote.quote.issued_at, ()) for quote in quotes if quote.state is not QuoteState.BILLED),
        *((DocumentKind.TOKEN, now, ()) for _ in tokens),
        *((DocumentKind.LOGIN, now, ()) for _ in await every(unit, LOGIN, of_driver)),
    ]
    accounts = await unit.table(ACCOUNT).select(of_driver)
    is_unpaid = any(account.due_e4 for account in accounts) or any(
        order.state is PaymentState.PENDING for order in orders
    )
    duties = {
        RetentionDuty.FISCAL: any(each.until is not None for each in _added_up(terms, found, now=now)),
        RetentionDuty.UNPAID: is_unpaid,
        RetentionDuty.DISPUTED: any(cdr.state is CDRState.DISPUTED for cdr in cdrs),
    }
    if erased is None and (duties[RetentionDuty.UNPAID] or duties[RetentionDuty.DISPUTED]):
        # What will settle it, a payment or a credit, is a document of its own, of this year at the earliest.
        found.append((DocumentKind.PAYMENT, now, (home,)))
    return DriversDocuments(
        kept=_added_up(terms, found, now=now),
        duties=tuple(duty for duty, holds in duties.items() if holds),
        token_subjects=frozenset(cdr.token_subject for cdr in cdrs),
    )


async def retention_of(
    unit: UnitOfWork, terms: RetentionTerms, emsp_id: PartyId, *, now: datetime, offset: int, limit: int
) -> list[KeptOfDriver]:
    """Return what is kept for whom: drivers with a contract or whose evidence is closed, then those who are gone.

    One whose erasure a crash cut short may stand twice until a sweep finished it. Fewer than `limit` are the last.
    """
    of_msp = {"party_id": emsp_id}
    drivers = await unit.table(DRIVER).select(of_msp, offset=offset, limit=limit)
    lines = [await _line_of(unit, terms, driver, now=now) for driver in drivers]
    if len(drivers) < limit:
        gone = await unit.table(ERASURE).select(
            of_msp | {"state": (ErasureState.PENDING, ErasureState.ERASED)},
            offset=max(0, offset - await unit.table(DRIVER).count(of_msp)),
            limit=limit - len(drivers),
        )
        lines += map(_line_of_erased, gone)
    return lines


async def retention_of_driver(
    unit: UnitOfWork, terms: RetentionTerms, emsp_id: PartyId, driver_id: str, *, now: datetime
) -> list[KeptOfDriver]:
    """Return what is kept of one driver; nothing, if there never was one."""
    driver = await unit.table(DRIVER).get(emsp_id, driver_id)
    if driver is not None:
        return [await _line_of(unit, terms, driver, now=now)]
    erasure = await unit.table(ERASURE).get(emsp_id, driver_id)
    return [] if erasure is None else [_line_of_erased(erasure)]


async def _line_of(unit: UnitOfWork, terms: RetentionTerms, driver: Driver, *, now: datetime) -> KeptOfDriver:
    erasure = await unit.table(ERASURE).get(driver.party_id, driver.driver_id)
    if erasure is not None:
        return _line_of_erased(erasure)
    found = await documents_of(unit, terms, driver, now=now)
    return KeptOfDriver(
        driver_id=driver.driver_id,
        state="CONTRACT",
        until=max((each.until for each in found.kept if each.until is not None), default=None),
        duties=found.duties,
        kept=found.kept,
    )


def _line_of_erased(erasure: ErasureRecord) -> KeptOfDriver:
    is_gone = erasure.state is ErasureState.ERASED
    return KeptOfDriver(
        driver_id=erasure.driver_id,
        state=erasure.state.value,
        until=None if is_gone else erasure.restricted_until,
        duties=() if is_gone else erasure.duties,
        kept=() if is_gone else erasure.kept,
    )


def _added_up(
    terms: RetentionTerms, found: Iterable[tuple[DocumentKind, datetime, Iterable[str]]], *, now: datetime
) -> tuple[KeptDocuments, ...]:
    """Add up what is alike: of a kind and by the same law; what no law asks for any more has no date."""
    lines: dict[tuple[DocumentKind, str, bool], KeptDocuments] = {}
    for kind, at, countries in found:
        kept = terms.kept(kind, at, countries=countries)
        is_due = kept is not None and kept.until > now
        law = f"{kept.rule.country}: {kept.rule.law}, {kept.rule.years} years" if kept and is_due else CONTRACT
        until = kept.until if kept and is_due else None
        known = lines.get((kind, law, is_due))
        line = known or KeptDocuments(kind=kind, count=0, until=until, law=law)
        latest = max(filter(None, (line.until, until)), default=None)
        lines[kind, law, is_due] = replace(line, count=line.count + 1, until=latest)
    return tuple(sorted(lines.values(), key=lambda line: (line.kind, line.law)))
