"""When, inside a stretch of a session, another price component becomes active.

OCPI 2.2.1, 10.4: a charging period must be cut where that happens. Pricing uses this module to find periods that were
not cut; whoever makes periods uses it to cut them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from emobility.domain.tariff.selection import Candidate, LocalMoment, Moment, PriceBook, first_match

_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_DAY_S: Final = 86_400
_SHIFT_S_MAX: Final = 3 * 3_600
"""No clock change moves the clock further."""
LOOK_AHEAD_MAX: Final = timedelta(days=62)
"""Changes on the clock are looked for this far into a period, so that a forged one costs no more than a long one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Time and energy over which a book is asked for changes; energy is taken to flow evenly."""

    started_at: datetime
    ended_at: datetime
    moment: Moment
    energy_wh: int | Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """At `at`, `energy_wh` after the stretch began, `after` takes over from `before`; None is free."""

    at: datetime
    energy_wh: int | Fraction
    slot: int
    before: Candidate | None
    after: Candidate | None


def changes(book: PriceBook, stretch: Stretch, zone: ZoneInfo, slots: tuple[int, ...]) -> Iterator[Change]:
    """Yield, in order of time, each change strictly inside the stretch of the component active for one of `slots`."""
    active = _active(book, _clock(book, stretch.started_at, zone), stretch.moment, slots)
    for at, energy_wh in _turning_points(book, stretch, zone):
        moment = stretch.moment._replace(
            energy_wh=stretch.moment.energy_wh + energy_wh, elapsed=stretch.moment.elapsed + (at - stretch.started_at)
        )
        now = _active(book, _clock(book, at, zone), moment, slots)
        for slot, before, after in zip(slots, active, now, strict=True):
            if before is not after:
                yield Change(at=at, energy_wh=energy_wh, slot=slot, before=before, after=after)
        active = now


def _active(
    book: PriceBook, local: LocalMoment | None, moment: Moment, slots: tuple[int, ...]
) -> tuple[Candidate | None, ...]:
    choices = book.choices(local)
    return tuple(first_match(choices[slot], moment) for slot in slots)


def _clock(book: PriceBook, at: datetime, zone: ZoneInfo) -> LocalMoment | None:
    return book.local(at, zone) if book.looks_at_clock else None


def _turning_points(book: PriceBook, stretch: Stretch, zone: ZoneInfo) -> list[tuple[datetime, int | Fraction]]:
    """Moments inside the stretch at which any restriction may begin or cease to hold, with the energy until then."""
    start, end = stretch.started_at, stretch.ended_at
    points: dict[datetime, int | Fraction] = {
        at: _energy_until(stretch, at) for at in clock_changes(book, start, end, zone)
    }
    for threshold in book.duration_thresholds:
        at = start + (threshold - stretch.moment.elapsed)
        if start < at < end:
            points[at] = _energy_until(stretch, at)
    direction = 1 if stretch.energy_wh > 0 else -1
    for threshold_wh in book.energy_thresholds_wh:
        part_wh = threshold_wh - stretch.moment.energy_wh
        # A threshold belongs to what is above it: going up it is reached, going down it is left by the Wh below it.
        reached_wh = part_wh if stretch.energy_wh > 0 else part_wh - 1
        if 0 < reached_wh < stretch.energy_wh or stretch.energy_wh < reached_wh < 0:
            # Cut at a whole second and give the first part exactly the energy up to the threshold.
            at = start + timedelta(seconds=-(-((end - start) // _SECOND * reached_wh) // stretch.energy_wh))
            if start < at < end:
                points[at] = max(points.get(at, reached_wh), reached_wh, key=lambda wh: wh * direction)
    return sorted(points.items())


def _energy_until(stretch: Stretch, at: datetime) -> int:
    """Energy up to `at` when it flows evenly, towards zero to whole Wh."""
    lasted_s = max(1, (stretch.ended_at - stretch.started_at) // _SECOND)
    share = stretch.energy_wh * ((at - stretch.started_at) // _SECOND)
    return share // lasted_s if share >= 0 else -(-share // lasted_s)


def clock_changes(book: PriceBook, start: datetime, end: datetime, zone: ZoneInfo) -> list[datetime]:
    """Instants strictly between `start` and `end` at which the wall clock passes a break or midnight, or is changed."""
    if not book.looks_at_clock or end <= start:
        return []
    end = min(end, start + LOOK_AHEAD_MAX)
    found = set(clock_shifts(start, end, zone))
    first, last = start.astimezone(zone), end.astimezone(zone)
    day = first.date()
    while day <= last.date():
        # A wall time within a shift of the ends may be inside by one of its two readings; the rest is far off.
        earliest_s = _second_of_day(first, day) - _SHIFT_S_MAX
        latest_s = _second_of_day(last, day) + _SHIFT_S_MAX
        for second in (0, *book.breaks):
            if earliest_s <= second <= latest_s:
                found.update(_instants(day, second, zone))
        day += _DAY
    return sorted(at for at in found if start < at < end)


def _second_of_day(wall: datetime, day: date) -> int:
    """The wall time in seconds from the start of `day`, as the clock reads, whichever day it is of."""
    return (wall.toordinal() - day.toordinal()) * _DAY_S + wall.hour * 3_600 + wall.minute * 60 + wall.second


def _instants(day: date, second: int, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Return the instants that carry this wall time: two in a repeated hour; in a skipped one two beside it."""
    wall = datetime(day.year, day.month, day.day, second // 3_600, second % 3_600 // 60, second % 60, tzinfo=zone)
    return wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)


def clock_shifts(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Yield the instants between `start` and `end` at which the zone's offset from UTC changes."""
    low = start
    while low < end:
        high = min(low + _DAY, end)
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            yield _shift_between(low, high, zone)
        low = high


def _shift_between(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    offset = low.astimezone(zone).utcoffset()
    base = low.astimezone(UTC).replace(microsecond=0)
    before, after = 0, -((base - high) // _SECOND)
    while after - before > 1:
        middle = (before + after) // 2
        if (base + timedelta(seconds=middle)).astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return base + timedelta(seconds=after)
