"""Dutch day-ahead prices: what the market published, hour by hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from simulator.tables import rows

MARKET_TIME_ZONE: Final = "Europe/Amsterdam"
PUBLISHED_AT: Final = time(13, 0)
"""Local time of the day before delivery at which the prices of a day are known."""
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourPrice:
    """The price of one hour, EUR per MWh; may be negative."""

    start: datetime
    eur_per_mwh: Decimal

    @property
    def eur_per_kwh(self) -> Decimal:
        """The same per kWh, exact."""
        return self.eur_per_mwh.scaleb(-3)


@cache
def _prices() -> dict[datetime, Decimal]:
    return {
        datetime.fromisoformat(row["start_utc"]).astimezone(UTC): Decimal(row["price_eur_per_mwh"])
        for row in rows("day_ahead_nl_2022.csv")
    }


def day_ahead(day: date) -> tuple[HourPrice, ...]:
    """Return the prices of a local day, 23 to 25 of them. Raises `LookupError` when the data lack an hour."""
    zone = ZoneInfo(MARKET_TIME_ZONE)
    at = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)
    hours = []
    while at < end:
        hours.append(HourPrice(start=at, eur_per_mwh=_prices()[at]))
        at += HOUR
    return tuple(hours)


def published_at(day: date) -> datetime:
    """Return when the prices of a local day become known, UTC."""
    zone = ZoneInfo(MARKET_TIME_ZONE)
    return datetime.combine(day - timedelta(days=1), PUBLISHED_AT, tzinfo=zone).astimezone(UTC)


def negative_weekday() -> date:
    """Return the weekday of the data with the lowest hourly price below zero."""
    zone = ZoneInfo(MARKET_TIME_ZONE)
    lowest: dict[date, Decimal] = {}
    for at, price in _prices().items():
        day = at.astimezone(zone).date()
        lowest[day] = min(price, lowest.get(day, price))
    saturday = 5
    weekdays = [day for day, price in lowest.items() if price < 0 and day.weekday() < saturday]
    return min(weekdays, key=lambda day: lowest[day])
