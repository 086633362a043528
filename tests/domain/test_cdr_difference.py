"""A CDR that states another amount than it should is told which mistake was made, in which period and element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobility.domain.cdr import CDR
from emobility.domain.cdr_difference import CostPart, Difference, DifferenceCause, explain_difference
from emobility.domain.money import Price
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.pricing import PricedSession, price_session
from emobility.domain.tariff.rounding import RoundingPolicyName, rounding_policy
from emobility.domain.tariff.tariff import Tariff, TariffDimension, TaxIncluded
from emobility.domain.tariff.taxes import TaxAmount
from emobility.domain.tariff.version import tariff_hash
from tests.domain.tariff.builders import AMSTERDAM, charging, component, element, minutes, parking, tariff
from tests.domain.tariff.cases import case
from tests.domain.test_cdr import ORIGINAL

NOON = datetime(2022, 6, 13, 10, tzinfo=UTC)
"""12:00 in Amsterdam."""
PERIODS = (
    charging(NOON, 50, 4_300, energy_export_wh=100),
    charging(NOON + minutes(50), 40, 1_300),
    charging(NOON + minutes(90), 21, 2_050),
    parking(NOON + minutes(111), 16),
)
CHARGE = tariff(
    element(
        component("ENERGY", "0.20", step=500),
        component("TIME", "1", step=600),
        component("FLAT", "0.35"),
        end_time=time(13, 30),
    ),
    element(
        component("ENERGY", "0.27", step=500),
        component("TIME", "1.3", step=600),
        component("PARKING_TIME", "2", step=600),
    ),
    price_max=Price(excl_e4=1_000_000),
)
NOON_END = NOON + minutes(127)


def priced(charge: Tariff = CHARGE, periods: Sequence[ChargingPeriod] = PERIODS, **terms: Any) -> PricedSession:
    return price_session(charge, periods, ended_at=NOON_END, **{"time_zone": AMSTERDAM, **terms})


def stating(bill: PricedSession, charge: Tariff = CHARGE, periods: Sequence[ChargingPeriod] = PERIODS) -> CDR:
    return replace(
        ORIGINAL,
        started_at=NOON,
        ended_at=NOON_END,
        tariff=charge,
        tariff_hash=tariff_hash(charge),
        periods=tuple(periods),
        total_cost=bill.total,
        total_energy_cost=bill.energy,
        total_time_cost=bill.time,
        total_parking_cost=bill.parking,
        total_fixed_cost=bill.fixed,
        total_reservation_cost=bill.reservation,
    )


def explained(cdr: CDR, charge: Tariff = CHARGE) -> list[Difference]:
    return list(explain_difference(cdr, priced(charge, cdr.periods)))


def without_step(charge: Tariff, dimension: str | None = None) -> Tariff:
    return replace(
        charge,
        elements=tuple(
            replace(
                part,
                components=tuple(
                    replace(each, step_size=1) if dimension in (None, each.dimension) else each
                    for each in part.components
                ),
            )
            for part in charge.elements
        ),
    )


def test_an_honest_cdr_has_no_difference() -> None:
    assert explained(stating(priced())) == []


def test_an_amount_that_is_not_stated_is_not_compared() -> None:
    silent = replace(stating(priced()), total_energy_cost=None, total_fixed_cost=None)

    assert explained(silent) == []


def test_a_difference_names_period_dimension_element_and_both_amounts() -> None:
    honest = stating(priced())
    assert honest.total_energy_cost is not None
    # 1.3 kWh of the second period at 0.27 instead of 0.20.
    wrong = replace(
        honest,
        total_energy_cost=Price(excl_e4=honest.total_energy_cost.excl_e4 + 910),
        total_cost=Price(excl_e4=honest.total_cost.excl_e4 + 910),
    )

    of_energy, of_total = explained(wrong)

    assert of_energy == Difference(
        part=CostPart.ENERGY,
        is_after_tax=False,
        cause=DifferenceCause.OTHER_ELEMENT,
        expected_e4=honest.total_energy_cost.excl_e4,
        stated_e4=honest.total_energy_cost.excl_e4 + 910,
        period_index=1,
        dimension=TariffDimension.ENERGY,
        element_index=0,
        other_element_index=1,
    )
    assert of_energy.difference_e4 == 910
    assert (of_total.part, of_total.cause, of_total.period_index) == (
        CostPart.TOTAL,
        DifferenceCause.OTHER_ELEMENT,
        1,
    )


def rounded_up(period: ChargingPeriod) -> ChargingPeriod:
    net = period.energy_import_wh - period.energy_export_wh
    return replace(
        period,
        energy_import_wh=period.energy_import_wh + -net % 500,
        charging_s=period.charging_s + -period.charging_s % 600,
        parking_s=period.parking_s + -period.parking_s % 600,
    )


@pytest.mark.parametrize(
    ("mistaken", "part", "cause"),
    [
        (priced(without_step(CHARGE)), CostPart.ENERGY, DifferenceCause.STEP_IGNORED),
        (priced(without_step(CHARGE)), CostPart.PARKING_TIME, DifferenceCause.STEP_IGNORED),
        (
            priced(without_step(CHARGE), [rounded_up(each) for each in PERIODS]),
            CostPart.ENERGY,
            DifferenceCause.STEP_PER_PERIOD,
        ),
        (
            priced(without_step(CHARGE), [rounded_up(each) for each in PERIODS]),
            CostPart.TIME,
            DifferenceCause.STEP_PER_PERIOD,
        ),
        (
            priced(CHARGE, [replace(each, energy_export_wh=0) for each in PERIODS]),
            CostPart.ENERGY,
            DifferenceCause.FEED_IN_IGNORED,
        ),
        (priced(CHARGE, time_zone="UTC"), CostPart.TIME, DifferenceCause.CLOCK_NOT_LOCAL),
        (
            priced(rounding=rounding_policy(RoundingPolicyName.COINS_TOTAL)),
            CostPart.ENERGY,
            DifferenceCause.ROUNDED_OTHERWISE,
        ),
        (priced(CHARGE, PERIODS[1:]), CostPart.ENERGY, DifferenceCause.UNEXPLAINED),
    ],
)
def test_the_mistake_that_gives_the_stated_amount_is_named(
    mistaken: PricedSession, part: CostPart, cause: DifferenceCause
) -> None:
    by_part = {difference.part: difference for difference in explained(stating(mistaken))}

    assert by_part[part].cause is cause


@pytest.mark.parametrize(
    ("excl_e4", "cause"),
    [
        (0, DifferenceCause.NOTHING_CHARGED),
        (-3_500, DifferenceCause.SIGN_TURNED),
        (4 * 3_500, DifferenceCause.FLAT_PER_PERIOD),
        (2 * 3_500, DifferenceCause.PERIOD_CHARGED_TWICE),
        (3_501, DifferenceCause.UNEXPLAINED),
    ],
)
def test_a_fee_that_is_wrong_is_explained(excl_e4: int, cause: DifferenceCause) -> None:
    (difference,) = explained(replace(stating(priced()), total_fixed_cost=Price(excl_e4=excl_e4)))

    assert (difference.part, difference.cause) == (CostPart.FLAT, cause)
    assert (difference.dimension, difference.element_index, difference.period_index) == (TariffDimension.FLAT, 0, 0)


def test_a_maximum_that_was_not_applied_is_named() -> None:
    limited = replace(CHARGE, price_max=Price(excl_e4=10_000))
    wrong = stating(priced(), limited)

    (difference,) = explain_difference(wrong, priced(limited))

    assert (difference.part, difference.cause) == (CostPart.TOTAL, DifferenceCause.LIMIT_IGNORED)


def test_tax_that_was_taken_for_none_is_named() -> None:
    taxed = tariff(element(component("ENERGY", "0.5", vat="21")))
    honest = stating(priced(taxed), taxed)
    wrong = replace(honest, total_cost=Price(excl_e4=honest.total_cost.incl_e4 or 0, incl_e4=honest.total_cost.incl_e4))

    (difference,) = explained(wrong, taxed)

    assert (difference.cause, difference.is_after_tax) == (DifferenceCause.TAX_MISTAKEN, False)


def test_where_the_tariff_leaves_the_rate_open_the_sellers_taxes_are_its_own() -> None:
    # OCPI 2.3.0, tariff_19: "plus taxes according to locally applicable legislation".
    open_rate = tariff(element(component("TIME", "2")))
    honest = stating(priced(open_rate), open_rate)
    total = Price(excl_e4=honest.total_cost.excl_e4, incl_e4=honest.total_cost.excl_e4 + 100)
    taxed = replace(honest, total_cost=total, total_time_cost=total)

    assert [each.is_after_tax for each in explained(taxed, open_rate)] == [True, True]
    assert explained(replace(taxed, taxes=(TaxAmount(name="GST", amount_e4=100),)), open_rate) == []


def test_where_prices_include_an_unknown_tax_only_what_is_paid_is_compared() -> None:
    gross = replace(tariff(element(component("TIME", "2.10"))), tax_included=TaxIncluded.YES)
    honest = stating(priced(gross), gross)
    split = Price(excl_e4=(honest.total_cost.incl_e4 or 0) - 700, incl_e4=honest.total_cost.incl_e4)

    assert explained(replace(honest, total_cost=split, total_time_cost=None), gross) == []
    wrong = replace(honest, total_cost=replace(split, incl_e4=1), total_time_cost=None)
    assert [each.is_after_tax for each in explained(wrong, gross)] == [True]


@settings(max_examples=40)  # each tries every mistake there is
@given(seed=st.integers(0, 2**40), error_e4=st.integers(-20_000, 20_000).filter(bool))
def test_every_wrong_total_has_exactly_one_difference_of_its_size(seed: int, error_e4: int) -> None:
    drawn = case(seed)
    bill = price_session(drawn.tariff, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
    cdr = replace(
        stating(bill, drawn.tariff, drawn.periods),
        ended_at=drawn.ended_at,
        location=replace(ORIGINAL.location, time_zone=drawn.time_zone),
    )
    wrong = replace(cdr, total_cost=replace(bill.total, excl_e4=bill.total.excl_e4 + error_e4))

    assert explain_difference(cdr, bill) == ()
    (difference,) = explain_difference(wrong, bill)
    assert (difference.part, difference.difference_e4) == (CostPart.TOTAL, error_e4)


def test_an_explanation_takes_a_bounded_number_of_tries() -> None:
    # 1,000 periods under 1,000 elements: a million prices could be taken for another.
    elements = [element(component("ENERGY", str(Decimal(number) / 1_000))) for number in range(1_000)]
    periods = [charging(NOON + timedelta(seconds=number), 0, 10) for number in range(1_000)]
    charge = tariff(*elements)
    bill = price_session(charge, periods, ended_at=NOON_END, time_zone=AMSTERDAM)

    (difference,) = explain_difference(replace(stating(bill, charge, periods), total_cost=Price(excl_e4=-7)), bill)

    assert difference.cause is DifferenceCause.UNEXPLAINED
