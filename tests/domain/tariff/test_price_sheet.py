"""A tariff in words, from its plainest form, which charges every session the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.money import Price
from emobility.domain.tariff.price_sheet import normalised, price_sheet, price_sheet_text
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import (
    DayOfWeek,
    PriceComponent,
    Reservation,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TaxIncluded,
)
from tests.domain.tariff.builders import AMSTERDAM, component, element, tariff
from tests.domain.tariff.cases import case


def net(dimension: TariffDimension, price: str, *, vat: str | None = "21", step: int = 1) -> PriceComponent:
    return component(dimension, price, vat=vat, step=step)


def test_a_price_sheet_goes_per_kwh_per_minute_per_session_other() -> None:
    shown = price_sheet(
        tariff(
            TariffElement(
                components=(
                    net(TariffDimension.FLAT, "0.50"),
                    net(TariffDimension.PARKING_TIME, "6", step=60),
                    net(TariffDimension.TIME, "3"),
                    net(TariffDimension.ENERGY, "0.30"),
                )
            ),
            price_min=Price(excl_e4=5_000, incl_e4=6_050),
        ),
        time_zone="Europe/Amsterdam",
    )

    assert [line.section for line in shown] == ["per kWh", "per minute", "per minute", "per session", "other"]
    assert [line.text for line in shown] == [
        "0.363 EUR per kWh energy, incl. 21 % VAT",
        "0.121 EUR per minute while plugged in without charging, incl. 21 % VAT, billed in steps of 60 s",
        "0.0605 EUR per minute while charging, incl. 21 % VAT",
        "0.605 EUR per session starting fee, incl. 21 % VAT",
        "at least 0.6050 EUR in total",
    ]


def test_a_price_sheet_says_when_a_price_applies() -> None:
    hour = TariffRestrictions(
        start_date=date(2022, 3, 27), end_date=date(2022, 3, 28), start_time=time(14), end_time=time(15)
    )

    shown = price_sheet(
        tariff(
            TariffElement(components=(net(TariffDimension.ENERGY, "-0.05"),), restrictions=hour),
            TariffElement(
                components=(net(TariffDimension.ENERGY, "0.30"),),
                restrictions=TariffRestrictions(energy_wh_max=20_000),
            ),
        ),
        time_zone="Europe/Amsterdam",
    )

    assert shown[0].text == "-0.0605 EUR per kWh energy, incl. 21 % VAT (2022-03-27 14:00-15:00)"
    assert shown[1].text == "0.363 EUR per kWh energy, incl. 21 % VAT (before 20 kWh)"
    assert "Europe/Amsterdam" in shown[2].text


def test_no_component_is_left_off_the_sheet() -> None:
    elements = tuple(TariffElement(components=(net(dimension, "1", vat=None),)) for dimension in TariffDimension)

    shown = price_sheet(tariff(*elements), time_zone="UTC")

    assert len(shown) == len(elements)


def test_a_whole_sheet_is_one_text() -> None:
    sheet = price_sheet_text(
        tariff(
            element(component("ENERGY", "0.20", vat="10"), power_w_max=16_000),
            element(
                component("ENERGY", "0.35", vat="10", step=100), start_time=time(9), days_of_week=(DayOfWeek.MONDAY,)
            ),
            element(component("ENERGY", "0.50", vat="10"), component("ENERGY", "9"), component("PARKING_TIME", "6.00")),
            element(component("TIME", "6", step=60), reservation=Reservation.RESERVATION),
            element(component("FLAT", "4"), reservation=Reservation.RESERVATION_EXPIRES),
            price_max=Price(excl_e4=500_000),
            valid_from=datetime(2022, 1, 1, tzinfo=UTC),
            text_en="Parking is free at night.",
        ),
        time_zone=AMSTERDAM,
    )

    assert sheet.splitlines() == [
        "Tariff T1 of NL-TNM, in EUR",
        "valid from 2022-01-01 00:00 UTC",
        "0.22 EUR per kWh energy, incl. 10 % VAT (before 16 kW)",
        "0.385 EUR per kWh energy, incl. 10 % VAT, billed in steps of 0.1 kWh (from 09:00; Monday)",
        "0.55 EUR per kWh energy, incl. 10 % VAT",
        "0.1 EUR per minute while plugged in without charging",
        "0.1 EUR per minute for a reservation, billed in steps of 60 s",
        "4 EUR per session for a reservation that expires",
        "at most 50.0000 EUR in total",
        "times are local time at the station (Europe/Amsterdam)",
        "Parking is free at night.",
    ]


@pytest.mark.parametrize(
    ("included", "vat", "text"),
    [
        (TaxIncluded.YES, "21", "1.21 EUR per kWh energy, incl. 21 % VAT"),
        (TaxIncluded.YES, None, "1.21 EUR per kWh energy, incl. tax"),
        (TaxIncluded.NO, "10", "1.331 EUR per kWh energy, incl. 10 % VAT"),
        (TaxIncluded.NO, None, "1.21 EUR per kWh energy"),
        (TaxIncluded.NOT_APPLICABLE, "10", "1.21 EUR per kWh energy"),
    ],
)
def test_a_sheet_shows_what_is_paid_whether_or_not_prices_include_tax(
    included: TaxIncluded, vat: str | None, text: str
) -> None:
    (line,) = price_sheet(tariff(element(component("ENERGY", "1.21", vat=vat)), tax_included=included), time_zone="UTC")

    assert line.text == text


def test_what_can_never_apply_is_dropped_and_what_belongs_together_joined() -> None:
    plain = normalised(
        tariff(
            element(component("ENERGY", "9"), energy_wh_min=5, energy_wh_max=5),
            element(component("ENERGY", "9"), start_date=date(2022, 1, 2), end_date=date(2022, 1, 1)),
            element(component("ENERGY", "9"), duration_s_max=0),
            element(component("ENERGY", "1", step=0), component("ENERGY", "9"), days_of_week=tuple(DayOfWeek)),
            element(component("FLAT", "2", step=300), start_time=time(7), end_time=time(7)),
            element(component("ENERGY", "9"), current_a_max=Decimal(32)),
            element(
                component("ENERGY", "9"), component("TIME", "3"), end_time=time(0), reservation=Reservation.RESERVATION
            ),
        )
    )

    assert plain.elements == (
        element(component("ENERGY", "1"), component("FLAT", "2")),
        element(component("TIME", "3"), reservation=Reservation.RESERVATION),
    )
    assert normalised(plain) == plain


@given(seed=st.integers(0, 2**40))
def test_the_plain_form_charges_every_session_the_same(seed: int) -> None:
    drawn = case(seed)

    whole, plain = (
        price_session(charge, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
        for charge in (drawn.tariff, normalised(drawn.tariff))
    )

    # A rate that no session can meet says nothing of tax any more.
    incl = replace(whole.total, incl_e4=whole.total.incl_e4 if plain.total.incl_e4 is not None else None)
    assert plain.total == incl
    assert [(line.dimension, line.quantity, line.excl) for line in plain.lines] == [
        (line.dimension, line.quantity, line.excl) for line in whole.lines
    ]
