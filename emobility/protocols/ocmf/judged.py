"""A meter's record as `settlement_contracts/src/MeterEvidence.sol` judges it: what it would refuse is not sent.

The contract reads less than `record.py` does: what two readers could read differently it refuses, and so does this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256K1,
    SECP256R1,
    EllipticCurve,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from emobility.domain.batch.disputes import MeteredEnergy
from emobility.domain.batch.meter import MeterCurve, MeterRecord
from emobility.domain.quantities import EnergyUnit, wh_from_register
from emobility.protocols.ocmf.record import strict_json
from emobility.protocols.ocmf.refusals import OCMFRefused, OCMFRule

NUMBER_CHARACTERS_MAX: Final = 19
REGISTER_CHARACTERS_MAX: Final = 32
NUMBER_BYTES: Final = 32
_CURVES: Final[dict[MeterCurve, EllipticCurve]] = {
    MeterCurve.SECP256R1: SECP256R1(),
    MeterCurve.SECP256K1: SECP256K1(),
}
_EXPORT: Final = re.compile(r"0?1-.{1,2}:((C|c)[0-7]|0?2)\.")
_BETWEEN: Final = frozenset("CST")
_END: Final = frozenset("ELRAP")
_READINGS: Final = '"RD"'


@dataclass(slots=True)
class _Span:
    unit: str | None = None
    register: str | None = None
    begin_wh: set[int] = field(default_factory=set)
    end_wh: set[int] = field(default_factory=set)


def is_signed(record: MeterRecord) -> bool:
    """Tell whether the key signed each payload. Raises `KeyError` for a curve that no contract checks."""
    curve = _CURVES[record.curve]
    if len(record.public_key) != 2 * NUMBER_BYTES:
        return False
    x, y = (int.from_bytes(half, "big") for half in _halves(record.public_key))
    try:
        key = EllipticCurvePublicNumbers(x, y, curve).public_key()
        for each in record.signed:
            if len(each.signature) != 2 * NUMBER_BYTES:
                return False
            r, s = (int.from_bytes(half, "big") for half in _halves(each.signature))
            key.verify(encode_dss_signature(r, s), each.payload, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def metered_energy(record: MeterRecord) -> MeteredEnergy:
    """Return what the record's registers say, whoever signed it.

    Raises:
        OCMFRefused: the contract would not read it, or there is no energy in it.
    """
    spans = {True: _Span(), False: _Span()}
    for each in record.signed:
        for reading in _readings(each.payload):
            _enter(reading, spans)
    drawn, fed_in = _between(spans[False]), _between(spans[True])
    if drawn is None and fed_in is None:
        raise OCMFRefused(OCMFRule.BEGIN_AND_END, "no register")
    return MeteredEnergy(import_wh=drawn, export_wh=fed_in)


def _readings(payload: bytes) -> Iterator[dict[str, Any]]:
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise OCMFRefused(OCMFRule.MALFORMED, "it is no text") from error
    before, found, _ = text.partition(_READINGS)
    if not found or text.count(_READINGS) != 1 or "\\" in text or "{" in before[1:]:
        raise OCMFRefused(OCMFRule.MALFORMED, "a contract can't tell where its readings are")
    if text != text.strip():
        raise OCMFRefused(OCMFRule.MALFORMED, "spaces around the payload")
    readings = strict_json(text).get("RD")
    if not isinstance(readings, list) or not readings or not all(isinstance(each, dict) for each in readings):
        raise OCMFRefused(OCMFRule.MALFORMED, "RD is no list of readings")
    yield from readings


def _enter(reading: dict[str, Any], spans: dict[bool, _Span]) -> None:
    if any(isinstance(value, dict | list) for value in reading.values()):
        raise OCMFRefused(OCMFRule.MALFORMED, "a reading with parts")
    register, unit, context, value = (reading.get(name) for name in ("RI", "RU", "TX", "RV"))
    if reading.get("ST") != "G" or reading.get("EF", "") != "":
        raise OCMFRefused(OCMFRule.METER_STATUS, f"ST is {reading.get('ST')!r}, EF is {reading.get('EF')!r}")
    if unit not in {"kWh", "Wh"} or not isinstance(value, Decimal) or value.is_signed():
        raise OCMFRefused(OCMFRule.UNIT, f"RV {value} in {unit}")
    if "RI" in reading and not (isinstance(register, str) and len(register.encode()) <= REGISTER_CHARACTERS_MAX):
        raise OCMFRefused(OCMFRule.MALFORMED, f"RI is {register!r}")
    if len(str(value)) > NUMBER_CHARACTERS_MAX:
        raise OCMFRefused(OCMFRule.NUMBER_TEXT, str(value))
    if context in _BETWEEN:
        return
    if context != "B" and context not in _END:
        raise OCMFRefused(OCMFRule.READING_CONTEXT, f"TX is {context!r}")
    span = spans[bool(_EXPORT.match(register or ""))]
    if span.unit is None:
        span.unit, span.register = unit, register or ""
    if (span.unit, span.register) != (unit, register or ""):
        raise OCMFRefused(OCMFRule.ONE_METER, f"{span.register} in {span.unit} and {register} in {unit}")
    (span.begin_wh if context == "B" else span.end_wh).add(wh_from_register(f"{value:f}", EnergyUnit(unit)))


def _between(span: _Span) -> int | None:
    if not span.begin_wh and not span.end_wh:
        return None
    if len(span.begin_wh) != 1 or len(span.end_wh) != 1 or min(span.end_wh) < min(span.begin_wh):
        raise OCMFRefused(OCMFRule.BEGIN_AND_END, f"from {span.begin_wh or '?'} to {span.end_wh or '?'} Wh")
    return min(span.end_wh) - min(span.begin_wh)


def _halves(both: bytes) -> tuple[bytes, bytes]:
    return both[:NUMBER_BYTES], both[NUMBER_BYTES:]
