"""A tariff keeps its hash on the way through OCPI, and no other tariff has it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import (
    DayOfWeek,
    PriceComponent,
    Reservation,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TariffType,
    TaxIncluded,
)
from emobility.domain.tariff.version import (
    NoCanonicalTariff,
    canonical_bytes,
    canonical_document,
    is_in_force,
    tariff_hash,
    tariff_of,
)
from emobility.events.codec import decode, encode
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import period_from_ocpi, period_to_ocpi, tariff_from_ocpi, tariff_to_ocpi
from tests.domain.tariff.builders import component, element, tariff
from tests.domain.tariff.cases import case

FULL_RESTRICTIONS = TariffRestrictions(
    start_time=time(7),
    end_time=time(9, 30),
    start_date=date(2022, 1, 1),
    end_date=date(2023, 1, 1),
    energy_wh_min=1,
    energy_wh_max=50_000,
    current_a_min=Decimal(6),
    current_a_max=Decimal("16.5"),
    power_w_min=1_000,
    power_w_max=22_000,
    duration_s_min=60,
    duration_s_max=7_200,
    days_of_week=(DayOfWeek.MONDAY, DayOfWeek.FRIDAY),
    reservation=Reservation.RESERVATION,
)
FULL = tariff(
    TariffElement(components=(component("ENERGY", "0.10", step=10, vat="21.0"),), restrictions=FULL_RESTRICTIONS),
    element(component("FLAT", "1")),
    tariff_type=TariffType.REGULAR,
    price_min=Price(excl_e4=1, incl_e4=2),
    price_max=Price(excl_e4=100_000),
    valid_from=datetime(2022, 1, 1, tzinfo=UTC),
    valid_until=datetime(2023, 1, 1, tzinfo=UTC),
    text_en="Read me",
)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (component("ENERGY", "0.10"), component("ENERGY", "0.1")),
        (component("ENERGY", "1E+1"), component("ENERGY", "10")),
        (component("ENERGY", "-0.00"), component("ENERGY", "0")),
        (component("ENERGY", "1", vat="21.0"), component("ENERGY", "1", vat="21")),
        (component("ENERGY", "1", step=0), component("ENERGY", "1", step=1)),
    ],
)
def test_two_ways_to_write_a_component_have_one_hash(one: PriceComponent, same: PriceComponent) -> None:
    assert tariff_hash(tariff(element(one))) == tariff_hash(tariff(element(same)))


def test_what_travels_with_a_tariff_is_not_hashed() -> None:
    touched = replace(FULL, last_updated=FULL.last_updated + timedelta(days=1), text_en=None)
    local = replace(FULL, valid_from=datetime.fromisoformat("2022-01-01T01:00:00.5+01:00"))
    lower = replace(FULL, tariff_id="t1", currency="eur", party_id=PartyId("nl-tnm"))

    assert {tariff_hash(one) for one in (touched, local, lower)} == {tariff_hash(FULL)}


def test_the_order_of_days_is_not_hashed_and_the_order_of_elements_is() -> None:
    monday_first, friday_first = (
        tariff(element(component("ENERGY", "1"), days_of_week=days))
        for days in ((DayOfWeek.MONDAY, DayOfWeek.FRIDAY), (DayOfWeek.FRIDAY, DayOfWeek.MONDAY))
    )

    assert tariff_hash(monday_first) == tariff_hash(friday_first)
    assert tariff_hash(replace(FULL, elements=FULL.elements[::-1])) != tariff_hash(FULL)


CHANGED: dict[str, Any] = {
    "party_id": PartyId("NL-EFL"),
    "tariff_id": "T2",
    "currency": "DKK",
    "elements": FULL.elements[:1],
    "tariff_type": None,
    "price_min": Price(excl_e4=1, incl_e4=3),
    "price_max": None,
    "valid_from": None,
    "valid_until": datetime(2023, 1, 2, tzinfo=UTC),
    "tax_included": TaxIncluded.YES,
}


@pytest.mark.parametrize("name", [one.name for one in fields(Tariff) if one.name not in {"last_updated", "text_en"}])
def test_every_term_of_a_tariff_is_hashed(name: str) -> None:
    assert tariff_hash(replace(FULL, **{name: CHANGED[name]})) != tariff_hash(FULL)


@pytest.mark.parametrize("name", [one.name for one in fields(TariffRestrictions)])
def test_every_restriction_is_hashed(name: str) -> None:
    nothing: Any = () if name == "days_of_week" else None
    freed = replace(FULL.elements[0], restrictions=replace(FULL_RESTRICTIONS, **{name: nothing}))

    assert tariff_hash(replace(FULL, elements=(freed, FULL.elements[1]))) != tariff_hash(FULL)


@pytest.mark.parametrize(
    "changed",
    [
        {"dimension": TariffDimension.TIME},
        {"price": Decimal("0.1001")},
        {"step_size": 11},
        {"vat_percent": None},
        {"vat_percent": Decimal(0)},
    ],
)
def test_every_term_of_a_component_is_hashed(changed: dict[str, Any]) -> None:
    component_changed = replace(FULL.elements[0].components[0], **changed)
    first = replace(FULL.elements[0], components=(component_changed,))

    assert tariff_hash(replace(FULL, elements=(first, FULL.elements[1]))) != tariff_hash(FULL)


@given(seed=st.integers(min_value=0, max_value=2**40))
def test_a_tariff_has_the_same_hash_after_a_round_trip_through_ocpi_and_the_log(seed: int) -> None:
    drawn = case(seed).tariff

    through_log = decode(encode(drawn), Tariff)
    on_the_wire = encode(tariff_to_ocpi(drawn))
    through_ocpi = tariff_from_ocpi(decode(on_the_wire, v221.Tariff))

    assert tariff_hash(through_log) == tariff_hash(drawn)
    assert tariff_hash(through_ocpi) == tariff_hash(drawn)


@given(seed=st.integers(min_value=0, max_value=2**40))
def test_a_partner_that_holds_only_the_ocpi_documents_gets_the_same_price(seed: int) -> None:
    drawn = case(seed)
    there = tariff_from_ocpi(decode(encode(tariff_to_ocpi(drawn.tariff)), v221.Tariff))
    periods = [
        period_from_ocpi(decode(encode(period_to_ocpi(period)), v221.ChargingPeriod)) for period in drawn.periods
    ]

    prices = [
        price_session(charge, cut, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
        for charge, cut in ((drawn.tariff, drawn.periods), (there, periods))
    ]

    assert replace(prices[1], lines=()) == replace(prices[0], lines=())


def test_the_canonical_form_is_pinned() -> None:
    # A change here changes every hash ever stored: raise CANONICAL_FORM and say so in docs/decisions/0003-pricing.md.
    assert json.loads(canonical_bytes(tariff(element(component("ENERGY", "0.250", vat="21"))))) == {
        "form": "wattroam-tariff-1",
        "party": "NL-TNM",
        "id": "T1",
        "currency": "EUR",
        "elements": [{"components": [{"dimension": "ENERGY", "price": "0.25", "step": 1, "vat": "21"}]}],
    }


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2021, 12, 31, 23, 59, tzinfo=UTC), False),
        (datetime(2022, 1, 1, tzinfo=UTC), True),
        (datetime(2022, 12, 31, 23, 59, tzinfo=UTC), True),
        (datetime(2023, 1, 1, tzinfo=UTC), False),
    ],
)
def test_a_tariff_is_in_force_from_its_start_until_before_its_end(at: datetime, *, expected: bool) -> None:
    assert is_in_force(FULL, at) is expected
    assert is_in_force(replace(FULL, valid_from=None, valid_until=None), at)


@given(seed=st.integers(0, 10**6))
def test_a_tariff_read_back_from_its_canonical_form_charges_the_same(seed: int) -> None:
    drawn = case(seed)
    read = tariff_of(json.loads(canonical_bytes(drawn.tariff)))

    first, second = (
        price_session(one, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
        for one in (drawn.tariff, read)
    )
    assert tariff_hash(read) == tariff_hash(drawn.tariff)
    assert (second.total, [line.excl for line in second.lines]) == (first.total, [line.excl for line in first.lines])


def test_every_field_of_the_canonical_form_is_read_back() -> None:
    assert canonical_document(tariff_of(canonical_document(FULL))) == canonical_document(FULL)


@pytest.mark.parametrize(
    "change",
    [
        {"form": "wattroam-tariff-2"},
        {"currency": "eur"},
        {"party": "nobody"},
        {"elements": [{}]},
        {"elements": [{"components": [{"dimension": "ENERGY", "price": "0.10", "step": 1}]}]},
        {"elements": [{"components": [{"dimension": "ENERGY", "price": "0.1", "step": "1"}]}]},
        {"elements": [{"components": [{"dimension": "ENERGY", "price": "0.1", "step": True}]}]},
        {"elements": [{"components": [{"dimension": "ENERGY", "price": "0.1", "step": 1, "discount": "1"}]}]},
        {"elements": [{"components": [{"dimension": "HOPE", "price": "0.1", "step": 1}]}]},
        {"elements": [{"components": [{"dimension": "ENERGY", "price": "much", "step": 1}]}]},
        {"elements": 7},
        {"min": {}},
        {"from": "soon"},
        {"text": "more"},
    ],
)
def test_what_is_not_exactly_the_canonical_form_is_not_read(change: dict[str, Any]) -> None:
    with pytest.raises(NoCanonicalTariff):
        tariff_of({**canonical_document(FULL), **change})
