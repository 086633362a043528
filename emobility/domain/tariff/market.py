"""A price that follows a market, written out as elements that any OCPI partner can price by.

Each interval of the curve becomes an element of the local day it falls on (`start_date`, `end_date`, `start_time`,
`end_time`); neighbours of one price are joined. OCPI has no way to tell the two passes of the hour that a clock
change repeats in autumn, so both take one price: the mean of the two, which costs even consumption what the two prices
would. The hour that is skipped in spring has no price of its own: the window of the hour before ends where the clock
goes on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.tariff.changes import clock_shifts
from emobility.domain.tariff.selection import zone_of
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TariffType,
)

KWH_PER_MWH: Final = 1_000
PRICE_STEP: Final = Decimal("0.0001")
"""OCPI numbers have four decimals (types, 16.x), so a price with more would not reach every partner."""
_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)
_DAY_S: Final = 86_400


class OverlappingMarketPrices(MalformedInput):
    """Two intervals of a price curve cover the same time."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        super().__init__(f"two market prices cover {at.isoformat()}")


class NotAnInterval(MalformedInput):
    """An interval of a price curve lasts whole minutes, at least one, and starts on one: OCPI writes HH:MM."""

    def __init__(self, *, start: datetime, duration_s: int) -> None:
        self.start = start
        self.duration_s = duration_s
        super().__init__(f"{duration_s} s from {start.isoformat()} is no interval of a price curve")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPrice:
    """The price of one interval, in currency units per MWh; it may be negative."""

    start: datetime
    duration_s: int
    price_per_mwh: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketTerms:
    """What a seller adds to the market: the price per kWh is `market * factor + markup_per_kwh`, before tax,
    rounded to four decimals half away from zero.

    Attributes:
        fallback_per_kwh: Price per kWh, whole, where the curve says nothing.
        session_fee: Once per session; None: none.
        time_per_hour: Per hour of charging; None: free.
        parking_per_hour: Per hour of occupying without charging; None: free.
        parking_step_s: Step of `parking_per_hour`.
        price_floor_per_kwh: The price per kWh never falls below this; None: it may be negative.
    """

    party_id: PartyId
    tariff_id: str
    currency: str
    time_zone: str
    last_updated: datetime
    markup_per_kwh: Decimal
    fallback_per_kwh: Decimal
    factor: Decimal = Decimal(1)
    vat_percent: Decimal | None = None
    session_fee: Decimal | None = None
    time_per_hour: Decimal | None = None
    parking_per_hour: Decimal | None = None
    parking_step_s: int = 1
    price_floor_per_kwh: Decimal | None = None
    tariff_type: TariffType | None = None
    price_min: Price | None = None
    price_max: Price | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    text_en: str | None = None


def tariff_from_market(terms: MarketTerms, prices: Sequence[MarketPrice]) -> Tariff:
    """Write a price curve out as a tariff; without prices it is the fallback alone.

    Raises:
        OverlappingMarketPrices: two intervals overlap.
        NotAnInterval: an interval does not lie on whole minutes.
        UnknownTimeZone: `terms.time_zone` is no IANA zone.
    """
    curve = _Curve(prices, zone_of(terms.time_zone))
    elements = [_element(terms, window) for window in curve.windows(terms)]
    return Tariff(
        party_id=terms.party_id,
        tariff_id=terms.tariff_id,
        currency=terms.currency,
        elements=(*elements, _otherwise(terms)),
        last_updated=terms.last_updated,
        tariff_type=terms.tariff_type,
        price_min=terms.price_min,
        price_max=terms.price_max,
        valid_from=terms.valid_from,
        valid_until=terms.valid_until,
        text_en=terms.text_en,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A stretch of one local day with one price; seconds of that day, `end_s` up to 86,400."""

    day: date
    start_s: int
    end_s: int
    price_per_kwh: Decimal


class _Curve:
    """The curve, asked by instant."""

    def __init__(self, prices: Sequence[MarketPrice], zone: ZoneInfo) -> None:
        self._prices = sorted(prices, key=lambda price: price.start)
        self._starts = [price.start for price in self._prices]
        self._zone = zone
        for price in self._prices:
            if price.duration_s < 60 or price.duration_s % 60 or price.start.second or price.start.microsecond:
                raise NotAnInterval(start=price.start, duration_s=price.duration_s)
        for earlier, later in pairwise(self._prices):
            if later.start < _end(earlier):
                raise OverlappingMarketPrices(later.start)

    def windows(self, terms: MarketTerms) -> Iterator[_Window]:
        """Yield the priced stretches of each local day, neighbours of one price joined."""
        for day, breaks in self._breaks().items():
            last: _Window | None = None
            for start_s, end_s in pairwise(breaks):
                price = self._price_on_clock(day, start_s, terms)
                if price is None:
                    continue
                if last is not None and last.end_s == start_s and last.price_per_kwh == price:
                    last = _Window(day=day, start_s=last.start_s, end_s=end_s, price_per_kwh=price)
                    continue
                if last is not None:
                    yield last
                last = _Window(day=day, start_s=start_s, end_s=end_s, price_per_kwh=price)
            if last is not None:
                yield last

    def _breaks(self) -> dict[date, list[int]]:
        """Seconds of each local day between which the price is one: every start and end, and midnight."""
        days: dict[date, set[int]] = {}
        for price in self._prices:
            first, last = price.start.astimezone(self._zone), _end(price).astimezone(self._zone)
            day = first.date()
            while day <= last.date():
                days.setdefault(day, {0, _DAY_S})
                day += _DAY
            days[first.date()].add(_second(first))
            days[last.date()].add(_second(last))
        for day, breaks in days.items():
            # The hour that comes twice has prices of its own, whatever interval it lies in.
            start = datetime.combine(day, time(), self._zone).astimezone(UTC)
            for shift in clock_shifts(start, start + _DAY, self._zone):
                again_from = _second(shift.astimezone(self._zone))
                again_to = _second((shift - _MINUTE).astimezone(self._zone)) + 60
                if again_from < again_to:
                    breaks.update({again_from, again_to})
        return {day: sorted(days[day]) for day in sorted(days)}

    def _price_on_clock(self, day: date, second: int, terms: MarketTerms) -> Decimal | None:
        """The price while the wall clock shows this second: the mean where it does so twice."""
        wall = datetime.combine(day, time(second // 3_600, second % 3_600 // 60), self._zone)
        passes = [wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)]
        if passes[0] > passes[1]:
            # A skipped time: read with the offset before the change, it is the moment the clock went on.
            passes = passes[:1]
        found = [price for price in (self._price_at(at) for at in sorted(set(passes))) if price is not None]
        if not found:
            return None
        mean = sum(found, Decimal(0)) / len(found)
        price = (mean / KWH_PER_MWH * terms.factor + terms.markup_per_kwh).quantize(PRICE_STEP, ROUND_HALF_UP)
        if terms.price_floor_per_kwh is not None:
            price = max(price, terms.price_floor_per_kwh)
        return price

    def _price_at(self, at: datetime) -> Decimal | None:
        index = bisect_right(self._starts, at) - 1
        if index < 0 or at >= _end(self._prices[index]):
            return None
        return self._prices[index].price_per_mwh


def _end(price: MarketPrice) -> datetime:
    return price.start + timedelta(seconds=price.duration_s)


def _second(wall: datetime) -> int:
    return wall.hour * 3_600 + wall.minute * 60


def _element(terms: MarketTerms, window: _Window) -> TariffElement:
    is_whole_day = window.start_s == 0 and window.end_s == _DAY_S
    return TariffElement(
        components=(
            PriceComponent(dimension=TariffDimension.ENERGY, price=window.price_per_kwh, vat_percent=terms.vat_percent),
        ),
        restrictions=TariffRestrictions(
            start_date=window.day,
            end_date=window.day + _DAY,
            start_time=None if is_whole_day else _time_of_day(window.start_s),
            end_time=None if is_whole_day else _time_of_day(window.end_s),
        ),
    )


def _time_of_day(second: int) -> time:
    # OCPI 2.2.1, 11.4.7: 00:00 as an end is the end of the day.
    return time(second % _DAY_S // 3_600, second % 3_600 // 60)


def _otherwise(terms: MarketTerms) -> TariffElement:
    """What applies always, and the price of energy where the curve says nothing."""
    stated = (
        (TariffDimension.ENERGY, terms.fallback_per_kwh, 1),
        (TariffDimension.FLAT, terms.session_fee, 1),
        (TariffDimension.TIME, terms.time_per_hour, 1),
        (TariffDimension.PARKING_TIME, terms.parking_per_hour, terms.parking_step_s),
    )
    return TariffElement(
        components=tuple(
            PriceComponent(dimension=dimension, price=price, step_size=step, vat_percent=terms.vat_percent)
            for dimension, price, step in stated
            if price is not None
        )
    )
