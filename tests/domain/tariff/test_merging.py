"""Periods that no tariff can tell apart become one, and no price changes by it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, time, timedelta
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.merging import METERING_INTERVAL, merge_alike
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.priced import PeriodSpansPriceChange
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import Tariff
from tests.domain.tariff.builders import AMSTERDAM, MONDAY, charging, component, element, minutes, parking, tariff
from tests.domain.tariff.cases import Case, case
from tests.domain.tariff.fuzz_pricing import PARTS
from tests.domain.tariff.oracle import bill
from tests.domain.tariff.test_price_changes import without

SEEDS = st.integers(min_value=0, max_value=2**40)
NOT_ON_CLOCK = tuple(
    f"{quantity}_{end}" for quantity in ("energy_wh", "duration_s", "power_w", "current_a") for end in ("min", "max")
)
SAMPLES_MAX = 40


def sampled(seed: int) -> Case:
    """A case whose stretches were read many times, as a meter does that is asked each minute."""
    drawn, draw = case(seed), Random(seed)
    ordered = sorted(drawn.periods, key=lambda period: period.started_at)
    ends = [*(period.started_at for period in ordered[1:]), drawn.ended_at]
    periods = [part for period, end in zip(ordered, ends, strict=True) for part in _samples(draw, period, end)]
    cut = split_at_price_changes(drawn.tariff, periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    return replace(drawn, periods=cut)


def _samples(draw: Random, period: ChargingPeriod, end: datetime) -> list[ChargingPeriod]:
    lasted_s = (end - period.started_at) // timedelta(seconds=1)
    if period.reserved_s or lasted_s < 2:
        return [period]
    count = min(lasted_s, draw.choice((2, 5, SAMPLES_MAX)))
    starts = sorted({0, *(draw.randrange(1, lasted_s) for _ in range(count - 1))})
    parts = []
    for start_s, end_s in pairwise([*starts, lasted_s]):
        part_s = end_s - start_s
        power_w = draw.choice((None, period.power_w_min, draw.randrange(0, 25_000)))
        parts.append(
            replace(
                period,
                started_at=period.started_at + timedelta(seconds=start_s),
                energy_import_wh=draw.choice((0, 1, period.energy_import_wh // count)),
                energy_export_wh=draw.choice((0, 0, 0, period.energy_export_wh // count)),
                charging_s=part_s if period.charging_s else 0,
                parking_s=part_s if period.parking_s else 0,
                power_w_min=period.power_w_min if draw.random() < 0.7 else power_w,
            )
        )
    return parts


def merged(drawn: Case) -> Case:
    periods = merge_alike(drawn.tariff, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    return replace(drawn, periods=periods)


def parts_of(drawn: Case, charge: Tariff | None = None) -> dict[str, object]:
    priced = price_session(charge or drawn.tariff, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    return {part: getattr(priced, part) for part in PARTS}


def crossed(drawn: Case) -> int:
    priced = price_session(drawn.tariff, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    return sum(isinstance(note, PeriodSpansPriceChange) for note in priced.notes)


@given(seed=SEEDS)
def test_merged_periods_cost_the_same_in_every_part(seed: int) -> None:
    drawn = sampled(seed)

    assert parts_of(merged(drawn)) == parts_of(drawn)


@given(seed=SEEDS)
def test_the_second_pricer_finds_merged_periods_to_cost_the_same(seed: int) -> None:
    drawn = sampled(seed)

    few = merged(drawn)

    assert bill(few.tariff, few.periods, few.time_zone) == bill(drawn.tariff, drawn.periods, drawn.time_zone)


@given(seed=SEEDS)
def test_merged_periods_hide_no_change_of_price(seed: int) -> None:
    drawn = sampled(seed)

    assert crossed(merged(drawn)) <= crossed(drawn)


@given(seed=SEEDS, other=SEEDS)
def test_merged_periods_cost_the_same_by_any_other_tariff_of_the_clock(seed: int, other: int) -> None:
    drawn = sampled(seed)
    retail = without(case(other).tariff, *NOT_ON_CLOCK)

    assert parts_of(merged(drawn), retail) == parts_of(drawn, retail)


@given(seed=SEEDS)
def test_merging_loses_nothing_and_stays_within_a_metering_interval(seed: int) -> None:
    drawn = sampled(seed)

    few = merged(drawn)

    for name in ("energy_import_wh", "energy_export_wh", "charging_s", "parking_s", "reserved_s"):
        assert sum(getattr(one, name) for one in few.periods) == sum(getattr(one, name) for one in drawn.periods)
    starts = {period.started_at for period in few.periods}
    for one, other in pairwise(drawn.periods):
        if one.started_at.timestamp() // METERING_INTERVAL.total_seconds() != (
            other.started_at.timestamp() // METERING_INTERVAL.total_seconds()
        ):
            assert other.started_at in starts
    assert merged(few) == few


def test_the_generated_sessions_are_merged_often_and_by_every_restriction_refused() -> None:
    seen: Counter[str] = Counter()
    for seed in range(400):
        drawn = sampled(seed)
        fewer = len(drawn.periods) - len(merged(drawn).periods)
        seen["merged"] += fewer > 0
        seen["kept apart"] += fewer < len(drawn.periods) - 1
        for name in NOT_ON_CLOCK:
            seen[name] += fewer > 0 and any(getattr(one.restrictions, name) for one in drawn.tariff.elements)

    assert {name: number for name, number in seen.items() if number < 20} == {}
    assert {"merged", *NOT_ON_CLOCK} <= seen.keys()


def test_a_charge_read_each_minute_is_one_period_per_quarter_of_an_hour_and_price() -> None:
    charge = tariff(
        element(component("ENERGY", "0.1"), energy_wh_max=2_000), element(component("ENERGY", "1", step=100))
    )
    read = [charging(MONDAY + minutes(minute), 1, 100, power_w_max=6_000 + minute) for minute in range(30)]
    left = [parking(MONDAY + minutes(30 + minute), 1) for minute in range(10)]

    cut = split_at_price_changes(charge, [*read, *left], ended_at=MONDAY + minutes(40), time_zone=AMSTERDAM)
    few = merge_alike(charge, cut, ended_at=MONDAY + minutes(40), time_zone=AMSTERDAM)

    assert [(one.started_at - MONDAY, one.energy_import_wh, one.charging_s, one.parking_s) for one in few] == [
        (minutes(0), 1_500, 900, 0),
        (minutes(15), 500, 300, 0),
        (minutes(20), 1_000, 600, 0),
        (minutes(30), 0, 0, 600),
    ]
    assert few[0].power_w_max == 6_014


def test_periods_stay_apart_where_the_clock_turns_within_a_metering_interval() -> None:
    charge = tariff(element(component("ENERGY", "0.1"), end_time=time(2, 5)), element(component("ENERGY", "1")))
    read = [charging(MONDAY + minutes(minute), 1, 100) for minute in range(15)]

    few = merge_alike(charge, read, ended_at=MONDAY + minutes(15), time_zone=AMSTERDAM)

    assert [one.energy_import_wh for one in few] == [500, 1_000]


def test_energy_drawn_and_energy_fed_in_stay_apart() -> None:
    drawn, fed_in = charging(MONDAY, 5, 300), charging(MONDAY + minutes(5), 5, 0, energy_export_wh=300)

    few = merge_alike(
        tariff(element(component("ENERGY", "1"))), [drawn, fed_in], ended_at=MONDAY + minutes(10), time_zone=AMSTERDAM
    )

    assert few == (drawn, fed_in)
