"""What of a charge's signed records a receipt may show, and what such a showing proves.

Why masked copies carry neither signature nor bare hash: see `domain/receipt/document.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from emobility.domain.batch.hashing import commitment
from emobility.domain.receipt.document import MaskedRecord, MeterShown
from emobility.protocols.ocmf.masking import HIDDEN_FIELDS, MASK, MASKED_PREFIX, mask
from emobility.protocols.ocmf.record import VerifiedReading, payload_of, stated_readings, strict_json
from emobility.protocols.ocmf.refusals import OCMFRefused, OCMFRule


def names_driver(record_text: str) -> bool:
    """Tell whether a record carries identification. Raises `OCMFRefused` when it is no record."""
    fields = strict_json(payload_of(record_text))
    return any(fields.get(name) not in (None, "") for name in HIDDEN_FIELDS)


def meter_shown(records: Sequence[str], *, public_key: str, salt: bytes) -> MeterShown:
    """Return a charge's records as its receipt may show them.

    Args:
        records: As the meter wrote them.
        public_key: The meter's, hex.
        salt: 32 random bytes that are kept with the originals and never shown with the copies.

    Raises:
        OCMFRefused: a text is no record, or its identification can't be hidden.
    """
    if not any(names_driver(record) for record in records):
        return MeterShown(public_key=public_key, records=tuple(records))
    masked = tuple(
        MaskedRecord(text=mask(record), commitment=commitment(payload_of(record).encode(), salt=salt).hex())
        for record in records
    )
    return MeterShown(public_key=public_key, masked=masked)


def is_opened(shown: MaskedRecord, original: str, *, salt: bytes) -> bool:
    """Tell whether a record is the original of a masked copy. Raises `OCMFRefused` when it is no record."""
    opened = commitment(payload_of(original).encode(), salt=salt).hex()
    return (mask(original), opened) == (shown.text, shown.commitment)


def shown_wh(masked: Sequence[str]) -> int:
    """Return the energy drawn that masked copies state, in Wh; no signature vouches for it.

    Raises:
        OCMFRefused: a text is no masked copy, still names the driver, or begin or end is missing.
    """
    readings = [reading for text in masked for reading in _masked_readings(text) if reading.is_import]
    begins = [reading.energy_wh for reading in readings if reading.is_begin]
    ends = [reading.energy_wh for reading in readings if reading.is_end]
    if not begins or not ends:
        raise OCMFRefused(OCMFRule.BEGIN_AND_END, "".join(reading.context for reading in readings))
    return max(ends) - min(begins)


def _masked_readings(text: str) -> tuple[VerifiedReading, ...]:
    if not text.startswith(MASKED_PREFIX):
        raise OCMFRefused(OCMFRule.MALFORMED, text[:40])
    payload = text.removeprefix(MASKED_PREFIX)
    if any(strict_json(payload).get(name, MASK) != MASK for name in HIDDEN_FIELDS):
        raise OCMFRefused(OCMFRule.MALFORMED, "a masked copy that names the driver")
    return stated_readings(payload)
