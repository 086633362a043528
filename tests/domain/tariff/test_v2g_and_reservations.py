"""Energy that is fed in, and EVSEs that are held: charged, credited and shown in CDRs as they should be."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.pricing import PricedSession, price_session
from emobility.domain.tariff.tariff import Reservation, Tariff
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import period_from_ocpi, period_to_ocpi
from tests.domain.tariff.builders import AMSTERDAM, charging, component, element, minutes, parking, reserved, tariff

NOON = datetime(2022, 6, 13, 10, tzinfo=UTC)
FEED_IN = tariff(
    # OCPI has no component for energy fed in: power below zero tells it apart (MIN_POWER "when negative").
    element(component("ENERGY", "0.40", vat="21"), power_w_max=0),
    element(component("ENERGY", "0.25", step=500, vat="21")),
)


def bill(charge: Tariff, *periods: ChargingPeriod) -> PricedSession:
    last = periods[-1]
    lasted = timedelta(seconds=last.charging_s + last.parking_s + last.reserved_s)
    return price_session(charge, periods, ended_at=last.started_at + lasted, time_zone=AMSTERDAM)


def feeding(at: datetime, lasted_min: float, wh: int) -> ChargingPeriod:
    return charging(at, lasted_min, 0, energy_export_wh=wh, power_w_min=-11_000, power_w_max=-7_000)


def test_energy_fed_in_has_a_price_of_its_own_by_its_power() -> None:
    priced = bill(FEED_IN, charging(NOON, 60, 10_000, power_w_max=11_000), feeding(NOON + minutes(60), 30, 4_000))

    # 10 kWh at 0.25 less 4 kWh at 0.40: the last that moved has no step, so the net 6 kWh are not rounded.
    assert priced.total == Price(excl_e4=25_000 - 16_000, incl_e4=30_250 - 19_360)


def test_a_session_that_fed_in_more_than_it_drew_is_a_credit() -> None:
    priced = bill(FEED_IN, charging(NOON, 60, 1_200, power_w_max=11_000), feeding(NOON + minutes(60), 30, 4_000))

    assert priced.total == Price(excl_e4=3_000 - 16_000, incl_e4=3_630 - 19_360)


def test_the_step_looks_at_the_net_energy_of_the_session() -> None:
    priced = bill(FEED_IN, feeding(NOON, 30, 400), charging(NOON + minutes(30), 60, 1_000, power_w_max=11_000))

    # Net 600 Wh become 1,000; the 400 more at the price of the last.
    assert [line.billed_quantity for line in priced.lines] == [-400, 1_400]


@given(drawn_wh=st.integers(0, 10**6), fed_wh=st.integers(0, 10**6))
def test_energy_fed_in_goes_out_net_and_beside_it_and_comes_back(drawn_wh: int, fed_wh: int) -> None:
    period = charging(NOON, 30, drawn_wh, energy_export_wh=fed_wh)

    told = period_to_ocpi(period)

    volumes = {each.type: each.volume for each in told.dimensions}
    assert volumes[v221.CdrDimensionType.ENERGY] == Decimal(drawn_wh - fed_wh) / 1_000
    assert period_from_ocpi(told) == period


def test_feed_in_seen_as_negative_energy_alone_prices_the_same() -> None:
    # A partner that states no ENERGY_EXPORT: "ENERGY, when negative, more energy was fed into the grid".
    told = v221.ChargingPeriod(
        start_date_time=NOON,
        dimensions=[
            v221.CdrDimension(type=v221.CdrDimensionType.ENERGY, volume=Decimal(-4)),
            v221.CdrDimension(type=v221.CdrDimensionType.MAX_POWER, volume=Decimal(-7)),
            v221.CdrDimension(type=v221.CdrDimensionType.TIME, volume=Decimal("0.5")),
        ],
    )

    assert bill(FEED_IN, period_from_ocpi(told)).total == bill(FEED_IN, feeding(NOON, 30, 4_000)).total


HOLDING = tariff(
    element(component("FLAT", "4", vat="20"), reservation=Reservation.RESERVATION_EXPIRES),
    element(
        component("TIME", "6", vat="20", step=600), reservation=Reservation.RESERVATION_EXPIRES, duration_s_min=3_600
    ),
    element(component("TIME", "2", vat="20", step=600), reservation=Reservation.RESERVATION),
    element(component("ENERGY", "0.25", vat="10")),
    element(component("TIME", "1", step=900)),
)


def test_each_element_for_reservations_takes_its_own_restrictions() -> None:
    # An hour at 2.00, then 22 minutes at 6.00 where the expiry has its own price; 82 minutes become 90.
    priced = bill(HOLDING, reserved(NOON, 60), reserved(NOON + minutes(60), 22))

    assert [(line.element_index, line.billed_quantity) for line in priced.lines] == [(0, 1), (2, 3_600), (1, 1_800)]
    assert priced.total == priced.reservation == Price(excl_e4=40_000 + 20_000 + 30_000, incl_e4=108_000)


def test_a_reservation_that_was_used_is_stepped_apart_from_the_charge() -> None:
    priced = bill(HOLDING, reserved(NOON, 13), charging(NOON + minutes(13), 20, 1_000), parking(NOON + minutes(33), 5))

    # 13 minutes become 20 at 2.00; 20 minutes of charging become 30 at 1.00; 1 kWh at 0.25.
    assert (priced.reservation, priced.time) == (
        Price(excl_e4=6_667, incl_e4=8_000),
        Price(excl_e4=5_000, incl_e4=5_000),
    )
    assert priced.energy == Price(excl_e4=2_500, incl_e4=2_750)


@pytest.mark.parametrize(
    ("night", "hours"), [(datetime(2022, 3, 26, 23, tzinfo=UTC), 23), (datetime(2022, 10, 29, 22, tzinfo=UTC), 25)]
)
def test_a_day_of_a_clock_change_has_as_many_priced_hours_as_it_lasts(night: datetime, hours: int) -> None:
    by_hour = [
        element(component("TIME", str(hour + 1)), start_time=time(hour), end_time=time((hour + 1) % 24))
        for hour in range(24)
    ]
    whole = charging(night, hours * 60, hours * 1_000)
    ended_at = night + timedelta(hours=hours)

    cut = split_at_price_changes(tariff(*by_hour), [whole], ended_at=ended_at, time_zone=AMSTERDAM)
    priced = price_session(tariff(*by_hour), cut, ended_at=ended_at, time_zone=AMSTERDAM)

    # Each hour costs its number plus one: without 02:00 in spring, with it twice in autumn.
    assert priced.time == Price(excl_e4=(sum(range(1, 25)) + (3 if hours == 25 else -3)) * 10_000)
    assert priced.notes == ()
