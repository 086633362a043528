"""When drivers come to public stations, how long they stay and what they need: ElaadNL's distributions.

Everything is drawn in integers from a `random.Random` of its own stream, so that drawing more of one thing never moves
another.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from simulator.tables import rows

PUBLIC: Final = "public"
SLOT: Final = timedelta(minutes=15)
WEIGHT_SCALE: Final = Decimal(10**9)
SATURDAY: Final = 5
PER_PERCENT: Final = 10_000
"""How finely a percentage is drawn."""


def draw_arrival(chance: random.Random, day: date, time_zone: str, *, grid_s: int) -> datetime:
    """Draw a moment of the local day, UTC, on a grid of `grid_s` seconds.

    A local time that the day does not have (clocks go forward) is drawn again.
    """
    zone = ZoneInfo(time_zone)
    weights = _arrival_weights(is_weekend=day.weekday() >= SATURDAY)
    total = sum(weights)
    while True:
        place = chance.randrange(total)
        within_s = chance.randrange(int(SLOT.total_seconds()) // grid_s) * grid_s
        slot = 0
        while place >= weights[slot]:
            place -= weights[slot]
            slot += 1
        wall = datetime.combine(day, time()) + slot * SLOT + timedelta(seconds=within_s)
        at = wall.replace(tzinfo=zone).astimezone(UTC)
        if at.astimezone(zone).replace(tzinfo=None) == wall:
            return at


def draw_connection_s(chance: random.Random) -> int:
    """Draw how long a vehicle stays connected at a public station, in seconds."""
    return _draw("distribution_of_connection_time.csv", chance, unit=3_600)


def draw_energy_wh(chance: random.Random) -> int:
    """Draw how much energy a vehicle takes at a public station, in Wh."""
    return _draw("distribution_of_energy_demand.csv", chance, unit=1_000)


@cache
def _arrival_weights(*, is_weekend: bool) -> tuple[int, ...]:
    name = "distribution_of_arrival_weekend.csv" if is_weekend else "distribution_of_arrival.csv"
    return tuple(int(Decimal(row[PUBLIC]) * WEIGHT_SCALE) for row in rows(name))


@cache
def _inverse(name: str, unit: int) -> tuple[int, ...]:
    """The value that 0, 1, ... 100 percent of sessions exceed, in `unit` parts."""
    points = {int(row["Percentage of charging events"]): int(Decimal(row[PUBLIC]) * unit) for row in rows(name)}
    return tuple(points[percent] for percent in range(len(points)))


def _draw(name: str, chance: random.Random, *, unit: int) -> int:
    """Draw a percentage uniformly and interpolate, in integers."""
    points = _inverse(name, unit)
    percent, rest = divmod(chance.randrange((len(points) - 1) * PER_PERCENT), PER_PERCENT)
    low, high = points[percent], points[percent + 1]
    return low + (high - low) * rest // PER_PERCENT
