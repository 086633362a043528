"""How long a document must be kept, by its kind and country: a table as data, each row with the law it comes from.

Books of account and what they rest on are kept for whole years after the end of the one they are of. A document that
touches two countries, where its issuer is and where the vehicle charged, is kept for the longer of the two. What no row
asks for need not be kept: it goes as soon as its person is erased (GDPR art. 17), or by the end of its own use.

The table is what its rows say and no legal advice; a row names its source so that somebody can check it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final


class DocumentKind(StrEnum):
    """What is kept of a charge."""

    RETAIL_BILL = "RETAIL_BILL"
    RETAIL_INVOICE = "RETAIL_INVOICE"
    PAYMENT = "PAYMENT"
    CDR = "CDR"
    """The voucher under the statements and invoices between CPO and MSP."""
    AD_HOC_RECEIPT = "AD_HOC_RECEIPT"
    SIGNED_METER_RECORD = "SIGNED_METER_RECORD"
    """What a bill is proven by, kept as long as the bill."""
    QUOTE = "QUOTE"
    """An offer nobody took up; one that was is part of its bill."""
    LOGIN = "LOGIN"
    TOKEN = "TOKEN"  # noqa: S105 - a kind of document, no secret


VOUCHERS: Final = frozenset(
    {
        DocumentKind.RETAIL_BILL,
        DocumentKind.RETAIL_INVOICE,
        DocumentKind.PAYMENT,
        DocumentKind.CDR,
        DocumentKind.AD_HOC_RECEIPT,
        DocumentKind.SIGNED_METER_RECORD,
    }
)
"""What books of account rest on; nothing else must be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """Vouchers are kept for `years` after the end of the year they are of, by `law`.

    `country` is ISO 3166 alpha-2, as parties write it, `alpha_3` what OCPI's locations do.
    """

    country: str
    alpha_3: str
    years: int
    law: str


RULES: Final = (
    RetentionRule(country="AT", alpha_3="AUT", years=7, law="Bundesabgabenordnung § 132(1)"),
    RetentionRule(country="BE", alpha_3="BEL", years=10, law="Code de la TVA art. 60, as of 2023"),
    RetentionRule(country="CH", alpha_3="CHE", years=10, law="Obligationenrecht art. 958f"),
    RetentionRule(country="DE", alpha_3="DEU", years=8, law="Abgabenordnung § 147(3) and UStG § 14b(1), as of 2025"),
    RetentionRule(country="DK", alpha_3="DNK", years=5, law="bogføringsloven § 12"),
    RetentionRule(country="ES", alpha_3="ESP", years=6, law="Código de Comercio art. 30"),
    RetentionRule(country="FR", alpha_3="FRA", years=10, law="Code de commerce art. L123-22"),
    RetentionRule(country="GB", alpha_3="GBR", years=6, law="Value Added Tax Act 1994, schedule 11, paragraph 6(3)"),
    RetentionRule(country="IT", alpha_3="ITA", years=10, law="Codice civile art. 2220"),
    RetentionRule(country="LU", alpha_3="LUX", years=10, law="Code de commerce art. 16"),
    RetentionRule(country="NL", alpha_3="NLD", years=7, law="Algemene wet inzake rijksbelastingen art. 52(4)"),
    RetentionRule(country="NO", alpha_3="NOR", years=5, law="bokføringsloven § 13"),
    # Five years from the end of the year in which the tax fell due, which for a charge of December is the next.
    RetentionRule(country="PL", alpha_3="POL", years=6, law="Ordynacja podatkowa art. 86 § 1 and 70 § 1"),
    RetentionRule(country="SE", alpha_3="SWE", years=7, law="bokföringslagen 7 kap. 2 §"),
)
LONGEST_YEARS: Final = max(rule.years for rule in RULES)
_BY_COUNTRY: Final = {name: rule for rule in RULES for name in (rule.country, rule.alpha_3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Until when a document must be kept, and by which rule."""

    until: datetime
    rule: RetentionRule


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionTerms:
    """The table, or what an operator's counsel said instead: `vouchers_years` then holds for vouchers everywhere."""

    vouchers_years: int | None = None

    def kept(self, kind: DocumentKind, at: datetime, *, countries: Iterable[str]) -> Kept | None:
        """Return until when a document must be kept; None: it need not be.

        Args:
            kind: Of the document.
            at: When it was made, UTC.
            countries: That it touches, ISO 3166 alpha-2 or (as OCPI writes them) alpha-3; one that the table lacks
                counts as the longest.
        """
        if kind not in VOUCHERS:
            return None
        rules = [self._rule(country) for country in countries]
        rule = max(rules, key=lambda each: (each.years, each.country))
        return Kept(until=datetime(at.year + 1 + rule.years, 1, 1, tzinfo=UTC), rule=rule)

    def vouchers_before(self, now: datetime, *, country: str) -> datetime:
        """Return since when vouchers of a country must be kept; older ones must no more, unless another's law asks."""
        return datetime(now.year - self._rule(country).years, 1, 1, tzinfo=UTC)

    def _rule(self, country: str) -> RetentionRule:
        known = _BY_COUNTRY.get(country) or RetentionRule(
            country=country, alpha_3=country, years=LONGEST_YEARS, law="no rule of the country is known here"
        )
        if self.vouchers_years is None:
            return known
        law = "the operator's word (WATTROAM_FISCAL_RETENTION_YEARS)"
        return replace(known, years=self.vouchers_years, law=law)
