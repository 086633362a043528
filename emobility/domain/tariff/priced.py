"""What pricing returns: rounded totals, the exact lines they come from, and notes on what looked odd."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final

from emobility.domain.money import Price
from emobility.domain.tariff.tariff import TariffDimension, TariffRestrictions, TaxIncluded

UNITS: Final = {
    TariffDimension.ENERGY: 1_000,
    TariffDimension.TIME: 3_600,
    TariffDimension.PARKING_TIME: 3_600,
    TariffDimension.FLAT: 1,
}
"""Wh in a kWh, seconds in an hour: what a quantity is divided by before the price applies."""


def decimal_of(quantity: int | Fraction) -> Decimal:
    """A quantity as a number with all its decimals; only decimals that were stated ever made it a fraction."""
    return Decimal(quantity) if isinstance(quantity, int) else Decimal(quantity.numerator) / quantity.denominator


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedLine:
    """All that one price component charged for: the audit trail of a total.

    Attributes:
        dimension: What was charged for.
        element_index: Which element of the tariff, from 0.
        tariff_id: Which tariff, where several price one session.
        price: Per kWh, per hour or once, with the tax in it or not as `tax_included` says.
        vat_percent: The component's VAT; None where the tariff states none.
        quantity: Wh, seconds or 1, as the periods say; a fraction where a document states less than a Wh.
        billed_quantity: The same after `step_size`.
        step_size: The step that rounded this line up; None where no step was due to it.
        restrictions: Those of the element; all of them held at the start of each period.
        period_indices: Periods (in order of time, from 0) this line charges for.
        is_reservation: Whether it charges for a reservation.
    """

    dimension: TariffDimension
    element_index: int
    price: Decimal
    vat_percent: Decimal | None
    quantity: int | Fraction
    billed_quantity: int | Fraction
    step_size: int | None
    restrictions: TariffRestrictions
    period_indices: tuple[int, ...]
    is_reservation: bool
    tariff_id: str = ""
    tax_included: TaxIncluded = TaxIncluded.NO

    @property
    def stated(self) -> Fraction:
        """The exact amount at the price as the tariff states it. A fraction: thirds of an hour have no decimal."""
        return Fraction(self.price) * self.billed_quantity / UNITS[self.dimension]

    @property
    def excl(self) -> Fraction:
        """The exact amount before tax; a component that states no VAT bears none."""
        return self.stated / self._tax_factor if self.tax_included is TaxIncluded.YES else self.stated

    @property
    def incl(self) -> Fraction:
        """The exact amount after tax; a component that states no VAT bears none."""
        return self.stated * self._tax_factor if self.tax_included is TaxIncluded.NO else self.stated

    @property
    def _tax_factor(self) -> Fraction:
        return 1 + Fraction(self.vat_percent or 0) / 100


class Limit(StrEnum):
    """Which limit of the tariff decided a total."""

    MINIMUM = "MINIMUM"
    MAXIMUM = "MAXIMUM"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodSpansPriceChange:
    """Another price or step, or a fee, became active inside a period, which the CPO should have cut there.

    What was active at its start was applied. A component that costs nothing is not the same as none: its time and
    energy are in the total that a step rounds up.

    `changed_at` is the moment of the first change: on the clock or by duration exactly, by energy as if it flowed
    evenly. None: power or current crossed a threshold at an unknown moment.
    """

    period_index: int
    dimension: TariffDimension
    changed_at: datetime | None
    element_index: int | None
    next_element_index: int | None
    is_reservation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerNotStated:
    """The tariff asks for power or current, and a charging period states neither: such elements did not apply."""

    period_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodTimeDiffers:
    """The seconds a period states are more than the time it lasted; the stated seconds were billed."""

    period_index: int
    stated_s: int
    lasted_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodWithoutTariff:
    """A period names none of the tariffs that price its session, so no tariff is relevant to it: it is free."""

    period_index: int


PricingNote = PeriodSpansPriceChange | PowerNotStated | PeriodTimeDiffers | PeriodWithoutTariff


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedSession:
    """A session's cost in ten-thousandths of `currency`.

    Unless another rounding policy was asked for, each price is rounded once, half away from zero, from its own exact
    sum; so the parts need not add up to `total` to the last ten-thousandth, and `total` is never a sum of rounded
    parts. A part is None where nothing was charged for it. `incl_e4` is None throughout where the tariff speaks of no
    tax.

    Attributes:
        total: All lines, within the limits of the tariff.
        unlimited: All lines before the limits.
        energy: ENERGY.
        time: TIME while charging.
        parking: PARKING_TIME.
        fixed: FLAT of the session.
        reservation: FLAT and TIME of the reservation.
        lines: What was charged, in order of first use.
        notes: What a reader of the bill should know; none of it changed the price.
        limit_excl: The limit that decided the total before tax.
        limit_incl: The limit that decided the total after tax.
        is_net_known: False where a price includes a tax of unstated rate: then `excl_e4` has that tax still in it.
    """

    currency: str
    total: Price
    unlimited: Price
    energy: Price | None
    time: Price | None
    parking: Price | None
    fixed: Price | None
    reservation: Price | None
    lines: tuple[PricedLine, ...]
    notes: tuple[PricingNote, ...] = ()
    limit_excl: Limit | None = None
    limit_incl: Limit | None = None
    is_net_known: bool = True
