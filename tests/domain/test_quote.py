"""Quotes: nobody else's, nothing changed, not too late."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.quote import (
    Estimate,
    QuoteExpired,
    QuoteOfAnother,
    QuoteTampered,
    RetailQuote,
    refuse_unusable,
    signing_bytes,
)
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Tariff,
    TariffDimension,
    TariffElement,
)

NOW = datetime(2022, 3, 27, 9, 0, tzinfo=UTC)
MSP = PartyId("NL-MSP")


def tariff(*elements: TariffElement, **fields: Any) -> Tariff:
    return Tariff(party_id=MSP, tariff_id="R1", currency="EUR", elements=elements, last_updated=NOW, **fields)


def component(dimension: TariffDimension, price: str, vat: str | None = "21", step: int = 1) -> PriceComponent:
    return PriceComponent(
        dimension=dimension,
        price=Decimal(price),
        step_size=step,
        vat_percent=None if vat is None else Decimal(vat),
    )


def quote() -> RetailQuote:
    return RetailQuote(
        quote_id="q1",
        emsp_id=MSP,
        driver_id="d1",
        plan_id="flat",
        cpo_id=PartyId("NL-CPO"),
        location_id="LOC1",
        evse_uid="E1",
        connector_id="1",
        time_zone="Europe/Amsterdam",
        issued_at=NOW,
        valid_until=NOW + timedelta(minutes=15),
        tariff=tariff(TariffElement(components=(component(TariffDimension.ENERGY, "0.30"),))),
        estimate=Estimate(energy_wh=10_000, charging_s=3600, parking_s=0, total=Price(excl_e4=30_000, incl_e4=36_300)),
    )


def refuse(what: RetailQuote, *, driver_id: str = "d1", is_signed: bool = True, now: datetime = NOW) -> None:
    refuse_unusable(what, driver_id=driver_id, emsp_id=MSP, is_signed=is_signed, now=now)


def test_a_quote_in_time_of_the_right_driver_passes() -> None:
    refuse(quote(), now=NOW + timedelta(minutes=14, seconds=59))


def test_a_quote_is_refused_from_the_moment_its_validity_ends() -> None:
    with pytest.raises(QuoteExpired):
        refuse(quote(), now=NOW + timedelta(minutes=15))


def test_another_drivers_quote_is_refused() -> None:
    with pytest.raises(QuoteOfAnother):
        refuse(quote(), driver_id="d2")
    with pytest.raises(QuoteOfAnother):
        refuse(replace(quote(), emsp_id=PartyId("NL-XXX")))


def test_a_quote_without_the_msps_signature_is_refused() -> None:
    with pytest.raises(QuoteTampered):
        refuse(quote(), is_signed=False)


@pytest.mark.parametrize(
    "change",
    [
        {"driver_id": "d2"},
        {"valid_until": NOW + timedelta(hours=1)},
        {"evse_uid": "E2"},
        {"cpo_id": PartyId("NL-XXX")},
        {"estimate": None},
        {"tariff": tariff(TariffElement(components=(component(TariffDimension.ENERGY, "0.29"),)))},
        {"tariff": tariff(TariffElement(components=(component(TariffDimension.ENERGY, "0.30", vat="9"),)))},
    ],
)
def test_every_term_is_under_the_signature(change: dict[str, Any]) -> None:
    assert signing_bytes(replace(quote(), **change)) != signing_bytes(quote())


def test_the_signature_does_not_sign_itself() -> None:
    assert signing_bytes(replace(quote(), signature="ab")) == signing_bytes(quote())
