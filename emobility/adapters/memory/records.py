"""The log's own rows: cursors, inbox, parked keys and dead letters, as PostgreSQL holds them too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.ports.stores import TableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A group handles `next_offset` of a partition next."""

    group_name: str
    topic: str
    partition: int
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxEntry:
    """A group has seen an event's idempotency key, with this content."""

    group_name: str
    event_id: str
    content_hash: bytes
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedKey:
    """A group can't go on with a key; its events wait in the dead letters."""

    group_name: str
    topic: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event of a parked key, whole, so that retention of the log does not take it."""

    group_name: str
    topic: str
    partition: int
    log_offset: int
    key: str
    reason: str
    envelope: bytes
    parked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardedLetter:
    """A dead letter as it was, and who discarded it, why and when."""

    group_name: str
    topic: str
    partition: int
    log_offset: int
    key: str
    reason: str
    envelope: bytes
    parked_at: datetime
    who: str
    why: str
    discarded_at: datetime


CURSOR: Final = TableSpec(name="group_cursor", record=Cursor, key=("group_name", "topic", "partition"))
INBOX: Final = TableSpec(name="inbox", record=InboxEntry, key=("group_name", "event_id"))
PARKED_KEY: Final = TableSpec(name="parked_key", record=ParkedKey, key=("group_name", "topic", "key"))
DEAD_LETTER: Final = TableSpec(
    name="dead_letter", record=DeadLetter, key=("group_name", "topic", "partition", "log_offset")
)
DISCARDED: Final = TableSpec(
    name="discarded_event", record=DiscardedLetter, key=("group_name", "topic", "partition", "log_offset")
)
