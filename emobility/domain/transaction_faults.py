"""Why a transaction can't be trusted, in words that machines read."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from emobility.domain.transaction import (
    READINGS_MAX,
    Transaction,
    has_conflict,
    is_overfull,
    metered_wh,
    readings_in_order,
    sequence_gaps,
)

TRANSACTION_DURATION_MAX: Final = timedelta(days=31)
"""A vehicle that stays longer is a stuck transaction or a wrong clock."""
MOMENT_MIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
MOMENT_MAX: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""A station whose clock is outside has none, whatever it writes: 0001-01-01 is what unset clocks often say."""
READING_SLACK: Final = timedelta(minutes=5)
"""How far outside its transaction a reading's timestamp may lie: stations round and correct their clocks."""
CLOCK_AHEAD_MAX: Final = timedelta(minutes=15)
"""How far ahead of its arrival an end may lie: a station that sets its clock by our answers is seconds off."""
GAPS_TOLD: Final = 20
"""How many stretches of missing numbers a fault names."""
POWER_SLACK_PERCENT: Final = 10
"""A connector's rated power is nominal; voltage may be 10 % above it (EN 50160)."""


class FaultReason(StrEnum):
    """Reasons for quarantine."""

    CONFLICTING_CONTENT = "CONFLICTING_CONTENT"
    CDR_CREDITED = "CDR_CREDITED"
    CDR_TOO_LARGE = "CDR_TOO_LARGE"
    ENERGY_IMPLAUSIBLE = "ENERGY_IMPLAUSIBLE"
    LATE_EVENT_AFTER_CDR = "LATE_EVENT_AFTER_CDR"
    METER_RAN_BACKWARDS = "METER_RAN_BACKWARDS"
    METER_VALUES_MISSING = "METER_VALUES_MISSING"
    NOT_A_NUMBER = "NOT_A_NUMBER"
    NO_AGREEMENT = "NO_AGREEMENT"
    NO_AUTHORIZATION = "NO_AUTHORIZATION"
    NO_TARIFF = "NO_TARIFF"
    OWN_TOKEN = "OWN_TOKEN"  # noqa: S105 - a reason, no secret
    """A card of the CPO's own: there is nobody to bill, and nothing wrong with it."""
    OVERLAPPING_TRANSACTION = "OVERLAPPING_TRANSACTION"
    SEQUENCE_GAP = "SEQUENCE_GAP"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    SIGNATURE_MISSING = "SIGNATURE_MISSING"
    TIME_IMPLAUSIBLE = "TIME_IMPLAUSIBLE"
    TOO_MANY_READINGS = "TOO_MANY_READINGS"
    UNKNOWN_EVSE = "UNKNOWN_EVSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One reason, and for people what was seen."""

    reason: FaultReason
    detail: str


def faults(
    transaction: Transaction, *, power_w_max: int | None = None, end_arrived_at: datetime | None = None
) -> tuple[Fault, ...]:
    """Return what the reports alone show to be wrong, each reason once, in a fixed order; none: it can be priced.

    Args:
        transaction: What is known of it.
        power_w_max: Rated power of the connector, in W; None: not known, so energy is not judged.
        end_arrived_at: When we first heard of its end; None: not known, so the end is not compared with it.
    """
    found = (
        _too_many(transaction),
        _conflicting(transaction),
        _out_of_time(transaction, end_arrived_at),
        _not_a_number(transaction),
        _without_values(transaction),
        _backwards(transaction),
        _implausible_energy(transaction, power_w_max),
        _gap(transaction),
    )
    return tuple(fault for fault in found if fault is not None)


def _too_many(transaction: Transaction) -> Fault | None:
    if not is_overfull(transaction):
        return None
    detail = f"of one kind of report {READINGS_MAX} readings came, and perhaps more, which were not kept"
    return Fault(reason=FaultReason.TOO_MANY_READINGS, detail=detail)


def _conflicting(transaction: Transaction) -> Fault | None:
    if not has_conflict(transaction):
        return None
    return Fault(reason=FaultReason.CONFLICTING_CONTENT, detail="two reports claim the same place with other content")


def without_clock(transaction: Transaction) -> Fault | None:
    """Return the fault of a transaction with a moment that no clock shows; nothing may be computed with its time."""
    moments = [report.occurred_at for report in transaction.reports]
    moments += [reading.at for report in transaction.reports for reading in report.readings]
    beyond = [at for at in moments if not MOMENT_MIN <= at < MOMENT_MAX]
    if not beyond:
        return None
    return Fault(reason=FaultReason.TIME_IMPLAUSIBLE, detail=f"no clock shows {beyond[0].isoformat()}")


def _out_of_time(transaction: Transaction, end_arrived_at: datetime | None) -> Fault | None:
    if fault := without_clock(transaction):
        return fault
    started, ended = transaction.started, transaction.ended
    if started is None or ended is None:
        return None
    seen = f"started {started.occurred_at.isoformat()}, ended {ended.occurred_at.isoformat()}"
    if ended.occurred_at < started.occurred_at or ended.occurred_at - started.occurred_at > TRANSACTION_DURATION_MAX:
        return Fault(reason=FaultReason.TIME_IMPLAUSIBLE, detail=seen)
    if end_arrived_at is not None and ended.occurred_at - end_arrived_at > CLOCK_AHEAD_MAX:
        ahead = f"{seen}, which we heard at {end_arrived_at.isoformat()} already"
        return Fault(reason=FaultReason.TIME_IMPLAUSIBLE, detail=ahead)
    for reading in readings_in_order(transaction):
        # Differences: a moment at the calendar's edge less the slack would be outside of it.
        if max(started.occurred_at - reading.at, reading.at - ended.occurred_at) > READING_SLACK:
            return Fault(reason=FaultReason.TIME_IMPLAUSIBLE, detail=f"{seen}, read {reading.at.isoformat()}")
    return None


def _not_a_number(transaction: Transaction) -> Fault | None:
    broken = [reading.fault for reading in readings_in_order(transaction) if reading.fault is not None]
    return Fault(reason=FaultReason.NOT_A_NUMBER, detail=broken[0]) if broken else None


def _without_values(transaction: Transaction) -> Fault | None:
    if transaction.ended is None:
        return None
    registers = [reading for reading in readings_in_order(transaction) if reading.import_wh is not None]
    if len(registers) >= 2:
        return None
    return Fault(reason=FaultReason.METER_VALUES_MISSING, detail=f"{len(registers)} register values, two are needed")


def _backwards(transaction: Transaction) -> Fault | None:
    readings = readings_in_order(transaction)
    for direction in ("import_wh", "export_wh"):
        values = [value for reading in readings if (value := getattr(reading, direction)) is not None]
        for earlier, later in itertools.pairwise(values):
            if later < earlier:
                return Fault(reason=FaultReason.METER_RAN_BACKWARDS, detail=f"{direction} fell {earlier} to {later}")
    return None


def _implausible_energy(transaction: Transaction, power_w_max: int | None) -> Fault | None:
    if power_w_max is None:
        return None
    # Not in whole seconds: that would cut a charge of 1.9 s to half its energy.
    duration_ms = (transaction.last_at - transaction.first_at) // timedelta(milliseconds=1)
    # One Wh of grace: the registers at both ends are rounded to whole Wh.
    bound_wh = power_w_max * (100 + POWER_SLACK_PERCENT) * duration_ms // (100 * 3_600_000) + 1
    metered = metered_wh(transaction)
    most_wh = max(metered.import_wh, metered.export_wh)
    if most_wh <= bound_wh:
        return None
    return Fault(
        reason=FaultReason.ENERGY_IMPLAUSIBLE,
        detail=f"{most_wh} Wh in {duration_ms} ms at a connector of {power_w_max} W",
    )


def _gap(transaction: Transaction) -> Fault | None:
    gaps = sequence_gaps(transaction)
    if gaps:
        told = [str(gap.start) if len(gap) == 1 else f"{gap.start} to {gap.stop - 1}" for gap in gaps[:GAPS_TOLD]]
        return Fault(reason=FaultReason.SEQUENCE_GAP, detail=f"seq_no {', '.join(told)} never came")
    if transaction.started is None:
        return Fault(reason=FaultReason.SEQUENCE_GAP, detail="the start never came")
    return None
