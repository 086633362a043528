"""What must hold for every session, whatever the tariff."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.pricing import PricedSession, price_session
from emobility.domain.tariff.tariff import Tariff
from tests.domain.tariff.builders import AMSTERDAM, component, element, tariff
from tests.domain.tariff.cases import Case, case

SEEDS = st.integers(min_value=0, max_value=2**40)
PRICES = st.decimals(min_value=-5, max_value=5, places=4)
WH = st.integers(min_value=0, max_value=100_000)
SECONDS = st.integers(min_value=1, max_value=50_000)
START = datetime(2022, 3, 26, 23, tzinfo=UTC)


def priced(drawn: Case) -> PricedSession:
    return price_session(drawn.tariff, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)


def period(at: datetime, wh: int, charging_s: int, parking_s: int = 0) -> ChargingPeriod:
    return ChargingPeriod(started_at=at, energy_import_wh=wh, charging_s=charging_s, parking_s=parking_s)


def simple(energy: Decimal, time: Decimal, fee: Decimal = Decimal(0)) -> Tariff:
    return tariff(
        element(
            component("ENERGY", str(energy), vat="21"),
            component("TIME", str(time), vat="21"),
            component("PARKING_TIME", str(time), vat="9"),
            component("FLAT", str(fee), vat="21"),
        )
    )


@given(seed=SEEDS, order=st.randoms())
def test_the_order_of_periods_never_changes_a_price(seed: int, order: object) -> None:
    drawn = case(seed)
    shuffled = list(drawn.periods)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random that it can shrink

    assert priced(replace(drawn, periods=tuple(shuffled))) == priced(drawn)


@given(energy=PRICES, time=PRICES, fee=PRICES, wh=WH, seconds=SECONDS, data=st.data())
def test_a_cut_inside_a_period_never_changes_a_price(
    *, energy: Decimal, time: Decimal, fee: Decimal, wh: int, seconds: int, data: st.DataObject
) -> None:
    part_s = data.draw(st.integers(min_value=0, max_value=seconds))
    part_wh = data.draw(st.integers(min_value=0, max_value=wh))
    ended_at = START + timedelta(seconds=seconds)
    whole = [period(START, wh, seconds)]
    cut = [
        period(START, part_wh, part_s),
        period(START + timedelta(seconds=part_s), wh - part_wh, seconds - part_s),
    ]

    prices = [
        price_session(simple(energy, time, fee), periods, ended_at=ended_at, time_zone=AMSTERDAM)
        for periods in (whole, cut)
    ]

    assert prices[0].total == prices[1].total
    assert (prices[0].energy is None) == (wh == 0)


@given(energy=st.decimals(min_value=0, max_value=5, places=4), wh=WH, more_wh=WH, step=st.integers(0, 2_000))
def test_more_energy_never_costs_less(energy: Decimal, wh: int, more_wh: int, step: int) -> None:
    charge = tariff(element(component("ENERGY", str(energy), step=step, vat="21")))

    totals = [
        price_session(charge, [period(START, quantity, 60)], ended_at=START, time_zone=AMSTERDAM).total
        for quantity in (wh, wh + more_wh)
    ]

    assert totals[0].excl_e4 <= totals[1].excl_e4
    assert (totals[0].incl_e4 or 0) <= (totals[1].incl_e4 or 0)


@given(seed=SEEDS, low=st.integers(-50_000, 50_000), width=st.integers(0, 50_000))
def test_a_total_lies_within_the_limits(seed: int, low: int, width: int) -> None:
    drawn = case(seed)
    limits = Price(excl_e4=low, incl_e4=low), Price(excl_e4=low + width, incl_e4=low + width)

    total = priced(replace(drawn, tariff=replace(drawn.tariff, price_min=limits[0], price_max=limits[1]))).total

    assert low <= total.excl_e4 <= low + width
    assert total.incl_e4 is not None
    assert low <= total.incl_e4 <= low + width


@given(seed=SEEDS)
def test_negated_prices_negate_the_bill(seed: int) -> None:
    drawn = case(seed)
    unlimited = replace(drawn.tariff, price_min=None, price_max=None)
    negated = replace(
        unlimited,
        elements=tuple(
            replace(each, components=tuple(replace(one, price=-one.price) for one in each.components))
            for each in unlimited.elements
        ),
    )

    bill = priced(replace(drawn, tariff=unlimited))

    assert priced(replace(drawn, tariff=negated)).total == -bill.total


@given(seed=SEEDS)
def test_the_lines_add_up_to_the_total_before_the_limits(seed: int) -> None:
    bill = priced(case(seed))

    excl = sum((line.excl for line in bill.lines), start=Fraction(0))
    incl = sum((line.incl for line in bill.lines), start=Fraction(0))

    assert abs(excl * 10_000 - bill.unlimited.excl_e4) <= Fraction(1, 2)
    if bill.unlimited.incl_e4 is not None:
        assert abs(incl * 10_000 - bill.unlimited.incl_e4) <= Fraction(1, 2)


@given(seed=SEEDS)
def test_every_line_names_the_periods_it_charges_for(seed: int) -> None:
    drawn = case(seed)
    ordered = sorted(drawn.periods, key=lambda one: one.started_at)

    for line in priced(drawn).lines:
        of_line = [ordered[index] for index in line.period_indices]
        quantity = {
            "ENERGY": sum(one.energy_import_wh - one.energy_export_wh for one in of_line),
            "TIME": sum(one.reserved_s if line.is_reservation else one.charging_s for one in of_line),
            "PARKING_TIME": sum(one.parking_s for one in of_line),
            "FLAT": 1,
        }[line.dimension]
        assert line.quantity == quantity


@given(wh=WH)
def test_feeding_in_what_was_drawn_costs_nothing(wh: int) -> None:
    both = replace(period(START, wh, 60), energy_export_wh=wh)

    bill = price_session(simple(Decimal("0.3"), Decimal(0)), [both], ended_at=START, time_zone=AMSTERDAM)

    assert bill.total == Price(excl_e4=0, incl_e4=0)
