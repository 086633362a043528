"""Everything an audit reads, gathered once: rows of every party and every event of the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from emobility.adapters.payments import test_provider
from emobility.domain.retail_account import RetailAccount
from emobility.domain.transaction import Transaction
from emobility.events.charging import CHARGING, AuthorizationDecided, TransactionEvent
from emobility.events.event import LoggedEvent
from emobility.events.fold import TransactionKey, apply, transaction_key
from emobility.ports.event_log import EventLog, ParkedEvent
from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec
from emobility.ports.unit_of_work import UnitOfWork, Units
from emobility.protocols.ocpi.deliveries import DELIVERY, Delivery
from roaming_hub.records import CDR_FORWARD, HUB_CLIENT, CDRForward
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp

R = TypeVar("R")

CONSUMER_GROUPS: Final = ("charging_operations", "driver_mobility")


@dataclass(slots=True, kw_only=True)
class Books:
    """Rows as they are stored, and transactions as they follow from the log alone.

    `has_hub`: a hub lives in this database; where it lives elsewhere, its records are audited there.
    """

    cpo_transactions: list[cpo.TransactionRecord] = field(default_factory=list)
    cpo_tariffs: list[cpo.TariffVersion] = field(default_factory=list)
    cpo_newest_tariffs: list[cpo.TariffVersion] = field(default_factory=list)
    cpo_sessions: list[cpo.SessionRecord] = field(default_factory=list)
    cpo_cdrs: list[cpo.CDRRecord] = field(default_factory=list)
    quarantine: list[cpo.QuarantineRecord] = field(default_factory=list)
    cpo_disputes: list[cpo.DisputeRecord] = field(default_factory=list)
    emsp_tariffs: list[emsp.TariffVersion] = field(default_factory=list)
    tokens: dict[tuple[str, str], emsp.DriverToken] = field(default_factory=dict)
    emsp_cdrs: list[emsp.CDRRecord] = field(default_factory=list)
    emsp_disputes: list[emsp.DisputeRecord] = field(default_factory=list)
    quotes: dict[tuple[str, str], emsp.QuoteRecord] = field(default_factory=dict)
    bills: list[emsp.BillRecord] = field(default_factory=list)
    accounts: list[RetailAccount] = field(default_factory=list)
    payment_orders: list[emsp.PaymentOrder] = field(default_factory=list)
    provider_payments: list[test_provider.SandboxPayment] = field(default_factory=list)
    has_hub: bool = False
    hub_forwards: list[CDRForward] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    logged_transactions: dict[TransactionKey, Transaction] = field(default_factory=dict)
    logged_events: int = 0
    lag: Mapping[str, int] = field(default_factory=dict)
    parked: list[ParkedEvent] = field(default_factory=list)


async def all_rows(unit: UnitOfWork, spec: TableSpec[R]) -> list[R]:
    """Return every row of a table, in the order of its key."""
    rows: list[R] = []
    while True:
        page = await unit.table(spec).select(order_by=spec.key, offset=len(rows))
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            return rows


async def gather_books(units: Units, event_log: EventLog) -> Books:
    """Read rows in one unit, then the log, which never forgets and only grows."""
    books = Books(lag=await event_log.lag())
    async with units.begin() as unit:
        books.cpo_transactions = await all_rows(unit, cpo.TRANSACTION)
        books.cpo_tariffs = await all_rows(unit, cpo.TARIFF)
        books.cpo_newest_tariffs = await all_rows(unit, cpo.NEWEST_TARIFF)
        books.cpo_sessions = await all_rows(unit, cpo.SESSION)
        books.cpo_cdrs = await all_rows(unit, cpo.CDRS)
        books.quarantine = await all_rows(unit, cpo.QUARANTINE)
        books.cpo_disputes = await all_rows(unit, cpo.DISPUTE)
        books.emsp_tariffs = await all_rows(unit, emsp.TARIFF)
        books.tokens = {(row.party_id.code, row.token_subject): row for row in await all_rows(unit, emsp.TOKEN)}
        books.emsp_cdrs = await all_rows(unit, emsp.CDRS)
        books.emsp_disputes = await all_rows(unit, emsp.DISPUTE)
        books.quotes = {(row.party_id.code, row.quote_id): row for row in await all_rows(unit, emsp.QUOTE)}
        books.bills = await all_rows(unit, emsp.BILL)
        books.accounts = await all_rows(unit, emsp.ACCOUNT)
        books.payment_orders = await all_rows(unit, emsp.PAYMENT_ORDER)
        books.provider_payments = await all_rows(unit, test_provider.PAYMENT)
        books.has_hub = await unit.table(HUB_CLIENT).count() > 0
        books.hub_forwards = await all_rows(unit, CDR_FORWARD)
        books.deliveries = await all_rows(unit, DELIVERY)
    async for logged in event_log.read([CHARGING]):
        _enter(books, logged)
    for group in CONSUMER_GROUPS:
        books.parked += await event_log.parked(group)
    return books


def _enter(books: Books, logged: LoggedEvent) -> None:
    books.logged_events += 1
    event = logged.envelope.event
    if isinstance(event, TransactionEvent | AuthorizationDecided):
        key = transaction_key(event)  # type: ignore[arg-type]  # its three kinds are all there are
        if key is not None and (isinstance(event, TransactionEvent) or key in books.logged_transactions):
            books.logged_transactions[key] = apply(books.logged_transactions.get(key), event)  # type: ignore[arg-type]
