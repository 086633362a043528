"""Several tariffs in one CDR: each period names its own (OCPI, mod_cdrs, ChargingPeriod)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.priced import PeriodWithoutTariff
from emobility.domain.tariff.pricing import (
    NoSuchTariff,
    PricedSession,
    TariffsDisagree,
    price_session,
    price_session_by_several,
)
from emobility.domain.tariff.tariff import Reservation, Tariff, TaxIncluded
from tests.domain.tariff.builders import (
    AMSTERDAM,
    MONDAY,
    charging,
    component,
    element,
    minutes,
    parking,
    reserved,
    tariff,
)
from tests.domain.tariff.cases import case

CHEAP = tariff(
    element(component("ENERGY", "0.20", step=500, vat="20"), component("FLAT", "1", vat="20")), tariff_id="CHEAP"
)
FAST = tariff(
    element(component("ENERGY", "0.50", step=1_000, vat="20"), component("FLAT", "3", vat="20")), tariff_id="FAST"
)


def at(number: float) -> datetime:
    return MONDAY + minutes(number)


def bill(tariffs: list[Tariff], *periods: ChargingPeriod, ended: float = 120) -> PricedSession:
    return price_session_by_several(tariffs, periods, ended_at=at(ended), time_zone=AMSTERDAM)


def test_each_period_is_priced_by_the_tariff_it_names() -> None:
    priced = bill(
        [CHEAP, FAST],
        charging(at(0), 30, 1_000, tariff_id="cheap"),
        charging(at(30), 30, 2_000, tariff_id="FAST"),
        charging(at(60), 30, 3_000, tariff_id="CHEAP"),
    )

    # One FLAT, of the first; 4 kWh at 0.20, 2 kWh at 0.50.
    assert priced.total == Price(excl_e4=10_000 + 8_000 + 10_000, incl_e4=33_600)
    assert [(line.tariff_id, line.period_indices) for line in priced.lines] == [
        ("CHEAP", (0,)),
        ("CHEAP", (0, 2)),
        ("FAST", (1,)),
    ]


def test_the_step_is_not_taken_into_account_when_switching_between_tariffs() -> None:
    priced = bill(
        [CHEAP, FAST], charging(at(0), 30, 1_100, tariff_id="CHEAP"), charging(at(30), 30, 2_200, tariff_id="FAST")
    )

    # 3.3 kWh become 4 by the step of the last, 2.9 of them at its price.
    assert [line.billed_quantity for line in priced.lines[1:]] == [1_100, 2_900]


def test_a_period_without_a_tariff_is_free_and_noted() -> None:
    priced = bill([CHEAP, FAST], charging(at(0), 30, 1_000, tariff_id="CHEAP"), charging(at(30), 30, 9_000))

    assert (priced.energy, priced.notes) == (
        Price(excl_e4=2_000, incl_e4=2_400),
        (PeriodWithoutTariff(period_index=1),),
    )


def test_one_tariff_prices_all_periods_whatever_they_name() -> None:
    periods = [charging(at(0), 30, 1_000, tariff_id="OTHER"), charging(at(30), 30, 1_000)]

    assert bill([CHEAP], *periods) == price_session(CHEAP, periods, ended_at=at(120), time_zone=AMSTERDAM)


def test_state_counts_from_the_start_of_the_session_and_not_of_the_tariff() -> None:
    long = tariff(
        element(component("ENERGY", "1"), energy_wh_min=1_000, duration_s_min=1_800),
        element(component("ENERGY", "9")),
        tariff_id="L",
    )

    priced = bill([CHEAP, long], charging(at(0), 30, 1_000), charging(at(30), 30, 1_000, tariff_id="L"))

    assert priced.energy == Price(excl_e4=10_000)


def test_limits_of_every_tariff_in_use_hold() -> None:
    low = replace(CHEAP, price_min=Price(excl_e4=50_000), price_max=Price(excl_e4=90_000))
    high = replace(FAST, price_min=Price(excl_e4=60_000), price_max=Price(excl_e4=80_000))
    first, second = charging(at(0), 30, 1_000, tariff_id="CHEAP"), charging(at(30), 30, 1_000, tariff_id="FAST")

    assert bill([low, high], first, second).total.excl_e4 == 60_000
    assert bill([low, high], first, replace(second, energy_import_wh=90_000)).total.excl_e4 == 80_000
    assert bill([low, high], first).total.excl_e4 == 50_000


def test_tax_may_be_in_the_prices_of_one_and_not_of_the_other() -> None:
    gross = replace(FAST, tax_included=TaxIncluded.YES)

    priced = bill(
        [CHEAP, gross], charging(at(0), 30, 1_000, tariff_id="CHEAP"), charging(at(30), 30, 3_000, tariff_id="FAST")
    )

    # 0.20 + 0.04 of tax, and 1.50 with 0.25 of it.
    assert priced.energy == Price(excl_e4=2_000 + 12_500, incl_e4=2_400 + 15_000)


def test_a_reservation_is_priced_by_the_tariff_it_names() -> None:
    holding = tariff(element(component("TIME", "6"), reservation=Reservation.RESERVATION), tariff_id="HOLD")

    priced = bill(
        [holding, CHEAP],
        replace(reserved(at(0), 10), tariff_id="HOLD"),
        charging(at(10), 30, 1_000, tariff_id="CHEAP"),
        parking(at(40), 10, tariff_id="HOLD"),
    )

    assert priced.reservation == Price(excl_e4=10_000, incl_e4=10_000)


def test_a_tariff_that_is_not_there_is_refused() -> None:
    with pytest.raises(NoSuchTariff) as refusal:
        bill([CHEAP, FAST], charging(at(0), 30, 1_000, tariff_id="SLOW"))

    assert (refusal.value.tariff_id, refusal.value.period_index) == ("SLOW", 0)


@pytest.mark.parametrize("other", [replace(FAST, currency="DKK"), replace(FAST, tariff_id="cheap")])
def test_tariffs_that_can_not_price_one_session_are_refused(other: Tariff) -> None:
    with pytest.raises(TariffsDisagree):
        bill([CHEAP, other], charging(at(0), 30, 1_000, tariff_id="CHEAP"))


@given(seed=st.integers(0, 2**40))
def test_the_same_tariff_under_two_names_charges_as_under_one(seed: int) -> None:
    drawn = case(seed)
    one, other = drawn.tariff, replace(drawn.tariff, tariff_id="OTHER")
    named = [
        replace(period, tariff_id=(one if number % 3 else other).tariff_id)
        for number, period in enumerate(drawn.periods)
    ]

    by_one = price_session(one, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    by_two = price_session_by_several([one, other], named, ended_at=drawn.ended_at, time_zone=drawn.time_zone)

    assert (by_one.total, by_one.energy, by_one.time, by_one.parking, by_one.fixed, by_one.reservation) == (
        by_two.total,
        by_two.energy,
        by_two.time,
        by_two.parking,
        by_two.fixed,
        by_two.reservation,
    )
