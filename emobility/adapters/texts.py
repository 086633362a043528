"""NUL, the one character that PostgreSQL holds in no text: refused in every adapter, before anything is written.

An event that carried it into the log would be a fact that no consumer can store: not in its rows, not in its inbox,
not in its dead letters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.events import codec
from emobility.ports.stores import TextWithNUL

_WITHOUT_TEXT: Final = (type(None), bool, int, bytes, Decimal, datetime, Enum, PartyId, Sealed)


def refuse_nul_in_json(data: bytes, what: str) -> None:
    """Look for the escape of a NUL, not for an escaped backslash before u0000. Raises `TextWithNUL`."""
    if b"\\u0000" in data and b"\\u0000" in data.replace(b"\\\\", b""):
        raise TextWithNUL(what)


def refuse_nul(values: Iterable[Any], what: str) -> None:
    """Check what is about to become columns; nested values as the JSON they become. Raises `TextWithNUL`."""
    for value in values:
        if type(value) is str:
            if "\0" in value:
                raise TextWithNUL(what)
        elif not isinstance(value, _WITHOUT_TEXT):
            refuse_nul_in_json(codec.encode(value), what)


def refuse_nul_in_record(record: Any, what: str) -> None:
    """Check every field of a row. Raises `TextWithNUL`."""
    refuse_nul((getattr(record, field.name) for field in fields(record)), what)
