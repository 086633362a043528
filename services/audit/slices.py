"""A full audit reads documents themselves, not only their figures: slice by slice, so that memory stays bounded.

A slice is some sessions of one pair with everything that belongs to them, or a partition of the log of station reports.
What a rule finds in slices is added up. Slices are independent, so several processes can share them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from emobility.domain.identifiers import PartyId
from emobility.domain.transaction import Transaction, metered_wh, sequence_gaps
from emobility.events.charging import CHARGING, AuthorizationDecided, TransactionEvent, station_key
from emobility.events.event import LoggedEvent
from emobility.events.fold import TransactionKey, apply, transaction_key
from emobility.ports.event_log import PARTITIONS_PER_TOPIC, Bounds, DiscardedEvent, ParkedEvent, partition_of
from emobility.ports.reconciliation import Charge, Moment, Period, StationName
from emobility.ports.vault import Vault
from emobility.protocols.ocpi.deliveries import DELIVERY
from roaming_hub.records import CDR_FORWARD, HUB_CLIENT
from services.audit.ad_hoc import check_nobody_else_is_billed
from services.audit.billing import (
    check_bills,
    check_every_accepted_cdr_is_billed,
    check_every_bill_is_its_drivers,
    check_every_bill_stands_on_its_cdr,
)
from services.audit.books import Books
from services.audit.carried import check_forwards
from services.audit.documents import check_documents, check_one_live_cdr_per_session, check_wholesale_prices
from services.audit.evidence import check_commitments, check_evidence
from services.audit.leaves import check_credits, check_leaves
from services.audit.money import check_pairs
from services.audit.report import DIFFERENCES_MAX, Check, Difference
from services.audit.rows import all_rows
from services.audit.settlement_rows import SettlementRows
from services.audit.tariffs import check_tariffs
from services.audit.unsealing import unseal
from services.audit.verdicts import check_disputes, check_verdicts
from services.charging_operations import records as cpo
from services.charging_operations.ad_hoc_records import AD_HOC_SALE
from services.charging_operations.cdrs import delivery_key
from services.driver_mobility import records as emsp
from services.settlement.meter_records import METER_RECORD
from services.settlement.records import LEAF

CHARGES_AT_ONCE: Final = 1_000
"""Most sessions of a slice: each takes some 25 KB of a process's memory."""
STATIONS_AT_ONCE: Final = 20
LOG_RULE: Final = "a transaction is what the log makes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeSlice:
    """Some sessions of one pair."""

    cpo_id: str
    emsp_id: str
    session_ids: tuple[str, ...]
    cdr_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSlice:
    """A partition of the log of station reports.

    Attributes:
        bounds: What the log holds of it.
        handled: The offset that the CPO's group handles next: transactions are what they are without what follows.
        set_aside: Offsets of events before that which it did not handle: they are parked, or were discarded.
    """

    partition: int
    bounds: Bounds
    handled: int
    set_aside: frozenset[int]


Slice: TypeAlias = ChargeSlice | LogSlice


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhandled:
    """What explains that an accepted CDR has no leaf: events that the settlement did not read, or set aside."""

    lag: Mapping[str, int]
    parked: Sequence[ParkedEvent]
    discarded: Sequence[DiscardedEvent]


@dataclass(slots=True)
class Whole:
    """What every slice is compared with: rows that do not grow with each charge."""

    settlement: SettlementRows
    has_hub: bool
    unhandled: Unhandled


async def charge_slices(moment: Moment, period: Period) -> AsyncIterator[ChargeSlice]:
    """Cut a period into slices; a session is never cut."""
    waiting: list[Charge] = []
    async for charges in moment.charges(period):
        for each in charges:
            is_full = len(waiting) >= CHARGES_AT_ONCE
            if waiting and (is_full or waiting[-1][:2] != each[:2]):
                yield _slice(waiting)
                waiting = []
            waiting.append(each)
    if waiting:
        yield _slice(waiting)


def _slice(charges: Sequence[Charge]) -> ChargeSlice:
    return ChargeSlice(
        cpo_id=charges[0].cpo_id,
        emsp_id=charges[0].emsp_id,
        session_ids=tuple(each.session_id for each in charges),
        cdr_ids=tuple(cdr_id for each in charges for cdr_id in each.cdr_ids),
    )


def log_slices(
    held: Mapping[tuple[str, int], Bounds], handled: Mapping[int, int], set_aside: Iterable[LoggedEvent]
) -> list[LogSlice]:
    """Return the partitions of the log.

    Args:
        held: What the log holds.
        handled: Where the CPO's group stands; where it never consumed, rows were brought from elsewhere, and are
            compared with all that there is.
        set_aside: What it parked, or what was discarded of that.
    """
    places: dict[int, set[int]] = {partition: set() for partition in range(PARTITIONS_PER_TOPIC)}
    for each in set_aside:
        if each.topic == CHARGING:
            places[each.partition].add(each.offset)
    slices = []
    for partition, offsets in places.items():
        bounds = held.get((CHARGING, partition), Bounds(first=0, end=0))
        slices.append(
            LogSlice(
                partition=partition,
                bounds=bounds,
                handled=handled.get(partition, bounds.end),
                set_aside=frozenset(offsets),
            )
        )
    return slices


async def whole_of(moment: Moment, settlement: SettlementRows, unhandled: Unhandled) -> Whole:
    """Read what all slices share."""
    has_hub = await moment.unit.table(HUB_CLIENT).count() > 0
    return Whole(settlement=settlement, has_hub=has_hub, unhandled=unhandled)


async def check_slice(moment: Moment, vault: Vault, whole: Whole, part: Slice) -> list[Check]:
    """Try every rule that can be tried on a slice."""
    if isinstance(part, LogSlice):
        return [await _check_log(moment, part)]
    books = await _books(moment, whole, part)
    books.unsealed = await unseal(vault, books.settlement, books.evidence)
    return [
        check_documents(books),
        check_one_live_cdr_per_session(books),
        check_wholesale_prices(books),
        check_tariffs(books),
        check_pairs(books),
        check_verdicts(books),
        check_disputes(books),
        check_forwards(books),
        check_bills(books),
        check_every_bill_stands_on_its_cdr(books),
        check_every_bill_is_its_drivers(books),
        check_every_accepted_cdr_is_billed(books),
        check_nobody_else_is_billed(books),
        check_leaves(books),
        check_credits(books),
        check_evidence(books),
        check_commitments(books, books.unsealed),
    ]


async def _books(moment: Moment, whole: Whole, part: ChargeSlice) -> Books:
    """Read all that belongs to some sessions of a pair."""
    unit, cpo_id, emsp_id = moment.unit, PartyId(part.cpo_id), PartyId(part.emsp_id)
    of_sessions = {"session_id": part.session_ids}
    at_cpo, at_emsp = {"party_id": cpo_id}, {"party_id": emsp_id, "cpo_id": cpo_id}
    unhandled = whole.unhandled
    books = Books(
        has_hub=whole.has_hub,
        lag=unhandled.lag,
        parked=list(unhandled.parked),
        discarded=list(unhandled.discarded),
    )
    books.cpo_cdrs = await all_rows(unit, cpo.CDRS, {**at_cpo, **of_sessions, "emsp_id": emsp_id})
    books.emsp_cdrs = await all_rows(unit, emsp.CDRS, {**at_emsp, **of_sessions})
    # Some of a session's documents may have ended in another period: what belongs to them is looked at with them.
    known = {row.cdr_id for row in books.cpo_cdrs} | {row.cdr_id for row in books.emsp_cdrs}
    of_cdrs = {"cdr_id": tuple(sorted(known.union(part.cdr_ids)))}
    books.settlement = SettlementRows(
        parties=whole.settlement.parties,
        agreements=[each for each in whole.settlement.agreements if (each.cpo_id, each.emsp_id) == (cpo_id, emsp_id)],
        openings=whole.settlement.openings,
        statements=[each for each in whole.settlement.statements if (each.cpo_id, each.emsp_id) == (cpo_id, emsp_id)],
        held=whole.settlement.held,
        leaves=await all_rows(unit, LEAF, {"cpo_id": cpo_id, "emsp_id": emsp_id, **of_cdrs}),
        meter_records=await all_rows(unit, METER_RECORD, {"cpo_id": cpo_id, **of_cdrs}),
    )
    books.cpo_sessions = await all_rows(unit, cpo.SESSION, {**at_cpo, **of_sessions})
    messages = tuple(map(delivery_key, part.session_ids)) + tuple(f"dispute/{each}" for each in of_cdrs["cdr_id"])
    for own, to in ((cpo_id, emsp_id), (emsp_id, cpo_id)):
        books.deliveries += await all_rows(unit, DELIVERY, {"own_party": own, "to_party": to, "object_key": messages})
    books.cpo_disputes = await all_rows(unit, cpo.DISPUTE, {**at_cpo, "emsp_id": emsp_id, **of_cdrs})
    books.ad_hoc_sales = await all_rows(unit, AD_HOC_SALE, {**at_cpo, **of_sessions})
    books.emsp_disputes = await all_rows(unit, emsp.DISPUTE, {**at_emsp, **of_cdrs})
    books.evidence = await all_rows(unit, emsp.EVIDENCE, {**at_emsp, **of_cdrs})
    quotes = await all_rows(unit, emsp.QUOTE, {**at_emsp, **of_sessions})
    books.quotes = {(row.party_id.code, row.quote_id): row for row in quotes}
    billed_under = {*(row.quote_id for row in quotes), *(row.quote_id for row in books.emsp_cdrs)} - {None}
    books.bills = await all_rows(
        unit, emsp.BILL, {"party_id": emsp_id, "quote_id": tuple(sorted(map(str, billed_under)))}
    )
    subjects = tuple(sorted({row.token_subject for row in books.emsp_cdrs}))
    tokens = await all_rows(unit, emsp.TOKEN, {"party_id": emsp_id, "token_subject": subjects})
    books.tokens = {(row.party_id.code, row.token_subject): row for row in tokens}
    drivers = tuple(sorted({row.driver_id for row in quotes}))
    erased = await all_rows(unit, emsp.ERASURE, {"party_id": emsp_id, "driver_id": drivers})
    books.erased_drivers = {(row.party_id.code, row.driver_id) for row in erased}
    if whole.has_hub:
        books.hub_forwards = await all_rows(unit, CDR_FORWARD, {"from_party": cpo_id, "to_party": emsp_id, **of_cdrs})
    return books


# The log


async def _check_log(moment: Moment, part: LogSlice) -> Check:
    """Fold a partition's reports again, station by station, and compare with what the rows say was metered."""
    found = _Log(part)
    unheard = {
        (party, station)
        for party, station in await moment.stations()
        if partition_of(station_key(PartyId(party), station)) == part.partition
    }
    folded: dict[StationName, dict[TransactionKey, Transaction]] = {}
    async for batch in moment.reports(part.partition):
        for event in batch:
            name = _station_of(event)
            if name is not None:
                _enter(folded.setdefault(name, {}), event, part)
        *ended, _ = folded or [("", "")]
        if len(ended) >= STATIONS_AT_ONCE:
            found.compare({name: folded.pop(name) for name in ended}, await moment.metered(ended))
            unheard -= set(ended)
    rest = [*folded, *(unheard - folded.keys())]
    for start in range(0, len(rest), STATIONS_AT_ONCE):
        some = rest[start : start + STATIONS_AT_ONCE]
        found.compare({name: folded.get(name, {}) for name in some}, await moment.metered(some))
    return found.check()


def _station_of(logged: LoggedEvent) -> StationName | None:
    event = logged.envelope.event
    if isinstance(event, TransactionEvent | AuthorizationDecided):
        return event.party_id.code, event.charging_station_id
    return None


def _enter(transactions: dict[TransactionKey, Transaction], logged: LoggedEvent, part: LogSlice) -> None:
    event: Any = logged.envelope.event
    key = transaction_key(event)
    if key is None or logged.offset >= part.handled or logged.offset in part.set_aside:
        return
    if isinstance(event, TransactionEvent) or key in transactions:
        transactions[key] = apply(transactions.get(key), event)


class _Log:
    """What a partition's transactions are, and how the rows differ."""

    def __init__(self, part: LogSlice) -> None:
        self._part = part
        self._found: list[Difference] = []
        self._compared = 0
        self._unknown = 0
        self._untold = 0

    def compare(self, folded: dict[StationName, dict[TransactionKey, Transaction]], rows: Sequence[Any]) -> None:
        """Compare some stations' transactions with their rows."""
        stored = {(row.party_id, row.charging_station_id, row.transaction_id): row for row in rows}
        made = {
            (key[0].code, key[1], key[2]): transaction
            for transactions in folded.values()
            for key, transaction in transactions.items()
        }
        for name in sorted(stored.keys() | made.keys()):
            transaction, row = made.get(name), stored.get(name)
            if self._part.bounds.first and (
                transaction is None or transaction.started is None or sequence_gaps(transaction)
            ):
                self._unknown += 1  # its beginning may be pruned
                continue
            self._compared += 1
            metered = None if transaction is None else metered_wh(transaction)
            for expected, stated, direction in (
                (metered.import_wh if metered else 0, row.import_wh if row else 0, ""),
                (metered.export_wh if metered else 0, row.export_wh if row else 0, " export"),
            ):
                if expected != stated:
                    self._tell("/".join(name) + direction, expected, stated)

    def _tell(self, scope: str, expected_wh: int, stated_wh: int) -> None:
        if len(self._found) == DIFFERENCES_MAX:
            self._untold += 1
            return
        cause = "the log meters something else than the row says"
        self._found.append(
            Difference(rule=LOG_RULE, scope=scope, expected=expected_wh, found=stated_wh, unit="Wh", cause=cause)
        )

    def check(self) -> Check:
        """Return what was compared."""
        return Check(
            rule=LOG_RULE,
            compared=self._compared,
            unknown=self._unknown,
            differences=tuple(self._found),
            untold=self._untold,
        )


def added_up(checks: Iterable[Check]) -> list[Check]:
    """Return one check of each rule, in the order in which they came first."""
    found: dict[str, Check] = {}
    for each in checks:
        before = found.get(each.rule, Check(rule=each.rule, compared=0))
        found[each.rule] = before.plus(each)
    return list(found.values())
