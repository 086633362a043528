"""What must hold for every session, whatever the tariff."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.pricing import PricedSession, price_session, price_session_by_several
from emobility.domain.tariff.retail import quote_estimate
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.tariff.version import tariff_hash
from emobility.protocols.ocpi import mapping_v230, v221, v230
from emobility.protocols.ocpi.mapping import period_from_ocpi, period_to_ocpi
from emobility.protocols.ocpi.v221 import read, write
from tests.domain.tariff.builders import AMSTERDAM, component, element, tariff
from tests.domain.tariff.cases import Case, case, case_of_2_3_0

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


@given(time=st.decimals(min_value=0, max_value=5, places=4), seconds=SECONDS, more=SECONDS, step=st.integers(0, 2_000))
@pytest.mark.parametrize("kind", ["TIME", "PARKING_TIME"])
def test_more_time_never_costs_less(*, kind: str, time: Decimal, seconds: int, more: int, step: int) -> None:
    charge = tariff(element(component(kind, str(time), step=step)))

    def cost(lasted_s: int) -> int:
        is_parking = kind == "PARKING_TIME"
        used = period(START, 0, 0 if is_parking else lasted_s, lasted_s if is_parking else 0)
        ended_at = START + timedelta(seconds=lasted_s)
        return price_session(charge, [used], ended_at=ended_at, time_zone=AMSTERDAM).total.excl_e4

    assert cost(seconds) <= cost(seconds + more)


@given(seed=SEEDS)
def test_without_steps_each_period_costs_by_itself_what_it_costs_in_the_session(seed: int) -> None:
    drawn = case(seed)
    # Reservations, state and FLAT look at the whole session; all else adds up.
    elements = tuple(
        replace(
            part,
            restrictions=replace(
                part.restrictions,
                reservation=None,
                energy_wh_min=None,
                energy_wh_max=None,
                duration_s_min=None,
                duration_s_max=None,
            ),
            components=tuple(
                replace(each, step_size=1, price=each.price * (each.dimension != "FLAT")) for each in part.components
            ),
        )
        for part in drawn.tariff.elements
    )
    drawn = replace(drawn, tariff=replace(drawn.tariff, elements=elements, price_min=None, price_max=None))

    def exact(bill: PricedSession) -> Fraction:
        return sum((line.excl for line in bill.lines), start=Fraction(0))

    apart = [exact(priced(replace(drawn, periods=(one,)))) for one in drawn.periods]

    assert exact(priced(drawn)) == sum(apart)


@given(seed=SEEDS, data=st.data())
def test_a_period_that_spans_no_change_may_be_cut_anywhere(seed: int, data: st.DataObject) -> None:
    drawn = case(seed)
    cut = split_at_price_changes(drawn.tariff, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    at = data.draw(st.integers(0, len(cut) - 1))
    ends = [*(one.started_at for one in cut[1:]), drawn.ended_at]
    lasted_s = (ends[at] - cut[at].started_at) // timedelta(seconds=1)
    if cut[at].reserved_s or lasted_s < 2:
        return
    part_s = data.draw(st.integers(1, lasted_s - 1))
    finer = [*cut[:at], *_in_two(cut[at], part_s, lasted_s), *cut[at + 1 :]]

    bills = [priced(replace(drawn, periods=tuple(periods))) for periods in (cut, finer)]

    assert bills[0].total == bills[1].total


def _in_two(whole: ChargingPeriod, part_s: int, lasted_s: int) -> list[ChargingPeriod]:
    first = replace(
        whole,
        energy_import_wh=whole.energy_import_wh * part_s // lasted_s,
        energy_export_wh=whole.energy_export_wh * part_s // lasted_s,
        charging_s=min(whole.charging_s, part_s),
        parking_s=min(whole.parking_s, part_s),
    )
    rest = replace(
        whole,
        started_at=whole.started_at + timedelta(seconds=part_s),
        energy_import_wh=whole.energy_import_wh - first.energy_import_wh,
        energy_export_wh=whole.energy_export_wh - first.energy_export_wh,
        charging_s=whole.charging_s - first.charging_s,
        parking_s=whole.parking_s - first.parking_s,
    )
    return [first, rest]


@given(seed=SEEDS)
def test_a_partner_that_holds_the_documents_of_2_3_0_alone_gets_the_same_price(seed: int) -> None:
    drawn = case_of_2_3_0(seed)
    tariffs = (drawn.tariff, *drawn.further_tariffs)
    sent = [read(write(mapping_v230.tariff_to_ocpi(one)), v230.Tariff) for one in tariffs]
    periods = [period_from_ocpi(read(write(period_to_ocpi(one)), v221.ChargingPeriod)) for one in drawn.periods]

    ours, theirs = (
        price_session_by_several(charge, used, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
        for charge, used in ((tariffs, drawn.periods), ([mapping_v230.tariff_from_ocpi(one) for one in sent], periods))
    )

    assert theirs.total == ours.total


@given(
    seed=SEEDS,
    energy_wh=st.integers(0, 60_000),
    power_w=st.integers(1_000, 150_000),
    connection_s=st.integers(60, 30_000),
)
def test_a_quote_is_the_bill_of_the_charge_it_foresaw(
    seed: int, energy_wh: int, power_w: int, connection_s: int
) -> None:
    drawn = case(seed)
    started_at = drawn.periods[0].started_at
    terms = {"time_zone": drawn.time_zone, "started_at": started_at}
    quote = quote_estimate(
        drawn.tariff,
        energy_wh=energy_wh,
        power_w=power_w,
        connection_s=connection_s,
        **terms,  # type: ignore[arg-type]
    )
    charging_s = min(-(-energy_wh * 3_600 // power_w), connection_s)
    charged = replace(
        period(started_at, min(energy_wh, power_w * charging_s // 3_600), charging_s),
        power_w_min=power_w,
        power_w_max=power_w,
    )
    parked = period(started_at + timedelta(seconds=charging_s), 0, 0, connection_s - charging_s)
    ended_at = started_at + timedelta(seconds=connection_s)
    stretches = [one for one in (charged, parked) if one.charging_s or one.parking_s]

    cut = split_at_price_changes(drawn.tariff, stretches, ended_at=ended_at, time_zone=drawn.time_zone)

    assert price_session(drawn.tariff, cut, ended_at=ended_at, time_zone=drawn.time_zone).total == quote.total


@given(seed=SEEDS, update=SEEDS)
def test_a_tariff_update_in_the_middle_of_a_session_changes_nothing(seed: int, update: int) -> None:
    drawn = case(seed)
    frozen = tariff_hash(drawn.tariff)
    before = priced(drawn)

    # The update bears the same id; what was frozen is an object and a hash of its own.
    updated = replace(case(update).tariff, tariff_id=drawn.tariff.tariff_id, last_updated=drawn.ended_at)
    priced(replace(drawn, tariff=updated))

    assert priced(drawn) == before
    assert tariff_hash(drawn.tariff) == frozen
