"""What one company pays another for final statements, in whole cents.

A statement is exact to the ten-thousandth, a bank moves cents. So each statement becomes cents once, towards zero, and
what is left is carried into the next one of the same agreement, never away::

    sum of exact amounts = 100 * sum of cents + residue

A statement in the payee's debt (more credited than due) is no payment: it lowers the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CENT_E4: Final = 100
ID_CHARACTERS_MAX: Final = 35
"""Max35Text, what banks carry of an EndToEndId."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InCents:
    """Whole cents, and the part of a cent that is carried on; both have the sign of the sum."""

    cents: int
    residue_e4: int


def in_cents(exact_e4: int, *, carried_e4: int) -> InCents:
    """Turn an exact amount and what was carried to it into cents."""
    total_e4 = exact_e4 + carried_e4
    cents = abs(total_e4) // CENT_E4 * (1 if total_e4 >= 0 else -1)
    return InCents(cents=cents, residue_e4=total_e4 - cents * CENT_E4)


def end_to_end_id(statement_hash: bytes) -> str:
    """Return the EndToEndId of the payment whose youngest statement this is: both companies compute the same."""
    return f"WR{statement_hash.hex().upper()}"[: ID_CHARACTERS_MAX - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payable:
    """A final statement as it is to be paid: `net_cents` for the charges, `vat_cents` on top; below zero: a credit."""

    statement_hash: bytes
    net_cents: int
    vat_cents: int

    @property
    def cents(self) -> int:
        """Both."""
        return self.net_cents + self.vat_cents


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """One payment of the MSP to the CPO."""

    end_to_end_id: str
    net_cents: int
    vat_cents: int

    @property
    def cents(self) -> int:
        """What the bank moves; above zero."""
        return self.net_cents + self.vat_cents


def payout_of(payables: Sequence[Payable]) -> Payout | None:
    """Return the one payment for statements of one agreement, in order; None while they come to nothing to pay."""
    net_cents, vat_cents = sum(each.net_cents for each in payables), sum(each.vat_cents for each in payables)
    if net_cents + vat_cents <= 0 or net_cents < 0:
        return None
    return Payout(end_to_end_id=end_to_end_id(payables[-1].statement_hash), net_cents=net_cents, vat_cents=vat_cents)
