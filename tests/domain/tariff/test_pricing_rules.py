"""Restrictions, clock changes, odd documents: rules of pricing that the worked examples do not show."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.changes import LOOK_AHEAD_MAX
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.priced import (
    Limit,
    PeriodSpansPriceChange,
    PeriodTimeDiffers,
    PowerNotStated,
)
from emobility.domain.tariff.pricing import (
    NoChargingPeriods,
    PricedSession,
    SessionEndsTooEarly,
    explain,
    price_session,
)
from emobility.domain.tariff.selection import NegativeStepSize, PriceOutOfRange, UnknownTimeZone, UnlikelyMoment
from emobility.domain.tariff.tariff import DayOfWeek, Reservation, Tariff, TariffDimension
from tests.domain.tariff.builders import AMSTERDAM, charging, component, element, minutes, parking, reserved, tariff

# 2022-06-13 is a Monday; Amsterdam is two hours ahead of UTC.
NOON = datetime(2022, 6, 13, 10, tzinfo=UTC)
OTHERWISE = element(component("ENERGY", "1"))


def bill(charge: Tariff, *periods: ChargingPeriod, ended_at: datetime | None = None) -> PricedSession:
    last = max(periods, key=lambda period: period.started_at)
    lasted = timedelta(seconds=last.charging_s + last.parking_s + last.reserved_s)
    return price_session(charge, periods, ended_at=ended_at or last.started_at + lasted, time_zone=AMSTERDAM)


def applies(at: datetime, wh_before: int = 0, minutes_before: int = 0, **restrictions: Any) -> bool:
    """Whether an element with these restrictions prices a kWh at `at`."""
    charge = tariff(element(component("ENERGY", "0"), **restrictions), OTHERWISE)
    before = [charging(at - minutes(minutes_before), minutes_before, wh_before)] if minutes_before else []
    lines = bill(charge, *before, charging(at, 1, 1_000)).lines
    last = max(lines, key=lambda line: line.period_indices[-1])
    return last.element_index == 0


@pytest.mark.parametrize(
    ("local", "start", "end", "holds"),
    [
        ("12:00", "12:00", "13:00", True),
        ("13:00", "12:00", "13:00", False),
        ("11:59", "12:00", "13:00", False),
        ("23:30", "22:00", "06:00", True),
        ("05:59", "22:00", "06:00", True),
        ("06:00", "22:00", "06:00", False),
        ("21:59", "22:00", "06:00", False),
        ("23:59", "20:00", "00:00", True),
        ("00:00", "20:00", "00:00", False),
        ("00:00", "00:00", "00:00", True),
        ("17:00", "09:00", "09:00", True),
        ("08:00", None, "09:00", True),
        ("09:00", None, "09:00", False),
        ("09:00", "09:00", None, True),
        ("00:00", "09:00", None, False),
    ],
)
def test_a_window_of_the_day_holds_from_its_start_until_before_its_end(
    local: str, start: str | None, end: str | None, *, holds: bool
) -> None:
    at = datetime.fromisoformat(f"2022-06-13T{local}:00+02:00")
    window: dict[str, Any] = {
        name: time.fromisoformat(text) for name, text in (("start_time", start), ("end_time", end)) if text is not None
    }

    assert applies(at, **window) is holds


@pytest.mark.parametrize(
    ("at", "restrictions", "holds"),
    [
        (NOON, {"start_date": date(2022, 6, 13)}, True),
        (NOON, {"start_date": date(2022, 6, 14)}, False),
        (NOON, {"end_date": date(2022, 6, 14)}, True),
        (NOON, {"end_date": date(2022, 6, 13)}, False),
        (datetime(2022, 6, 12, 22, tzinfo=UTC), {"start_date": date(2022, 6, 13)}, True),  # local midnight
        (NOON, {"days_of_week": (DayOfWeek.MONDAY,)}, True),
        (NOON, {"days_of_week": (DayOfWeek.TUESDAY, DayOfWeek.SUNDAY)}, False),
        (datetime(2022, 6, 12, 21, 59, tzinfo=UTC), {"days_of_week": (DayOfWeek.SUNDAY,)}, True),
    ],
)
def test_dates_and_days_are_those_of_the_location(at: datetime, restrictions: dict[str, Any], *, holds: bool) -> None:
    assert applies(at, **restrictions) is holds


@pytest.mark.parametrize(("wh_before", "holds"), [(999, False), (1_000, True), (1_999, True), (2_000, False)])
def test_energy_so_far_counts_from_its_minimum_until_before_its_maximum(wh_before: int, *, holds: bool) -> None:
    assert applies(NOON, wh_before, 10, energy_wh_min=1_000, energy_wh_max=2_000) is holds


@pytest.mark.parametrize(("minutes_before", "holds"), [(9, False), (10, True), (19, True), (20, False)])
def test_duration_so_far_counts_from_its_minimum_until_before_its_maximum(minutes_before: int, *, holds: bool) -> None:
    assert applies(NOON, 1, minutes_before, duration_s_min=600, duration_s_max=1_200) is holds


def test_duration_does_not_count_the_reservation_before() -> None:
    charge = tariff(element(component("ENERGY", "0.1"), duration_s_max=600), OTHERWISE)

    priced = bill(charge, reserved(NOON, 30), charging(NOON + minutes(30), 5, 1_000))

    assert priced.total.excl_e4 == 1_000


@pytest.mark.parametrize(
    ("stated", "holds"),
    [
        ({"power_w_min": 7_000, "power_w_max": 11_000}, True),
        ({"power_w_min": 6_999, "power_w_max": 11_000}, False),
        ({"power_w_min": 7_000, "power_w_max": 22_000}, False),
        ({"power_w_max": 8_000}, True),
        ({"power_w_max": 22_000}, False),
        ({"power_w_min": 22_000}, False),
        ({}, False),
    ],
)
def test_power_must_lie_within_the_limits_all_through_the_period(stated: dict[str, int], *, holds: bool) -> None:
    charge = tariff(element(component("ENERGY", "0"), power_w_min=7_000, power_w_max=22_000), OTHERWISE)

    priced = bill(charge, charging(NOON, 10, 1_000, **stated))

    assert (priced.lines[0].element_index == 0) is holds


def test_power_that_is_not_stated_is_noted() -> None:
    charge = tariff(element(component("ENERGY", "0"), power_w_max=22_000), OTHERWISE)

    priced = bill(charge, charging(NOON, 10, 1_000), parking(NOON + minutes(10), 10))

    assert priced.notes == (PowerNotStated(period_index=0),)


def test_power_does_not_stand_for_current() -> None:
    charge = tariff(element(component("ENERGY", "0"), current_a_max=Decimal(32)), OTHERWISE)

    priced = bill(charge, charging(NOON, 10, 1_000, power_w_max=4_000))

    assert priced.lines[0].element_index == 1
    assert priced.notes == (PowerNotStated(period_index=0),)


def test_each_dimension_finds_its_own_element() -> None:
    charge = tariff(
        element(component("ENERGY", "0.2"), component("TIME", "6"), power_w_max=5_000),
        element(component("TIME", "1"), component("ENERGY", "0.3"), component("FLAT", "0.5")),
    )

    priced = bill(charge, charging(NOON, 60, 1_000, power_w_max=4_000))

    assert [(line.dimension, line.element_index) for line in priced.lines] == [
        (TariffDimension.FLAT, 1),
        (TariffDimension.ENERGY, 0),
        (TariffDimension.TIME, 0),
    ]


def test_a_flat_fee_is_charged_once_and_by_the_first_that_applies() -> None:
    charge = tariff(
        element(component("FLAT", "9"), duration_s_min=1_800),
        element(component("FLAT", "0.5")),
        element(component("FLAT", "7")),
    )

    priced = bill(charge, *(charging(NOON + minutes(20 * number), 20, 100) for number in range(5)))

    assert priced.fixed == Price(excl_e4=5_000)


def test_a_flat_fee_that_starts_to_apply_later_is_charged_then() -> None:
    charge = tariff(element(component("FLAT", "9"), duration_s_min=1_800))

    priced = bill(charge, *(charging(NOON + minutes(20 * number), 20, 100) for number in range(5)))

    assert [line.period_indices for line in priced.lines] == [(2,)]


def test_parking_in_between_takes_the_step_of_time() -> None:
    charge = tariff(element(component("TIME", "6", step=3_600), component("PARKING_TIME", "6", step=600)))

    priced = bill(charge, charging(NOON, 5, 100), parking(NOON + minutes(5), 5), charging(NOON + minutes(10), 5, 100))

    assert (priced.time, priced.parking) == (Price(excl_e4=10_000), Price(excl_e4=10_000))


def test_a_period_without_energy_does_not_choose_the_step_of_energy() -> None:
    charge = tariff(
        element(component("ENERGY", "1", step=1_000), end_time=time(13)), element(component("ENERGY", "9", step=50_000))
    )

    priced = bill(charge, charging(NOON, 60, 1_500), parking(NOON + minutes(60), 60))

    assert priced.total.excl_e4 == 20_000


def test_energy_fed_in_is_credited_and_never_rounded_up() -> None:
    charge = tariff(element(component("ENERGY", "0.5", step=1_000, vat="20")))

    priced = bill(charge, charging(NOON, 60, 100, energy_export_wh=350))

    assert priced.total == Price(excl_e4=-1_250, incl_e4=-1_500)


def test_a_minimum_price_lifts_a_credit() -> None:
    charge = tariff(element(component("ENERGY", "-0.5", vat="20")), price_min=Price(excl_e4=0, incl_e4=0))

    priced = bill(charge, charging(NOON, 60, 1_000))

    assert (priced.total, priced.unlimited) == (Price(excl_e4=0, incl_e4=0), Price(excl_e4=-5_000, incl_e4=-6_000))


@pytest.mark.parametrize(("wh", "limit"), [(999, Limit.MINIMUM), (1_000, None), (1_001, Limit.MAXIMUM)])
def test_one_price_for_every_session_is_a_minimum_below_and_a_maximum_above(wh: int, limit: Limit | None) -> None:
    fixed = Price(excl_e4=10_000)

    priced = bill(tariff(element(component("ENERGY", "1")), price_min=fixed, price_max=fixed), charging(NOON, 60, wh))

    assert (priced.total, priced.limit_excl) == (fixed, limit)


def test_the_limits_before_and_after_tax_are_independent() -> None:
    charge = tariff(element(component("ENERGY", "1", vat="50")), price_max=Price(excl_e4=12_000, incl_e4=12_000))

    priced = bill(charge, charging(NOON, 60, 1_000))

    assert priced.total == Price(excl_e4=10_000, incl_e4=12_000)
    assert (priced.limit_excl, priced.limit_incl) == (None, Limit.MAXIMUM)


def test_no_tax_is_another_thing_than_a_tax_of_zero() -> None:
    untaxed, zero = (tariff(element(component("ENERGY", "1", vat=vat))) for vat in (None, "0"))

    assert bill(untaxed, charging(NOON, 60, 1_000)).total == Price(excl_e4=10_000)
    assert bill(zero, charging(NOON, 60, 1_000)).total == Price(excl_e4=10_000, incl_e4=10_000)


def test_a_component_without_vat_beside_one_with_vat_bears_none() -> None:
    charge = tariff(element(component("ENERGY", "1", vat="20"), component("FLAT", "1")))

    assert bill(charge, charging(NOON, 60, 1_000)).total == Price(excl_e4=20_000, incl_e4=22_000)


@pytest.mark.parametrize(
    ("price", "wh", "total_e4"), [("0.00005", 1_000, 1), ("0.00004", 1_000, 0), ("-0.00005", 1_000, -1)]
)
def test_a_half_ten_thousandth_is_rounded_away_from_zero(price: str, wh: int, total_e4: int) -> None:
    charge = tariff(element(component("ENERGY", price)))

    assert bill(charge, charging(NOON, 60, wh)).total.excl_e4 == total_e4


def test_a_total_is_rounded_from_the_exact_sum_and_not_from_rounded_parts() -> None:
    charge = tariff(element(component("ENERGY", "0.00004"), component("FLAT", "0.00004"), component("TIME", "0.00004")))

    priced = bill(charge, charging(NOON, 60, 1_000))

    assert (priced.energy, priced.fixed, priced.time) == (Price(excl_e4=0),) * 3
    assert priced.total == Price(excl_e4=1)


def test_a_reservation_charges_only_for_time_and_once() -> None:
    charge = tariff(
        element(
            component("ENERGY", "9"),
            component("PARKING_TIME", "9"),
            component("TIME", "6"),
            component("FLAT", "1"),
            reservation=Reservation.RESERVATION,
        ),
        OTHERWISE,
    )

    priced = bill(charge, reserved(NOON, 10), charging(NOON + minutes(10), 5, 1_000))

    assert priced.reservation == Price(excl_e4=20_000)
    assert priced.total == Price(excl_e4=30_000)


SPRING = datetime(2022, 3, 27, tzinfo=UTC)
AUTUMN = datetime(2022, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "local_hour"),
    [
        (SPRING, 1),
        (SPRING + minutes(59), 1),
        (SPRING + minutes(60), 3),
        (AUTUMN - minutes(1), 1),
        (AUTUMN, 2),
        (AUTUMN + minutes(60), 2),
        (AUTUMN + minutes(119), 2),
        (AUTUMN + minutes(120), 3),
    ],
)
def test_on_a_night_of_a_clock_change_the_wall_clock_decides(at: datetime, local_hour: int) -> None:
    elements = [
        element(component("ENERGY", str(hour)), start_time=time(hour), end_time=time(hour + 1)) for hour in range(1, 5)
    ]

    priced = bill(tariff(*elements), charging(at, 1, 1_000))

    assert priced.total.excl_e4 == local_hour * 10_000


DAY_AND_NIGHT = tariff(
    element(component("ENERGY", "0.2"), start_time=time(23), end_time=time(7)), element(component("ENERGY", "0.4"))
)


def test_a_period_over_a_price_change_is_priced_as_it_starts_and_noted() -> None:
    ten_to_eleven = datetime(2022, 6, 13, 20, 50, tzinfo=UTC)

    priced = bill(DAY_AND_NIGHT, charging(ten_to_eleven, 20, 1_000))

    assert priced.total.excl_e4 == 4_000
    assert priced.notes == (
        PeriodSpansPriceChange(
            period_index=0,
            dimension=TariffDimension.ENERGY,
            changed_at=datetime(2022, 6, 13, 21, tzinfo=UTC),
            element_index=1,
            next_element_index=0,
        ),
    )


def test_periods_cut_at_the_price_change_are_not_noted() -> None:
    ten_to_eleven = datetime(2022, 6, 13, 20, 50, tzinfo=UTC)

    priced = bill(DAY_AND_NIGHT, charging(ten_to_eleven, 10, 500), charging(ten_to_eleven + minutes(10), 10, 500))

    assert priced.total.excl_e4 == 3_000
    assert priced.notes == ()


def test_a_change_that_costs_the_same_is_not_noted() -> None:
    charge = tariff(
        element(component("ENERGY", "0.4"), start_time=time(12), end_time=time(13)),
        element(component("ENERGY", "0.40")),
    )

    assert bill(charge, charging(NOON, 90, 1_000)).notes == ()


@pytest.mark.parametrize(
    ("restrictions", "after_min"),
    [({"energy_wh_max": 3_000}, 15), ({"duration_s_max": 900}, 15), ({"energy_wh_max": 20_000}, None)],
)
def test_crossing_a_threshold_is_noted(restrictions: dict[str, int], after_min: int | None) -> None:
    charge = tariff(element(component("ENERGY", "0.1"), **restrictions), OTHERWISE)

    notes = bill(charge, charging(NOON, 60, 12_000)).notes

    changed_at = [note.changed_at for note in notes if isinstance(note, PeriodSpansPriceChange)]
    assert changed_at == ([] if after_min is None else [NOON + minutes(after_min)])


def test_power_that_crosses_a_threshold_is_noted() -> None:
    charge = tariff(element(component("ENERGY", "0.1"), power_w_max=10_000), OTHERWISE)

    (note,) = bill(charge, charging(NOON, 60, 9_000, power_w_min=4_000, power_w_max=11_000)).notes

    assert isinstance(note, PeriodSpansPriceChange)
    assert (note.changed_at, note.element_index, note.next_element_index) == (None, 0, 1)


def test_a_price_change_in_the_repeated_hour_is_noted_though_both_ends_read_the_same() -> None:
    half_past_two = AUTUMN + minutes(45)
    charge = tariff(element(component("ENERGY", "0.1"), start_time=time(2, 30)), OTHERWISE)

    (note,) = bill(charge, charging(half_past_two, 60, 1_000)).notes

    assert isinstance(note, PeriodSpansPriceChange)
    assert note.changed_at == AUTUMN + minutes(60)


def test_more_time_than_has_passed_is_noted() -> None:
    priced = bill(tariff(OTHERWISE), charging(NOON, 60, 1_000), ended_at=NOON + minutes(10))

    assert priced.notes == (PeriodTimeDiffers(period_index=0, stated_s=3_600, lasted_s=600),)


def test_a_session_without_periods_is_refused() -> None:
    with pytest.raises(NoChargingPeriods):
        price_session(tariff(OTHERWISE), [], ended_at=NOON, time_zone=AMSTERDAM)


def test_a_period_after_the_end_is_refused() -> None:
    with pytest.raises(SessionEndsTooEarly) as refusal:
        bill(tariff(OTHERWISE), charging(NOON, 5), ended_at=NOON - minutes(1))

    assert refusal.value.period_started_at == NOON


@pytest.mark.parametrize("year", [1, 1969, 2200, 9999])
def test_a_session_of_another_century_is_refused(year: int) -> None:
    at = datetime(year, 12, 31, 23, tzinfo=UTC)

    with pytest.raises(UnlikelyMoment) as refusal:
        price_session(DAY_AND_NIGHT, [charging(at, 5)], ended_at=at + minutes(5), time_zone=AMSTERDAM)

    assert refusal.value.at.year == year
    with pytest.raises(UnlikelyMoment):
        split_at_price_changes(DAY_AND_NIGHT, [charging(at, 5)], ended_at=at, time_zone=AMSTERDAM)


def test_changes_are_not_looked_for_without_end() -> None:
    start = datetime(1970, 1, 1, tzinfo=UTC)

    cut = split_at_price_changes(
        DAY_AND_NIGHT, [charging(start, 1)], ended_at=datetime(2199, 1, 1, tzinfo=UTC), time_zone=AMSTERDAM
    )

    assert len(cut) == 2 * LOOK_AHEAD_MAX.days + 1


@pytest.mark.parametrize("name", ["", "Europe/Nowhere", "../etc/passwd", "/etc/localtime", "CET\0"])
def test_a_time_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UnknownTimeZone):
        price_session(DAY_AND_NIGHT, [charging(NOON, 5)], ended_at=NOON + minutes(5), time_zone=name)


@pytest.mark.parametrize(
    "price", ["NaN", "Infinity", "1e400", "1e999999999", "-1e9", "1e9", "1e-13", "0.1234567890123"]
)
def test_a_price_nobody_can_mean_is_refused(price: str) -> None:
    with pytest.raises(PriceOutOfRange):
        bill(tariff(element(component("ENERGY", price))), charging(NOON, 5, 100))


def test_a_long_price_is_taken_to_its_last_digit() -> None:
    charge = tariff(element(component("FLAT", "123456789.000050000000000000000000000000000")))

    assert bill(charge, charging(NOON, 5)).total.excl_e4 == 1_234_567_890_001


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(NegativeStepSize):
        bill(tariff(element(component("ENERGY", "1", step=-1))), charging(NOON, 5, 100))


def test_an_explanation_names_quantity_price_step_and_limit() -> None:
    charge = tariff(
        element(component("FLAT", "0.5", vat="20")),
        element(component("ENERGY", "0.25", vat="10", step=500), start_time=time(9), end_time=time(17)),
        price_max=Price(excl_e4=1_000, incl_e4=None),
    )

    text = explain(bill(charge, charging(NOON, 60, 1_200)))

    assert text.splitlines() == [
        "Fixed fee: 0.5 EUR, 20 % VAT = 0.50 EUR before tax [element 1]",
        (
            "Energy: 1.5 kWh at 0.25 EUR per kWh (used 1.2 kWh, billed in steps of 0.5 kWh), 10 % VAT"
            " = 0.375 EUR before tax [element 2, from 09:00 to 17:00]"
        ),
        "Sum of the lines: 0.8750 EUR before tax, 1.0125 EUR with tax",
        "Before tax the maximum price of the tariff applies.",
        "Total: 0.1000 EUR before tax, 1.0125 EUR with tax",
    ]


def test_an_explanation_of_a_free_session_says_so() -> None:
    text = explain(bill(tariff(element(component("PARKING_TIME", "1"))), charging(NOON, 60, 1_200)))

    assert text.startswith("No price applied: free of charge.")
