"""How long documents are kept: the table by country, the longer of two, and what need not be kept at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.retention import LONGEST_YEARS, RULES, VOUCHERS, DocumentKind, RetentionRule, RetentionTerms

AT = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
TERMS = RetentionTerms()
_LAST = datetime(2200, 1, 1)  # noqa: DTZ001 - Hypothesis takes bounds without a zone and adds it


@pytest.mark.parametrize(
    ("countries", "until", "law"),
    [
        (("NL",), 2030, "Algemene wet inzake rijksbelastingen"),
        (("NL", "NLD"), 2030, "Algemene wet inzake rijksbelastingen"),
        (("NL", "DEU"), 2031, "Abgabenordnung"),
        (("DE", "NLD"), 2031, "Abgabenordnung"),
        (("BE",), 2033, "Code de la TVA"),
        (("NL", "ISL"), 2033, "no rule of the country is known here"),
    ],
)
def test_a_bill_is_kept_for_the_longest_of_the_countries_it_touches(
    countries: tuple[str, ...], until: int, law: str
) -> None:
    kept = TERMS.kept(DocumentKind.RETAIL_BILL, AT, countries=countries)

    assert kept is not None
    assert kept.until == datetime(until, 1, 1, tzinfo=UTC)
    assert law in kept.rule.law


@pytest.mark.parametrize("kind", sorted(set(DocumentKind) - VOUCHERS))
def test_what_no_law_asks_for_is_not_kept(kind: DocumentKind) -> None:
    assert TERMS.kept(kind, AT, countries=("DE", "BE")) is None


def test_an_operators_counsel_overrules_the_table_and_is_named() -> None:
    kept = RetentionTerms(vouchers_years=3).kept(DocumentKind.CDR, AT, countries=("BE", "NLD"))

    assert kept is not None
    assert (kept.until.year, kept.rule.years) == (2026, 3)
    assert "WATTROAM_FISCAL_RETENTION_YEARS" in kept.rule.law


def test_each_country_has_one_rule_with_a_law() -> None:
    assert len({rule.country for rule in RULES}) == len({rule.alpha_3 for rule in RULES}) == len(RULES)
    assert all(rule.law and 0 < rule.years <= LONGEST_YEARS for rule in RULES)


@given(at=st.datetimes(timezones=st.just(UTC), max_value=_LAST), rule=st.sampled_from(RULES))
def test_whole_years_after_the_end_of_the_year_are_kept_and_no_more(at: datetime, rule: RetentionRule) -> None:
    country, years = rule.country, rule.years
    kept = TERMS.kept(DocumentKind.RETAIL_INVOICE, at, countries=(country,))

    assert kept is not None
    assert (kept.until - timedelta(microseconds=1)).year == at.year + years
