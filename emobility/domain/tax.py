"""Value added tax of a charge: a decision table as data, with its legal references; what it lacks is refused.

The supply is one of electricity, that is of goods, on both legs: CPO to MSP and MSP to driver (CJEU C-282/22 and
C-60/23, Directive 2006/112/EC art. 14 and 15). Hence

- CPO to MSP: the MSP buys to resell, so the place is where the MSP is established (art. 38). Across a border the MSP
  accounts for the tax (art. 195); some countries ask the same at home between resellers (art. 199a).
- Anyone to a driver: the place is where the electricity is consumed, at the EVSE (art. 39), at that country's rate.
  A seller from abroad charges it under its registration there, unless the driver's business is identified there too.

The table is what its rows say and no tax advice; a row carries its source so that somebody can check it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Final

from emobility.domain.agreement import TaxRegime
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import Role


class BuyerStatus(StrEnum):
    """What the buyer is to the tax authority."""

    BUSINESS = "BUSINESS"
    """Holds a VAT id, which the seller has checked."""
    CONSUMER = "CONSUMER"


class NoTaxRule(RuleBroken):
    """No row of the table covers the supply; nobody may guess a tax."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(f"no tax rule: {detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """A supply of charging, as far as tax looks at it. Countries are ISO 3166 alpha-2.

    Attributes:
        seller_role: CPO or EMSP.
        seller_country: Where the seller is established.
        buyer_role: EMSP when it buys to resell; None for a driver.
        buyer_status: Business with a VAT id, or consumer.
        buyer_country: Where the buyer is established or, for a driver's business, where its VAT id is from.
        evse_country: Where the EVSE stands.
        on: Local date of the supply, the end of the session.
    """

    seller_role: Role
    seller_country: str
    buyer_role: Role | None
    buyer_status: BuyerStatus
    buyer_country: str
    evse_country: str
    on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxDecision:
    """How the supply is taxed.

    Attributes:
        regime: DOMESTIC: the seller charges `percent`. REVERSE_CHARGE: the buyer accounts for it, the seller charges 0.
        country: Whose tax it is.
        percent: What goes on the seller's bill.
        legal_reference: Rule, then rate.
        registration_needed: The seller is established elsewhere and must be registered in `country`.
    """

    regime: TaxRegime
    country: str
    percent: Decimal
    legal_reference: str
    registration_needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VatRate:
    """Rate of electricity for charging in a country; `until` is the first day it no longer holds."""

    country: str
    percent: Decimal
    since: date
    until: date | None
    legal_reference: str


def _rate(country: str, percent: str, since: date, until: date | None, legal_reference: str) -> VatRate:
    return VatRate(country=country, percent=Decimal(percent), since=since, until=until, legal_reference=legal_reference)


VAT_RATES: Final = (
    _rate("AT", "20", date(1995, 1, 1), None, "AT UStG 1994 § 10 (1)"),
    _rate("BE", "21", date(1996, 1, 1), None, "BE KB nr. 20 of 20 July 1970 art. 1"),
    _rate("DE", "19", date(2007, 1, 1), date(2020, 7, 1), "DE UStG § 12 (1)"),
    _rate("DE", "16", date(2020, 7, 1), date(2021, 1, 1), "DE UStG § 28 (1), second half of 2020"),
    _rate("DE", "19", date(2021, 1, 1), None, "DE UStG § 12 (1)"),
    _rate("FR", "20", date(2014, 1, 1), None, "FR CGI art. 278"),
    _rate("LU", "8", date(2015, 1, 1), date(2023, 1, 1), "LU TVA law art. 40, annex A (electricity)"),
    _rate("LU", "7", date(2023, 1, 1), date(2024, 1, 1), "LU law of 26 October 2022 (electricity, 2023)"),
    _rate("LU", "8", date(2024, 1, 1), None, "LU TVA law art. 40, annex A (electricity)"),
    _rate("NL", "21", date(2012, 10, 1), None, "NL Wet OB 1968 art. 9 (1)"),
)


ALPHA_2: Final = {"AUT": "AT", "BEL": "BE", "DEU": "DE", "FRA": "FR", "LUX": "LU", "NLD": "NL"}
"""ISO 3166 alpha-3 (OCPI) to alpha-2 (tax table), for the countries that `VAT_RATES` knows."""


class _Border(StrEnum):
    """Where the two parties are, seen from the country whose tax it is."""

    SAME = "SAME"
    """Seller and buyer are of one country."""
    DIFFERENT = "DIFFERENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResaleRule:
    """A supply to an MSP that resells. `country` None: any country of `VAT_RATES`; a named one is looked at first."""

    border: _Border
    country: str | None
    regime: TaxRegime
    legal_reference: str


RESALE_RULES: Final = (
    ResaleRule(
        border=_Border.DIFFERENT,
        country=None,
        regime=TaxRegime.REVERSE_CHARGE,
        legal_reference="Directive 2006/112/EC art. 38 and 195",
    ),
    ResaleRule(
        border=_Border.SAME,
        country="DE",
        regime=TaxRegime.REVERSE_CHARGE,
        legal_reference="DE UStG § 13b (2) no. 5 b, (5): electricity between resellers",
    ),
    ResaleRule(
        border=_Border.SAME,
        country="FR",
        regime=TaxRegime.REVERSE_CHARGE,
        legal_reference="FR CGI art. 283, 2 quinquies: electricity to a taxable reseller",
    ),
    ResaleRule(
        border=_Border.SAME,
        country="AT",
        regime=TaxRegime.REVERSE_CHARGE,
        legal_reference="AT UStBBKV § 2: electricity to a taxable dealer",
    ),
    ResaleRule(
        border=_Border.SAME,
        country=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="Directive 2006/112/EC art. 38 and 193",
    ),
)
"""First match wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumptionRule:
    """A supply to a driver, whose tax is that of the EVSE's country. None in a column: either."""

    seller_is_local: bool | None
    buyer_status: BuyerStatus | None
    buyer_is_local: bool | None
    regime: TaxRegime
    legal_reference: str


CONSUMPTION_RULES: Final = (
    ConsumptionRule(
        seller_is_local=True,
        buyer_status=None,
        buyer_is_local=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="Directive 2006/112/EC art. 39 and 193",
    ),
    ConsumptionRule(
        seller_is_local=False,
        buyer_status=BuyerStatus.BUSINESS,
        buyer_is_local=True,
        regime=TaxRegime.REVERSE_CHARGE,
        legal_reference="Directive 2006/112/EC art. 39 and 195",
    ),
    ConsumptionRule(
        seller_is_local=False,
        buyer_status=None,
        buyer_is_local=None,
        regime=TaxRegime.DOMESTIC,
        legal_reference="Directive 2006/112/EC art. 39 and 193, seller registered at the place of consumption",
    ),
)
"""First match wins."""


def vat_rate(country: str, on: date) -> VatRate:
    """Return the rate of a country on a day. Raises `NoTaxRule`."""
    for rate in VAT_RATES:
        if rate.country == country and rate.since <= on and (rate.until is None or on < rate.until):
            return rate
    raise NoTaxRule(f"no rate of {country!r} is known for {on}")


def tax_of(supply: Supply) -> TaxDecision:
    """Decide how a supply is taxed. Raises `NoTaxRule`."""
    if supply.seller_role not in {Role.CPO, Role.EMSP}:
        raise NoTaxRule(f"a party in the role {supply.seller_role} sells no charging")
    # A country without a rate is one whose rules nobody has looked up, even where the bill would bear no tax.
    vat_rate(supply.seller_country, supply.on)
    if supply.buyer_role is None:
        return _to_driver(supply)
    if supply.buyer_role is not Role.EMSP or supply.seller_role is not Role.CPO:
        raise NoTaxRule(f"{supply.seller_role} to {supply.buyer_role} is no leg of a roaming charge")
    return _to_reseller(supply)


def tax_to_driver(*, seller_role: Role, seller_country: str, country: str, on: date) -> TaxDecision:
    """Decide how a private driver is taxed at an EVSE in `country` (ISO 3166 alpha-3) on a local date.

    Raises:
        NoTaxRule: nobody knows it.
    """
    evse_country = ALPHA_2.get(country)
    if evse_country is None:
        raise NoTaxRule(f"country {country!r} is not in the table")
    supply = Supply(
        seller_role=seller_role,
        seller_country=seller_country,
        buyer_role=None,
        buyer_status=BuyerStatus.CONSUMER,
        buyer_country=seller_country,
        evse_country=evse_country,
        on=on,
    )
    return tax_of(supply)


def _to_reseller(supply: Supply) -> TaxDecision:
    if supply.buyer_status is not BuyerStatus.BUSINESS:
        raise NoTaxRule("an MSP without a VAT id is no reseller")
    rate = vat_rate(supply.buyer_country, supply.on)
    border = _Border.SAME if supply.seller_country == supply.buyer_country else _Border.DIFFERENT
    for rule in RESALE_RULES:
        if rule.border is border and rule.country in {None, supply.buyer_country}:
            return _decision(rule.regime, rule.legal_reference, rate)
    raise NoTaxRule(f"{supply.seller_country} to {supply.buyer_country} between resellers")


def _to_driver(supply: Supply) -> TaxDecision:
    rate = vat_rate(supply.evse_country, supply.on)
    seller_is_local = supply.seller_country == supply.evse_country
    buyer_is_local = supply.buyer_country == supply.evse_country
    for rule in CONSUMPTION_RULES:
        if (
            rule.seller_is_local in {None, seller_is_local}
            and rule.buyer_status in {None, supply.buyer_status}
            and rule.buyer_is_local in {None, buyer_is_local}
        ):
            is_registered_abroad = not seller_is_local and rule.regime is TaxRegime.DOMESTIC
            return _decision(rule.regime, rule.legal_reference, rate, registration_needed=is_registered_abroad)
    raise NoTaxRule(f"{supply.seller_country} to a driver at an EVSE in {supply.evse_country}")


def _decision(
    regime: TaxRegime, legal_reference: str, rate: VatRate, *, registration_needed: bool = False
) -> TaxDecision:
    if regime is TaxRegime.REVERSE_CHARGE:
        return TaxDecision(regime=regime, country=rate.country, percent=Decimal(0), legal_reference=legal_reference)
    return TaxDecision(
        regime=regime,
        country=rate.country,
        percent=rate.percent,
        legal_reference=f"{legal_reference}; {rate.legal_reference}",
        registration_needed=registration_needed,
    )
