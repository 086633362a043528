"""What a driver pays is priced by a tariff of the MSP, and the quote is that same price."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.errors import CurrencyMismatch
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.tariff.priced import PowerNotStated
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.retail import (
    NotAnEstimate,
    NotAPlan,
    PlanKind,
    RestrictedFlatFee,
    RetailPlan,
    flat_per_kwh_plan,
    quote_estimate,
    retail_tariff,
    wholesale_plus_plan,
)
from emobility.domain.tariff.tariff import Reservation, Tariff
from emobility.events.codec import decode, encode
from tests.domain.tariff.builders import AMSTERDAM, charging, component, element, minutes, parking, reserved, tariff
from tests.domain.tariff.cases import case

MSP = PartyId("NL-EMS")
# 2022-06-13 is a Monday; Amsterdam is two hours ahead of UTC.
NOON = datetime(2022, 6, 13, 10, tzinfo=UTC)
SEEDS = st.integers(min_value=0, max_value=2**40)

WHOLESALE = tariff(
    element(component("ENERGY", "0.20"), start_time=time(23), end_time=time(7)),
    element(component("ENERGY", "0.40"), component("FLAT", "1"), component("PARKING_TIME", "3", step=600)),
    text_en="Our purchase price",
)
PLUS = wholesale_plus_plan(plan_id="PLUS", currency="EUR", session_fee=Decimal("0.35"), markup_percent=Decimal(10))
FLAT = flat_per_kwh_plan(plan_id="FLAT", currency="EUR", price_per_kwh=Decimal("0.50"), session_fee=Decimal("0.25"))


def retail(plan: RetailPlan, wholesale: Tariff, **changed: Any) -> Tariff:
    return retail_tariff(
        plan,
        wholesale,
        **{"emsp_id": MSP, "tariff_id": "R1", "vat_percent": Decimal(21), "issued_at": NOON, **changed},
    )


def test_wholesale_plus_costs_the_marked_up_prices_and_one_fee() -> None:
    periods = [charging(NOON, 60, 10_000), parking(NOON + minutes(60), 15)]

    priced = price_session(retail(PLUS, WHOLESALE), periods, ended_at=NOON + minutes(75), time_zone=AMSTERDAM)

    # 10 kWh at 0.44, 20 minutes at 3.30, 1.10 and 0.35 per session
    assert priced.total == Price(excl_e4=69_500, incl_e4=84_095)


def test_flat_per_kwh_costs_the_same_day_and_night() -> None:
    charge = retail(FLAT, WHOLESALE)

    totals = {
        price_session(charge, [charging(at, 60, 10_000)], ended_at=at + minutes(60), time_zone=AMSTERDAM).total
        for at in (NOON, NOON + timedelta(hours=12))
    }

    assert totals == {Price(excl_e4=52_500, incl_e4=63_525)}


def test_the_retail_tariff_is_the_msps_and_says_nothing_of_the_wholesale_one() -> None:
    for plan in (PLUS, FLAT):
        charge = retail(plan, WHOLESALE)

        assert (charge.party_id, charge.tariff_id, charge.text_en) == (MSP, "R1", None)
        assert b"NL-TNM" not in encode(charge)
        assert b"0.40" not in encode(charge)


def test_the_fee_of_the_agreement_adds_to_that_of_the_plan() -> None:
    charge = retail(FLAT, WHOLESALE, roaming_fee_e4=1_500)

    priced = price_session(charge, [charging(NOON, 60)], ended_at=NOON + minutes(60), time_zone=AMSTERDAM)

    assert priced.total.excl_e4 == 4_000


def test_the_tax_is_that_of_the_place_and_not_of_the_wholesale_tariff() -> None:
    wholesale = tariff(element(component("ENERGY", "1", vat="19")))
    plan = wholesale_plus_plan(plan_id="P", currency="EUR", session_fee=Decimal(0))

    priced = price_session(
        retail(plan, wholesale), [charging(NOON, 60, 1_000)], ended_at=NOON + minutes(60), time_zone=AMSTERDAM
    )

    assert priced.total == Price(excl_e4=10_000, incl_e4=12_100)


def test_a_markup_makes_a_negative_price_less_generous() -> None:
    wholesale = tariff(element(component("ENERGY", "-0.10")))

    charge = retail(PLUS, wholesale)

    assert charge.elements[0].components[0].price == Decimal("-0.09")


def test_limits_of_the_wholesale_total_are_marked_up_with_the_fee() -> None:
    wholesale = tariff(
        element(component("ENERGY", "1")), price_min=Price(excl_e4=10_000), price_max=Price(excl_e4=100_000)
    )

    charge = retail(PLUS, wholesale)

    assert charge.price_min == Price(excl_e4=14_500, incl_e4=17_545)
    assert charge.price_max == Price(excl_e4=113_500, incl_e4=137_335)


def test_the_fee_of_a_session_is_not_charged_for_its_reservation() -> None:
    wholesale = tariff(
        element(component("FLAT", "2"), reservation=Reservation.RESERVATION), element(component("ENERGY", "1"))
    )

    priced = price_session(
        retail(PLUS, wholesale),
        [reserved(NOON, 10), charging(NOON + minutes(10), 10, 1_000)],
        ended_at=NOON + minutes(20),
        time_zone=AMSTERDAM,
    )

    assert priced.reservation is not None
    assert (priced.reservation.excl_e4, priced.total.excl_e4) == (22_000, 22_000 + 11_000 + 3_500)


def test_a_wholesale_flat_that_applies_at_times_takes_no_fee() -> None:
    wholesale = tariff(element(component("FLAT", "2"), duration_s_min=600), element(component("ENERGY", "1")))

    with pytest.raises(RestrictedFlatFee) as refusal:
        retail(PLUS, wholesale)

    assert refusal.value.element_index == 0
    assert retail(replace(PLUS, session_fee=Decimal(0)), wholesale).elements


def test_a_plan_in_another_currency_is_refused() -> None:
    with pytest.raises(CurrencyMismatch):
        retail(PLUS, replace(WHOLESALE, currency="DKK"))


@given(seed=SEEDS)
def test_a_plan_without_markup_and_fee_costs_the_wholesale_price(seed: int) -> None:
    drawn = case(seed)
    plan = wholesale_plus_plan(plan_id="AT COST", currency="EUR", session_fee=Decimal(0))
    charge = retail(plan, replace(drawn.tariff, price_min=None, price_max=None))

    prices = [
        price_session(one, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone).unlimited.excl_e4
        for one in (charge, drawn.tariff)
    ]

    assert prices[0] == prices[1]


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": PlanKind.FLAT_PER_KWH},
        {"kind": PlanKind.WHOLESALE_PLUS, "price_per_kwh": Decimal(1)},
        {"kind": PlanKind.FLAT_PER_KWH, "price_per_kwh": Decimal(1), "markup_percent": Decimal(5)},
    ],
)
def test_a_plan_with_prices_of_another_kind_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(NotAPlan):
        RetailPlan(plan_id="P", currency="EUR", **changed)


@pytest.mark.parametrize("plan", [PLUS, FLAT])
def test_a_plan_can_be_stored(plan: RetailPlan) -> None:
    assert decode(encode(plan), RetailPlan) == plan


def test_an_estimate_cuts_the_charge_where_the_price_changes() -> None:
    # From 22:30 local time half an hour at the price of the day, then 1.5 hours at night, then parking.
    priced = quote_estimate(
        WHOLESALE,
        started_at=datetime(2022, 6, 13, 20, 30, tzinfo=UTC),
        energy_wh=20_000,
        power_w=10_000,
        connection_s=3 * 3_600,
        time_zone=AMSTERDAM,
    )

    assert [(line.element_index, line.quantity) for line in priced.lines] == [
        (1, 1),
        (1, 5_000),
        (0, 15_000),
        (1, 3_600),
    ]
    assert priced.notes == ()
    assert priced.total.excl_e4 == 10_000 + 20_000 + 30_000 + 30_000


def test_an_estimate_of_a_short_connection_is_what_fits_into_it() -> None:
    priced = quote_estimate(
        WHOLESALE, started_at=NOON, energy_wh=20_000, power_w=10_000, connection_s=1_800, time_zone=AMSTERDAM
    )

    assert [line.quantity for line in priced.lines] == [1, 5_000]


def test_an_estimate_rounds_the_charging_time_up_to_whole_seconds() -> None:
    by_time = tariff(element(component("TIME", "3600")))

    priced = quote_estimate(
        by_time, started_at=NOON, energy_wh=1_000, power_w=7_000, connection_s=7_200, time_zone=AMSTERDAM
    )

    assert priced.lines[0].quantity == 515  # 514.3 s


def test_an_estimate_without_energy_is_parking() -> None:
    priced = quote_estimate(
        WHOLESALE, started_at=NOON, energy_wh=0, power_w=7_000, connection_s=600, time_zone=AMSTERDAM
    )

    assert priced.energy is None
    assert priced.parking == Price(excl_e4=5_000)


@pytest.mark.parametrize(
    ("energy_wh", "power_w", "connection_s"), [(-1, 7_000, 600), (1, 0, 600), (1, -5, 600), (1, 7_000, 0)]
)
def test_an_impossible_estimate_is_refused(energy_wh: int, power_w: int, connection_s: int) -> None:
    with pytest.raises(NotAnEstimate):
        quote_estimate(
            WHOLESALE,
            started_at=NOON,
            energy_wh=energy_wh,
            power_w=power_w,
            connection_s=connection_s,
            time_zone=AMSTERDAM,
        )


@given(
    seed=SEEDS,
    energy_wh=st.integers(0, 80_000),
    power_w=st.integers(1_000, 150_000),
    connection_s=st.integers(1, 60_000),
)
def test_an_estimate_never_spans_a_price_change(*, seed: int, energy_wh: int, power_w: int, connection_s: int) -> None:
    drawn = case(seed)

    priced = quote_estimate(
        drawn.tariff,
        started_at=drawn.ended_at,
        energy_wh=energy_wh,
        power_w=power_w,
        connection_s=connection_s,
        time_zone=drawn.time_zone,
    )

    # Only its current is unknown, where a tariff asks for that.
    assert {type(note) for note in priced.notes} <= {PowerNotStated}
