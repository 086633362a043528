"""The event log, the spine: durable, consumed in order per key, each group's cursor moving with its effects."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from emobility.domain.errors import MalformedInput, RuleBroken, Unavailable
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.unit_of_work import UnitOfWork

PARTITIONS_PER_TOPIC: Final = 8
"""Fixed when a topic is created: a key must find its partition for ever."""
EVENT_BYTES_MAX: Final = 1_000_000
"""Largest encoded event; Kafka's default limit for a message is 1 MiB."""
BATCH_EVENTS_MAX: Final = 500
"""Most events a handler gets at once."""


def partition_of(key: str) -> int:
    """Return the partition of a key, the same in every adapter and for ever (CRC-32 of its UTF-8 bytes)."""
    return zlib.crc32(key.encode()) % PARTITIONS_PER_TOPIC


class LogUnavailable(Unavailable):
    """The log did not confirm; whether the events are in is unknown, so the same append may be repeated."""


class EventTooLarge(MalformedInput):
    """An encoded event exceeds `EVENT_BYTES_MAX`."""


class CursorOutsideLog(RuleBroken):
    """A group's cursor points at what the log does not hold (retention, another topic, another partition count)."""


class CursorMoved(RuleBroken):
    """Another consumer moved the cursor: this one is a zombie, its unit is rolled back."""


Handler = Callable[[UnitOfWork, Sequence[LoggedEvent]], Awaitable[None]]
"""Handles a batch of one partition in one unit. The consumer commits; the handler never does. It may run again with
the same events after a crash, and in smaller parts after an error: its only lasting effects are in the unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEvent:
    """An event in the dead-letter queue: it, or an earlier one of its key, could not be handled."""

    group: str
    logged: LoggedEvent
    reason: str


class EventLog(Protocol):
    """Topics of `PARTITIONS_PER_TOPIC` partitions; offsets are dense; order holds per key."""

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        """Return when all are durable; all or none. Raises `LogUnavailable`, `EventTooLarge`, `TextWithNUL`."""

    async def consume(
        self,
        group: str,
        topics: Sequence[str],
        handler: Handler,
        *,
        stop: asyncio.Event,
        batch_events_max: int = BATCH_EVENTS_MAX,
    ) -> None:
        """Hand every event to `handler`, partition by partition, until `stop` is set.

        The group's cursor moves in the handler's unit, by compare-and-set. When a batch fails it is tried again in
        halves; an event that fails alone, for a reason other than `Unavailable`, parks its key: it and later events
        of that key go to the dead letters in order, other keys go on. `Unavailable` is tried again with back-off.
        """

    def read(self, topics: Sequence[str]) -> AsyncIterator[LoggedEvent]:
        """Yield all that the log holds now, by topic, partition and offset. For audits; moves no cursor."""

    async def lag(self) -> Mapping[str, int]:
        """Return for each group that ever consumed how many events it has not handled yet."""

    async def parked(self, group: str) -> Sequence[ParkedEvent]:
        """Return the group's dead letters, in order."""

    async def replay_parked(self, group: str, key: str, handler: Handler) -> int:
        """Hand a parked key's events to `handler` again; on success the key is free. Returns how many were handled."""

    async def prune(self) -> int:
        """Drop old events that every group has passed and whose retention age is over; return how many went."""
