"""What every event log does with a batch: handle it, halve it, park its poison, or wait.

An adapter supplies units that can move a cursor and park an event; this module decides what happens when a handler
fails, so that memory, PostgreSQL and Kafka cannot differ in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from emobility.adapters.texts import refuse_nul, refuse_nul_in_json
from emobility.domain.errors import Unavailable
from emobility.events import codec
from emobility.events.event import Envelope, LoggedEvent, Views
from emobility.ports.event_log import (
    EVENT_BYTES_MAX,
    EXPLANATION_CHARACTERS_MAX,
    CursorMoved,
    DiscardUnexplained,
    EventTooLarge,
    Handler,
)
from emobility.ports.unit_of_work import UnitOfWork

BACK_OFF_S_MIN: Final = 0.05
BACK_OFF_S_MAX: Final = 5.0
REASON_CHARACTERS_MAX: Final = 500

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One partition of a topic as one group reads it."""

    group: str
    topic: str
    partition: int


class ConsumingUnit(UnitOfWork, Protocol):
    """A unit that also holds the group's cursor and its dead letters."""

    async def move_cursor(self, place: Place, *, expected: int, to: int) -> None:
        """Move the cursor in this unit. Raises `CursorMoved` when it does not stand at `expected`."""

    async def fresh(self, place: Place, events: Sequence[LoggedEvent]) -> Sequence[LoggedEvent]:
        """Return the events without those that the log itself repeats; called after `move_cursor`."""

    async def parked_keys(self, place: Place, keys: Sequence[str]) -> frozenset[str]:
        """Return which of `keys` are parked, and keep them so until this unit ends."""

    async def park(self, place: Place, logged: LoggedEvent, reason: str) -> None:
        """Put an event into the dead letters and its key with it."""


def viewed(topic: str, partition: int, offset: int, data: bytes, views: Views) -> LoggedEvent:
    """Build an event for a handler; of one that is a view the bytes are kept, for the dead letters hold the whole."""
    envelope = codec.decode_envelope(data, views)
    kept = data if type(envelope.event) in views.values() else None
    return LoggedEvent(topic=topic, partition=partition, offset=offset, envelope=envelope, data=kept)


BeginConsuming = Callable[[], AbstractAsyncContextManager[ConsumingUnit]]


def encoded(envelope: Envelope) -> bytes:
    """Return an envelope's bytes. Raises `EventTooLarge`, `TextWithNUL`."""
    data = codec.encode_envelope(envelope)
    refuse_nul_in_json(data, envelope.event.wire_name)
    if len(data) > EVENT_BYTES_MAX:
        raise EventTooLarge(f"{envelope.event.wire_name} takes {len(data)} bytes, more than {EVENT_BYTES_MAX}")
    return data


def content_hash(envelope: Envelope) -> bytes:
    """Return the hash of the fact itself: not of when, or in which connection, this process learnt it."""
    return hashlib.sha256(envelope.event.wire_name.encode() + b"\0" + codec.encode(envelope.event)).digest()


def refuse_unexplained(who: str, why: str) -> None:
    """Let a discard pass that says who and why. Raises `DiscardUnexplained`, `TextWithNUL`."""
    refuse_nul((who, why), "a discard")
    if not all(text.strip() and len(text) <= EXPLANATION_CHARACTERS_MAX for text in (who, why)):
        raise DiscardUnexplained


async def sleep_or_stop(duration_s: float, stop: asyncio.Event) -> None:
    """Return after `duration_s`, or at once when `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(duration_s):
            await stop.wait()


class BackOff:
    """Waits twice as long each time, up to a bound."""

    def __init__(self, *, first_s: float = BACK_OFF_S_MIN, max_s: float = BACK_OFF_S_MAX) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._next_s = first_s

    def reset(self) -> None:
        """Begin with the shortest wait again."""
        self._next_s = self._first_s

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait once, or until `stop` is set."""
        duration_s, self._next_s = self._next_s, min(self._next_s * 2, self._max_s)
        await sleep_or_stop(duration_s, stop)


@dataclass(frozen=True, slots=True)
class _Part:
    """Events to try in one unit; with a `poison` reason there is one, and it is parked instead of handled."""

    events: Sequence[LoggedEvent]
    poison: str | None = None


async def handle_batch(
    begin: BeginConsuming,
    place: Place,
    events: Sequence[LoggedEvent],
    handler: Handler,
    *,
    stop: asyncio.Event,
) -> None:
    """Bring a batch of consecutive offsets behind the group's cursor, whatever its handler does.

    Returns early when `stop` is set while waiting; the rest is handled later, from the cursor.

    Raises:
        CursorMoved: another consumer was faster; nothing of the current unit happened.
    """
    back_off = BackOff()
    parts = [_Part(events)]
    while parts:
        part = parts.pop()
        try:
            await _attempt(begin, place, part, handler)
        except CursorMoved:
            raise
        except Unavailable as error:
            if stop.is_set():
                return
            _log.info("events wait", group=place.group, topic=place.topic, reason=type(error).__name__)
            await back_off.wait(stop)
            parts.append(part)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the log goes on without its key
            parts.extend(_smaller(part, error, place))
        else:
            back_off.reset()


async def _attempt(begin: BeginConsuming, place: Place, part: _Part, handler: Handler) -> None:
    events = part.events
    async with begin() as unit:
        await unit.move_cursor(place, expected=events[0].offset, to=events[-1].offset + 1)
        events = await unit.fresh(place, events)
        if part.poison is not None:
            for logged in events:
                await unit.park(place, logged, part.poison)
        else:
            keys = list(dict.fromkeys(logged.envelope.event.key for logged in events))
            parked = await unit.parked_keys(place, keys)
            for logged in events:
                if logged.envelope.event.key in parked:
                    await unit.park(place, logged, "an earlier event of this key is parked")
            free = [logged for logged in events if logged.envelope.event.key not in parked]
            if free:
                await handler(unit, free)
        await unit.commit()


def _smaller(part: _Part, error: Exception, place: Place) -> list[_Part]:
    """Return what to try instead of a part that failed, last one first."""
    events = part.events
    if part.poison is not None:
        raise error  # the log itself can't park: this is no fault of the event
    if len(events) > 1:
        middle = len(events) // 2
        return [_Part(events[middle:]), _Part(events[:middle])]
    _log.error(
        "event parked",
        group=place.group,
        topic=place.topic,
        partition=place.partition,
        offset=events[0].offset,
        correlation_id=events[0].envelope.correlation_id,
        error=type(error).__name__,
    )
    reason = f"{type(error).__name__}: {error}"[:REASON_CHARACTERS_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return [_Part(events, poison=reason)]


async def run_all(workers: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run workers side by side; when one fails the others are cancelled and its own error is raised."""
    tasks = [asyncio.ensure_future(worker()) for worker in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
