"""How exact amounts become money, as data: OCPI leaves rounding to law, contract and currency (ocpi/ocpi#401).

A policy has a name, so that an agreement can state it and both parties compute the same. `EXACT` is what the engine
does where nobody agreed on anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final

from emobility.domain.money import Price
from emobility.domain.tariff.priced import PricedLine
from emobility.domain.tariff.tariff import TaxIncluded

E4_DECIMALS: Final = 4
_NO_COINS: Final = ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV")
_NO_CENTIMES: Final = ("XAF", "XOF", "XPF")
_THOUSANDTHS: Final = ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")
MINOR_UNITS: Final = {**dict.fromkeys((*_NO_COINS, *_NO_CENTIMES), 0), **dict.fromkeys(_THOUSANDTHS, 3)}
"""Decimals of the currencies (ISO 4217) that do not have two."""
_MINOR_UNITS_USUAL: Final = 2


class RoundingPolicyName(StrEnum):
    """What an agreement states; see `POLICIES`."""

    EXACT = "EXACT"
    """Each total once, half away from zero, to ten-thousandths."""
    COINS_TOTAL = "COINS_TOTAL"
    """Each total once, half away from zero, to what the currency has coins for."""
    COINS_TOTAL_HALF_EVEN = "COINS_TOTAL_HALF_EVEN"
    COINS_TOTAL_DOWN = "COINS_TOTAL_DOWN"
    COINS_TOTAL_UP = "COINS_TOTAL_UP"
    COINS_TOTAL_TAX_PER_RATE = "COINS_TOTAL_TAX_PER_RATE"
    COINS_LINE = "COINS_LINE"
    """Each line before lines are added up."""
    COINS_LINE_TAX_PER_RATE = "COINS_LINE_TAX_PER_RATE"


class RoundingMode(StrEnum):
    """Where an amount between two steps goes."""

    HALF_UP = "HALF_UP"
    """To the nearer one, a half away from zero."""
    HALF_EVEN = "HALF_EVEN"
    DOWN = "DOWN"
    """Towards zero, for whoever pays (ocpi/ocpi#512)."""
    UP = "UP"
    """Away from zero."""


class TaxRounding(StrEnum):
    """How the amount after tax comes about."""

    FROM_EXACT = "FROM_EXACT"
    """Before and after tax are each rounded from their own exact sum."""
    PER_RATE = "PER_RATE"
    """The tax of each rate is rounded, and added to (where prices include it: taken off) the rounded amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingPolicy:
    """When and how amounts are rounded.

    Attributes:
        decimals: Of the currency unit, at most four; None: as many as the currency's coins have.
        is_per_line: Each line is rounded before lines are added up; else each total once, from its exact sum.
    """

    decimals: int | None = None
    mode: RoundingMode = RoundingMode.HALF_UP
    is_per_line: bool = False
    tax: TaxRounding = TaxRounding.FROM_EXACT


EXACT: Final = RoundingPolicy(decimals=E4_DECIMALS)
POLICIES: Final = {
    RoundingPolicyName.EXACT: EXACT,
    RoundingPolicyName.COINS_TOTAL: RoundingPolicy(),
    RoundingPolicyName.COINS_TOTAL_HALF_EVEN: RoundingPolicy(mode=RoundingMode.HALF_EVEN),
    RoundingPolicyName.COINS_TOTAL_DOWN: RoundingPolicy(mode=RoundingMode.DOWN),
    RoundingPolicyName.COINS_TOTAL_UP: RoundingPolicy(mode=RoundingMode.UP),
    RoundingPolicyName.COINS_TOTAL_TAX_PER_RATE: RoundingPolicy(tax=TaxRounding.PER_RATE),
    RoundingPolicyName.COINS_LINE: RoundingPolicy(is_per_line=True),
    RoundingPolicyName.COINS_LINE_TAX_PER_RATE: RoundingPolicy(is_per_line=True, tax=TaxRounding.PER_RATE),
}


def rounding_policy(name: RoundingPolicyName | None) -> RoundingPolicy:
    """Return the policy of that name; None is `EXACT`."""
    return EXACT if name is None else POLICIES[name]


def rounded_price(lines: Sequence[PricedLine], policy: RoundingPolicy, *, currency: str, states_tax: bool) -> Price:
    """Add lines up by a policy."""
    step_e4 = _step_e4(policy, currency)

    def total(amounts: Iterable[Fraction]) -> int:
        if policy.is_per_line:
            return sum(rounded_e4(amount, step_e4, policy.mode) for amount in amounts)
        return rounded_e4(sum(amounts, start=Fraction(0)), step_e4, policy.mode)

    if not states_tax:
        return Price(excl_e4=total(line.excl for line in lines))
    if policy.tax is TaxRounding.FROM_EXACT:
        return Price(excl_e4=total(line.excl for line in lines), incl_e4=total(line.incl for line in lines))
    # What the tariff states is rounded, with the tax of each rate; the rest follows from the two.
    net = [line for line in lines if line.tax_included is not TaxIncluded.YES]
    gross = [line for line in lines if line.tax_included is TaxIncluded.YES]
    net_e4, gross_e4 = total(line.excl for line in net), total(line.incl for line in gross)
    net_tax_e4, gross_tax_e4 = (sum(_tax_by_rate(part, step_e4, policy.mode).values()) for part in (net, gross))
    return Price(excl_e4=net_e4 + gross_e4 - gross_tax_e4, incl_e4=net_e4 + net_tax_e4 + gross_e4)


def rounded_e4(amount: Fraction, step_e4: int, mode: RoundingMode) -> int:
    """Round an exact amount in currency units to a multiple of `step_e4` ten-thousandths."""
    steps = abs(amount) * 10**E4_DECIMALS / step_e4
    whole, rest = divmod(steps.numerator, steps.denominator)
    goes_up = {
        RoundingMode.HALF_UP: 2 * rest >= steps.denominator,
        RoundingMode.HALF_EVEN: (2 * rest, whole % 2) > (steps.denominator, 0),
        RoundingMode.DOWN: False,
        RoundingMode.UP: rest > 0,
    }[mode]
    magnitude = (whole + goes_up) * step_e4
    return magnitude if amount >= 0 else -magnitude


def _step_e4(policy: RoundingPolicy, currency: str) -> int:
    decimals = policy.decimals
    if decimals is None:
        decimals = MINOR_UNITS.get(currency.upper(), _MINOR_UNITS_USUAL)
    step_e4: int = 10 ** (E4_DECIMALS - decimals)
    return step_e4


def _tax_by_rate(lines: Sequence[PricedLine], step_e4: int, mode: RoundingMode) -> dict[Decimal | None, int]:
    by_rate: dict[Decimal | None, Fraction] = {}
    for line in lines:
        by_rate[line.vat_percent] = by_rate.get(line.vat_percent, Fraction(0)) + line.incl - line.excl
    return {rate: rounded_e4(tax, step_e4, mode) for rate, tax in by_rate.items()}
