"""Where the price changes inside a period: noted by pricing, cut by whoever makes periods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.priced import PeriodSpansPriceChange
from emobility.domain.tariff.pricing import PricedSession, price_session
from emobility.domain.tariff.tariff import PriceComponent, Reservation, Tariff, TariffDimension
from tests.domain.tariff.builders import AMSTERDAM, charging, component, element, minutes, parking, reserved, tariff
from tests.domain.tariff.cases import Case, case
from tests.domain.tariff.oracle import Situation, active_components, active_in_reservation

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


def walked_changes(drawn: Case) -> Iterator[tuple[int, str, bool, datetime]]:
    """The first change of each period and dimension, of a reservation or not: the oracle is asked each minute."""
    ordered = sorted(drawn.periods, key=lambda one: one.started_at)
    ends = [*(one.started_at for one in ordered[1:]), drawn.ended_at]
    using = [one for one in ordered if not one.reserved_s]
    due = {False: True, True: True}
    for index, (period, ended_at) in enumerate(zip(ordered, ends, strict=True)):
        is_reserved = period.reserved_s > 0
        first = ordered[0].started_at if is_reserved else using[0].started_at

        def costs(at: datetime, of: ChargingPeriod = period, since: datetime = first) -> dict[str, object]:
            if of.reserved_s:
                active = active_in_reservation(
                    drawn.tariff, at, since=since, time_zone=drawn.time_zone, expired=not using
                )
            else:
                active = active_components(drawn.tariff, Situation(of, at, since, Fraction(0), drawn.time_zone))
            return {kind: cost(one) for kind, one in active.items()}

        at_start = costs(period.started_at)
        due[is_reserved] = due[is_reserved] and at_start["FLAT"] is None
        used = {
            "ENERGY": period.energy_import_wh - period.energy_export_wh,
            "TIME": period.charging_s + period.reserved_s,
            "PARKING_TIME": period.parking_s,
            "FLAT": due[is_reserved],
        }
        missing = {kind for kind, quantity in used.items() if quantity}
        for at in minutes_between(period.started_at, ended_at, first):
            now = costs(at)
            for kind in sorted(kind for kind in missing if now[kind] != at_start[kind]):
                missing.discard(kind)
                yield index, kind, is_reserved, at


def cost(one: PriceComponent | None) -> tuple[Decimal, Decimal, int] | None:
    if one is None:
        return None
    step = 1 if one.dimension is TariffDimension.FLAT else max(1, one.step_size)
    return one.price, (one.vat_percent or Decimal(0)) if one.price else Decimal(0), step


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
            (note.period_index, note.dimension.value, note.is_reservation, note.changed_at)
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


DEAR_AFTER_NOON = tariff(
    element(component("TIME", "5"), end_time=time(12), reservation=Reservation.RESERVATION),
    element(component("TIME", "1"), reservation=Reservation.RESERVATION),
    element(component("FLAT", "2"), reservation=Reservation.RESERVATION_EXPIRES, duration_s_min=900),
)


def test_time_reserved_is_cut_where_its_price_changes() -> None:
    # OCPI 2.2.1, 10.4.4: 10 minutes at 5 an hour and 10 at 1 are 1.00, not the 1.67 of 20 minutes at 5.
    periods = [reserved(NOON - minutes(10), 20), charging(NOON + minutes(10), 30, 1_000)]
    ended_at = NOON + minutes(40)

    whole = price_session(DEAR_AFTER_NOON, periods, ended_at=ended_at, time_zone=AMSTERDAM)
    cut = split_at_price_changes(DEAR_AFTER_NOON, periods, ended_at=ended_at, time_zone=AMSTERDAM)
    priced = price_session(DEAR_AFTER_NOON, cut, ended_at=ended_at, time_zone=AMSTERDAM)

    assert [(one.started_at, one.reserved_s) for one in cut[:2]] == [(NOON - minutes(10), 600), (NOON, 600)]
    assert (priced.total.excl_e4, whole.total.excl_e4) == (10_000, 16_667)
    assert (priced.notes, [note.changed_at for note in noted_in(whole)]) == ((), [NOON])
    assert [note.is_reservation for note in noted_in(whole)] == [True]


def test_a_reservation_that_expired_is_cut_by_the_elements_for_that() -> None:
    held = reserved(NOON - minutes(10), 20)

    cut = split_at_price_changes(DEAR_AFTER_NOON, [held], ended_at=NOON + minutes(10), time_zone=AMSTERDAM)
    priced = price_session(DEAR_AFTER_NOON, cut, ended_at=NOON + minutes(10), time_zone=AMSTERDAM)

    assert [one.reserved_s for one in cut] == [600, 300, 300]
    assert priced.total.excl_e4 == 30_000


def test_a_session_under_way_while_reserved_is_cut_by_both() -> None:
    charge = tariff(*DEAR_AFTER_NOON.elements, element(component("ENERGY", "1"), energy_wh_max=1_500))
    both = charging(NOON - minutes(10), 20, 2_000, reserved_s=1_200)

    cut = split_at_price_changes(charge, [both], ended_at=NOON + minutes(10), time_zone=AMSTERDAM)

    assert [(one.reserved_s, one.charging_s, one.energy_import_wh) for one in cut] == [
        (600, 600, 1_000),
        (300, 300, 500),
        (300, 300, 500),
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([], [component("FLAT", "1")], id="a fee"),
        pytest.param([component("TIME", "1", step=60)], [component("TIME", "1", step=900)], id="another step"),
        pytest.param([component("TIME", "0")], [], id="a price of nothing ends"),
        pytest.param([], [component("TIME", "0")], id="a price of nothing begins"),
    ],
)
def test_what_changes_the_bill_without_another_price_is_noted(
    before: list[PriceComponent], after: list[PriceComponent]
) -> None:
    charge = tariff(element(*before, end_time=time(12)), element(*after, start_time=time(12)))
    whole = [charging(NOON - minutes(10), 20, 0)]

    priced = price_session(charge, whole, ended_at=NOON + minutes(10), time_zone=AMSTERDAM)

    assert [note.changed_at for note in noted_in(priced)] == [NOON]


def test_another_fee_is_no_change_once_one_is_due() -> None:
    charge = tariff(
        element(component("FLAT", "1"), end_time=time(12)), element(component("FLAT", "2"), start_time=time(12))
    )

    priced = price_session(
        charge, [charging(NOON - minutes(10), 20, 0)], ended_at=NOON + minutes(10), time_zone=AMSTERDAM
    )

    assert priced.notes == ()


def noted_in(priced: PricedSession) -> list[PeriodSpansPriceChange]:
    return [note for note in priced.notes if isinstance(note, PeriodSpansPriceChange)]
