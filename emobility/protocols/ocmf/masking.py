"""A copy of a signed record without the identification of the driver.

A signature covers the whole payload, so a masked copy can't carry it. The copy therefore says what it is, and keeps
every number as it was written. What names the original beside it: `showing.py`.
"""

from __future__ import annotations

import re
from typing import Final

from emobility.protocols.ocmf.record import payload_of, strict_json
from emobility.protocols.ocmf.refusals import OCMFRefused, OCMFRule

MASK: Final = "***"
MASKED_PREFIX: Final = "OCMF-MASKED|"
HIDDEN_FIELDS: Final = ("ID",)
"""OCMF 1.4.1, table 4: identification data (UID, EMAID, phone number, ...)."""
_TEXT: Final = r'"(?:[^"\\]|\\.)*"'
_HIDDEN: Final = re.compile(rf'("(?:{"|".join(HIDDEN_FIELDS)})"\s*:\s*)(?:{_TEXT}|-?[0-9.]+|null)')


def mask(record_text: str) -> str:
    """Return the copy, which starts with `OCMF-MASKED|` and has no signature.

    Raises:
        OCMFRefused: the text is no record, or anything of the fields would stay.
    """
    payload = payload_of(record_text)
    masked = _HIDDEN.sub(lambda found: f'{found[1]}"{MASK}"', payload)
    shown = strict_json(masked)  # of a name that is there twice, only one would be looked at
    if any(shown.get(name, MASK) != MASK for name in HIDDEN_FIELDS):
        raise OCMFRefused(OCMFRule.MALFORMED, "identification that could not be hidden")
    return f"{MASKED_PREFIX}{masked}"
