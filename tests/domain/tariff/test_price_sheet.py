"""A tariff in words, from its plainest form, which charges every session the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.money import Price
from emobility.domain.tariff.price_sheet import normalised, price_sheet
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import DayOfWeek, Reservation, TaxIncluded
from tests.domain.tariff.builders import component, element, tariff
from tests.domain.tariff.cases import case


def test_a_price_sheet_names_every_price_with_when_it_applies() -> None:
    sheet = price_sheet(
        tariff(
            element(component("FLAT", "0.50", vat="20")),
            element(component("ENERGY", "0.20", vat="10"), power_w_max=16_000),
            element(
                component("ENERGY", "0.35", vat="10", step=100), start_time=time(9), days_of_week=tuple(DayOfWeek)[:5]
            ),
            element(component("ENERGY", "0.50", vat="10"), component("PARKING_TIME", "6.00", step=900)),
            element(component("TIME", "5", step=60), reservation=Reservation.RESERVATION),
            element(component("FLAT", "4"), reservation=Reservation.RESERVATION_EXPIRES),
            price_min=Price(excl_e4=5_000, incl_e4=5_500),
            price_max=Price(excl_e4=500_000),
            valid_from=datetime(2022, 1, 1, tzinfo=UTC),
            text_en="Parking is free at night.",
        )
    )

    assert sheet.splitlines() == [
        "Tariff T1 of NL-TNM: prices in EUR, before tax",
        "Per session: 0.5 (20 % VAT)",
        "Energy: 0.2 per kWh (10 % VAT), before 16 kW",
        "Energy: 0.35 per kWh (10 % VAT), billed per 0.1 kWh, from 09:00, on Monday to Friday",
        "Energy: 0.5 per kWh (10 % VAT), otherwise",
        "Parking time: 6 per hour, billed per 15 min",
        "Reservation time: 5 per hour, billed per 1 min",
        "Per reservation that expires: 4",
        "At least 0.5 before tax, 0.55 after tax per session",
        "At most 50 before tax per session",
        "Valid from 2022-01-01 00:00 UTC",
        "Parking is free at night.",
    ]


def test_a_free_tariff_says_so() -> None:
    free = tariff(element(component("FLAT", "0.00", step=0)), tax_included=TaxIncluded.NOT_APPLICABLE)

    assert price_sheet(free).splitlines() == [
        "Tariff T1 of NL-TNM: prices in EUR, no tax applicable",
        "Free of charge",
        "Per session: 0",
    ]


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
