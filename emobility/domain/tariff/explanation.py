"""A priced session in words, for a driver, an operator or a dispute."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final

from emobility.domain.money import Price, decimal_from_e4
from emobility.domain.tariff.conditions import conditions, duration, plain
from emobility.domain.tariff.priced import (
    Limit,
    PeriodSpansPriceChange,
    PeriodTimeDiffers,
    PeriodWithoutTariff,
    PricedLine,
    PricedSession,
    PricingNote,
    decimal_of,
)
from emobility.domain.tariff.tariff import TariffDimension, TaxIncluded

_NAMES: Final = {
    TariffDimension.ENERGY: "Energy",
    TariffDimension.TIME: "Charging time",
    TariffDimension.PARKING_TIME: "Parking time",
    TariffDimension.FLAT: "Fixed fee",
}
_PER: Final = {
    TariffDimension.ENERGY: " per kWh",
    TariffDimension.TIME: " per hour",
    TariffDimension.PARKING_TIME: " per hour",
    TariffDimension.FLAT: "",
}
_LIMITS: Final = {Limit.MINIMUM: "the minimum price", Limit.MAXIMUM: "the maximum price"}


def explain(priced: PricedSession) -> str:
    """Write out line by line how the total came about."""
    return "\n".join([*_sentences(priced)])


def _sentences(priced: PricedSession) -> Iterator[str]:
    for line in priced.lines:
        yield _line(line, priced.currency)
    if not priced.lines:
        yield "No price applied: free of charge."
    if priced.limit_excl is not None or priced.limit_incl is not None:
        yield f"Sum of the lines: {_price(priced.unlimited, priced.currency)}"
    if priced.limit_excl is not None:
        yield f"Before tax {_LIMITS[priced.limit_excl]} of the tariff applies."
    if priced.limit_incl is not None:
        yield f"After tax {_LIMITS[priced.limit_incl]} of the tariff applies."
    yield f"Total: {_price(priced.total, priced.currency)}"
    for note in priced.notes:
        yield f"Note: {_note(note)}"


def _line(line: PricedLine, currency: str) -> str:
    name = (
        "Reservation time" if line.is_reservation and line.dimension is TariffDimension.TIME else _NAMES[line.dimension]
    )
    if line.is_reservation and line.dimension is TariffDimension.FLAT:
        name = "Reservation fee"
    step = ""
    if line.billed_quantity != line.quantity:
        step = f" (used {_quantity(line.dimension, line.quantity)}, billed in steps of {_step(line)})"
    amount = "" if line.dimension is TariffDimension.FLAT else f"{_quantity(line.dimension, line.billed_quantity)} at "
    tax = "" if line.vat_percent is None else f", {plain(line.vat_percent)} % VAT"
    if line.tax_included is TaxIncluded.YES:
        tax = f"{tax or ', tax'} included"
    reservation = line.restrictions.reservation
    named = [] if reservation is None else [reservation.value]
    why = "".join(f", {condition}" for condition in (*conditions(line.restrictions), *named))
    return (
        f"{name}: {amount}{plain(line.price)} {currency}{_PER[line.dimension]}{step}{tax}"
        f" = {_exact(line.excl)} {currency} before tax [element {line.element_index + 1}{why}]"
    )


def _quantity(dimension: TariffDimension, quantity: int | Fraction) -> str:
    if dimension is TariffDimension.ENERGY:
        return f"{plain(decimal_of(quantity).scaleb(-3))} kWh"
    return duration(int(quantity))


def _step(line: PricedLine) -> str:
    assert line.step_size is not None
    return _quantity(line.dimension, line.step_size)


def _price(price: Price, currency: str) -> str:
    excl = f"{decimal_from_e4(price.excl_e4)} {currency} before tax"
    return excl if price.incl_e4 is None else f"{excl}, {decimal_from_e4(price.incl_e4)} {currency} with tax"


def _exact(amount: Fraction) -> str:
    text = f"{Decimal(amount.numerator) / Decimal(amount.denominator):.6f}"
    return text.rstrip("0").ljust(text.index(".") + 3, "0")


def _note(note: PricingNote) -> str:
    if isinstance(note, PeriodSpansPriceChange):
        when = "as power or current crossed a limit" if note.changed_at is None else f"at {note.changed_at.isoformat()}"
        what = f"the price of {note.dimension} changed inside period {note.period_index}"
        return f"{what} {when}; the price at its start applied."
    if isinstance(note, PeriodTimeDiffers):
        return f"period {note.period_index} states {note.stated_s} s and lasted {note.lasted_s} s."
    if isinstance(note, PeriodWithoutTariff):
        return f"period {note.period_index} names no tariff and is free."
    return f"period {note.period_index} states no power, so prices that depend on it did not apply."
