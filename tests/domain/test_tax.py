"""The table of value added tax, row by row, and its refusals."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from emobility.domain.agreement import TaxRegime
from emobility.domain.identifiers import Role
from emobility.domain.tax import (
    CONSUMPTION_RULES,
    RESALE_RULES,
    VAT_RATES,
    BuyerStatus,
    NoTaxRule,
    Supply,
    tax_of,
    vat_rate,
)

DAY = date(2022, 3, 27)
CHARGED, REVERSED = TaxRegime.DOMESTIC, TaxRegime.REVERSE_CHARGE


def wholesale(seller: str, buyer: str, **changed: Any) -> Supply:
    return Supply(
        **{
            "seller_role": Role.CPO,
            "seller_country": seller,
            "buyer_role": Role.EMSP,
            "buyer_status": BuyerStatus.BUSINESS,
            "buyer_country": buyer,
            "evse_country": seller,
            "on": DAY,
            **changed,
        }
    )


def retail(seller: str, evse: str, **changed: Any) -> Supply:
    return Supply(
        **{
            "seller_role": Role.EMSP,
            "seller_country": seller,
            "buyer_role": None,
            "buyer_status": BuyerStatus.CONSUMER,
            "buyer_country": seller,
            "evse_country": evse,
            "on": DAY,
            **changed,
        }
    )


@pytest.mark.parametrize(
    ("seller", "buyer", "regime", "country", "percent"),
    [
        ("NL", "NL", CHARGED, "NL", "21"),
        ("BE", "BE", CHARGED, "BE", "21"),
        ("LU", "LU", CHARGED, "LU", "8"),
        ("DE", "DE", REVERSED, "DE", "0"),
        ("FR", "FR", REVERSED, "FR", "0"),
        ("AT", "AT", REVERSED, "AT", "0"),
        ("NL", "DE", REVERSED, "DE", "0"),
        ("DE", "NL", REVERSED, "NL", "0"),
        ("FR", "LU", REVERSED, "LU", "0"),
    ],
)
def test_a_cpo_charges_an_msp_at_home_and_leaves_the_tax_to_it_across_a_border(
    seller: str, buyer: str, regime: TaxRegime, country: str, percent: str
) -> None:
    decision = tax_of(wholesale(seller, buyer))

    assert (decision.regime, decision.country, decision.percent) == (regime, country, Decimal(percent))
    assert decision.legal_reference


def test_the_place_of_the_evse_does_not_decide_between_resellers() -> None:
    assert tax_of(wholesale("NL", "DE", evse_country="FR")) == tax_of(wholesale("NL", "DE"))


@pytest.mark.parametrize(
    ("supply", "regime", "percent", "registration_needed"),
    [
        (retail("NL", "NL"), CHARGED, "21", False),
        (retail("NL", "DE"), CHARGED, "19", True),
        (retail("DE", "LU"), CHARGED, "8", True),
        (retail("NL", "NL", seller_role=Role.CPO), CHARGED, "21", False),
        (retail("NL", "NL", buyer_status=BuyerStatus.BUSINESS, buyer_country="DE"), CHARGED, "21", False),
        (retail("NL", "DE", buyer_status=BuyerStatus.BUSINESS, buyer_country="DE"), REVERSED, "0", False),
        (retail("NL", "DE", buyer_status=BuyerStatus.BUSINESS, buyer_country="NL"), CHARGED, "19", True),
        (retail("NL", "DE", buyer_country="DE"), CHARGED, "19", True),
    ],
)
def test_a_driver_bears_the_tax_of_the_place_of_consumption(
    supply: Supply, regime: TaxRegime, percent: str, *, registration_needed: bool
) -> None:
    decision = tax_of(supply)

    assert (decision.regime, decision.percent) == (regime, Decimal(percent))
    assert decision.country == supply.evse_country
    assert decision.registration_needed is registration_needed


@pytest.mark.parametrize(
    ("country", "on", "percent"),
    [
        ("DE", date(2020, 6, 30), "19"),
        ("DE", date(2020, 7, 1), "16"),
        ("DE", date(2020, 12, 31), "16"),
        ("DE", date(2021, 1, 1), "19"),
        ("LU", date(2022, 12, 31), "8"),
        ("LU", date(2023, 12, 31), "7"),
        ("LU", date(2024, 1, 1), "8"),
        ("NL", date(2022, 3, 27), "21"),
        ("BE", date(2022, 3, 27), "21"),
        ("FR", date(2022, 3, 27), "20"),
        ("AT", date(2022, 3, 27), "20"),
    ],
)
def test_the_rate_is_that_of_the_day(country: str, on: date, percent: str) -> None:
    assert vat_rate(country, on).percent == Decimal(percent)


@pytest.mark.parametrize(
    "supply",
    [
        retail("NL", "US"),
        retail("US", "NL"),
        retail("NL", "nl"),
        retail("NL", "NL", on=date(2012, 9, 30)),
        retail("NL", "NL", seller_role=Role.NSP),
        wholesale("NL", "CH"),
        wholesale("CH", "NL"),
        wholesale("NL", "DE", buyer_status=BuyerStatus.CONSUMER),
        wholesale("NL", "DE", buyer_role=Role.HUB),
        wholesale("NL", "DE", seller_role=Role.EMSP),
    ],
)
def test_what_the_table_lacks_is_refused(supply: Supply) -> None:
    with pytest.raises(NoTaxRule) as refusal:
        tax_of(supply)

    assert refusal.value.detail


def test_the_rates_of_a_country_neither_overlap_nor_leave_a_gap() -> None:
    for country in {rate.country for rate in VAT_RATES}:
        rates = sorted((rate for rate in VAT_RATES if rate.country == country), key=lambda rate: rate.since)

        assert all(earlier.until == later.since for earlier, later in pairwise(rates))
        assert rates[-1].until is None
        assert vat_rate(country, rates[-1].since + timedelta(days=10_000)) == rates[-1]


def test_every_rule_is_reached_by_some_supply() -> None:
    supplies = [wholesale(seller, buyer) for seller in ("NL", "DE", "FR", "AT") for buyer in ("NL", "DE", "FR", "AT")]
    to_drivers = [
        retail(seller, "NL", buyer_status=status, buyer_country=buyer)
        for seller in ("NL", "DE")
        for status in BuyerStatus
        for buyer in ("NL", "DE")
    ]

    used = {tax_of(supply).legal_reference.split(";")[0] for supply in (*supplies, *to_drivers)}

    for rule in (*RESALE_RULES, *CONSUMPTION_RULES):
        assert rule.legal_reference.split(";")[0] in used


def test_a_decision_names_the_rule_and_the_rate() -> None:
    charged = tax_of(retail("NL", "DE"))

    assert "art. 39" in charged.legal_reference
    assert "§ 12" in charged.legal_reference
    assert "13b" in tax_of(replace(wholesale("DE", "DE"))).legal_reference
