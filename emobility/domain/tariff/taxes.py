"""The taxes in a price, each by name and rate (OCPI 2.3.0, `TaxAmount`).

2.3.0 has no price after tax: it is the price before tax and all its taxes. So what is made here always adds up to the
last ten-thousandth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Final

from emobility.domain.money import Price
from emobility.domain.tariff.priced import PricedLine, PricedSession
from emobility.domain.tariff.rounding import RoundingMode, rounded_e4

VAT: Final = "VAT"
"""What a tax is called where a tariff states a rate, which both versions call `vat`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxAmount:
    """One tax of a price, in ten-thousandths of its currency.

    Attributes:
        name: As on the bill: "VAT", "GST", "QST".
        percent: Its rate; None where it is not stated.
        account_number: Under which the seller remits it.
    """

    name: str
    amount_e4: int
    percent: Decimal | None = None
    account_number: str | None = None

    def __neg__(self) -> TaxAmount:
        return replace(self, amount_e4=-self.amount_e4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tax:
    """A tax that a seller charges where the tariff leaves the rate open, as in North America."""

    name: str
    percent: Decimal
    account_number: str | None = None


def taxes_of(priced: PricedSession) -> tuple[TaxAmount, ...]:
    """Return the tax of each rate in a session's total, highest rate first; none where the tariff speaks of no tax."""
    return taxes_within(priced.total, priced.lines)


def taxes_within(price: Price, lines: Sequence[PricedLine]) -> tuple[TaxAmount, ...]:
    """Share the tax in a price out among the rates of the lines that it is the sum of.

    Where a limit or a rounding policy moved the price, each rate bears its part of what was moved.
    """
    if price.incl_e4 is None:
        return ()
    tax_e4 = price.incl_e4 - price.excl_e4
    by_rate: dict[Decimal, Fraction] = {}
    for line in lines:
        if line.vat_percent is not None:
            rate = line.vat_percent.normalize()
            by_rate[rate] = by_rate.get(rate, Fraction(0)) + line.incl - line.excl
    rates = sorted(by_rate, reverse=True)
    shares = _shared_out(tax_e4, [by_rate[rate] for rate in rates])
    if shares is None:
        # No rate explains the tax: the limits alone made it.
        return (TaxAmount(name=VAT, amount_e4=tax_e4),) if tax_e4 else ()
    return tuple(TaxAmount(name=VAT, amount_e4=share, percent=rate) for rate, share in zip(rates, shares, strict=True))


def levied(excl_e4: int, taxes: Sequence[Tax]) -> tuple[TaxAmount, ...]:
    """Put each tax on top of a price before tax; each is rounded by itself, half away from zero."""
    return tuple(
        TaxAmount(
            name=tax.name,
            amount_e4=rounded_e4(Fraction(excl_e4, 10_000) * Fraction(tax.percent) / 100, 1, RoundingMode.HALF_UP),
            percent=tax.percent,
            account_number=tax.account_number,
        )
        for tax in taxes
    )


def contained(incl_e4: int, taxes: Sequence[Tax]) -> tuple[int, tuple[TaxAmount, ...]]:
    """Return the price before tax in a price after tax, and each tax; they add up to it."""
    rates = [Fraction(tax.percent) / 100 for tax in taxes]
    excl = Fraction(incl_e4, 10_000) / (1 + sum(rates))
    excl_e4 = rounded_e4(excl, 1, RoundingMode.HALF_UP)
    shares = _shared_out(incl_e4 - excl_e4, [excl * rate for rate in rates]) or [0] * len(taxes)
    return excl_e4, tuple(
        TaxAmount(name=tax.name, amount_e4=share, percent=tax.percent, account_number=tax.account_number)
        for tax, share in zip(taxes, shares, strict=True)
    )


def wrong_taxes(excl_e4: int, taxes: Sequence[TaxAmount]) -> tuple[TaxAmount, ...]:
    """Return the taxes that are not their stated percentage of a price before tax, give or take a ten-thousandth."""
    return tuple(
        tax
        for tax in taxes
        if tax.percent is not None and abs(Fraction(excl_e4) * Fraction(tax.percent) / 100 - tax.amount_e4) > 1
    )


def _shared_out(total_e4: int, weights: Sequence[Fraction]) -> list[int] | None:
    """Share a whole number out by weights, whole numbers again; the largest remainders get what is over."""
    whole = sum(weights, start=Fraction(0))
    if not whole:
        return [0] * len(weights) if weights and not total_e4 else None
    exact = [total_e4 * weight / whole for weight in weights]
    shares = [share.numerator // share.denominator for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda at: shares[at] - exact[at])
    for at in by_remainder[: total_e4 - sum(shares)]:
        shares[at] += 1
    return shares
