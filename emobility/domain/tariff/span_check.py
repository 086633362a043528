"""Look at one charging period for what it should have said otherwise; nothing here changes a price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.changes import Stretch, changes
from emobility.domain.tariff.priced import PeriodSpansPriceChange, PeriodTimeDiffers, PowerNotStated, PricingNote
from emobility.domain.tariff.selection import (
    DIMENSIONS,
    FLAT,
    TIME,
    Candidate,
    LocalMoment,
    Moment,
    PriceBook,
    first_match,
    is_priced_alike,
)

_DAY_S: Final = 86_400
_NO_STATE: Final = Moment(0, timedelta(0), None, None, None, None)


class Span(NamedTuple):
    """A period with its place, its end, its two readings of the wall clock and the state it starts in.

    The readings are None where the book does not look at the clock, the state where it does not look at that.
    """

    place: int
    period: ChargingPeriod
    ended_at: datetime
    local: LocalMoment | None
    local_end: LocalMoment | None
    moment: Moment | None
    flat_is_open: bool
    """Whether no fee became active until it started."""


class Held(NamedTuple):
    """A period of a reservation: its place, start, end and state, and whether no fee of the reservation was due yet."""

    place: int
    started_at: datetime
    ended_at: datetime
    moment: Moment
    flat_is_open: bool


def may_be_odd(
    book: PriceBook,
    period: ChargingPeriod,
    ended_at: datetime,
    local: LocalMoment | None,
    local_end: LocalMoment | None,
) -> bool:
    """Whether `check_span` can have a word on a period of a book that looks at no state; nearly always it has none."""
    lasted = ended_at - period.started_at
    lasted_s = lasted.days * _DAY_S + lasted.seconds
    if period.charging_s + period.parking_s + period.reserved_s > lasted_s + 1:
        return True
    return local is not None and local_end is not None and _clock_may_turn(book, local, local_end, ended_at, lasted_s)


def check_span(book: PriceBook, span: Span, zone: ZoneInfo) -> Sequence[PricingNote]:
    """Return what a reader of the bill should know about the period; nearly always nothing."""
    period = span.period
    lasted = span.ended_at - period.started_at
    lasted_s = lasted.days * _DAY_S + lasted.seconds
    stated_s = period.charging_s + period.parking_s + period.reserved_s
    notes: list[PricingNote] = []
    # A second's grace: stamps are cut to whole seconds on their way through OCPI.
    if stated_s > lasted_s + 1:
        notes.append(PeriodTimeDiffers(period_index=span.place, stated_s=stated_s, lasted_s=lasted_s))
    if book.looks_at_power and period.charging_s:
        notes.extend(_power_notes(book, span))
    start, end = span.local, span.local_end
    turns = start is not None and end is not None and _clock_may_turn(book, start, end, span.ended_at, lasted_s)
    if turns or _state_may_turn(book, span):
        notes.extend(_change_notes(book, span, zone))
    return notes


def check_held(book: PriceBook, held: Held, zone: ZoneInfo) -> Iterator[PeriodSpansPriceChange]:
    """Yield where the price of a reservation changed inside one of its periods."""
    if book.looks_at_clock or book.looks_at_state:
        stretch = Stretch(started_at=held.started_at, ended_at=held.ended_at, moment=held.moment, energy_wh=0)
        slots = (TIME, FLAT) if held.flat_is_open else (TIME,)
        for note in _first_changes(book, stretch, zone, held.place, slots):
            yield replace(note, is_reservation=True)


def _change_notes(book: PriceBook, span: Span, zone: ZoneInfo) -> Iterator[PricingNote]:
    stretch = Stretch(
        started_at=span.period.started_at,
        ended_at=span.ended_at,
        moment=span.moment or _NO_STATE,
        energy_wh=span.period.net_wh,
    )
    return _first_changes(book, stretch, zone, span.place, _slots_used(span))


def _first_changes(
    book: PriceBook, stretch: Stretch, zone: ZoneInfo, place: int, slots: tuple[int, ...]
) -> Iterator[PeriodSpansPriceChange]:
    noted: set[int] = set()
    for change in changes(book, stretch, zone, slots):
        if change.slot not in noted and not is_priced_alike(change.before, change.after):
            noted.add(change.slot)
            yield _note(place, change.slot, change.at, change.before, change.after)


def _power_notes(book: PriceBook, span: Span) -> Iterator[PricingNote]:
    moment = span.moment
    assert moment is not None, "a book that looks at power looks at the state"
    asks_in_vain = (book.power_thresholds_w and moment.power_w_low is None) or (
        book.current_thresholds_a and moment.current_a_low is None
    )
    if asks_in_vain:
        yield PowerNotStated(period_index=span.place)
    lowest = moment._replace(power_w_high=moment.power_w_low, current_a_high=moment.current_a_low)
    highest = moment._replace(power_w_low=moment.power_w_high, current_a_low=moment.current_a_high)
    if lowest == highest:
        return
    choices = book.choices(span.local)
    for slot in _slots_used(span):
        at_lowest, at_highest = first_match(choices[slot], lowest), first_match(choices[slot], highest)
        if not is_priced_alike(at_lowest, at_highest):
            yield _note(span.place, slot, None, at_lowest, at_highest)


def _note(
    index: int, slot: int, at: datetime | None, before: Candidate | None, after: Candidate | None
) -> PeriodSpansPriceChange:
    return PeriodSpansPriceChange(
        period_index=index,
        dimension=DIMENSIONS[slot],
        changed_at=at,
        element_index=None if before is None else before.element_index,
        next_element_index=None if after is None else after.element_index,
    )


def _clock_may_turn(book: PriceBook, start: LocalMoment, end: LocalMoment, ended_at: datetime, lasted_s: int) -> bool:
    """Whether the wall clock passed a break inside the period; True also where it only might have."""
    start_day, start_s, start_stretch = start
    end_day, end_s, end_stretch = end
    if (end_day - start_day) * _DAY_S + end_s - start_s != lasted_s:
        return True  # the clock was changed, or the period has a broken second
    if start_day == end_day and start_stretch == end_stretch:
        return False
    # A period cut where it should be ends as the next stretch of the day begins.
    if end_day == start_day:
        ends_at_next = end_stretch == start_stretch + 1 and book.breaks[start_stretch] == end_s
    else:
        ends_at_next = end_day == start_day + 1 and end_s == 0 and start_stretch == len(book.breaks)
    return not (ends_at_next and ended_at.microsecond == 0)


def _state_may_turn(book: PriceBook, span: Span) -> bool:
    """Whether energy or duration passed a threshold inside the period."""
    moment, period = span.moment, span.period
    if moment is None:
        return False
    end_wh = moment.energy_wh + period.net_wh
    low_wh, high_wh = min(moment.energy_wh, end_wh), max(moment.energy_wh, end_wh)
    if any(low_wh < wh <= high_wh for wh in book.energy_thresholds_wh):
        return True
    end = moment.elapsed + (span.ended_at - period.started_at)
    return any(moment.elapsed < threshold < end for threshold in book.duration_thresholds)


def _slots_used(span: Span) -> tuple[int, ...]:
    period = span.period
    quantities = (period.net_wh, period.charging_s, period.parking_s, span.flat_is_open)
    return tuple(slot for slot, quantity in enumerate(quantities) if quantity)
