"""Money as integer ten-thousandths of a currency unit (e4), the four decimals that OCPI's `number` has.

This module never touches a float and never converts a currency.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from emobility.domain.errors import CurrencyMismatch

E4: Final = Decimal(10_000)
_ONE: Final = Decimal(1)


def e4_from_decimal(amount: Decimal) -> int:
    """Round an exact amount in currency units to ten-thousandths, half away from zero: the one rounding of a total."""
    return int((amount * E4).quantize(_ONE, rounding=ROUND_HALF_UP))


def decimal_from_e4(amount_e4: int) -> Decimal:
    """Return the amount in currency units, exact, with four decimals."""
    return Decimal(amount_e4).scaleb(-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount in ten-thousandths of `currency` (ISO 4217)."""

    amount_e4: int
    currency: str

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise CurrencyMismatch(expected=self.currency, found=other.currency)
        return Money(amount_e4=self.amount_e4 + other.amount_e4, currency=self.currency)

    def __neg__(self) -> Money:
        return Money(amount_e4=-self.amount_e4, currency=self.currency)

    def __sub__(self, other: Money) -> Money:
        return self + -other


def total(amounts: Iterable[Money], currency: str) -> Money:
    """Add amounts of one currency; none give zero. Raises `CurrencyMismatch`."""
    return sum(amounts, start=Money(amount_e4=0, currency=currency))


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """An amount before and after tax, in ten-thousandths (OCPI 2.2.1 `Price`, 16.5); `incl_e4` None: no tax stated."""

    excl_e4: int
    incl_e4: int | None = None

    def __neg__(self) -> Price:
        return Price(excl_e4=-self.excl_e4, incl_e4=None if self.incl_e4 is None else -self.incl_e4)
