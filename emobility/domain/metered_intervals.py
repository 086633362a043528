"""What an EVSE's registers showed at each quarter of an hour, for markets that count by the interval.

Stations read their meters by the clock (AlignedDataCtrlr, in 1.6 ClockAlignedDataInterval), inside transactions and
outside. Two readings at an interval's ends and their signed records prove what flowed in between, whoever charged.
Nothing is made up: where a boundary was not read the interval has no energy, and a register that fell has none either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from emobility.domain.meter import MeterReading, ReadingContext
from emobility.domain.personal import Sealed

INTERVAL: Final = timedelta(minutes=15)
BOUNDARY_SLACK: Final = timedelta(seconds=10)
"""How far from a boundary a reading may lie; at 22 kW that is 61 Wh."""
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryReading:
    """The registers at a boundary, in Wh; None: not read, or contradictory. `signed_records` prove them."""

    import_wh: int | None = None
    export_wh: int | None = None
    signed_records: tuple[Sealed, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredInterval:
    """An interval from `started_at`, its end excluded; energy in Wh, None where it is not known from both ends."""

    started_at: datetime
    begin: BoundaryReading
    end: BoundaryReading
    import_wh: int | None
    export_wh: int | None
    faults: tuple[str, ...]


def metered_intervals(
    readings: Iterable[MeterReading], since: datetime, until: datetime
) -> tuple[MeteredInterval, ...]:
    """Return all whole intervals between two moments, in order; the order of the readings changes nothing.

    Args:
        readings: Of one EVSE, from whichever messages, repeated or not.
        since: An interval that begins earlier is left out.
        until: One that ends later, too.
    """
    by_boundary: dict[datetime, list[MeterReading]] = {}
    for reading in set(readings):
        # Differences: a moment at the calendar's edge more or less the slack would be outside of it.
        if max(since - reading.at, reading.at - until) > BOUNDARY_SLACK:
            continue
        boundary = _boundary_at_or_before(reading.at + INTERVAL / 2)
        if abs(reading.at - boundary) <= BOUNDARY_SLACK:
            by_boundary.setdefault(boundary, []).append(reading)
    first = _boundary_at_or_before(since)
    started_at = first if first >= since else first + INTERVAL
    intervals: list[MeteredInterval] = []
    begin = _boundary_reading(by_boundary.get(started_at, ()), started_at)
    while started_at + INTERVAL <= until:
        end = _boundary_reading(by_boundary.get(started_at + INTERVAL, ()), started_at + INTERVAL)
        intervals.append(_interval(started_at, begin, end))
        started_at, begin = started_at + INTERVAL, end
    return tuple(intervals)


def _boundary_at_or_before(at: datetime) -> datetime:
    return _EPOCH + (at - _EPOCH) // INTERVAL * INTERVAL


def _interval(started_at: datetime, begin: BoundaryReading, end: BoundaryReading) -> MeteredInterval:
    faults: list[str] = [*begin.faults, *end.faults]
    moved: list[int | None] = []
    for name, earlier, later in (
        ("import", begin.import_wh, end.import_wh),
        ("export", begin.export_wh, end.export_wh),
    ):
        if earlier is not None and later is not None and later < earlier:
            faults.append(f"{name} fell {earlier} to {later} Wh")
            moved.append(None)
        else:
            moved.append(None if earlier is None or later is None else later - earlier)
    return MeteredInterval(
        started_at=started_at, begin=begin, end=end, import_wh=moved[0], export_wh=moved[1], faults=tuple(faults)
    )


def _boundary_reading(readings: Sequence[MeterReading], boundary: datetime) -> BoundaryReading:
    """Choose among the readings at a boundary: by the clock before others, then the nearest, then the earlier."""
    ordered = sorted(
        readings,
        key=lambda each: (each.context is not ReadingContext.SAMPLE_CLOCK, abs(each.at - boundary), each.at),
    )
    faults: list[str] = []
    import_wh, read_at = _register(ordered, lambda each: each.import_wh, "import", faults)
    export_wh, also_at = _register(ordered, lambda each: each.export_wh, "export", faults)
    moments = {read_at, also_at} - {None}
    records = {
        (each.signed_record.subject, each.signed_record.box): each.signed_record
        for each in ordered
        if each.signed_record is not None and each.at in moments
    }
    # A fault counts where its moment does, or where nothing at the boundary could be read.
    broken = {each.fault for each in ordered if each.fault is not None and (each.at in moments or not moments)}
    return BoundaryReading(
        import_wh=import_wh,
        export_wh=export_wh,
        signed_records=tuple(record for _, record in sorted(records.items())),
        faults=(*faults, *sorted(broken)),
    )


def _register(
    ordered: Sequence[MeterReading], value_of: Callable[[MeterReading], int | None], name: str, faults: list[str]
) -> tuple[int | None, datetime | None]:
    """Return a register and when it was read; two values at that moment are none."""
    chosen = next((each for each in ordered if value_of(each) is not None), None)
    if chosen is None:
        return None, None
    values = {value_of(each) for each in ordered if each.at == chosen.at} - {None}
    if len(values) > 1:
        faults.append(f"{name} shows {len(values)} values at {chosen.at.isoformat()}")
        return None, chosen.at
    return value_of(chosen), chosen.at
