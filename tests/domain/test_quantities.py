"""Registers become whole Wh once, and only numbers that a meter can show."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.errors import MeterRanBackwards
from emobility.domain.quantities import (
    REGISTER_WH_MAX,
    EnergyUnit,
    NotARegisterValue,
    delivered_wh,
    kwh,
    wh_from_register,
    whole_wh,
)

REGISTER_WH = st.integers(min_value=0, max_value=REGISTER_WH_MAX)


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1234", EnergyUnit.WH, 1_234),
        (" 1234.0 ", EnergyUnit.WH, 1_234),
        ("0.5", EnergyUnit.WH, 0),
        ("1.5", EnergyUnit.WH, 2),
        ("2.5", EnergyUnit.WH, 2),
        ("1.2345", EnergyUnit.KWH, 1_234),
        ("1.2355", EnergyUnit.KWH, 1_236),
        ("1e3", EnergyUnit.WH, 1_000),
        ("-5", EnergyUnit.WH, -5),
        ("1000000000000000", EnergyUnit.WH, REGISTER_WH_MAX),
    ],
)
def test_a_register_is_rounded_half_to_even(text: str, unit: EnergyUnit, expected: int) -> None:
    assert wh_from_register(text, unit) == expected


@pytest.mark.parametrize(
    "text", ["", "NaN", "sNaN", "Infinity", "-inf", "1e400", "1e16", "12,5", "0x10", "yesterday", "1 2", "1e999999999"]
)
def test_what_no_meter_shows_is_refused(text: str) -> None:
    with pytest.raises(NotARegisterValue) as refusal:
        wh_from_register(text)

    assert refusal.value.text == text


def test_a_value_that_is_too_large_only_in_kwh_is_refused() -> None:
    assert wh_from_register("1e13") == 10**13
    with pytest.raises(NotARegisterValue):
        wh_from_register("1e13", EnergyUnit.KWH)


@given(
    register_wh=st.decimals(min_value=-REGISTER_WH_MAX, max_value=REGISTER_WH_MAX, allow_nan=False)
    | st.integers(min_value=-REGISTER_WH_MAX, max_value=REGISTER_WH_MAX)
    | st.integers(-10, 10).map(lambda halves: Decimal(halves) / 2)
)
def test_a_number_is_rounded_as_its_text_and_as_decimal_arithmetic_rounds(register_wh: Decimal | int) -> None:
    expected = int(Decimal(register_wh).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))

    assert whole_wh(register_wh) == wh_from_register(str(register_wh)) == expected


@pytest.mark.parametrize(
    "register_wh",
    [
        REGISTER_WH_MAX + 1,
        -REGISTER_WH_MAX - 1,
        Decimal("1000000000000000.1"),
        *map(Decimal, ("NaN", "sNaN", "Infinity", "-Infinity", "1e999999999")),
    ],
)
def test_a_number_that_no_meter_shows_is_refused(register_wh: Decimal | int) -> None:
    with pytest.raises(NotARegisterValue) as refusal:
        whole_wh(register_wh)

    assert refusal.value.text == str(register_wh)


def test_a_refusal_quotes_no_more_than_a_line() -> None:
    with pytest.raises(NotARegisterValue) as refusal:
        wh_from_register("x" * 10_000)

    assert len(str(refusal.value)) < 200


def test_a_meter_that_ran_backwards_is_refused() -> None:
    with pytest.raises(MeterRanBackwards) as refusal:
        delivered_wh(start_wh=5_000, end_wh=4_999)

    assert refusal.value.end_wh == 4_999


@given(readings=st.lists(REGISTER_WH, min_size=3, max_size=3).map(sorted))
def test_a_reading_in_between_never_changes_the_total(readings: list[int]) -> None:
    start, middle, end = readings

    parts = delivered_wh(start_wh=start, end_wh=middle) + delivered_wh(start_wh=middle, end_wh=end)

    assert parts == delivered_wh(start_wh=start, end_wh=end)


@given(energy_wh=REGISTER_WH)
def test_kwh_are_exact(energy_wh: int) -> None:
    assert kwh(energy_wh) * 1_000 == Decimal(energy_wh)
    assert wh_from_register(str(kwh(energy_wh)), EnergyUnit.KWH) == energy_wh
