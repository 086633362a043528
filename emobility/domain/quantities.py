"""Energy as integer Wh, power as integer W. Registers keep their decimals in the signed record and are rounded here."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Final

from emobility.domain.errors import MalformedInput, MeterRanBackwards

REGISTER_WH_MAX: Final = 10**15
"""No meter shows more than this; a value beyond it is noise (1e400 included)."""


class NotARegisterValue(MalformedInput):
    """A meter value is a finite decimal number within `REGISTER_WH_MAX`."""

    def __init__(self, text: str) -> None:
        self.text = text[:80]
        super().__init__(f"{self.text!r} is not a register value")


class EnergyUnit(StrEnum):
    """Units a register may come in."""

    WH = "Wh"
    KWH = "kWh"


def wh_from_register(text: str, unit: EnergyUnit = EnergyUnit.WH) -> int:
    """Read a register value and round it to whole Wh (see `whole_wh`).

    Args:
        text: The number as the meter wrote it.
        unit: Its unit; OCPP's default is Wh.

    Raises:
        NotARegisterValue: `text` is no finite decimal, is NaN or exceeds `REGISTER_WH_MAX`.
    """
    try:
        value = Decimal(text.strip())
        return whole_wh(value * 1000 if unit is EnergyUnit.KWH else value)
    except (ArithmeticError, NotARegisterValue) as error:
        raise NotARegisterValue(text) from error


def whole_wh(register_wh: Decimal | int) -> int:
    """Round a register value in Wh to whole Wh, half to even: the only place where energy is rounded.

    Raises:
        NotARegisterValue: it is not finite or exceeds `REGISTER_WH_MAX`.
    """
    try:
        # Comparing never overflows; abs() does, on 1e999999999.
        is_of_a_meter = -REGISTER_WH_MAX <= register_wh <= REGISTER_WH_MAX
    except ArithmeticError as error:  # NaN is compared with nothing
        raise NotARegisterValue(str(register_wh)) from error
    if not is_of_a_meter:
        raise NotARegisterValue(str(register_wh))
    return round(register_wh)


def delivered_wh(*, start_wh: int, end_wh: int) -> int:
    """Return the energy between two register values, in Wh. Raises `MeterRanBackwards`."""
    if end_wh < start_wh:
        raise MeterRanBackwards(start_wh=start_wh, end_wh=end_wh)
    return end_wh - start_wh


def kwh(energy_wh: int) -> Decimal:
    """Return the energy in kWh, exact, for OCPI's `number` fields."""
    return Decimal(energy_wh).scaleb(-3)
