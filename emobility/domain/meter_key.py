"""Which public key a meter signs with, from when on, and who said so: a history to which entries are only added.

A key comes out of band, from the meter's maker or an authority, never along with a record. A meter that is replaced has
another key from that moment on; what it signed before is checked by the key of before, however late it arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.errors import MalformedInput, RuleBroken

ENTRIES_MAX: Final = 100
"""Of one EVSE; a meter is replaced every few years."""


class MeterKeysFull(RuleBroken):
    """More keys were entered for one EVSE than any meter ever had."""


class MeterKeyWithoutOffset(MalformedInput):
    """A key is to hold from a moment that names no offset: which moment that is nobody can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedKey:
    """An entry.

    Attributes:
        public_key: DER SubjectPublicKeyInfo, hex; None: from then on nothing is signed.
        valid_from: None: always; takes back all entries before it.
        entered_at: By our clock.
        entered_by: Who said so.
        why: For people.
    """

    public_key: str | None
    valid_from: datetime | None
    entered_at: datetime
    entered_by: str
    why: str


def with_entry(entries: Sequence[PinnedKey], entry: PinnedKey) -> tuple[PinnedKey, ...]:
    """Return the history with one more entry. Raises `MeterKeysFull`, `MeterKeyWithoutOffset`."""
    if entry.valid_from is not None and entry.valid_from.utcoffset() is None:
        raise MeterKeyWithoutOffset(f"valid_from is a date-time with its offset, not {entry.valid_from.isoformat()}")
    if len(entries) >= ENTRIES_MAX:
        raise MeterKeysFull(f"{len(entries)} keys were entered already")
    return (*entries, entry)


def key_at(entries: Sequence[PinnedKey], at: datetime) -> str | None:
    """Return the key in force at a moment."""
    found = entry_at(entries, at)
    return None if found is None else found.public_key


def entry_at(entries: Sequence[PinnedKey], at: datetime) -> PinnedKey | None:
    """Return what is in force at a moment: of the entries that began by then the latest, of equals the last entered."""
    found: PinnedKey | None = None
    for entry in entries:
        if entry.valid_from is None:
            found = entry
        elif entry.valid_from <= at:
            began = None if found is None else found.valid_from
            if began is None or began <= entry.valid_from:
                found = entry
    return found
