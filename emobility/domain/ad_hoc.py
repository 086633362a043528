"""A sale to a driver without a contract: what is taken of the money that is held, in whole cents, and its tax.

A price is exact to the ten-thousandth, a card moves whole cents, and no more may be taken than is held. So each sale
is rounded once, towards the driver, and what is not taken is named::

    total_incl_e4 = capture_e4 + residue_e4 + beyond_hold_e4
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from emobility.domain.errors import MalformedInput
from emobility.domain.money import Price

CENT_E4: Final = 100


class NothingIsHeld(MalformedInput):
    """A hold is a positive amount in whole cents."""

    def __init__(self, *, held_e4: int) -> None:
        self.held_e4 = held_e4
        super().__init__(f"{held_e4} ten-thousandths can't be held on a card")


@dataclass(frozen=True, slots=True, kw_only=True)
class Takings:
    """What a sale came to, in ten-thousandths of its currency.

    Attributes:
        total_incl_e4: The exact price with tax.
        capture_e4: What is taken, in whole cents: the total of the receipt.
        residue_e4: Below a cent, given up; all of a total below zero, which no card gives back.
        beyond_hold_e4: What a charge came to above its hold: nobody may take it.
        vat_e4: The tax in what is taken, rounded once, half up.
    """

    total_incl_e4: int
    capture_e4: int
    residue_e4: int
    beyond_hold_e4: int
    vat_e4: int

    @property
    def net_e4(self) -> int:
        """What is taken, before tax."""
        return self.capture_e4 - self.vat_e4


def takings(price: Price, *, held_e4: int) -> Takings:
    """Return what is taken for a price. A price that states no tax bears none. Raises `NothingIsHeld`."""
    if held_e4 <= 0 or held_e4 % CENT_E4:
        raise NothingIsHeld(held_e4=held_e4)
    total_e4 = price.excl_e4 if price.incl_e4 is None else price.incl_e4
    beyond_e4 = max(0, total_e4 - held_e4)
    within_e4 = total_e4 - beyond_e4
    capture_e4 = max(0, within_e4) // CENT_E4 * CENT_E4
    vat_e4 = 0
    if capture_e4:
        # All rates of a sale bear the same part of what is not taken.
        vat_e4 = int(Fraction(capture_e4 * (total_e4 - price.excl_e4), total_e4) + Fraction(1, 2))
    return Takings(
        total_incl_e4=total_e4,
        capture_e4=capture_e4,
        residue_e4=within_e4 - capture_e4,
        beyond_hold_e4=beyond_e4,
        vat_e4=vat_e4,
    )
