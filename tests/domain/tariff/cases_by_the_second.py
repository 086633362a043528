"""Sessions told second by second, and cut into charging periods as the text asks for, drawn from a seed.

A session is first made as what happened in each of its seconds. From that come two tellings of the same session: one
period per second, and the periods of a CPO that "SHALL add a new Charging Period" whenever "another Price Component
becomes active" (mod_cdrs, ChargingPeriod) and is "allowed to add more in-between".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from itertools import groupby
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.tariff import (
    DayOfWeek,
    PriceComponent,
    Reservation,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TaxIncluded,
)
from tests.domain.tariff.builders import CPO, UPDATED
from tests.domain.tariff.by_the_second import ONE_SECOND, Walk, walk

ZONES: Final = (
    "Europe/Amsterdam",
    "Europe/Lisbon",
    "Europe/Helsinki",
    "America/St_Johns",  # half an hour off
    "Australia/Lord_Howe",  # its clock changes by half an hour
    "Asia/Kathmandu",
    "UTC",
)
LENGTHS_S: Final = ((1, 35), (35, 240), (3_600, 5 * 3_600))
"""Most are short, because each second costs; few are as long as a charge is."""
PRICES: Final = ("0", "0.25", "1.2", "-0.05", "0.333", "7", "2.3456", "0.0001")
VATS: Final = (None, "0", "10", "20", "21", "5.2")
STEPS: Final = (0, 1, 1, 7, 10, 25, 60, 100, 300)
POWERS_W: Final = (-7_000, 0, 3_999, 4_000, 11_000, 22_000)
POWER_LIMITS_W: Final = (0, 4_000, 11_000, 22_001)
CURRENTS_A: Final = tuple(map(Decimal, ("-10", "0", "5.9", "6", "16.5", "32")))
CURRENT_LIMITS_A: Final = tuple(map(Decimal, ("0", "6", "16.5", "32.1")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A session in three tellings.

    Attributes:
        seconds: A period per second.
        walked: The walk over them.
        cut: Periods cut wherever another component becomes active, and elsewhere.
        coarse: Periods cut only where what the vehicle does changes, as the text forbids; what they hold flows evenly,
            so many Wh a second.
    """

    tariffs: tuple[Tariff, ...]
    time_zone: str
    ended_at: datetime
    seconds: tuple[ChargingPeriod, ...]
    walked: Walk
    cut: tuple[ChargingPeriod, ...]
    coarse: tuple[ChargingPeriod, ...]


def case(seed: int) -> Case:
    """The case of a seed, always the same."""
    draw = Random(seed)
    zone = draw.choice(ZONES)
    length_s = draw.randrange(*draw.choices(LENGTHS_S, (0.9, 0.0995, 0.0005))[0])
    moment = _moment(draw, zone)
    start = moment - timedelta(seconds=draw.randrange(-2, length_s + 2))
    tariffs = tuple(
        _tariff(draw, moment.astimezone(ZoneInfo(zone)), length_s, number)
        for number in range(draw.choice((1, 1, 1, 1, 2, 3)))
    )
    stretches, ended_at = _stretches(draw, tariffs, start, length_s)
    seconds = [second for stretch in stretches for second in stretch]
    walked = walk(tariffs, seconds, ended_at=ended_at, time_zone=zone)
    cut = list(_cut(draw, walked))
    coarse = [_flowing(draw, _merged(draw, stretch), len(stretch)) for stretch in stretches]
    if draw.random() < 0.2:
        for told in (seconds, cut, coarse):
            draw.shuffle(told)
    return Case(
        tariffs=tariffs,
        time_zone=zone,
        ended_at=ended_at,
        seconds=tuple(seconds),
        walked=walked,
        cut=tuple(cut),
        coarse=tuple(coarse),
    )


def _moment(draw: Random, zone: str) -> datetime:
    """When something may happen: the clock changes, a day or year or hour begins, or nothing at all."""
    day = draw.choice((date(2023, 12, 31), date(2024, 2, 28), date(2024, 2, 29), date(2024, 6, 15)))
    midnight = datetime.combine(day + timedelta(days=draw.randrange(7)), time(0), ZoneInfo(zone)).astimezone(UTC)
    kind = draw.random()
    if kind < 0.35 and _clock_changes(zone):
        return draw.choice(_clock_changes(zone)) + timedelta(hours=draw.choice((0, 0, 0, 0.5, 1, -1, -0.5)))
    if kind < 0.7:
        return midnight
    return midnight + timedelta(minutes=draw.randrange(1_440))


@cache
def _clock_changes(zone: str) -> tuple[datetime, ...]:
    hours = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=number) for number in range(366 * 24)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    # A change at half past the hour (Newfoundland) is found at the full hour after, well within reach of a session.
    return tuple(hour for hour, new, old in zip(hours[1:], offsets[1:], offsets, strict=False) if new != old)


def _tariff(draw: Random, local: datetime, length_s: int, number: int) -> Tariff:
    vats = VATS if draw.random() < 0.85 else (None,)
    elements = [_element(draw, local, length_s, vats) for _ in range(draw.randint(1, 5))]
    if draw.random() < 0.2:
        elements.extend(
            TariffElement(components=_components(draw, vats), restrictions=TariffRestrictions(reservation=reservation))
            for reservation in draw.sample(list(Reservation), 2)
        )
    if draw.random() < 0.5:
        elements.append(TariffElement(components=_components(draw, vats)))
    return Tariff(
        party_id=CPO,
        tariff_id=f"T{number}",
        currency="EUR",
        elements=tuple(elements),
        last_updated=UPDATED,
        tax_included=draw.choice((TaxIncluded.NO, TaxIncluded.NO, TaxIncluded.YES, TaxIncluded.NOT_APPLICABLE)),
        price_min=_limit(draw, 4_000),
        price_max=_limit(draw, 9_000),
    )


def _limit(draw: Random, most_e4: int) -> Price | None:
    if draw.random() < 0.7:
        return None
    most_e4 *= draw.choice((1, 10))
    return Price(excl_e4=draw.randrange(most_e4), incl_e4=draw.choice((None, draw.randrange(most_e4))))


def _components(draw: Random, vats: Sequence[str | None]) -> tuple[PriceComponent, ...]:
    kinds = draw.sample(list(TariffDimension), draw.randint(1, 4))
    if draw.random() < 0.1:
        kinds.append(kinds[0])
    return tuple(
        PriceComponent(
            dimension=kind,
            price=Decimal(draw.choice(PRICES)),
            step_size=draw.choice(STEPS),
            vat_percent=None if (vat := draw.choice(vats)) is None else Decimal(vat),
        )
        for kind in kinds
    )


def _element(draw: Random, local: datetime, length_s: int, vats: Sequence[str | None]) -> TariffElement:
    def near() -> time:
        """A minute close to what happens, or far from it."""
        minute = draw.choice((0, 0, 0, 1, -1, 2, 30, 60, -60, draw.randrange(1_440)))
        return (local.replace(tzinfo=None) + timedelta(minutes=minute)).time().replace(second=0)

    values: dict[str, Any] = {
        "start_time": near(),
        "end_time": near(),
        "start_date": local.date() + timedelta(days=draw.randint(-1, 1)),
        "end_date": local.date() + timedelta(days=draw.randint(0, 2)),
        "energy_wh_min": draw.choice((0, draw.randrange(10 * length_s), draw.randrange(100))),
        "energy_wh_max": draw.choice((0, draw.randrange(10 * length_s), draw.randrange(100))),
        "duration_s_min": draw.randrange(length_s + 1),
        "duration_s_max": draw.randrange(length_s + 1),
        "power_w_min": draw.choice(POWER_LIMITS_W),
        "power_w_max": draw.choice(POWER_LIMITS_W),
        "current_a_min": draw.choice(CURRENT_LIMITS_A),
        "current_a_max": draw.choice(CURRENT_LIMITS_A),
        "days_of_week": tuple(draw.sample(list(DayOfWeek), draw.randint(1, 6))),
    }
    chosen = {name: value for name, value in values.items() if draw.random() < 0.14}
    if "start_time" in chosen and draw.random() < 0.15:
        chosen["end_time"] = chosen["start_time"]
    if draw.random() < 0.2:
        chosen["reservation"] = draw.choice(list(Reservation))
    return TariffElement(components=_components(draw, vats), restrictions=TariffRestrictions(**chosen))


def _stretches(
    draw: Random, tariffs: Sequence[Tariff], start: datetime, length_s: int
) -> tuple[list[list[ChargingPeriod]], datetime]:
    """What the vehicle does, stretch by stretch, each of them second by second."""
    stretches = []
    left_s = length_s
    names = [*(draw.choice((tariff.tariff_id, tariff.tariff_id.lower())) for tariff in tariffs), None]
    has_arrived = draw.random() < 0.75
    never_comes = not has_arrived and draw.random() < 0.5
    while left_s:
        lasts_s = min(left_s, draw.randrange(1, max(2, length_s)))
        stretches.append(_stretch(draw, start, lasts_s, draw.choice(names), has_arrived=has_arrived))
        start += timedelta(seconds=lasts_s)
        left_s -= lasts_s
        has_arrived = has_arrived or (not never_comes and draw.random() < 0.8)
    last = stretches[-1][-1]
    if not last.reserved_s and draw.random() < 0.05:
        # What the meter still counted as the session ended: a period that lasts no time.
        final = replace(last, started_at=start, charging_s=0, parking_s=0, energy_import_wh=draw.randint(0, 9))
        stretches.append([replace(final, energy_export_wh=0)])
    return stretches, start


def _stretch(
    draw: Random, start: datetime, lasts_s: int, tariff_id: str | None, *, has_arrived: bool
) -> list[ChargingPeriod]:
    kind = draw.choice(("charging", "charging", "feeding in", "parking", "waiting")) if has_arrived else "reserved"
    most_wh = draw.choice((0, 1, 5, 20))
    powers, currents = draw.sample(POWERS_W, 2), draw.sample(CURRENTS_A, 2)
    states_power, states_current = draw.random() < 0.6, draw.random() < 0.6
    # A vehicle that asks for no power may still draw some.
    draws = kind == "charging" or (kind in ("parking", "waiting") and draw.random() < 0.2)
    # A document may state less than a Wh, down to a tenth (a kWh with four decimals).
    is_fine = draws and draw.random() < 0.2
    seconds = []
    for number in range(lasts_s):
        power_w = draw.choice(powers) if states_power else None
        current_a = draw.choice(currents) if states_current else None
        seconds.append(
            ChargingPeriod(
                started_at=start + number * ONE_SECOND,
                energy_import_wh=draw.randint(0, most_wh) if draws else 0,
                energy_export_wh=draw.randint(0, most_wh) if kind == "feeding in" else 0,
                charging_s=int(kind in ("charging", "feeding in")),
                parking_s=int(kind == "parking"),
                reserved_s=int(kind == "reserved"),
                power_w_min=power_w,
                power_w_max=power_w,
                current_a_min=current_a,
                current_a_max=current_a,
                tariff_id=tariff_id,
                energy_rest_wh=Decimal(draw.randint(-5, 5)) / 10 if is_fine else None,
            )
        )
        if draw.random() < 0.1:
            powers.reverse()
        powers = powers if draw.random() < 0.2 else powers[:1] * 2
    return seconds


def _cut(draw: Random, walked: Walk) -> Iterator[ChargingPeriod]:
    """Tell a session as the text asks for: a period for as long as the same components are active."""
    cuts = draw.choice((0, 0.05, 0.5))
    stretch = 0
    keys: dict[datetime, tuple[Any, ...]] = {}
    for second, active in walked:
        period = second.period
        stretch += draw.random() < cuts
        keys[period.started_at] = (
            stretch,
            period.tariff_id,
            *(period.charging_s, period.parking_s, period.reserved_s, second.energy_wh < 0),
            *(period.power_w_min is None, period.current_a_min is None),
            *sorted((name, id(component)) for name, component in active.items()),
        )
    for _, alike in groupby((second.period for second, _ in walked), key=lambda period: keys[period.started_at]):
        yield _merged(draw, list(alike))


def _merged(draw: Random, alike: Sequence[ChargingPeriod]) -> ChargingPeriod:
    """One period of several; it may leave out one of the lowest and the highest where they are the same."""
    changed: dict[str, Any] = {
        name: sum(getattr(period, name) for period in alike)
        for name in ("energy_import_wh", "energy_export_wh", "charging_s", "parking_s", "reserved_s")
    }
    rest_wh = sum((period.energy_rest_wh or Decimal(0) for period in alike), start=Decimal(0))
    changed["energy_rest_wh"] = rest_wh or None
    for lowest, highest in (("power_w_min", "power_w_max"), ("current_a_min", "current_a_max")):
        reached = [getattr(period, lowest) for period in alike]
        if None in reached:
            continue
        changed |= {lowest: min(reached), highest: max(reached)}
        if min(reached) == max(reached) and draw.random() < 0.3:
            changed[draw.choice((lowest, highest))] = None
    return replace(alike[0], **changed)


def _flowing(draw: Random, period: ChargingPeriod, lasts_s: int) -> ChargingPeriod:
    return replace(
        period,
        energy_import_wh=draw.randint(0, 20) * lasts_s if period.energy_import_wh else 0,
        energy_export_wh=draw.randint(0, 20) * lasts_s if period.energy_export_wh else 0,
        energy_rest_wh=None,  # the engine cuts whole Wh
    )
