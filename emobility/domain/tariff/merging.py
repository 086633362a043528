"""Merge charging periods that no tariff can tell apart, so that a long charge sampled often still fits into a CDR.

Two neighbours become one where nothing that a restriction of the tariff looks at passes a threshold from the start of
the first to the end of the second: not the clock, the duration, the energy so far, the power or the current. So each
unit is priced by the same component before and after, and the price is the same to the ten-thousandth. Neighbours of
two metering intervals stay apart: whoever prices the same periods by another tariff (retail) still finds the time and
energy of each quarter of an hour.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.selection import PriceBook, compiled, only_reserves, require_likely, zone_of
from emobility.domain.tariff.tariff import Tariff

METERING_INTERVAL: Final = timedelta(minutes=15)
"""Counted from midnight UTC; all time zones are whole intervals away from it."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_Number = TypeVar("_Number", int, Decimal)


class _Standing(NamedTuple):
    """Between which thresholds of a book a moment of a session lies, and what kind of moment it is."""

    clock: tuple[timedelta | None, int, int] | None
    energy: int
    duration: int
    powers: tuple[int | None, int | None]
    currents: tuple[int | None, int | None]
    is_charging: bool
    is_parking: bool
    tariff_id: str | None


class _Placed(NamedTuple):
    """A period with its end and the energy and time before it, reservations aside."""

    period: ChargingPeriod
    ended_at: datetime
    energy_wh: int | Fraction
    elapsed: timedelta

    @property
    def net_wh(self) -> int | Fraction:
        return self.period.net_wh


def merge_alike(
    tariff: Tariff, periods: Sequence[ChargingPeriod], *, ended_at: datetime, time_zone: str
) -> tuple[ChargingPeriod, ...]:
    """Return the periods in order of time with alike neighbours of one metering interval as one.

    Args:
        tariff: The tariff that will price them.
        periods: The session's periods, cut by `split_at_price_changes`.
        ended_at: End of the last one.
        time_zone: IANA zone of the location.

    Raises:
        UnlikelyMoment: a session of another century.
        UnknownTimeZone: `time_zone` is no IANA zone.
        PriceOutOfRange: the tariff has a price nobody can mean.
    """
    book, zone = compiled(tariff).session, zone_of(time_zone)
    require_likely(*(period.started_at for period in periods), ended_at)
    merged: list[_Placed] = []
    before: _Standing | None = None
    for placed in _placed(periods, ended_at):
        standing = _standing_throughout(book, zone, placed)
        if standing is not None and standing == before and _may_join(merged[-1], placed):
            merged[-1] = _joined(merged[-1], placed)
        else:
            merged.append(placed)
        before = standing
    return tuple(placed.period for placed in merged)


def _placed(periods: Sequence[ChargingPeriod], ended_at: datetime) -> list[_Placed]:
    ordered = sorted(periods, key=lambda period: period.started_at)
    ends = [*(period.started_at for period in ordered[1:]), ended_at]
    placed: list[_Placed] = []
    energy_wh: int | Fraction = 0
    started_at: datetime | None = None
    for period, period_ended_at in zip(ordered, ends, strict=True):
        if not only_reserves(period):
            started_at = started_at or period.started_at
        elapsed = period.started_at - (started_at or period.started_at)
        placed.append(_Placed(period, period_ended_at, energy_wh, elapsed))
        energy_wh += placed[-1].net_wh
    return placed


def _may_join(one: _Placed, other: _Placed) -> bool:
    is_one_way = one.net_wh * other.net_wh >= 0
    return is_one_way and _interval(one.period.started_at) == _interval(other.period.started_at)


def _joined(one: _Placed, other: _Placed) -> _Placed:
    period, following = one.period, other.period
    whole = replace(
        period,
        energy_import_wh=period.energy_import_wh + following.energy_import_wh,
        energy_export_wh=period.energy_export_wh + following.energy_export_wh,
        charging_s=period.charging_s + following.charging_s,
        parking_s=period.parking_s + following.parking_s,
        power_w_min=_lower(period.power_w_min, following.power_w_min),
        power_w_max=_higher(period.power_w_max, following.power_w_max),
        current_a_min=_lower(period.current_a_min, following.current_a_min),
        current_a_max=_higher(period.current_a_max, following.current_a_max),
        energy_rest_wh=(period.energy_rest_wh or Decimal(0)) + (following.energy_rest_wh or Decimal(0)) or None,
    )
    return one._replace(period=whole, ended_at=other.ended_at)


def _standing_throughout(book: PriceBook, zone: ZoneInfo, placed: _Placed) -> _Standing | None:
    """Return where a period stands from its start to its last second and Wh; None: it moves, or holds the EVSE only.

    What it reaches just as it ends is where the next one starts.
    """
    if placed.period.reserved_s:
        return None
    first = _standing(book, zone, placed, after=timedelta(0), after_wh=0)
    last_wh = (placed.net_wh > 0) - (placed.net_wh < 0)
    until = max(timedelta(0), placed.ended_at - placed.period.started_at - _SECOND)
    last = _standing(book, zone, placed, after=until, after_wh=placed.net_wh - last_wh)
    return first if first == last else None


def _standing(
    book: PriceBook, zone: ZoneInfo, placed: _Placed, *, after: timedelta, after_wh: int | Fraction
) -> _Standing:
    period = placed.period
    clock = None
    if book.looks_at_clock:
        wall = (period.started_at + after).astimezone(zone)
        local = book.local(wall, zone)
        clock = (wall.utcoffset(), local.ordinal, local.stretch)
    powers_w, currents_a = book.power_thresholds_w, book.current_thresholds_a
    return _Standing(
        clock=clock,
        energy=bisect_right(book.energy_thresholds_wh, placed.energy_wh + after_wh),
        duration=bisect_right(book.duration_thresholds, placed.elapsed + after),
        powers=(_band(powers_w, period.power_w_min), _band(powers_w, period.power_w_max)),
        currents=(_band(currents_a, period.current_a_min), _band(currents_a, period.current_a_max)),
        is_charging=period.charging_s > 0,
        is_parking=period.parking_s > 0,
        tariff_id=period.tariff_id,
    )


def _interval(at: datetime) -> int:
    return (at - _EPOCH) // METERING_INTERVAL


def _band(thresholds: Sequence[_Number], value: _Number | None) -> int | None:
    # What is not stated is no number, and never stands where a stated one does.
    return None if value is None else bisect_right(thresholds, value)


def _lower(one: _Number | None, other: _Number | None) -> _Number | None:
    return one if one is None or other is None else min(one, other)


def _higher(one: _Number | None, other: _Number | None) -> _Number | None:
    return one if one is None or other is None else max(one, other)
