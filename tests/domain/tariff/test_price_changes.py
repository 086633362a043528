"""Where the price changes inside a period: noted by pricing, cut by whoever makes periods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.priced import PeriodSpansPriceChange
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import PriceComponent, Tariff
from tests.domain.tariff.builders import AMSTERDAM, charging, component, element, minutes, parking, reserved, tariff
from tests.domain.tariff.cases import Case, case
from tests.domain.tariff.oracle import Situation, active_components

SEEDS = st.integers(min_value=0, max_value=2**40)
NOON = datetime(2022, 6, 13, 10, tzinfo=UTC)
AUTUMN = datetime(2022, 10, 30, tzinfo=UTC)


def without(charge: Tariff, *names: str) -> Tariff:
    """The tariff without restrictions that the walk below can't follow."""
    nothing = dict.fromkeys(names)
    return replace(
        charge,
        elements=tuple(
            replace(one, restrictions=replace(one.restrictions, **nothing))  # type: ignore[arg-type]  # names above
            for one in charge.elements
        ),
    )


def walked_changes(drawn: Case) -> Iterator[tuple[int, str, datetime]]:
    """The first price change of each period and dimension, found by asking the oracle minute by minute."""
    ordered = sorted(drawn.periods, key=lambda one: one.started_at)
    ends = [*(one.started_at for one in ordered[1:]), drawn.ended_at]
    using = [one for one in ordered if not one.reserved_s]
    for index, (period, ended_at) in enumerate(zip(ordered, ends, strict=True)):
        if period.reserved_s:
            continue
        first = using[0].started_at
        used = {
            "ENERGY": period.energy_import_wh - period.energy_export_wh,
            "TIME": period.charging_s,
            "PARKING_TIME": period.parking_s,
        }

        def costs(at: datetime, of: ChargingPeriod = period, since: datetime = first) -> dict[str, object]:
            active = active_components(drawn.tariff, Situation(of, at, since, 0, drawn.time_zone))
            return {kind: cost(one) for kind, one in active.items()}

        at_start = costs(period.started_at)
        missing = {kind for kind, quantity in used.items() if quantity}
        for at in minutes_between(period.started_at, ended_at, first):
            now = costs(at)
            for kind in sorted(kind for kind in missing if now[kind] != at_start[kind]):
                missing.discard(kind)
                yield index, kind, at


def cost(one: PriceComponent | None) -> tuple[Decimal, Decimal]:
    return (Decimal(0), Decimal(0)) if one is None or not one.price else (one.price, one.vat_percent or Decimal(0))


def minutes_between(start: datetime, end: datetime, first: datetime) -> list[datetime]:
    """Whole minutes of the clock and of the session strictly between two moments."""
    found = set()
    for origin in (start.replace(second=0), first):
        step = origin + ((start - origin) // timedelta(minutes=1)) * timedelta(minutes=1)
        while step < end:
            found.add(step)
            step += timedelta(minutes=1)
    return sorted(at for at in found if start < at < end)


@pytest.mark.parametrize("first_seed", range(0, 200, 50))
def test_the_changes_noted_are_those_a_walk_minute_by_minute_finds(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 50):
        drawn = case(seed)
        drawn = replace(drawn, tariff=without(drawn.tariff, "energy_wh_min", "energy_wh_max"))

        priced = price_session(drawn.tariff, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)

        noted = {
            (note.period_index, note.dimension.value, note.changed_at)
            for note in priced.notes
            if isinstance(note, PeriodSpansPriceChange) and note.changed_at is not None
        }
        assert noted == set(walked_changes(drawn)), f"seed {seed}"


@pytest.mark.parametrize(("minute", "passes"), [(15, [AUTUMN + minutes(15)]), (75, [AUTUMN + minutes(75)])])
def test_a_change_in_the_repeated_hour_is_found_in_either_pass(minute: int, passes: list[datetime]) -> None:
    charge = tariff(
        element(component("ENERGY", "0.1"), start_time=time(2), end_time=time(2, 15)), element(component("ENERGY", "1"))
    )
    started_at = AUTUMN + minutes(minute - 10)

    cut = split_at_price_changes(
        charge, [charging(started_at, 20, 200)], ended_at=started_at + minutes(20), time_zone=AMSTERDAM
    )

    assert [one.started_at for one in cut[1:]] == passes


@given(seed=SEEDS)
def test_cutting_loses_nothing_and_leaves_nothing_to_note(seed: int) -> None:
    drawn = case(seed)

    cut = split_at_price_changes(drawn.tariff, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)

    for name in ("energy_import_wh", "energy_export_wh", "charging_s", "parking_s", "reserved_s"):
        assert sum(getattr(one, name) for one in cut) == sum(getattr(one, name) for one in drawn.periods)
        assert all(getattr(one, name) >= 0 for one in cut)
    priced = price_session(drawn.tariff, cut, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    crossed = [note for note in priced.notes if isinstance(note, PeriodSpansPriceChange) and note.changed_at]
    if not any(one.energy_export_wh for one in drawn.periods):
        assert crossed == []


def test_energy_reaches_a_threshold_exactly_at_a_cut() -> None:
    charge = tariff(element(component("ENERGY", "0.1"), energy_wh_max=3_333), element(component("ENERGY", "1")))

    cut = split_at_price_changes(
        charge,
        [charging(NOON, 10, 1_000), charging(NOON + minutes(10), 60, 12_001)],
        ended_at=NOON + minutes(70),
        time_zone=AMSTERDAM,
    )

    assert [one.energy_import_wh for one in cut] == [1_000, 2_333, 9_668]
    assert [one.charging_s for one in cut] == [600, 700, 2_900]


def test_energy_fed_in_leaves_a_threshold_with_the_first_wh_below_it() -> None:
    charge = tariff(element(component("ENERGY", "0.1"), energy_wh_max=4_000), element(component("ENERGY", "1")))
    fed_in = charging(NOON + minutes(10), 50, 0, energy_export_wh=3_000)

    cut = split_at_price_changes(
        charge, [charging(NOON, 10, 4_000), fed_in], ended_at=NOON + minutes(60), time_zone=AMSTERDAM
    )
    above = split_at_price_changes(
        charge, [charging(NOON, 10, 5_000), fed_in], ended_at=NOON + minutes(60), time_zone=AMSTERDAM
    )

    assert [one.energy_export_wh for one in cut] == [0, 1, 2_999]
    assert [(one.energy_import_wh, one.energy_export_wh) for one in above[-2:]] == [(0, 1_001), (0, 1_999)]


def test_a_period_is_cut_at_every_change_of_the_clock() -> None:
    charge = tariff(
        *(element(component("ENERGY", str(hour)), start_time=time(hour), end_time=time(hour + 1)) for hour in range(20))
    )

    cut = split_at_price_changes(
        charge,
        [charging(NOON - minutes(10), 80, 800), parking(NOON + minutes(70), 10)],
        ended_at=NOON + minutes(80),
        time_zone=AMSTERDAM,
    )

    assert [(one.started_at, one.energy_import_wh, one.charging_s, one.parking_s) for one in cut] == [
        (NOON - minutes(10), 100, 600, 0),
        (NOON, 600, 3_600, 0),
        (NOON + minutes(60), 100, 600, 0),
        (NOON + minutes(70), 0, 0, 600),
    ]


def test_power_stays_with_every_part() -> None:
    charge = tariff(element(component("ENERGY", "1"), start_time=time(12)), element(component("ENERGY", "2")))

    cut = split_at_price_changes(
        charge,
        [charging(NOON - minutes(10), 20, 200, power_w_max=600)],
        ended_at=NOON + minutes(10),
        time_zone=AMSTERDAM,
    )

    assert [one.power_w_max for one in cut] == [600, 600]


def test_a_reservation_and_a_plain_tariff_need_no_cut() -> None:
    plain = tariff(element(component("ENERGY", "1")))
    by_clock = tariff(element(component("ENERGY", "1"), start_time=time(12)))
    held = reserved(NOON - minutes(10), 20)

    assert split_at_price_changes(plain, [charging(NOON, 90)], ended_at=NOON + minutes(90), time_zone=AMSTERDAM) == (
        charging(NOON, 90),
    )
    assert split_at_price_changes(by_clock, [held], ended_at=NOON + minutes(10), time_zone=AMSTERDAM) == (held,)
