"""From a station's sampled values to meter readings: whole Wh, W and percent, with a fault where a value breaks a rule.

A value that can't be trusted is never dropped and never repaired: the reading says what is wrong with it, and the back
office quarantines. Only what money hangs on is kept - import and export registers, power, state of charge and the
signed record; voltages and currents are not.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from charge_point_gateway.message import PersonalText
from emobility.domain.errors import MalformedInput
from emobility.domain.meter import MeterReading, ReadingContext
from emobility.domain.personal import Sealed
from emobility.domain.quantities import whole_wh

FAULT_CHARACTERS_MAX: Final = 200
OCMF_PREFIX: Final = "OCMF|"
MULTIPLIER_MAX: Final = 12
"""Largest power of ten in a 2.0.1 unit of measure that a charging station can mean."""
DEFAULT_MEASURAND: Final = "Energy.Active.Import.Register"
_IMPORT: Final = DEFAULT_MEASURAND
_EXPORT: Final = "Energy.Active.Export.Register"
_POWER: Final = "Power.Active.Import"
_SOC: Final = "SoC"
KEPT: Final = frozenset({_IMPORT, _EXPORT, _POWER, _SOC})
"""Measurands whose values are kept."""
CONTEXTS: Final = {context.value: context for context in ReadingContext}
_UNITS: Final = {
    _IMPORT: {None: 0, "Wh": 0, "kWh": 3},
    _EXPORT: {None: 0, "Wh": 0, "kWh": 3},
    _POWER: {None: 0, "W": 0, "kW": 3},
    _SOC: {None: 0, "Percent": 0},
}
"""The powers of ten of the units each measurand may have (1.6, 7.45; 2.0.1 part 2 appendix 2)."""
_PHASES: Final = {"L1": 1, "L2": 2, "L3": 3, "L1-N": 1, "L2-N": 2, "L3-N": 3}
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_POWER_W_MAX: Final = 10**8
"""No station draws more than 100 MW."""


class Sample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One sampled value, in the words both versions share; `number` is as it came: text in 1.6, a number in 2.0.1.

    A struct rather than a dataclass: a busy gateway makes tens of thousands a second.
    """

    at: datetime
    context: ReadingContext = ReadingContext.SAMPLE_PERIODIC
    measurand: str = _IMPORT
    number: str | int | Decimal | None = None
    unit: str | None = None
    multiplier: int = 0
    phase: str | None = None
    location: str = "Outlet"
    signed: str | None = None
    fault: str | None = None


class _Collected(msgspec.Struct):
    """What one moment and context said, still in the units of the meter."""

    at: datetime
    context: ReadingContext
    totals: dict[str, Decimal | int] = {}
    phases: dict[str, dict[int, Decimal | int]] = {}
    signed: list[str] = []
    faults: list[str] = []


class _ValueBreaksRule(MalformedInput):
    """Its text becomes the reading's fault."""


def readings_of(
    samples: Iterable[Sample], sealed: Mapping[PersonalText, Sealed], identifier: str
) -> tuple[MeterReading, ...]:
    """Gather samples into one reading per moment and context, in the order of their first sample.

    Args:
        samples: All sampled values of a message.
        sealed: The sealed form of each signed record (see `signed_texts`).
        identifier: Under which the signed records were sealed.
    """
    collected: dict[tuple[datetime, ReadingContext], _Collected] = {}
    into: _Collected | None = None
    for sample in samples:
        # The samples of a moment mostly come together; hashing an aware datetime costs more than the rest.
        if into is None or sample.at is not into.at or sample.context is not into.context:
            key = (sample.at, sample.context)
            into = collected.get(key)
            if into is None:
                into = collected[key] = _Collected(sample.at, sample.context)
        _collect(sample, into)
    readings: list[MeterReading] = []
    for each in collected.values():
        readings += _finish(each, sealed, identifier)
    return tuple(readings)


def signed_texts(samples: Iterable[Sample], identifier: str) -> tuple[PersonalText, ...]:
    """Return the signed records among the samples, to be sealed."""
    return tuple(PersonalText(sample.signed, identifier) for sample in samples if sample.signed is not None)


def signed_record_of(text: str) -> str:
    """Return the record as the meter wrote it.

    OCPP 2.0.1 carries it base64-encoded; 1.6 stations send OCMF as it is, in hex or in base64. What is in another
    format, or broken on the way, is kept as it came: it proves nothing, and the verifier will say so.
    """
    stripped = text.strip()
    if stripped.startswith(OCMF_PREFIX):
        return stripped
    for decode in (bytes.fromhex, _base64_strict):
        try:
            record = decode(stripped).decode("utf-8")
        except (binascii.Error, ValueError):
            continue
        if record.startswith(OCMF_PREFIX):
            return record
    return text


def _base64_strict(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _collect(sample: Sample, into: _Collected) -> None:
    if sample.fault is not None:
        into.faults.append(sample.fault)
    if sample.signed is not None and sample.signed not in into.signed:
        into.signed.append(sample.signed)
    # Only the outlet is what the driver gets; a vehicle's own state of charge is measured in the EV.
    is_kept = sample.measurand in KEPT and (sample.location == "Outlet" or sample.measurand == _SOC)
    if sample.number is None or not is_kept:
        return
    try:
        value = _value_of(sample)
    except _ValueBreaksRule as fault:
        into.faults.append(str(fault))
        return
    if sample.phase is None:
        known = into.totals.setdefault(sample.measurand, value)
    else:
        phase = _PHASES.get(sample.phase)
        if phase is None:
            return  # neutral and line-to-line values add up to nothing
        known = into.phases.setdefault(sample.measurand, {}).setdefault(phase, value)
    if known != value:
        into.faults.append(f"{sample.measurand} has two values at one moment")


def _value_of(sample: Sample) -> Decimal | int:
    number = sample.number
    if isinstance(number, str):
        text = number.strip()
        if not _NUMBER.fullmatch(text):
            raise _ValueBreaksRule(f"{sample.measurand} is {text[:40]!r}, not a number")
        number = Decimal(text)
    assert number is not None
    exponent = _UNITS[sample.measurand].get(sample.unit)
    if exponent is None:
        raise _ValueBreaksRule(f"{sample.measurand} can't be in {str(sample.unit)[:20]!r}")
    if sample.multiplier:
        if abs(sample.multiplier) > MULTIPLIER_MAX:
            raise _ValueBreaksRule(f"{sample.measurand} has the multiplier {sample.multiplier}")
        exponent += sample.multiplier
    return Decimal(number).scaleb(exponent) if exponent else number


def _finish(each: _Collected, sealed: Mapping[PersonalText, Sealed], identifier: str) -> list[MeterReading]:
    if each.phases:
        _add_up_phases(each)
    totals = each.totals
    import_wh = _register(each, _IMPORT) if _IMPORT in totals else None
    export_wh = _register(each, _EXPORT) if _EXPORT in totals else None
    power_w = _power(each) if _POWER in totals else None
    soc_percent = _soc(each) if _SOC in totals else None
    fault = "; ".join(each.faults)[:FAULT_CHARACTERS_MAX] if each.faults else None
    # A record is missing where its subject was erased: nothing new is written under a destroyed key.
    signed: list[Sealed] = []
    for text in each.signed:  # no generator: most readings have no record
        record = sealed.get(PersonalText(text, identifier))
        if record is not None:
            signed.append(record)
    if not signed and fault is None and import_wh is export_wh is power_w is soc_percent is None:
        return []
    first = MeterReading(
        at=each.at,
        context=each.context,
        import_wh=import_wh,
        export_wh=export_wh,
        power_w=power_w,
        soc_percent=soc_percent,
        signed_record=signed[0] if signed else None,
        fault=fault,
    )
    return [first, *(MeterReading(at=each.at, context=each.context, signed_record=record) for record in signed[1:])]


def _add_up_phases(each: _Collected) -> None:
    """Sum the phases of what the station gave no total of; percentages add up to nothing."""
    for measurand, parts in each.phases.items():
        if measurand != _SOC and measurand not in each.totals:
            each.totals[measurand] = sum(map(Decimal, parts.values()), Decimal(0))


def _register(each: _Collected, measurand: str) -> int | None:
    try:
        wh = whole_wh(each.totals[measurand])
    except MalformedInput as error:
        each.faults.append(f"{measurand}: {error}")
        return None
    if wh < 0:
        each.faults.append(f"{measurand} is negative")
        return None
    return wh


def _power(each: _Collected) -> int | None:
    total = each.totals[_POWER]
    if not -_POWER_W_MAX <= total <= _POWER_W_MAX:
        each.faults.append(f"{_POWER} exceeds {_POWER_W_MAX} W")
        return None
    # Meters at rest show a little less than nothing; that is no fault, and no power drawn either.
    power_w: int = round(total)
    return max(0, power_w)


def _soc(each: _Collected) -> int | None:
    total = each.totals[_SOC]
    if not 0 <= total <= 100:
        each.faults.append("SoC is not a percentage")
        return None
    return round(total)
