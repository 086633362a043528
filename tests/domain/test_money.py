"""Money in ten-thousandths: one rounding, no two currencies in one sum."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.errors import CurrencyMismatch
from emobility.domain.money import Money, Price, decimal_from_e4, e4_from_decimal, total

E4 = st.integers(min_value=-(10**15), max_value=10**15)
AMOUNTS = st.lists(E4.map(lambda amount: Money(amount_e4=amount, currency="EUR")))


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("1.23455", 12_346),
        ("1.23454999", 12_345),
        ("-1.23455", -12_346),
        ("0.00005", 1),
        ("-0.00005", -1),
        ("0.00004999", 0),
        ("10", 100_000),
    ],
)
def test_an_amount_is_rounded_half_away_from_zero(amount: str, expected: int) -> None:
    assert e4_from_decimal(Decimal(amount)) == expected


@given(amount=E4)
def test_ten_thousandths_survive_as_decimals(amount: int) -> None:
    assert e4_from_decimal(decimal_from_e4(amount)) == amount


@given(amounts=AMOUNTS, order=st.randoms())
def test_a_total_does_not_depend_on_order(amounts: list[Money], order: object) -> None:
    shuffled = list(amounts)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random that it can shrink

    assert total(shuffled, "EUR") == total(amounts, "EUR")
    assert total(amounts, "EUR").amount_e4 == sum(amount.amount_e4 for amount in amounts)


@given(one=E4, other=E4)
def test_what_is_added_can_be_taken_away(one: int, other: int) -> None:
    first, second = Money(amount_e4=one, currency="EUR"), Money(amount_e4=other, currency="EUR")

    assert first + second - second == first
    assert first + -first == Money(amount_e4=0, currency="EUR")


def test_two_currencies_never_meet_in_a_sum() -> None:
    euro, krone = Money(amount_e4=1, currency="EUR"), Money(amount_e4=1, currency="DKK")

    with pytest.raises(CurrencyMismatch) as refusal:
        euro + krone

    assert (refusal.value.expected, refusal.value.found) == ("EUR", "DKK")
    with pytest.raises(CurrencyMismatch):
        total([euro, krone], "EUR")
    with pytest.raises(CurrencyMismatch):
        euro - krone


def test_no_amounts_are_zero_of_the_currency() -> None:
    assert total([], "EUR") == Money(amount_e4=0, currency="EUR")


@pytest.mark.parametrize("price", [Price(excl_e4=5), Price(excl_e4=5, incl_e4=6), Price(excl_e4=-5, incl_e4=0)])
def test_a_price_negated_twice_is_itself(price: Price) -> None:
    negated = -price

    assert -negated == price
    assert negated.excl_e4 == -price.excl_e4
    assert (negated.incl_e4 is None) == (price.incl_e4 is None)
