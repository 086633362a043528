"""The table of value added tax, row by row, and its refusals."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from emobility.domain.agreement import TaxRegime
from emobility.domain.countries import ALPHA_3
from emobility.domain.identifiers import Role
from emobility.domain.tax import NoTaxRule, Supply, is_outside_scope, tax_of, tax_to_driver, vat_rate
from emobility.domain.tax_rules import (
    AREAS,
    BORDER_RESALE_RULES,
    CONSUMPTION_RULES,
    EU_MEMBERS,
    HOME_RESALE_RULES,
    BuyerStatus,
)
from emobility.domain.vat_rates import LOOKED_UP_FROM, UNKNOWN_RATES, VAT_RATES

DAY = date(2022, 3, 27)
NOW = date(2026, 3, 1)
"""The last days that the sources tell all countries of."""
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
    ("country", "regime", "percent", "law"),
    [
        ("AT", REVERSED, "0", "UStBBKV § 2"),
        ("BE", CHARGED, "21", "art. 38 and 193"),
        ("CH", CHARGED, "8.1", "MWSTG art. 7 (2)"),
        ("CZ", REVERSED, "0", "§ 92f"),
        ("DE", REVERSED, "0", "§ 13b"),
        ("DK", REVERSED, "0", "§ 46 (1) no. 11"),
        ("FR", REVERSED, "0", "283, 2 quinquies"),
        ("GR", CHARGED, "6", "E.2060/2023"),
        ("HU", CHARGED, "27", "§ 142"),
        ("IE", REVERSED, "0", "s. 16 (6)"),
        ("IT", REVERSED, "0", "d-quater"),
        ("LU", REVERSED, "0", "art. 61 (3)"),
        ("NL", CHARGED, "21", "art. 38 and 193"),
        ("NO", CHARGED, "25", "§ 3-1"),
        ("PL", CHARGED, "23", "145e"),
        ("SE", CHARGED, "25", "16 kap."),
    ],
)
def test_at_home_a_cpo_charges_an_msp_or_leaves_the_tax_to_it_as_the_country_says(
    country: str, regime: TaxRegime, percent: str, law: str
) -> None:
    decision = tax_of(wholesale(country, country, on=NOW))

    assert (decision.regime, decision.country, decision.percent) == (regime, country, Decimal(percent))
    assert law in decision.legal_reference


@pytest.mark.parametrize(
    ("seller", "buyer", "laws"),
    [
        ("NL", "DE", ["art. 38 and 195"]),
        ("FR", "LU", ["art. 38 and 195"]),
        ("SE", "MT", ["art. 38 and 195"]),
        ("CH", "DE", ["MWSTG art. 7 (2)", "art. 38 and 195"]),
        ("GB", "IE", ["SI 2004/3148", "art. 38 and 195"]),
        ("DE", "CH", ["art. 38;", "45 (1) d"]),
        ("GB", "CH", ["SI 2004/3148", "45 (1) d"]),
        ("PL", "GB", ["art. 38;", "s. 9A"]),
        ("CH", "GB", ["MWSTG art. 7 (2)", "s. 9A"]),
    ],
)
def test_across_a_border_the_msp_accounts_for_the_tax_of_its_country(seller: str, buyer: str, laws: list[str]) -> None:
    decision = tax_of(wholesale(seller, buyer, on=NOW))

    assert (decision.regime, decision.country, decision.percent) == (REVERSED, buyer, Decimal(0))
    assert all(law in decision.legal_reference for law in laws)


@pytest.mark.parametrize(
    ("seller", "buyer", "is_outside"),
    [
        ("NL", "DE", False),
        ("CH", "DE", False),
        ("DE", "DE", False),
        ("DE", "CH", True),
        ("SE", "GB", True),
        ("CH", "GB", True),
        ("GB", "GB", False),
    ],
)
def test_what_leaves_the_union_is_no_reverse_charge_of_the_directive(
    seller: str, buyer: str, *, is_outside: bool
) -> None:
    assert is_outside_scope(seller_country=seller, buyer_country=buyer) is is_outside


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
        (retail("CH", "DE"), CHARGED, "19", True),
        (retail("NO", "SE"), CHARGED, "25", True),
        (retail("CH", "CH"), CHARGED, "7.7", False),
        (retail("CH", "CH", buyer_country="DE"), CHARGED, "7.7", False),
        (retail("CH", "CH", buyer_status=BuyerStatus.BUSINESS), CHARGED, "7.7", False),
        (retail("DE", "CH"), CHARGED, "7.7", True),
        (retail("DE", "CH", buyer_status=BuyerStatus.BUSINESS, buyer_country="CH"), REVERSED, "0", False),
        (retail("GB", "GB"), CHARGED, "20", False),
        (retail("NL", "GB"), CHARGED, "20", True),
        (retail("NL", "GB", buyer_status=BuyerStatus.BUSINESS, buyer_country="GB"), REVERSED, "0", False),
        (retail("NO", "NO"), CHARGED, "25", False),
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
    ("country", "percent", "tax"),
    [
        ("AT", "20", "246.80"),
        ("BE", "21", "259.14"),
        ("BG", "20", "246.80"),
        ("CH", "8.1", "99.95"),
        ("CY", "19", "234.46"),
        ("CZ", "21", "259.14"),
        ("DE", "19", "234.46"),
        ("DK", "25", "308.50"),
        ("EE", "24", "296.16"),
        ("FI", "25.5", "314.67"),
        ("FR", "20", "246.80"),
        ("GB", "20", "246.80"),
        ("GR", "6", "74.04"),
        ("HR", "13", "160.42"),
        ("HU", "27", "333.18"),
        ("IE", "9", "111.06"),
        ("IT", "22", "271.48"),
        ("LT", "21", "259.14"),
        ("LU", "8", "98.72"),
        ("LV", "21", "259.14"),
        ("NL", "21", "259.14"),
        ("NO", "25", "308.50"),
        ("PL", "23", "283.82"),
        ("PT", "23", "283.82"),
        ("RO", "21", "259.14"),
        ("SE", "25", "308.50"),
        ("SI", "22", "271.48"),
        ("SK", "19", "234.46"),
    ],
)
def test_a_driver_pays_the_rate_of_each_country(country: str, percent: str, tax: str) -> None:
    decision = tax_to_driver(seller_role=Role.CPO, seller_country=country, country=ALPHA_3[country], on=NOW)

    assert decision.percent == Decimal(percent)
    assert (Decimal("1234.00") * decision.percent / 100).quantize(Decimal("0.01")) == Decimal(tax)
    assert country in decision.legal_reference


@pytest.mark.parametrize(
    ("country", "day", "percent", "of_the_day_before"),
    [
        ("CH", date(2024, 1, 1), "8.1", "7.7"),
        ("DE", date(2020, 7, 1), "16", "19"),
        ("DE", date(2021, 1, 1), "19", "16"),
        ("EE", date(2024, 1, 1), "22", "20"),
        ("EE", date(2025, 7, 1), "24", "22"),
        ("FI", date(2022, 12, 1), "10", "24"),
        ("FI", date(2023, 5, 1), "24", "10"),
        ("FI", date(2024, 9, 1), "25.5", "24"),
        ("IE", date(2022, 5, 1), "9", "13.5"),
        ("LU", date(2023, 1, 1), "7", "8"),
        ("LU", date(2024, 1, 1), "8", "7"),
        ("NL", date(2022, 7, 1), "9", "21"),
        ("NL", date(2023, 1, 1), "21", "9"),
        ("PL", date(2022, 1, 1), "5", "23"),
        ("PL", date(2023, 1, 1), "23", "5"),
        ("RO", date(2025, 8, 1), "21", "19"),
        ("SK", date(2025, 1, 1), "19", "20"),
    ],
)
def test_the_rate_is_that_of_the_day(country: str, day: date, percent: str, of_the_day_before: str) -> None:
    assert vat_rate(country, day).percent == Decimal(percent)
    assert vat_rate(country, day - timedelta(days=1)).percent == Decimal(of_the_day_before)


def test_every_change_of_a_rate_is_named_above() -> None:
    (mark,) = test_the_rate_is_that_of_the_day.pytestmark  # type: ignore[attr-defined]
    named = {(country, day) for country, day, *_ in mark.args[1]}

    changes = {
        (later.country, later.since)
        for earlier, later in pairwise(VAT_RATES)
        if earlier.country == later.country and earlier.until == later.since
    }

    assert changes == named


@pytest.mark.parametrize(
    ("supply", "missing"),
    [
        (retail("NL", "US"), "the law of 'US'"),
        (retail("US", "NL"), "the law of 'US'"),
        (retail("XI", "NL"), "the law of 'XI'"),
        (retail("NL", "nl"), "the law of 'nl'"),
        (retail("NL", "NL", on=date(2012, 9, 30)), "no rate of 'NL' is known for 2012-09-30"),
        (retail("NL", "NL", seller_role=Role.NSP), "sells no charging"),
        (retail("NL", "MT"), "5 % of electricity or the standard 18 %"),
        (retail("CZ", "CZ", on=date(2021, 12, 31)), "waived"),
        (retail("SI", "SI", on=date(2023, 5, 31)), "9.5 %"),
        (retail("GR", "GR"), "24 %"),
        (retail("HR", "HR", on=date(2024, 3, 24)), "13 % of electricity"),
        (retail("ES", "ES", on=date(2026, 3, 20)), "March 2026"),
        (retail("IE", "IE", on=date(2031, 1, 1)), "no rate of 'IE'"),
        (retail("GB", "GB", on=date(2020, 12, 31)), "the law of 'GB' on 2020-12-31"),
        (retail("CH", "CH", on=date(2017, 12, 31)), "the law of 'CH' on 2017-12-31"),
        (retail("SE", "NO"), "seller from abroad does business in Norway"),
        (retail("CH", "CH", buyer_status=BuyerStatus.BUSINESS, buyer_country="DE"), "from abroad buys where it is"),
        (wholesale("NO", "SE"), "whether Norway taxes"),
        (wholesale("NL", "NO"), "whether Norway taxes"),
        (wholesale("CH", "NO"), "whether Norway taxes"),
        (wholesale("GB", "GB"), "SI 2014/1458"),
        (wholesale("RO", "RO"), "licence"),
        (wholesale("PT", "PT"), "sources differ"),
        (wholesale("ES", "ES"), "art. 199a"),
        (wholesale("LU", "LU", on=date(2023, 12, 31)), "art. 199a"),
        (wholesale("IT", "IT", on=date(2027, 1, 1)), "IT law ends its rule before 2027-01-01"),
        (wholesale("NL", "US"), "the law of 'US'"),
        (wholesale("NL", "DE", buyer_status=BuyerStatus.CONSUMER), "without a VAT id"),
        (wholesale("NL", "DE", buyer_role=Role.HUB), "no leg"),
        (wholesale("NL", "DE", seller_role=Role.EMSP), "no leg"),
    ],
)
def test_what_the_table_lacks_is_refused_with_what_is_missing(supply: Supply, missing: str) -> None:
    with pytest.raises(NoTaxRule) as refusal:
        tax_of(supply)

    assert missing in refusal.value.detail


def test_an_evse_of_a_country_that_nobody_knows_is_refused() -> None:
    with pytest.raises(NoTaxRule, match="'XXX' is not in the table"):
        tax_to_driver(seller_role=Role.CPO, seller_country="NL", country="XXX", on=NOW)


@pytest.mark.parametrize("country", sorted(AREAS))
def test_each_day_since_2021_has_one_rate_or_one_reason_for_none(country: str) -> None:
    known = [(each.since, each.until) for each in (*VAT_RATES, *UNKNOWN_RATES) if each.country == country]
    spans = sorted(known, key=lambda span: span[0])

    assert spans[0][0] <= LOOKED_UP_FROM
    assert all(earlier[1] == later[0] for earlier, later in pairwise(spans))
    assert spans[-1][1] == (date(2031, 1, 1) if country == "IE" else None)


def test_the_table_has_all_members_of_the_union_and_three_neighbours() -> None:
    assert len(EU_MEMBERS) == len(set(EU_MEMBERS)) == 27
    assert set(AREAS) - set(EU_MEMBERS) == {"CH", "GB", "NO"}
    assert {each.country for each in (*VAT_RATES, *UNKNOWN_RATES, *HOME_RESALE_RULES)} == set(AREAS)
    assert set(AREAS) <= set(ALPHA_3)


def test_every_rule_is_reached_by_some_supply() -> None:
    countries = sorted(AREAS)
    between_resellers = [wholesale(seller, buyer, on=NOW) for seller in countries for buyer in countries]
    to_drivers = [
        retail(seller, evse, buyer_status=status, buyer_country=buyer, on=NOW)
        for evse in ("NL", "CH", "GB", "NO")
        for seller in (evse, "DE")
        for status in BuyerStatus
        for buyer in (evse, "DE")
    ]

    used = set()
    for supply in (*between_resellers, *to_drivers):
        with suppress(NoTaxRule):
            used.add(tax_of(supply).legal_reference)

    for rule in (*HOME_RESALE_RULES, *BORDER_RESALE_RULES, *CONSUMPTION_RULES):
        assert any(reference.startswith(rule.legal_reference) for reference in used)


def test_a_decision_names_the_rule_and_the_rate() -> None:
    charged = tax_of(retail("NL", "DE"))

    assert "art. 39" in charged.legal_reference
    assert "§ 12" in charged.legal_reference
    assert "13b" in tax_of(wholesale("DE", "DE", on=date(2027, 1, 1))).legal_reference
