"""The lines of a bill, for people: what, how much of it at which price, and the exact amounts."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from emobility.domain.agreement import SignedMeterPolicy
from emobility.domain.cdr import CDR
from emobility.domain.tariff.priced import PricedLine, PricedSession, decimal_of
from emobility.domain.tariff.tariff import TariffDimension

_PER: Final = {
    TariffDimension.ENERGY: "per kWh",
    TariffDimension.TIME: "per hour",
    TariffDimension.PARKING_TIME: "per hour",
    TariffDimension.FLAT: "per session",
}
_WHAT: Final = {
    TariffDimension.ENERGY: "Energy",
    TariffDimension.TIME: "Time charging",
    TariffDimension.PARKING_TIME: "Time plugged in without charging",
    TariffDimension.FLAT: "Starting fee",
}
_UNSIGNED: Final = {
    SignedMeterPolicy.REQUIRED: "No signed meter values are shown, though the companies' agreement asks for them.",
    SignedMeterPolicy.VERIFIED_IF_PRESENT: "No signed meter values are shown; the companies' agreement prefers them.",
    SignedMeterPolicy.NOT_REQUIRED: "No signed meter values are shown; the companies' agreement asks for none.",
    None: "No signed meter values are shown, and no agreement of the companies says whether there should be any.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptLine:
    """One line of a bill: what, how much of it at which price, and the exact amount before and after tax."""

    what: str
    quantity: str
    unit_price: str
    vat_percent: str | None
    excl: str
    incl: str


def receipt_lines(priced: PricedSession) -> tuple[ReceiptLine, ...]:
    """Return the lines of a priced session."""
    return tuple(_line(line, priced.currency) for line in priced.lines)


def receipt_notes(priced: PricedSession, cdr: CDR) -> tuple[str, ...]:
    """Return what the lines alone don't tell."""
    notes = [] if priced.lines else ["Nothing was charged for."]
    if priced.limit_excl is not None or priced.limit_incl is not None:
        notes.append("The tariff's minimum or maximum price decided the total.")
    if cdr.is_energy_alone:
        notes.append("The meter's clock was not synchronised, so energy alone is charged and no time.")
    return tuple(notes)


def unsigned_note(policy: SignedMeterPolicy | None) -> str:
    """Return why a receipt shows no signed meter values, by what the two companies agreed on."""
    return _UNSIGNED[policy]


def _line(line: PricedLine, currency: str) -> ReceiptLine:
    return ReceiptLine(
        what=_WHAT[line.dimension],
        quantity=_quantity(line),
        unit_price=f"{_plain(line.price)} {currency} {_PER[line.dimension]} before tax",
        vat_percent=None if line.vat_percent is None else _plain(line.vat_percent),
        excl=_exact(line.excl),
        incl=_exact(line.incl),
    )


def _quantity(line: PricedLine) -> str:
    if line.dimension is TariffDimension.FLAT:
        return "1"
    if line.dimension is TariffDimension.ENERGY:
        return f"{_plain(decimal_of(line.billed_quantity).scaleb(-3))} kWh"
    minutes, seconds = divmod(int(line.billed_quantity), 60)
    return f"{minutes} min {seconds} s"


def _exact(amount: Fraction) -> str:
    """Write an exact amount to six places; the total is rounded once, from the exact sum."""
    text = f"{Decimal(amount.numerator) / Decimal(amount.denominator):.6f}"
    return text.rstrip("0").ljust(text.index(".") + 3, "0")


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
