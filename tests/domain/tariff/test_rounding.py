"""Rounding policies: what they give, and that the engine's own is one of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.money import Price
from emobility.domain.tariff.pricing import PricedSession, price_session
from emobility.domain.tariff.rounding import (
    EXACT,
    POLICIES,
    RoundingMode,
    RoundingPolicy,
    RoundingPolicyName,
    rounded_e4,
    rounding_policy,
)
from emobility.domain.tariff.tariff import Tariff, TaxIncluded
from tests.domain.tariff.builders import AMSTERDAM, MONDAY, charging, component, element, minutes, tariff
from tests.domain.tariff.cases import case

# Net 1.005 + 1.005 = 2.01, tax 10 % and 20 %.
TWO_RATES = tariff(element(component("FLAT", "1.005", vat="10"), component("ENERGY", "1.005", vat="20")))
THREE_PLACES = tariff(element(component("FLAT", "0.125")))


def bill(policy: RoundingPolicyName, charge: Tariff = TWO_RATES, currency: str = "EUR") -> PricedSession:
    return price_session(
        replace(charge, currency=currency),
        [charging(MONDAY, 60, 1_000)],
        ended_at=MONDAY + minutes(60),
        time_zone=AMSTERDAM,
        rounding=rounding_policy(policy),
    )


@pytest.mark.parametrize(
    ("policy", "excl_e4", "incl_e4"),
    [
        # Exactly: 2.01 before tax, 0.1005 + 0.201 = 0.3015 of tax, 2.3115 after it.
        (RoundingPolicyName.EXACT, 20_100, 23_115),
        (RoundingPolicyName.COINS_TOTAL, 20_100, 23_100),
        (RoundingPolicyName.COINS_TOTAL_UP, 20_100, 23_200),
        (RoundingPolicyName.COINS_TOTAL_TAX_PER_RATE, 20_100, 20_100 + 1_000 + 2_000),
        # Lines of 1.005 become 1.01 before tax; 1.1055 and 1.206 after it 1.11 and 1.21.
        (RoundingPolicyName.COINS_LINE, 20_200, 23_200),
        (RoundingPolicyName.COINS_LINE_TAX_PER_RATE, 20_200, 20_200 + 1_000 + 2_000),
    ],
)
def test_each_policy_rounds_as_it_says(policy: RoundingPolicyName, excl_e4: int, incl_e4: int) -> None:
    assert bill(policy).total == Price(excl_e4=excl_e4, incl_e4=incl_e4)


@pytest.mark.parametrize(
    ("policy", "total_e4"),
    [
        (RoundingPolicyName.COINS_TOTAL, 1_300),
        (RoundingPolicyName.COINS_TOTAL_HALF_EVEN, 1_200),
        (RoundingPolicyName.COINS_TOTAL_DOWN, 1_200),
        (RoundingPolicyName.COINS_TOTAL_UP, 1_300),
    ],
)
def test_a_half_goes_where_the_policy_says(policy: RoundingPolicyName, total_e4: int) -> None:
    assert bill(policy, THREE_PLACES).total == Price(excl_e4=total_e4)


def test_a_half_above_an_odd_step_goes_up_to_the_even_one() -> None:
    odd = tariff(element(component("FLAT", "0.135")))

    assert bill(RoundingPolicyName.COINS_TOTAL_HALF_EVEN, odd).total == Price(excl_e4=1_400)


@pytest.mark.parametrize(("currency", "total_e4"), [("EUR", 1_300), ("JPY", 0), ("KWD", 1_250)])
def test_coins_are_those_of_the_currency(currency: str, total_e4: int) -> None:
    assert bill(RoundingPolicyName.COINS_TOTAL, THREE_PLACES, currency).total == Price(excl_e4=total_e4)


def test_a_limit_is_an_agreed_amount_and_is_not_rounded() -> None:
    limited = replace(THREE_PLACES, price_min=Price(excl_e4=1_555))

    assert bill(RoundingPolicyName.COINS_TOTAL, limited).total == Price(excl_e4=1_555)


@given(seed=st.integers(0, 2**40))
def test_the_integers_of_the_engine_are_the_policy_it_states(seed: int) -> None:
    drawn = case(seed)
    # An equal policy that is another object takes the way of all others, over exact lines.
    bills = [
        price_session(drawn.tariff, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone, rounding=policy)
        for policy in (EXACT, RoundingPolicy(decimals=4))
    ]

    assert bills[0] == bills[1]


@given(amount=st.fractions(min_value=-10, max_value=10, max_denominator=10**6), mode=st.sampled_from(RoundingMode))
def test_a_rounded_amount_is_the_nearest_on_the_side_of_its_mode(amount: Fraction, mode: RoundingMode) -> None:
    rounded = Fraction(rounded_e4(amount, 100, mode), 10_000)

    assert abs(rounded - amount) < Fraction(1, 100)
    if mode is RoundingMode.DOWN:
        assert abs(rounded) <= abs(amount)
    elif mode is RoundingMode.UP:
        assert abs(rounded) >= abs(amount)
    else:
        assert abs(rounded - amount) <= Fraction(1, 200)


@given(seed=st.integers(0, 2**40), name=st.sampled_from(RoundingPolicyName))
def test_tax_comes_on_top_under_every_policy(seed: int, name: RoundingPolicyName) -> None:
    drawn = case(seed)
    rates = [each.vat_percent for part in drawn.tariff.elements for each in part.components]
    untaxed = drawn.tariff if all(rate is None or rate == 0 for rate in rates) else None
    if untaxed is None:
        return
    priced = price_session(
        untaxed, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone, rounding=POLICIES[name]
    )

    assert priced.unlimited.incl_e4 in (None, priced.unlimited.excl_e4)


def test_a_price_with_tax_in_it_is_rounded_and_the_tax_taken_off() -> None:
    gross = replace(TWO_RATES, tax_included=TaxIncluded.YES)

    # 1.005 and 1.005 after tax are 2.01; 0.0914 and 0.1675 of tax are 0.09 and 0.17.
    assert bill(RoundingPolicyName.COINS_TOTAL_TAX_PER_RATE, gross).total == Price(excl_e4=17_500, incl_e4=20_100)
    assert bill(RoundingPolicyName.EXACT, gross).total.excl_e4 == round(Decimal("1.005") / Decimal("1.1") * 10_000) + (
        round(Decimal("1.005") / Decimal("1.2") * 10_000)
    )
