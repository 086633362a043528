"""Value added tax of a charge: a decision table as data, with its legal references; what it lacks is refused.

The supply is one of electricity, that is of goods, on both legs: CPO to MSP and MSP to driver (CJEU C-282/22 and
C-60/23, Directive 2006/112/EC art. 14 and 15). In the EU hence

- CPO to MSP: the MSP buys to resell, so the place is where the MSP is established (art. 38). Across a border the MSP
  accounts for the tax (art. 195); some countries ask the same at home between resellers (art. 199a).
- Anyone to a driver: the place is where the electricity is consumed, at the EVSE (art. 39), at that country's rate.
  A seller from abroad charges it under its registration there, unless the driver's business is identified there too.

Great Britain kept these rules (SI 2004/3148, VATA 1994 s. 9A). Switzerland has the place where the buyer's business is,
be it a reseller or not, and the charge point for private drivers (MWSTG art. 7 (2)). Norway has rules for goods alone.
Northern Ireland, under both tax laws, is left out: its charge points are taken for Great Britain's, its VAT ids not.

The table is what its rows say and no tax advice; a row carries its source so that somebody can check it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from emobility.domain.agreement import TaxRegime
from emobility.domain.countries import ALPHA_2
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import Role
from emobility.domain.tax_rules import (
    AREA_SINCE,
    AREAS,
    BORDER_RESALE_RULES,
    CONSUMPTION_RULES,
    CONSUMPTION_UNKNOWN,
    HOME_RESALE_RULES,
    HOME_RESALE_UNKNOWN,
    BuyerStatus,
    VatArea,
)
from emobility.domain.vat_rates import UNKNOWN_RATES, VAT_RATES, VatRate


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


def area_of(country: str, on: date) -> VatArea:
    """Return whose law on electricity across borders a country is under on a day. Raises `NoTaxRule`."""
    area = AREAS.get(country)
    if area is None or on < AREA_SINCE[area]:
        raise NoTaxRule(f"nobody looked up the law of {country!r} on {on}")
    return area


def vat_rate(country: str, on: date) -> VatRate:
    """Return the rate of a country on a day. Raises `NoTaxRule`."""
    for rate in VAT_RATES:
        if rate.country == country and rate.since <= on and (rate.until is None or on < rate.until):
            return rate
    for gap in UNKNOWN_RATES:
        if gap.country == country and gap.since <= on and (gap.until is None or on < gap.until):
            raise NoTaxRule(f"no rate of {country!r} is known for {on}: {gap.why}")
    raise NoTaxRule(f"no rate of {country!r} is known for {on}")


def is_outside_scope(*, seller_country: str, buyer_country: str) -> bool:
    """Whether what a buyer of another country accounts for is no VAT of the EU, and the seller's bill none at all."""
    return seller_country != buyer_country and AREAS.get(buyer_country) is not VatArea.EU


def tax_of(supply: Supply) -> TaxDecision:
    """Decide how a supply is taxed. Raises `NoTaxRule`."""
    if supply.seller_role not in {Role.CPO, Role.EMSP}:
        raise NoTaxRule(f"a party in the role {supply.seller_role} sells no charging")
    # A seller of a country whose rules nobody has looked up may owe a tax at home, even where the bill would bear none.
    area_of(supply.seller_country, supply.on)
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
    if supply.seller_country == supply.buyer_country:
        return _at_home(supply.buyer_country, supply.on)
    seller, buyer = area_of(supply.seller_country, supply.on), area_of(supply.buyer_country, supply.on)
    for rule in BORDER_RESALE_RULES:
        if (rule.seller, rule.buyer) == (seller, buyer):
            return _by_the_buyer(supply.buyer_country, rule.legal_reference)
    raise NoTaxRule(
        f"{supply.seller_country} to {supply.buyer_country} between resellers: "
        "no source says whether Norway taxes electricity that a reseller sells or buys across its border"
    )


def _at_home(country: str, on: date) -> TaxDecision:
    for rule in HOME_RESALE_RULES:
        if rule.country == country and rule.since <= on and (rule.until is None or on < rule.until):
            if rule.regime is TaxRegime.REVERSE_CHARGE:
                return _by_the_buyer(country, rule.legal_reference)
            return _by_the_seller(vat_rate(country, on), rule.legal_reference)
        if rule.country == country and rule.until is not None and on >= rule.until:
            raise NoTaxRule(f"{country} between resellers at home: {country} law ends its rule before {rule.until}")
    why = HOME_RESALE_UNKNOWN.get(country, "no source says whether the reseller accounts for electricity (art. 199a)")
    raise NoTaxRule(f"{country} between resellers at home on {on}: {why}")


def _to_driver(supply: Supply) -> TaxDecision:
    country = supply.evse_country
    area, rate = area_of(country, supply.on), vat_rate(country, supply.on)
    seller_is_local = supply.seller_country == country
    buyer_is_local = supply.buyer_country == country
    for rule in CONSUMPTION_RULES:
        if (
            rule.area is area
            and rule.seller_is_local in {None, seller_is_local}
            and rule.buyer_status in {None, supply.buyer_status}
            and rule.buyer_is_local in {None, buyer_is_local}
        ):
            if rule.regime is TaxRegime.REVERSE_CHARGE:
                return _by_the_buyer(country, rule.legal_reference)
            return _by_the_seller(rate, rule.legal_reference, registration_needed=not seller_is_local)
    raise NoTaxRule(f"{supply.seller_country} to a driver at an EVSE in {country}: {CONSUMPTION_UNKNOWN[area]}")


def _by_the_buyer(country: str, legal_reference: str) -> TaxDecision:
    return TaxDecision(
        regime=TaxRegime.REVERSE_CHARGE, country=country, percent=Decimal(0), legal_reference=legal_reference
    )


def _by_the_seller(rate: VatRate, legal_reference: str, *, registration_needed: bool = False) -> TaxDecision:
    return TaxDecision(
        regime=TaxRegime.DOMESTIC,
        country=rate.country,
        percent=rate.percent,
        legal_reference=f"{legal_reference}; {rate.legal_reference}",
        registration_needed=registration_needed,
    )
