"""Verify one OCMF record: its form, its signature under the pinned key, and that its values may be billed.

The bytes are never rewritten: the signature covers the payload as the meter wrote it. pyocmf (MIT) reads the fields;
the signature and the rules that it leaves to its user stand here and in `signature.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError
from pyocmf import OCMF, EnergyUnit, MeterStatus, PyOCMFError, SpecWarning

from emobility.domain.errors import MalformedInput
from emobility.domain.quantities import EnergyUnit as WhUnit
from emobility.domain.quantities import wh_from_register
from emobility.protocols.ocmf.refusals import OCMFRefused, OCMFRule
from emobility.protocols.ocmf.signature import DEFAULT_METHOD, is_signed

RECORD_CHARACTERS_MAX: Final = 20_000
"""The longest records known hold some dozens of readings and stay below 8,000."""
_PREFIX: Final = "OCMF|"
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_NUMBER_IN_TEXT: Final = re.compile(r" *-?[0-9]+(\.[0-9]+)?")
"""Some meters write the register as text, filled up with spaces or zeros."""
_TIME_UNITS: Final = frozenset({"s", "sec", "min", "h"})
"""Some meters sign how long it took, beside the energy; we take time from elsewhere and pass this over."""
_PAGE: Final = re.compile(r"([TF])(0|[1-9][0-9]*)")
_SIGNATURE_KEYS: Final = frozenset({"SA", "SE", "SM", "SD"})
_KEY_NAMES: Final = frozenset({"pk", "publickey", "public_key", "key"})
_HEX: Final = re.compile(r"([0-9a-fA-F]{2})+")
_BASE64: Final = re.compile(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_EXPORT_REGISTER: Final = re.compile(r"^0?1-[0-9A-Fa-f]{1,2}:(0?2|C[0-7])\.", re.IGNORECASE)


class Direction(StrEnum):
    """Which way the register counts."""

    IMPORT = "IMPORT"
    EXPORT = "EXPORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReading:
    """A register value that the meter signed as good, in Wh.

    Attributes:
        at: The meter's timestamp, UTC.
        context: OCMF `TX`: B begins, E L R A P end, C and T stand between, S is suspended.
        counts_per_transaction: The register starts at zero with each transaction (OBIS B2, B3, C2, C3).
        time_status: U unknown, I informative, S synchronised, R relative.
    """

    at: datetime
    context: str
    energy_wh: int
    unit: str
    direction: Direction
    register: str | None
    counts_per_transaction: bool
    time_status: str

    @property
    def is_import(self) -> bool:
        """Whether its register counts what was drawn; a meter may sign what was fed in beside it."""
        return self.direction is Direction.IMPORT

    @property
    def is_begin(self) -> bool:
        """Whether it opens a transaction."""
        return self.context == "B"

    @property
    def is_end(self) -> bool:
        """Whether it closes one: normally, locally, remotely, aborted or by power failure."""
        return self.context in {"E", "L", "R", "A", "P"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedOCMF:
    """A record whose signature is the pinned meter's.

    `payload_sha256` names what was signed, whatever way the signature is written, so that it is used once only.
    """

    payload_sha256: str
    meter: str
    page_context: str
    page: int
    readings: tuple[VerifiedReading, ...]
    public_key_hex: str


def payload_of(record_text: str) -> str:
    """Return what the meter signed, as it wrote it. Raises `OCMFRefused`."""
    return sections(record_text)[0]


def payload_hash(record_text: str) -> str:
    """Return SHA-256 (hex) of what the meter signed. Raises `OCMFRefused`."""
    return hashlib.sha256(payload_of(record_text).encode()).hexdigest()


def stated_readings(payload_text: str) -> tuple[VerifiedReading, ...]:
    """Return the readings that a payload states, **without** a signature to vouch for them. Raises `OCMFRefused`."""
    payload = strict_json(payload_text)
    return _readings(_parsed(f'{_PREFIX}{payload_text}|{{"SD":"00"}}'), payload)


def verify(record_text: str, public_key_hex: str) -> VerifiedOCMF:
    """Check a record against the key pinned for its meter.

    Args:
        record_text: The record as it came, `OCMF|payload|signature`.
        public_key_hex: DER SubjectPublicKeyInfo, hex, from the meter's registration; never from the record.

    Raises:
        OCMFRefused: with the rule that was broken.
    """
    payload_text, signature_text = sections(record_text)
    payload = strict_json(payload_text)
    signature = strict_json(signature_text)
    _refuse_foreign_keys(payload, signature)
    record = _parsed(record_text.strip())
    _refuse_wrong_signature(payload_text, signature, public_key_hex)
    page = _PAGE.fullmatch(str(payload.get("PG", "")))
    if page is None:
        raise OCMFRefused(OCMFRule.PAGINATION, f"PG is {payload.get('PG')!r}")
    meter = f"{payload.get('GS') or ''}/{payload.get('MS') or ''}"
    if meter == "/":
        raise OCMFRefused(OCMFRule.ONE_METER, "neither meter (MS) nor gateway (GS) is named")
    return VerifiedOCMF(
        payload_sha256=hashlib.sha256(payload_text.encode()).hexdigest(),
        meter=meter,
        page_context=page[1],
        page=int(page[2]),
        readings=_readings(record, payload),
        public_key_hex=public_key_hex,
    )


def sections(record_text: str) -> tuple[str, str]:
    """Return payload and signature, as they are written. Raises `OCMFRefused`."""
    text = record_text.strip()
    if len(text) > RECORD_CHARACTERS_MAX:
        raise OCMFRefused(OCMFRule.MALFORMED, f"{len(text)} characters")
    parts = text.split("|")
    if not text.startswith(_PREFIX) or len(parts) < 3:
        raise OCMFRefused(OCMFRule.MALFORMED, text[:40])
    if len(parts) > 3:
        # Transparency software accepts a key appended as a fourth section; whoever forges a record appends one too.
        raise OCMFRefused(OCMFRule.KEY_INSIDE_RECORD, "a fourth section")
    return parts[1], parts[2]


def strict_json(text: str) -> dict[str, Any]:
    """Read JSON and refuse what two readers may read differently. Raises `OCMFRefused`."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_float=_exact_number,
            parse_int=_exact_number,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise OCMFRefused(OCMFRule.MALFORMED, str(error)) from error
    if not isinstance(value, dict):
        raise OCMFRefused(OCMFRule.MALFORMED, "no JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise OCMFRefused(OCMFRule.DUPLICATE_KEY, ", ".join(sorted({n for n in names if names.count(n) > 1})))
    return dict(pairs)


def _exact_number(text: str) -> Decimal:
    if _NUMBER.fullmatch(text) is None:
        raise OCMFRefused(OCMFRule.NUMBER_TEXT, text)
    return Decimal(text)


def _no_constant(text: str) -> Decimal:
    raise OCMFRefused(OCMFRule.NUMBER_TEXT, text)


def _refuse_foreign_keys(payload: dict[str, Any], signature: dict[str, Any]) -> None:
    strange = [name for name in signature if name not in _SIGNATURE_KEYS]
    inside = [name for name in payload if name.casefold() in _KEY_NAMES]
    if strange or inside:
        raise OCMFRefused(OCMFRule.KEY_INSIDE_RECORD, ", ".join([*strange, *inside]))
    data, encoding = signature.get("SD"), signature.get("SE", "hex")
    form = _HEX if encoding == "hex" else _BASE64
    if not isinstance(data, str) or encoding not in {"hex", "base64"} or form.fullmatch(data) is None:
        raise OCMFRefused(OCMFRule.SIGNATURE, f"SD is not {encoding}")
    if encoding == "base64" and base64.b64encode(base64.b64decode(data)).decode() != data:
        # Bits left over in its last character say nothing: the same bytes could be written in several ways.
        raise OCMFRefused(OCMFRule.SIGNATURE, "SD is not in the one form of base64")


def _parsed(text: str) -> OCMF:
    with warnings.catch_warnings():
        # Meters in the field deviate in fields nobody bills by; what matters is judged by our own rules.
        warnings.simplefilter("ignore", SpecWarning)
        try:
            return OCMF.from_string(text)
        except (PyOCMFError, ValidationError, ValueError, TypeError, AttributeError) as error:
            raise OCMFRefused(OCMFRule.MALFORMED, str(error)) from error


def _refuse_wrong_signature(payload_text: str, signature: dict[str, Any], public_key_hex: str) -> None:
    data, method = signature["SD"], signature.get("SA", DEFAULT_METHOD)
    raw = bytes.fromhex(data) if signature.get("SE", "hex") == "hex" else base64.b64decode(data)
    if not is_signed(payload_text.encode(), raw, method=str(method), public_key_hex=public_key_hex):
        raise OCMFRefused(OCMFRule.SIGNATURE, "it is not the pinned key's")


def _readings(record: OCMF, payload: dict[str, Any]) -> tuple[VerifiedReading, ...]:
    for written in payload["RD"]:
        _refuse_number_text(written.get("RV"))
    readings = tuple(_reading(reading) for reading in record.payload.RD if reading.RU not in _TIME_UNITS)
    if not readings:
        raise OCMFRefused(OCMFRule.MALFORMED, "no readings")
    _refuse_mixed_units(readings)
    return readings


def _refuse_number_text(value: Any) -> None:
    """A JSON number was looked at as it was read; a text would be read more leniently than it looks."""
    is_plain = _NUMBER_IN_TEXT.fullmatch(value) is not None if isinstance(value, str) else type(value) is not bool
    if not is_plain:
        raise OCMFRefused(OCMFRule.NUMBER_TEXT, repr(value))


def _refuse_mixed_units(readings: Sequence[VerifiedReading]) -> None:
    units = sorted({reading.unit for reading in readings})
    if len(units) > 1:
        raise OCMFRefused(OCMFRule.UNIT, f"{' and '.join(units)} in one record")


def _reading(reading: Any) -> VerifiedReading:
    if reading.ST != MeterStatus.OK:
        raise OCMFRefused(OCMFRule.METER_STATUS, f"ST is {reading.ST}")
    if reading.EF:
        raise OCMFRefused(OCMFRule.ERROR_FLAG, f"EF is {reading.EF}")
    if reading.RU not in (EnergyUnit.KWH, EnergyUnit.WH) or reading.RV is None:
        raise OCMFRefused(OCMFRule.UNIT, f"RV {reading.RV} in {reading.RU}")
    context = str(reading.TX or "")
    if context not in set("BCTSELRAP"):
        # X: an exception occurred, values from here on are not usable (OCMF 1.4.1, table 7, TX).
        raise OCMFRefused(OCMFRule.READING_CONTEXT, f"TX is {context!r}")
    at = reading.TM.timestamp
    if at.tzinfo is None:
        raise OCMFRefused(OCMFRule.MALFORMED, f"TM {reading.TM} has no time zone")
    try:
        energy_wh = wh_from_register(format(reading.RV, "f"), WhUnit(reading.RU.value))
    except MalformedInput as error:
        raise OCMFRefused(OCMFRule.NUMBER_TEXT, str(reading.RV)) from error
    register = None if reading.RI is None else str(reading.RI)
    return VerifiedReading(
        at=at.astimezone(UTC),
        context=context,
        energy_wh=energy_wh,
        unit=reading.RU.value,
        direction=Direction.EXPORT if register and _EXPORT_REGISTER.match(register) else Direction.IMPORT,
        register=register,
        counts_per_transaction=bool(reading.RI and reading.RI.is_transaction_register),
        time_status=str(reading.TM.status),
    )
