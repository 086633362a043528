"""The event log in memory: the same promises as on disk, but for surviving the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import Final

from emobility.adapters.consuming import Place, encoded, handle_batch, refuse_unexplained, run_all, viewed
from emobility.adapters.memory.records import (
    CURSOR,
    DEAD_LETTER,
    DISCARDED,
    PARKED_KEY,
    Cursor,
    DeadLetter,
    DiscardedLetter,
)
from emobility.adapters.memory.units import MemoryState, MemoryUnits
from emobility.events import codec
from emobility.events.event import NO_VIEWS, Envelope, LoggedEvent, Views
from emobility.ports.event_log import (
    BATCH_EVENTS_MAX,
    PARTITIONS_PER_TOPIC,
    Bounds,
    CursorMoved,
    CursorOutsideLog,
    DiscardedEvent,
    Handler,
    NotParked,
    ParkedEvent,
)

RETENTION_AGE: Final = timedelta(days=90)


class MemoryEventLog:
    """Topics of partitions in lists; see `emobility.ports.event_log.EventLog`."""

    def __init__(self, state: MemoryState, *, retention: timedelta = RETENTION_AGE) -> None:
        self._state = state
        self._units = MemoryUnits(state)
        self._retention = retention

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        """Add all or none. Raises `EventTooLarge`."""
        self._state.append([(envelope, encoded(envelope)) for envelope in envelopes])

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
        """Hand every event to `handler` until `stop` is set; one task per partition.

        Raises:
            CursorOutsideLog: the group stands where the log holds nothing (any more).
        """
        places = [
            Place(group=group, topic=topic, partition=partition)
            for topic in topics
            for partition in range(PARTITIONS_PER_TOPIC)
        ]
        await self._enter_cursors(places)
        await run_all([partial(self._consume_place, place, handler, stop, batch_events_max, views) for place in places])

    async def _enter_cursors(self, places: Sequence[Place]) -> None:
        async with self._units.begin() as unit:
            cursors = unit.table(CURSOR)
            for place in places:
                if await cursors.get(place.group, place.topic, place.partition) is None:
                    first = self._state.partition(place.topic, place.partition).first
                    await cursors.put(
                        Cursor(group_name=place.group, topic=place.topic, partition=place.partition, next_offset=first)
                    )
            await unit.commit()

    async def _consume_place(
        self, place: Place, handler: Handler, stop: asyncio.Event, batch_events_max: int, views: Views
    ) -> None:
        changed = asyncio.Event()
        self._state.on_append.append(changed.set)
        try:
            while not stop.is_set():
                changed.clear()
                batch = self._batch(place, batch_events_max, views)
                if not batch:
                    await _either(changed, stop)
                    continue
                try:
                    await handle_batch(self._units.begin, place, batch, handler, stop=stop)
                except CursorMoved:
                    await asyncio.sleep(0)  # another worker of the group was faster: go on from where it stands
        finally:
            self._state.on_append.remove(changed.set)

    def _cursor(self, place: Place) -> int:
        cursor: Cursor = self._state.rows(CURSOR).by_key[place.group, place.topic, place.partition]
        partition = self._state.partition(place.topic, place.partition)
        if not partition.first <= cursor.next_offset <= partition.head:
            raise CursorOutsideLog(
                f"{place} stands at {cursor.next_offset}; the log holds {partition.first} to {partition.head}"
            )
        return cursor.next_offset

    def _batch(self, place: Place, events_max: int, views: Views) -> list[LoggedEvent]:
        offset = self._cursor(place)
        partition = self._state.partition(place.topic, place.partition)
        stored = partition.events[offset - partition.first : offset - partition.first + events_max]
        return [
            viewed(place.topic, place.partition, offset + index, event.data, views)
            for index, event in enumerate(stored)
        ]

    async def read(self, topics: Sequence[str]) -> AsyncIterator[LoggedEvent]:
        """Yield all that the log holds now, by topic, partition and offset."""
        for topic in topics:
            for number in range(PARTITIONS_PER_TOPIC):
                partition = self._state.partition(topic, number)
                first = partition.first
                for index, event in enumerate(list(partition.events)):
                    yield _logged(topic, number, first + index, event.data)

    async def bounds(self, topics: Sequence[str]) -> Mapping[tuple[str, int], Bounds]:
        """Return what the log holds of each partition that ever held anything."""
        return {
            place: Bounds(first=partition.first, end=partition.head)
            for place, partition in sorted(self._state.partitions.items())
            if place[0] in topics and partition.head
        }

    async def lag(self) -> Mapping[str, int]:
        """Return for each group how many events it has not handled yet."""
        lags: dict[str, int] = {}
        for cursor in self._state.rows(CURSOR).by_key.values():
            behind = self._state.partition(cursor.topic, cursor.partition).head - cursor.next_offset
            lags[cursor.group_name] = lags.get(cursor.group_name, 0) + behind
        return dict(sorted(lags.items()))

    async def parked(self, group: str) -> Sequence[ParkedEvent]:
        """Return the group's dead letters, in order."""
        async with self._units.begin() as unit:
            letters = await unit.table(DEAD_LETTER).select({"group_name": group})
        return [_parked(letter) for letter in letters]

    async def replay_parked(self, group: str, key: str, handler: Handler) -> int:
        """Hand a parked key's events to `handler` again; what it handled leaves the dead letters."""
        handled = 0
        for topic in sorted({letter.topic for letter in self._letters(group, key)}):
            while count := await self._replay_batch(group, topic, key, handler):
                handled += count
        return handled

    def _letters(self, group: str, key: str) -> list[DeadLetter]:
        rows = self._state.rows(DEAD_LETTER).by_key.values()
        return [letter for letter in rows if letter.group_name == group and letter.key == key]

    async def _replay_batch(self, group: str, topic: str, key: str, handler: Handler) -> int:
        async with self._units.begin() as unit:
            await unit.table(PARKED_KEY).get_for_update(group, topic, key)
            dead_letters = unit.table(DEAD_LETTER)
            where = {"group_name": group, "topic": topic, "key": key}
            letters = await dead_letters.select(where, order_by=("log_offset",), limit=BATCH_EVENTS_MAX)
            if letters:
                await handler(unit, [_of_letter(letter) for letter in letters])
            for letter in letters:
                await dead_letters.delete(group, topic, letter.partition, letter.log_offset)
            if not await dead_letters.count(where):
                await unit.table(PARKED_KEY).delete(group, topic, key)
            await unit.commit()
        return len(letters)

    async def discard_parked(self, group: str, *, topic: str, partition: int, offset: int, who: str, why: str) -> None:
        """Take one event out of the dead letters for good. Raises `NotParked`, `DiscardUnexplained`."""
        refuse_unexplained(who, why)
        async with self._units.begin() as unit:
            dead_letters = unit.table(DEAD_LETTER)
            letter = await dead_letters.get_for_update(group, topic, partition, offset)
            if letter is None:
                raise NotParked(group, topic=topic, partition=partition, offset=offset)
            await unit.table(PARKED_KEY).get_for_update(group, topic, letter.key)
            parked = {field.name: getattr(letter, field.name) for field in fields(DeadLetter)}
            discarded_at = self._state.clock.now()
            await unit.table(DISCARDED).put(DiscardedLetter(**parked, who=who, why=why, discarded_at=discarded_at))
            await dead_letters.delete(group, topic, partition, offset)
            if not await dead_letters.count({"group_name": group, "topic": topic, "key": letter.key}):
                await unit.table(PARKED_KEY).delete(group, topic, letter.key)
            await unit.commit()

    async def discarded(self, group: str) -> Sequence[DiscardedEvent]:
        """Return what was discarded of the group's dead letters, in the log's order."""
        async with self._units.begin() as unit:
            letters = await unit.table(DISCARDED).select({"group_name": group})
        return [
            DiscardedEvent(parked=_parked(letter), who=letter.who, why=letter.why, discarded_at=letter.discarded_at)
            for letter in letters
        ]

    async def prunable(self) -> Mapping[tuple[str, int], Bounds]:
        """Return events older than the retention age that every group of their topic has passed."""
        before = self._state.clock.now() - self._retention
        passed: dict[tuple[str, int], int] = {}
        for cursor in self._state.rows(CURSOR).by_key.values():
            place = (cursor.topic, cursor.partition)
            passed[place] = min(passed.get(place, cursor.next_offset), cursor.next_offset)
        old: dict[tuple[str, int], Bounds] = {}
        for place, offset in sorted(passed.items()):
            partition = self._state.partition(*place)
            end = partition.first
            while end < offset and partition.events[end - partition.first].stored_at < before:
                end += 1
            if end > partition.first:
                old[place] = Bounds(first=partition.first, end=end)
        return old

    async def prune(self) -> int:
        """Drop what is `prunable`; return how many events went."""
        old = await self.prunable()
        for place, bounds in old.items():
            partition = self._state.partition(*place)
            del partition.events[: bounds.events]
            partition.first = bounds.end
        return sum(bounds.events for bounds in old.values())

    def dump(self) -> bytes:
        """Return the whole log as bytes, one event a line, to compare two runs byte for byte."""
        lines = [
            b"%s %d %d %s\n" % (topic.encode(), number, partition.first + index, event.data)
            for (topic, number), partition in sorted(self._state.partitions.items())
            for index, event in enumerate(partition.events)
        ]
        return b"".join(lines)


def _logged(topic: str, partition: int, offset: int, data: bytes) -> LoggedEvent:
    return LoggedEvent(topic=topic, partition=partition, offset=offset, envelope=codec.decode_envelope(data))


def _parked(letter: DeadLetter | DiscardedLetter) -> ParkedEvent:
    return ParkedEvent(
        group=letter.group_name, logged=_of_letter(letter), reason=letter.reason, parked_at=letter.parked_at
    )


def _of_letter(letter: DeadLetter | DiscardedLetter) -> LoggedEvent:
    return _logged(letter.topic, letter.partition, letter.log_offset, letter.envelope)


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    """Return when one of two events is set."""
    waits = [asyncio.ensure_future(first.wait()), asyncio.ensure_future(second.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
