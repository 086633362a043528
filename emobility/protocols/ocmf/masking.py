"""A copy of a signed record without the identification of the driver.

A signature covers the whole payload, so a masked copy can't carry it. The copy therefore says what it is, keeps every
number as it was written, and names the original by its hash: whoever holds the original can prove the copy true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from emobility.protocols.ocmf.record import payload_hash, strict_json
from emobility.protocols.ocmf.refusals import OCMFRefused, OCMFRule

MASK: Final = "***"
HIDDEN_FIELDS: Final = ("ID",)
"""OCMF 1.4.1, table 4: identification data (UID, EMAID, phone number, ...)."""
_TEXT: Final = r'"(?:[^"\\]|\\.)*"'
_HIDDEN: Final = re.compile(rf'("(?:{"|".join(HIDDEN_FIELDS)})"\s*:\s*)(?:{_TEXT}|-?[0-9.]+|null)')


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedOCMF:
    """What may be shown: `text` starts with `OCMF-MASKED|` and has no signature."""

    text: str
    payload_sha256: str
    hidden: tuple[str, ...]


def mask(record_text: str) -> MaskedOCMF:
    """Return the copy. Raises `OCMFRefused` when the text is no record, or when anything of the fields would stay."""
    original_hash = payload_hash(record_text)
    payload = record_text.strip().split("|")[1]
    masked = _HIDDEN.sub(lambda found: f'{found[1]}"{MASK}"', payload)
    shown = strict_json(masked)  # of a name that is there twice, only one would be looked at
    if any(shown.get(name, MASK) != MASK for name in HIDDEN_FIELDS):
        raise OCMFRefused(OCMFRule.MALFORMED, "identification that could not be hidden")
    return MaskedOCMF(text=f"OCMF-MASKED|{masked}", payload_sha256=original_hash, hidden=HIDDEN_FIELDS)
