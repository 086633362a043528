"""Everything an audit reads, gathered once: rows of every party and every event of the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from emobility.adapters.payments import test_provider
from emobility.domain.retail_account import RetailAccount
from emobility.domain.transaction import Transaction, empty
from emobility.events.charging import CHARGING, AuthorizationDecided, TransactionEvent
from emobility.events.event import LoggedEvent
from emobility.events.fold import TransactionKey, apply, transaction_key
from emobility.ports.event_log import Bounds, DiscardedEvent, EventLog, ParkedEvent
from emobility.ports.unit_of_work import Units
from emobility.ports.vault import Vault
from emobility.protocols.ocpi.deliveries import DELIVERY, Delivery
from roaming_hub.records import CDR_FORWARD, HUB_CLIENT, CDRForward
from services.audit.money_rows import MoneyRows, gather_late_payables, gather_money
from services.audit.rows import all_rows
from services.audit.settlement_rows import SettlementRows, gather_settlement
from services.audit.unsealing import Unsealed, unseal
from services.charging_operations import records as cpo
from services.charging_operations.ad_hoc_ledger import AD_HOC_ENTRY, AdHocEntryRecord
from services.charging_operations.ad_hoc_records import AD_HOC_SALE, AdHocSaleRecord
from services.charging_operations.ad_hoc_work import payment_key
from services.driver_mobility import records as emsp

CPO_GROUP: Final = "charging_operations"
SETTLEMENT_GROUP: Final = "settlement"
MONEY_GROUP: Final = "settlement-money"
EXPOSURE_GROUP: Final = "charging_operations_exposure"
UNPAID_GROUP: Final = "driver_mobility_unpaid"
CONSUMER_GROUPS: Final = (
    CPO_GROUP,
    "driver_mobility",
    SETTLEMENT_GROUP,
    MONEY_GROUP,
    EXPOSURE_GROUP,
    UNPAID_GROUP,
)


@dataclass(slots=True, kw_only=True)
class Books:
    """Rows as they are stored, and transactions as they follow from the log alone.

    `has_hub`: a hub lives in this database; where it lives elsewhere, its records are audited there.
    `log_bounds`: what the log held after it was read, so that nothing is taken for held that was pruned meanwhile.
    `without_discarded`: transactions of which the CPO discarded events, as they are without those.
    `unsealed`: what follows from sealed fields; None: nobody opened them.
    """

    cpo_transactions: list[cpo.TransactionRecord] = field(default_factory=list)
    cpo_tariffs: list[cpo.TariffVersion] = field(default_factory=list)
    cpo_newest_tariffs: list[cpo.TariffVersion] = field(default_factory=list)
    cpo_sessions: list[cpo.SessionRecord] = field(default_factory=list)
    cpo_cdrs: list[cpo.CDRRecord] = field(default_factory=list)
    quarantine: list[cpo.QuarantineRecord] = field(default_factory=list)
    ad_hoc_sales: list[AdHocSaleRecord] = field(default_factory=list)
    ad_hoc_entries: list[AdHocEntryRecord] = field(default_factory=list)
    ad_hoc_payments: list[test_provider.SandboxPayment] = field(default_factory=list)
    cpo_disputes: list[cpo.DisputeRecord] = field(default_factory=list)
    emsp_tariffs: list[emsp.TariffVersion] = field(default_factory=list)
    tokens: dict[tuple[str, str], emsp.DriverToken] = field(default_factory=dict)
    erased_drivers: set[tuple[str, str]] = field(default_factory=set)
    emsp_cdrs: list[emsp.CDRRecord] = field(default_factory=list)
    emsp_disputes: list[emsp.DisputeRecord] = field(default_factory=list)
    evidence: list[emsp.EvidenceKept] = field(default_factory=list)
    quotes: dict[tuple[str, str], emsp.QuoteRecord] = field(default_factory=dict)
    bills: list[emsp.BillRecord] = field(default_factory=list)
    accounts: list[RetailAccount] = field(default_factory=list)
    payment_orders: list[emsp.PaymentOrder] = field(default_factory=list)
    provider_payments: list[test_provider.SandboxPayment] = field(default_factory=list)
    has_hub: bool = False
    hub_forwards: list[CDRForward] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    settlement: SettlementRows = field(default_factory=SettlementRows)
    money: MoneyRows = field(default_factory=MoneyRows)
    unsealed: Unsealed | None = None
    log_bounds: Mapping[tuple[str, int], Bounds] = field(default_factory=dict)
    logged_transactions: dict[TransactionKey, Transaction] = field(default_factory=dict)
    without_discarded: dict[TransactionKey, Transaction] = field(default_factory=dict)
    logged_events: int = 0
    lag: Mapping[str, int] = field(default_factory=dict)
    parked: list[ParkedEvent] = field(default_factory=list)
    discarded: list[DiscardedEvent] = field(default_factory=list)


async def gather_books(units: Units, event_log: EventLog, vault: Vault | None = None) -> Books:
    """Read rows in one unit, then the log, which only grows at its end and is only pruned at its beginning.

    What follows from another row is read before it: leaves before the CDRs that they stand for.

    Args:
        units: Where the rows are.
        event_log: Where the events are.
        vault: Opens what is sealed, to recompute what follows from it; None: nobody does.
    """
    books = Books(lag=await event_log.lag())
    async with units.begin() as unit:
        books.money = await gather_money(unit)
        books.settlement = await gather_settlement(unit)
        await gather_late_payables(unit, books.money, books.settlement.statements)
        books.cpo_transactions = await all_rows(unit, cpo.TRANSACTION)
        books.cpo_tariffs = await all_rows(unit, cpo.TARIFF)
        books.cpo_newest_tariffs = await all_rows(unit, cpo.NEWEST_TARIFF)
        books.cpo_sessions = await all_rows(unit, cpo.SESSION)
        books.cpo_cdrs = await all_rows(unit, cpo.CDRS)
        books.quarantine = await all_rows(unit, cpo.QUARANTINE)
        books.ad_hoc_sales = await all_rows(unit, AD_HOC_SALE)
        books.ad_hoc_entries = await all_rows(unit, AD_HOC_ENTRY)
        books.cpo_disputes = await all_rows(unit, cpo.DISPUTE)
        books.emsp_tariffs = await all_rows(unit, emsp.TARIFF)
        books.tokens = {(row.party_id.code, row.token_subject): row for row in await all_rows(unit, emsp.TOKEN)}
        books.erased_drivers = {(row.party_id.code, row.driver_id) for row in await all_rows(unit, emsp.ERASURE)}
        books.emsp_cdrs = await all_rows(unit, emsp.CDRS)
        books.emsp_disputes = await all_rows(unit, emsp.DISPUTE)
        books.evidence = await all_rows(unit, emsp.EVIDENCE)
        books.quotes = {(row.party_id.code, row.quote_id): row for row in await all_rows(unit, emsp.QUOTE)}
        books.bills = await all_rows(unit, emsp.BILL)
        books.accounts = await all_rows(unit, emsp.ACCOUNT)
        books.payment_orders = await all_rows(unit, emsp.PAYMENT_ORDER)
        of_sales = {payment_of(sale) for sale in books.ad_hoc_sales}
        for payment in await all_rows(unit, test_provider.PAYMENT):
            is_ad_hoc = payment.payment_id in of_sales
            (books.ad_hoc_payments if is_ad_hoc else books.provider_payments).append(payment)
        books.has_hub = await unit.table(HUB_CLIENT).count() > 0
        books.hub_forwards = await all_rows(unit, CDR_FORWARD)
        books.deliveries = await all_rows(unit, DELIVERY)
    if vault is not None:
        books.unsealed = await unseal(vault, books.settlement, books.evidence)
    for group in CONSUMER_GROUPS:
        books.discarded += await event_log.discarded(group)
    discarded = _discarded_by_cpo(books)
    async for logged in event_log.read([CHARGING]):
        _enter(books, logged, discarded)
    books.log_bounds = await event_log.bounds([CHARGING])
    for group in CONSUMER_GROUPS:
        books.parked += await event_log.parked(group)
    return books


def payment_of(sale: AdHocSaleRecord) -> str:
    """Return the payment of an ad hoc sale: the one it knows, or the one whose answer it never saw."""
    return sale.payment_id or test_provider.payment_id_of(payment_key(sale, "hold"))


def _discarded_by_cpo(books: Books) -> frozenset[tuple[int, int]]:
    """Return where station reports lay that the CPO's group discarded; begin their transactions anew."""
    places = set()
    for each in books.discarded:
        logged = each.parked.logged
        event = logged.envelope.event
        if each.parked.group == CPO_GROUP and isinstance(event, TransactionEvent):
            places.add((logged.partition, logged.offset))
            key = transaction_key(event)  # type: ignore[arg-type]  # its three kinds are all there are
            assert key is not None
            books.without_discarded[key] = empty(party_id=key[0], charging_station_id=key[1], transaction_id=key[2])
    return frozenset(places)


def _enter(books: Books, logged: LoggedEvent, discarded: frozenset[tuple[int, int]]) -> None:
    books.logged_events += 1
    event = logged.envelope.event
    if not isinstance(event, TransactionEvent | AuthorizationDecided):
        return
    key = transaction_key(event)  # type: ignore[arg-type]  # its three kinds are all there are
    if key is None or not (isinstance(event, TransactionEvent) or key in books.logged_transactions):
        return
    books.logged_transactions[key] = apply(books.logged_transactions.get(key), event)  # type: ignore[arg-type]
    if key in books.without_discarded and (logged.partition, logged.offset) not in discarded:
        books.without_discarded[key] = apply(books.without_discarded[key], event)  # type: ignore[arg-type]
