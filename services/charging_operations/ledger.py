"""Where each metered Wh is: in a CDR, sold ad hoc, quarantined, waived, written off or in an open transaction.

Twice, by ways that share nothing but the fold: from the stored rows, and from the log alone. Both must come to the
same, and `Ledger.difference_wh` must be zero in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TypeVar

from emobility.domain.identifiers import PartyId
from emobility.domain.transaction import Transaction, metered_wh, session_id_of
from emobility.events.ad_hoc import SoldAdHoc
from emobility.events.cdr import CDRIssued, QuarantineResolved, SessionQuarantined
from emobility.events.charging import TransactionEnded, TransactionStarted, TransactionUpdated
from emobility.events.event import Event
from emobility.events.fold import TransactionKey, apply, transaction_key
from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec
from emobility.ports.unit_of_work import UnitOfWork, Units
from services.charging_operations.ad_hoc_records import AD_HOC_SALE
from services.charging_operations.quarantine import unaccounted
from services.charging_operations.records import (
    CDRS,
    QUARANTINE,
    TRANSACTION,
    QuarantineState,
    TransactionState,
)

R = TypeVar("R")


class EnergyDirection(StrEnum):
    """Each direction has its own ledger."""

    IMPORT = "IMPORT"
    EXPORT = "EXPORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Energy of one party and direction, in Wh."""

    metered: int = 0
    cdr: int = 0
    sold: int = 0
    quarantined: int = 0
    waived: int = 0
    written_off: int = 0
    open: int = 0

    @property
    def difference_wh(self) -> int:
        """What is metered and nowhere; zero, or something is broken."""
        return self.metered - (self.cdr + self.sold + self.quarantined + self.waived + self.written_off + self.open)

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})


async def energy_ledger(units: Units, party_id: PartyId, direction: EnergyDirection = EnergyDirection.IMPORT) -> Ledger:
    """Add up a party's stored rows."""
    way = direction.value.lower()
    async with units.begin() as unit:
        transactions = await _all(unit, TRANSACTION, party_id)
        cdrs = await _all(unit, CDRS, party_id)
        quarantine = await _all(unit, QUARANTINE, party_id)
        sales = [row for row in await _all(unit, AD_HOC_SALE, party_id) if row.ended_at is not None]
        still_open = 0
        for row in transactions:
            if row.state is TransactionState.OPEN:
                left = await unaccounted(unit, row)
                still_open += left.import_wh if direction is EnergyDirection.IMPORT else left.export_wh
    return Ledger(
        metered=sum(getattr(row, f"metered_{way}_wh") for row in transactions),
        cdr=sum((-1 if row.is_credit else 1) * getattr(row, f"energy_{way}_wh") for row in cdrs),
        sold=sum(getattr(row, f"energy_{way}_wh") for row in sales),
        quarantined=sum(getattr(row, f"energy_{way}_wh") for row in quarantine if row.state is QuarantineState.OPEN),
        waived=sum(getattr(row, f"waived_{way}_wh") for row in quarantine),
        written_off=sum(getattr(row, f"written_off_{way}_wh") for row in quarantine),
        open=still_open,
    )


async def _all(unit: UnitOfWork, spec: TableSpec[R], party_id: PartyId) -> list[R]:
    rows: list[R] = []
    while True:
        page = await unit.table(spec).select({"party_id": party_id}, offset=len(rows))
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            return rows


@dataclass(slots=True)
class LogLedger:
    """Adds up the log's events, in any order of topics; tell it of each event once, or more often.

    `open` is what the transactions metered of which no session was billed or quarantined yet: worked out by itself, so
    that `difference_wh` can tell of energy that is nowhere, or in two places.
    """

    transactions: dict[TransactionKey, Transaction] = field(default_factory=dict)
    cdrs: dict[tuple[PartyId, str], CDRIssued] = field(default_factory=dict)
    sold: dict[tuple[PartyId, str], SoldAdHoc] = field(default_factory=dict)
    quarantined: dict[tuple[PartyId, str], SessionQuarantined] = field(default_factory=dict)
    resolved: dict[tuple[PartyId, str], QuarantineResolved] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Take an event in; others than those of charging, CDRs and quarantine mean nothing here."""
        match event:
            case TransactionStarted() | TransactionUpdated() | TransactionEnded():
                key = transaction_key(event)
                assert key is not None
                self.transactions[key] = apply(self.transactions.get(key), event)
            case CDRIssued():
                self.cdrs[event.cpo_id, event.cdr.cdr_id] = event
            case SoldAdHoc():
                self.sold[event.party_id, event.sale_id] = event
            case SessionQuarantined():
                self.quarantined[event.party_id, event.quarantine_id or event.session_id] = event
            case QuarantineResolved():
                self.resolved[event.party_id, event.quarantine_id or event.session_id] = event
            case _:
                pass

    def ledger(self, party_id: PartyId, direction: EnergyDirection = EnergyDirection.IMPORT) -> Ledger:
        """Return the party's ledger so far."""
        is_import = direction is EnergyDirection.IMPORT

        def one(imported: int, exported: int) -> int:
            return imported if is_import else exported

        closed = {event.cdr.session_id for (party, _), event in self.cdrs.items() if party == party_id}
        closed |= {event.session_id for (party, _), event in self.sold.items() if party == party_id}
        closed |= {event.session_id for (party, _), event in self.quarantined.items() if party == party_id}
        metered = still_open = 0
        for (party, _, _), transaction in self.transactions.items():
            if party == party_id:
                energy = metered_wh(transaction)
                metered += one(energy.import_wh, energy.export_wh)
                if closed.isdisjoint(_possible_sessions(transaction)):
                    still_open += one(energy.import_wh, energy.export_wh)
        cdr = sum(
            (-1 if event.cdr.is_credit else 1) * one(event.cdr.total_energy_import_wh, event.cdr.total_energy_export_wh)
            for (party, _), event in self.cdrs.items()
            if party == party_id
        )
        sold = sum(
            one(event.energy_import_wh, event.energy_export_wh)
            for (party, _), event in self.sold.items()
            if party == party_id
        )
        entered = sum(
            one(event.energy_wh, event.energy_export_wh)
            for (party, _), event in self.quarantined.items()
            if party == party_id
        )
        exits: Sequence[QuarantineResolved] = [
            event for (party, _), event in self.resolved.items() if party == party_id
        ]
        billed = sum(one(event.billed_wh, event.billed_export_wh) for event in exits)
        waived = sum(one(event.waived_wh, event.waived_export_wh) for event in exits)
        written_off = sum(one(event.written_off_wh, event.written_off_export_wh) for event in exits)
        quarantined = entered - billed - waived - written_off
        return Ledger(
            metered=metered,
            cdr=cdr,
            sold=sold,
            quarantined=quarantined,
            waived=waived,
            written_off=written_off,
            open=still_open,
        )


def _possible_sessions(transaction: Transaction) -> set[str]:
    """Return the ids that its session may have: it was named by the first moment that was known when it was named."""
    station = transaction.party_id, transaction.charging_station_id, transaction.transaction_id
    return {session_id_of(*station, report.occurred_at) for report in transaction.reports}


def ledger_from_log(
    events: Iterable[Event], party_id: PartyId, direction: EnergyDirection = EnergyDirection.IMPORT
) -> Ledger:
    """Recompute a party's ledger from the log alone."""
    book = LogLedger()
    for event in events:
        book.take(event)
    return book.ledger(party_id, direction)
