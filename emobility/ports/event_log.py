"""The event log, the spine: durable, consumed in order per key, each group's cursor moving with its effects."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from emobility.domain.errors import MalformedInput, RuleBroken, Unavailable
from emobility.events.event import NO_VIEWS, Envelope, LoggedEvent, Views
from emobility.ports.unit_of_work import UnitOfWork

PARTITIONS_PER_TOPIC: Final = 8
"""Fixed when a topic is created: a key must find its partition for ever."""
EVENT_BYTES_MAX: Final = 1_000_000
"""Largest encoded event; Kafka's default limit for a message is 1 MiB."""
BATCH_EVENTS_MAX: Final = 500
"""Most events a handler gets at once."""
EXPLANATION_CHARACTERS_MAX: Final = 500
"""Longest statement of why an event was discarded."""


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
class Bounds:
    """Offsets of one partition from `first` up to, not including, `end`."""

    first: int
    end: int

    @property
    def events(self) -> int:
        """How many they are: offsets are dense."""
        return self.end - self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEvent:
    """An event in the dead-letter queue: it, or an earlier one of its key, could not be handled."""

    group: str
    logged: LoggedEvent
    reason: str
    parked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardedEvent:
    """A dead letter that somebody decided never to handle: what it was, and who said why and when."""

    parked: ParkedEvent
    who: str
    why: str
    discarded_at: datetime


class NotParked(RuleBroken):
    """No such event is in the group's dead letters."""

    def __init__(self, group: str, *, topic: str, partition: int, offset: int) -> None:
        super().__init__(f"{group} has not parked {topic}/{partition}@{offset}")


class DiscardUnexplained(MalformedInput):
    """Who discards an event, or why, is not said in 1 to `EXPLANATION_CHARACTERS_MAX` characters."""

    def __init__(self) -> None:
        super().__init__(f"say who discards the event and why, each in 1 to {EXPLANATION_CHARACTERS_MAX} characters")


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
        views: Views = NO_VIEWS,
    ) -> None:
        """Hand every event to `handler`, partition by partition, until `stop` is set.

        Of an event in `views` the handler may get no more than its view, or the whole, as the adapter likes.

        The group's cursor moves in the handler's unit, by compare-and-set. When a batch fails it is tried again in
        halves; an event that fails alone, for a reason other than `Unavailable`, parks its key: it and later events
        of that key go to the dead letters in order, other keys go on. `Unavailable` is tried again with back-off.
        """

    def read(self, topics: Sequence[str]) -> AsyncIterator[LoggedEvent]:
        """Yield all that the log holds now, by topic, partition and offset. For audits; moves no cursor."""

    async def bounds(self, topics: Sequence[str]) -> Mapping[tuple[str, int], Bounds]:
        """Return what the log holds of each partition that ever held anything.

        Offsets start at 0, so what is missing before `first` was pruned.
        """

    async def lag(self) -> Mapping[str, int]:
        """Return for each group that ever consumed how many events it has not handled yet."""

    async def parked(self, group: str) -> Sequence[ParkedEvent]:
        """Return the group's dead letters, in order."""

    async def replay_parked(self, group: str, key: str, handler: Handler) -> int:
        """Hand a parked key's events to `handler` again; on success the key is free. Returns how many were handled."""

    async def discard_parked(self, group: str, *, topic: str, partition: int, offset: int, who: str, why: str) -> None:
        """Take one event out of the dead letters for good, and keep it with who said why and when.

        Its key is free when nothing else of it is parked; otherwise the rest waits for `replay_parked`.

        Raises:
            NotParked: it is not there (any more).
            DiscardUnexplained: nobody, or no reason, is named.
        """

    async def discarded(self, group: str) -> Sequence[DiscardedEvent]:
        """Return what was discarded of the group's dead letters, in the log's order. It is kept for ever."""

    async def prunable(self) -> Mapping[tuple[str, int], Bounds]:
        """Return what `prune` would drop now, of each partition of which it would drop something."""

    async def prune(self) -> int:
        """Drop old events that every group has passed and whose retention age is over; return how many went.

        A topic that no group ever consumed keeps everything: its consumer may only not have started yet.
        """
