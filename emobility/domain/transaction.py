"""A transaction: what a station reported between opening and closing it, whatever the order the reports came in.

A `Transaction` is the set of its reports. Adding a report is idempotent and commutes with adding any other, so a
repeated, late or offline message changes nothing but what is known; everything else here is read off that set.
`events/fold.py` turns events into reports. `domain/charging_periods.py` cuts the time, `domain/transaction_faults.py`
says why a transaction can't be trusted.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading
from emobility.domain.personal import Sealed

SESSION_ID_CHARACTERS: Final = 30
"""Leaves room for `-R99` in OCPI's 36 characters of a CDR id."""
READINGS_MAX: Final = 12_000
"""Readings of each kind of report that are kept, the first in order; a report without one counts as one.

Eight days read each minute, or a month each five. The whole transaction is read and written with each report.
"""
STOP_AUTHORIZED: Final = "StopAuthorized"
"""OCPP 2.0.1 triggerReason of a report whose token only stops the transaction."""


class ReportKind(StrEnum):
    """Which of OCPP's three reports it is: 2.x eventType, 1.6 StartTransaction, MeterValues, StopTransaction."""

    STARTED = "STARTED"
    UPDATED = "UPDATED"
    ENDED = "ENDED"


_RANK: Final = {ReportKind.STARTED: 0, ReportKind.UPDATED: 1, ReportKind.ENDED: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report of a station about a transaction. `seq_no` and `trigger` are given by OCPP 2.x and never by 1.6."""

    kind: ReportKind
    occurred_at: datetime
    seq_no: int | None = None
    is_offline: bool = False
    readings: tuple[MeterReading, ...] = ()
    ocpp_evse_id: int | None = None
    connector_id: int | None = None
    id_token: Sealed | None = None
    identified_by: str = "NONE"
    remote_start_id: int | None = None
    charging_state: str | None = None
    stopped_reason: str | None = None
    trigger: str | None = None

    @property
    def may_open(self) -> bool:
        """Whether it carries a token that the transaction may have been opened with, and not only stopped."""
        is_stop = self.kind is ReportKind.ENDED or self.trigger == STOP_AUTHORIZED
        return self.id_token is not None and not is_stop


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationNote:
    """What the CPO's back office decided about a token in this transaction."""

    authorization_id: str
    subject: str
    is_accepted: bool
    reason: str
    decided_at: datetime
    authorization_reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """Energy of a transaction, in Wh: drawn from the grid and, by V2G, fed into it. Neither is negative."""

    import_wh: int
    export_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """All that is known of one transaction: distinct reports and decisions, in an order that their content decides."""

    party_id: PartyId
    charging_station_id: str
    transaction_id: str
    reports: tuple[Report, ...] = ()
    authorizations: tuple[AuthorizationNote, ...] = ()

    @property
    def started(self) -> Report | None:
        """The report that opened it; of conflicting ones the first by content."""
        return next((report for report in self.reports if report.kind is ReportKind.STARTED), None)

    @property
    def ended(self) -> Report | None:
        """The report that closed it; of conflicting ones the first by content."""
        return next((report for report in self.reports if report.kind is ReportKind.ENDED), None)

    @property
    def has_sequence_numbers(self) -> bool:
        """Whether the station counts its reports (OCPP 2.x)."""
        return any(report.seq_no is not None for report in self.reports)

    @property
    def first_at(self) -> datetime:
        """When it started, or the earliest moment known as long as the start is missing."""
        if self.started is not None:
            return self.started.occurred_at
        return min(report.occurred_at for report in self.reports)

    @property
    def last_at(self) -> datetime:
        """When it ended, or the latest moment known as long as it runs; never before `first_at`."""
        if self.ended is not None:
            return max(self.first_at, self.ended.occurred_at)
        moments = [reading.at for report in self.reports for reading in report.readings]
        return max([self.first_at, *moments, *(report.occurred_at for report in self.reports)])

    @property
    def ocpp_evse_id(self) -> int | None:
        """The EVSE, from whichever report names it."""
        return next((report.ocpp_evse_id for report in self.reports if report.ocpp_evse_id is not None), None)

    @property
    def connector_id(self) -> int | None:
        """The connector, from whichever report names it."""
        return next((report.connector_id for report in self.reports if report.connector_id is not None), None)

    @property
    def remote_start_id(self) -> int | None:
        """The number of the remote start it answers, if any."""
        return next((report.remote_start_id for report in self.reports if report.remote_start_id is not None), None)

    @property
    def id_token(self) -> Sealed | None:
        """The token that the transaction was opened with, as far as is known: a later one may only stop it."""
        return None if self._opening is None else self._opening.id_token

    @property
    def identified_by(self) -> str:
        """How the driver identified: RFID, APP, PLUG_AND_CHARGE or NONE."""
        return "NONE" if self._opening is None else self._opening.identified_by

    @property
    def is_token_settled(self) -> bool:
        """Whether no report that is still missing can name another token as the one it was opened with."""
        opening = self._opening
        if opening is None or opening.kind is ReportKind.STARTED or opening.seq_no is None:
            return True
        return all(gap.start > opening.seq_no for gap in sequence_gaps(self))

    @property
    def _opening(self) -> Report | None:
        return next((report for report in self.reports if report.may_open), None)


def empty(*, party_id: PartyId, charging_station_id: str, transaction_id: str) -> Transaction:
    """Return a transaction of which nothing is known yet."""
    return Transaction(party_id=party_id, charging_station_id=charging_station_id, transaction_id=transaction_id)


def with_report(transaction: Transaction, report: Report) -> Transaction:
    """Add a report; a repeated one changes nothing, and neither does one behind more than `READINGS_MAX`."""
    reports = transaction.reports
    place = bisect_left(reports, _order(report), key=_order)
    if place < len(reports) and reports[place] == report:
        return transaction
    kept = _within_bounds([*reports[:place], report, *reports[place:]], report.kind)
    return transaction if kept == reports else replace(transaction, reports=kept)


def with_authorization(transaction: Transaction, note: AuthorizationNote) -> Transaction:
    """Add a decision; a repeated one changes nothing."""
    notes = {*transaction.authorizations, note}
    ordered = tuple(sorted(notes, key=lambda known: (known.decided_at, known.authorization_id, known.reason)))
    return transaction if ordered == transaction.authorizations else replace(transaction, authorizations=ordered)


def sequence_gaps(transaction: Transaction) -> tuple[range, ...]:
    """Return the stretches of numbers from 0 to the highest known that no report carries; OCPP 1.6 has none to miss.

    OCPP 2.0.1, part 2, E01: a station counts a transaction's events from 0 without leaving one out. A number costs
    nothing by its size: a station may say any that JSON can.
    """
    known = sorted({-1, *(report.seq_no for report in transaction.reports if report.seq_no is not None)})
    gaps = (range(max(earlier, -1) + 1, later) for earlier, later in itertools.pairwise(known))
    return tuple(gap for gap in gaps if gap)


def is_complete(transaction: Transaction) -> bool:
    """Tell whether nothing more is expected: start and end are known and, under 2.x, all numbers between them.

    Of one that has more reports than are kept nothing is expected but its start and its end.
    """
    if transaction.started is None or transaction.ended is None:
        return False
    return is_overfull(transaction) or not sequence_gaps(transaction)


def is_overfull(transaction: Transaction) -> bool:
    """Tell whether there are, or may be, reports that were not kept."""
    return any(_readings_of(transaction.reports, kind) >= READINGS_MAX for kind in ReportKind)


def has_conflict(transaction: Transaction) -> bool:
    """Tell whether two reports claim the same place with other content: the same number, two starts or two ends."""
    kinds = [report.kind for report in transaction.reports]
    numbers = [report.seq_no for report in transaction.reports if report.seq_no is not None]
    repeated_number = len(numbers) != len(set(numbers))
    return kinds.count(ReportKind.STARTED) > 1 or kinds.count(ReportKind.ENDED) > 1 or repeated_number


def readings_in_order(transaction: Transaction) -> tuple[MeterReading, ...]:
    """Return all readings by their own timestamps; at the same moment by report, begin first and end last."""
    placed = [
        (reading.at, report.seq_no if report.seq_no is not None else _RANK[report.kind], place, index, reading)
        for place, report in enumerate(transaction.reports)
        for index, reading in enumerate(report.readings)
    ]
    return tuple(reading for *_, reading in sorted(placed))


def metered_wh(transaction: Transaction) -> Metered:
    """Return the energy that the registers moved, each direction by itself.

    The rule: readings in order of time; every rise counts, a fall counts nothing and the register goes on from there.
    Registers that only rise give last minus first. One that ran backwards still gives a definite amount, which is
    quarantined under METER_RAN_BACKWARDS; a further reading never makes it less, so no energy is ever un-metered.
    """
    readings = readings_in_order(transaction)
    return Metered(
        import_wh=_risen([each.import_wh for each in readings if each.import_wh is not None]),
        export_wh=_risen([each.export_wh for each in readings if each.export_wh is not None]),
    )


def session_id_of(party_id: PartyId, charging_station_id: str, transaction_id: str, started_at: datetime) -> str:
    """Return the session's id: the same wherever and however often it is worked out, at most 36 characters."""
    text = "\n".join([str(party_id), charging_station_id, transaction_id, started_at.isoformat()])
    return hashlib.sha256(text.encode()).hexdigest()[:SESSION_ID_CHARACTERS]


def _within_bounds(reports: list[Report], kind: ReportKind) -> tuple[Report, ...]:
    """Drop the last reports of a kind that those before them leave no room for, whatever the order they came in.

    What is kept reaches `READINGS_MAX` once it was exceeded, so nothing that was dropped could ever come back.
    """
    readings = _readings_of(reports, kind)
    for place in range(len(reports) - 1, -1, -1):
        if readings < READINGS_MAX:
            break
        if reports[place].kind is kind:
            readings -= max(1, len(reports[place].readings))
            if readings >= READINGS_MAX:
                del reports[place]
    return tuple(reports)


def _readings_of(reports: Iterable[Report], kind: ReportKind) -> int:
    return sum(max(1, len(report.readings)) for report in reports if report.kind is kind)


def _risen(registers: list[int]) -> int:
    return sum(max(0, later - earlier) for earlier, later in itertools.pairwise(registers))


def _sealed_content(sealed: Sealed | None) -> str:
    # A vault seals the same text of the same person into the same box, so a repeated message has equal boxes.
    return "" if sealed is None else f"{sealed.subject}:{sealed.box.hex()}"


def _reading_content(reading: MeterReading) -> str:
    parts = (
        reading.at.isoformat(),
        reading.context.value,
        reading.import_wh,
        reading.export_wh,
        reading.power_w,
        reading.soc_percent,
        _sealed_content(reading.signed_record),
        reading.fault,
    )
    return repr(parts)


def _content(report: Report) -> str:
    parts = (
        report.is_offline,
        tuple(_reading_content(reading) for reading in report.readings),
        report.ocpp_evse_id,
        report.connector_id,
        _sealed_content(report.id_token),
        report.identified_by,
        report.remote_start_id,
        report.charging_state,
        report.stopped_reason,
        report.trigger,
        report.seq_no,
    )
    return repr(parts)


def _order(report: Report) -> tuple[int, str, int, str]:
    # OCPP 2.0.1: stations queue events while offline, so seq_no decides the order, not arrival; 1.6 has only time.
    number = -1 if report.seq_no is None else report.seq_no
    return (number, report.occurred_at.isoformat(), _RANK[report.kind], _content(report))
