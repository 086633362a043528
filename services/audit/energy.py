"""Energy is conserved: metered = CDRs net of credits + sold ad hoc + quarantined + waived + written off + open +
discarded.

What was metered is worked out again from the event log, reading by reading, with nothing taken from the rows.
Discarded is what a transaction's metered energy lacks without the events that an operator discarded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from emobility.domain.cdr import CDR
from emobility.domain.tariff.selection import only_reserves
from emobility.domain.transaction import Transaction, metered_wh
from emobility.events.fold import TransactionKey
from services.audit.books import Books
from services.audit.forgotten import is_recomputable
from services.audit.report import Check, Difference
from services.charging_operations.records import (
    CDRRecord,
    QuarantineRecord,
    QuarantineState,
    TransactionRecord,
    TransactionState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyParts:
    """Where metered energy went, in Wh."""

    cdr_wh: int = 0
    sold_wh: int = 0
    quarantined_wh: int = 0
    waived_wh: int = 0
    written_off_wh: int = 0
    open_wh: int = 0

    @property
    def total_wh(self) -> int:
        """All of it."""
        billed_wh = self.cdr_wh + self.sold_wh
        return billed_wh + self.quarantined_wh + self.waived_wh + self.written_off_wh + self.open_wh

    def __add__(self, other: EnergyParts) -> EnergyParts:
        return EnergyParts(
            cdr_wh=self.cdr_wh + other.cdr_wh,
            sold_wh=self.sold_wh + other.sold_wh,
            quarantined_wh=self.quarantined_wh + other.quarantined_wh,
            waived_wh=self.waived_wh + other.waived_wh,
            written_off_wh=self.written_off_wh + other.written_off_wh,
            open_wh=self.open_wh + other.open_wh,
        )


def energy_parts(books: Books, *, is_export: bool = False) -> dict[tuple[str, str, str], EnergyParts]:
    """Return, per (party, station, transaction), where its energy went according to the rows."""
    cdrs: dict[tuple[str, str], list[CDRRecord]] = defaultdict(list)
    for cdr in books.cpo_cdrs:
        cdrs[cdr.party_id.code, cdr.session_id].append(cdr)
    quarantine: dict[tuple[str, str], list[QuarantineRecord]] = defaultdict(list)
    for row in books.quarantine:
        quarantine[row.party_id.code, row.session_id].append(row)
    sold: dict[tuple[str, str], EnergyParts] = {
        (sale.party_id.code, sale.session_id or ""): EnergyParts(
            sold_wh=sale.energy_export_wh if is_export else sale.energy_import_wh
        )
        for sale in books.ad_hoc_sales
        if sale.ended_at is not None
    }
    return {
        (row.party_id.code, row.charging_station_id, row.transaction_id): sold.get(
            (row.party_id.code, row.session_id or ""), EnergyParts()
        )
        + _parts_of(
            row,
            cdrs[row.party_id.code, row.session_id or ""],
            quarantine[row.party_id.code, row.session_id or ""],
            is_export=is_export,
        )
        for row in books.cpo_transactions
    }


def _parts_of(
    transaction: TransactionRecord,
    cdrs: Iterable[CDRRecord],
    quarantine: Iterable[QuarantineRecord],
    *,
    is_export: bool,
) -> EnergyParts:
    if transaction.state is TransactionState.OPEN:
        return EnergyParts(open_wh=transaction.metered_export_wh if is_export else transaction.metered_import_wh)
    parts = EnergyParts()
    for cdr in cdrs:
        energy_wh = cdr.energy_export_wh if is_export else cdr.energy_import_wh
        parts += EnergyParts(cdr_wh=-energy_wh if cdr.is_credit else energy_wh)
    for row in quarantine:
        parts += EnergyParts(
            quarantined_wh=(row.energy_export_wh if is_export else row.energy_import_wh)
            if row.state is QuarantineState.OPEN
            else 0,
            waived_wh=row.waived_export_wh if is_export else row.waived_import_wh,
            written_off_wh=row.written_off_export_wh if is_export else row.written_off_import_wh,
        )
    return parts


def check_energy(books: Books) -> Check:
    """Compare, transaction by transaction and direction by direction, the log with where the rows say it went."""
    differences = _billed_of_nothing(books)
    keys = {(row.party_id.code, row.charging_station_id, row.transaction_id) for row in books.cpo_transactions}
    keys |= {_in_text(key) for key in books.logged_transactions}
    recomputable = sorted(key for key in keys if is_recomputable(books, key))
    for is_export in (False, True):
        parts, metered = energy_parts(books, is_export=is_export), _metered(books, is_export=is_export)
        discarded = _discarded(books, is_export=is_export)
        for key in recomputable:
            expected = metered.get(key, 0)
            found = parts.get(key, EnergyParts())
            discarded_wh = discarded.get(key, 0)
            if found.total_wh + discarded_wh != expected:
                parts_told = f"{found}" + (f", {discarded_wh} Wh were discarded" if discarded_wh else "")
                differences.append(
                    Difference(
                        rule="energy is conserved",
                        scope="/".join(key) + (" export" if is_export else ""),
                        expected=expected,
                        found=found.total_wh + discarded_wh,
                        unit="Wh",
                        cause=f"the log meters {expected} Wh, the rows hold {parts_told}",
                    )
                )
    return Check(
        rule="energy is conserved",
        compared=len(recomputable),
        unknown=len(keys) - len(recomputable),
        differences=tuple(differences),
    )


def _billed_of_nothing(books: Books) -> list[Difference]:
    """Return the CDRs and credits of sessions that are no transaction's: no station ever told of them."""
    sessions = {(row.party_id, row.session_id) for row in books.cpo_transactions}
    return [
        Difference(
            rule="energy is conserved",
            scope=f"{row.party_id}/{row.cdr_id}",
            expected=0,
            found=row.energy_import_wh + row.energy_export_wh,
            unit="Wh",
            cause=f"no transaction has session {row.session_id} of this document",
        )
        for row in books.cpo_cdrs
        if (row.party_id, row.session_id) not in sessions and not _is_of_a_reservation(row.cdr)
    ]


def _is_of_a_reservation(cdr: CDR) -> bool:
    """Whether a document bills a reservation that expired, which no transaction used and no energy flowed under."""
    return all(only_reserves(period) for period in cdr.periods)


def check_quarantine(books: Books) -> Check:
    """Each row that was decided on splits, without rest, into billed, waived and written off; an open one is whole."""
    rule = "the parts of a quarantine add up"
    differences = []
    for row in books.quarantine:
        imported = (row.energy_import_wh, row.billed_import_wh + row.waived_import_wh + row.written_off_import_wh)
        exported = (row.energy_export_wh, row.billed_export_wh + row.waived_export_wh + row.written_off_export_wh)
        for direction, (waiting_wh, decided_wh) in (("", imported), (" export", exported)):
            expected_wh = 0 if row.state is QuarantineState.OPEN else waiting_wh
            if decided_wh != expected_wh:
                differences.append(
                    Difference(
                        rule=rule,
                        scope=f"{row.party_id}/{row.quarantine_id}{direction}",
                        expected=expected_wh,
                        found=decided_wh,
                        unit="Wh",
                        cause=f"the row is {row.state.value} by {row.resolved_by or 'nobody'}",
                    )
                )
    return Check(rule=rule, compared=len(books.quarantine), differences=tuple(differences))


def _metered(books: Books, *, is_export: bool) -> dict[tuple[str, str, str], int]:
    return {
        _in_text(key): _directed(transaction, is_export=is_export)
        for key, transaction in books.logged_transactions.items()
    }


def _discarded(books: Books, *, is_export: bool) -> dict[tuple[str, str, str], int]:
    """Return what the transactions of which events were discarded would have metered more with those."""
    return {
        _in_text(key): _directed(books.logged_transactions[key], is_export=is_export)
        - _directed(without, is_export=is_export)
        for key, without in books.without_discarded.items()
        if key in books.logged_transactions
    }


def _directed(transaction: Transaction, *, is_export: bool) -> int:
    metered = metered_wh(transaction)
    return metered.export_wh if is_export else metered.import_wh


def _in_text(key: TransactionKey) -> tuple[str, str, str]:
    return key[0].code, key[1], key[2]


def metered_total_wh(books: Books) -> int:
    """Return what the log says was drawn from the grid, in Wh."""
    return sum(metered_wh(transaction).import_wh for transaction in books.logged_transactions.values())
