"""The event log in PostgreSQL; `docs/decisions/0002-event-log.md` says why offsets are dense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from itertools import count
from typing import Final

from emobility.adapters.consuming import BackOff, Place, handle_batch
from emobility.adapters.postgres import discarding, reading, replaying, retention
from emobility.adapters.postgres.appending import Appender, Emitted, SegmentMissing, with_bytes
from emobility.adapters.postgres.connections import Database, DatabaseUnavailable
from emobility.adapters.postgres.retention import RETENTION_AGE
from emobility.adapters.postgres.units import PostgresUnits
from emobility.adapters.postgres.wakeups import POLL_S, Wakeups
from emobility.domain.errors import Unavailable
from emobility.events.event import NO_VIEWS, Envelope, LoggedEvent, Views
from emobility.ports.clock import Clock
from emobility.ports.event_log import (
    BATCH_EVENTS_MAX,
    PARTITIONS_PER_TOPIC,
    Bounds,
    CursorMoved,
    DiscardedEvent,
    Handler,
    LogUnavailable,
    ParkedEvent,
)

HANDLED_AT_ONCE_MAX: Final = 4
"""Partitions of one group that a process handles side by side; each holds a connection."""
SEGMENT_ATTEMPTS_MAX: Final = 10
"""How often an append tries again while others fill the segments that are made for it."""
STEP_BACK_S: Final = 0.05
"""How long a worker leaves a partition alone after another worker of the group was faster."""


class PostgresEventLog:
    """See `emobility.ports.event_log.EventLog`."""

    def __init__(
        self,
        database: Database,
        units: PostgresUnits,
        appender: Appender,
        wakeups: Wakeups,
        *,
        clock: Clock,
        retention_age: timedelta = RETENTION_AGE,
    ) -> None:
        self._database = database
        self._units = units
        self._appender = appender
        self._wakeups = wakeups
        self._clock = clock
        self._retention_age = retention_age

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        """Return when all are durable; all or none. Raises `LogUnavailable`, `EventTooLarge`."""
        emitted = with_bytes(envelopes)
        if not emitted:
            return
        try:
            await self._append(emitted)
        except Unavailable as error:
            raise LogUnavailable(str(error)) from error

    async def _append(self, emitted: Sequence[Emitted]) -> None:
        for attempt in count(1):
            try:
                async with self._database.short_connection() as connection:
                    await self._appender.append(connection, emitted, now=self._clock.now())
            except SegmentMissing as missing:
                if attempt == SEGMENT_ATTEMPTS_MAX:
                    raise
                await self._appender.make_room(missing)
            else:
                return

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
        """Hand every event to `handler` until `stop` is set; see the port. Workers of a group share its partitions.

        Raises:
            CursorOutsideLog: the group stands where the log holds nothing (any more).
            UnknownEvent: a newer writer is at work.
        """
        consumer = _Consumer(
            self._database,
            self._units,
            group=group,
            topics=topics,
            handler=handler,
            events_max=batch_events_max,
            views=views,
        )
        await consumer.run(stop, self._appender, self._wakeups)

    def read(self, topics: Sequence[str]) -> AsyncIterator[LoggedEvent]:
        """Yield all that the log holds now, by topic, partition and offset. Raises `DatabaseUnavailable`."""
        return reading.everything(self._database, topics)

    async def bounds(self, topics: Sequence[str]) -> Mapping[tuple[str, int], Bounds]:
        """Return what the log holds of each partition that ever held anything. Raises `DatabaseUnavailable`."""
        return await reading.bounds(self._database, topics)

    async def batch(self, place: Place, *, offset: int, events_max: int) -> list[LoggedEvent]:
        """Return events of one partition from an offset on. Raises `DatabaseUnavailable`."""
        return await reading.batch(self._database, place, offset=offset, events_max=events_max)

    async def lag(self) -> Mapping[str, int]:
        """Return for each group how many events it has not handled yet. Raises `DatabaseUnavailable`."""
        return await reading.lags(self._database)

    async def parked(self, group: str) -> Sequence[ParkedEvent]:
        """Return the group's dead letters, in order. Raises `DatabaseUnavailable`."""
        return await reading.parked(self._database, group)

    async def replay_parked(self, group: str, key: str, handler: Handler) -> int:
        """Hand a parked key's events to `handler` again; what it handled leaves the dead letters."""
        return await replaying.replay(self._units, group, key, handler)

    async def discard_parked(self, group: str, *, topic: str, partition: int, offset: int, who: str, why: str) -> None:
        """Take one event out of the dead letters for good. Raises `NotParked`, `DiscardUnexplained`."""
        letter = discarding.Letter(group=group, topic=topic, partition=partition, offset=offset)
        await discarding.discard(self._units, letter, who=who, why=why)

    async def discarded(self, group: str) -> Sequence[DiscardedEvent]:
        """Return what was discarded of the group's dead letters, in the log's order. Raises `DatabaseUnavailable`."""
        return await discarding.discarded(self._database, group)

    async def prunable(self) -> Mapping[tuple[str, int], Bounds]:
        """Return what whole segments would go. Raises `DatabaseUnavailable`."""
        return await retention.prunable(self._database, before=self._clock.now() - self._retention_age)

    async def prune(self) -> int:
        """Drop old segments of the log and forget old idempotency keys; return how many events went."""
        await self._units.forget_old_inbox()
        return await retention.drop_old_segments(self._database, before=self._clock.now() - self._retention_age)


class _Consumer:
    """One call of `consume`: looks where the group is behind and sets a task to each such partition."""

    def __init__(
        self,
        database: Database,
        units: PostgresUnits,
        *,
        group: str,
        topics: Sequence[str],
        handler: Handler,
        events_max: int,
        views: Views,
    ) -> None:
        self._database = database
        self._units = units
        self._group = group
        self._topics = topics
        self._handler = handler
        self._events_max = events_max
        self._views = views
        self._changed = asyncio.Event()
        self._must_look = False
        self._free = asyncio.Semaphore(HANDLED_AT_ONCE_MAX)
        self._running: dict[Place, asyncio.Task[bool]] = {}
        self._has_cursors = False

    async def run(self, stop: asyncio.Event, appender: Appender, wakeups: Wakeups) -> None:
        """Consume until `stop`; a lost server is waited for."""
        back_off = BackOff(max_s=1.0)
        wait_for_stop = asyncio.create_task(stop.wait())
        wait_for_stop.add_done_callback(lambda _: self._look_again())
        try:
            with wakeups.subscribed(self._look_again, topics=self._topics):
                while not stop.is_set():
                    try:
                        await self._look(stop, appender)
                    except Unavailable:
                        await back_off.wait(stop)
                    else:
                        back_off.reset()
            await asyncio.gather(*self._running.values())
        finally:
            wait_for_stop.cancel()
            await self._end()

    def _look_again(self) -> None:
        self._must_look = True
        self._changed.set()

    async def _look(self, stop: asyncio.Event, appender: Appender) -> None:
        """Start a task for each partition where the group is behind, then wait until it may be behind again."""
        await self._reap(set())
        self._must_look = False
        if not self._has_cursors:
            await self._enter_cursors(appender)
        missed: set[Place] = set()
        for standing in await reading.standings(self._database, self._group, self._topics):
            if standing.next_offset >= standing.head:
                continue
            if standing.place in self._running:
                missed.add(standing.place)  # perhaps its task has read its last batch already
                continue
            task = asyncio.create_task(self._catch_up(standing.place, standing.next_offset, stop))
            self._running[standing.place] = task
            task.add_done_callback(lambda _: self._changed.set())
        while True:
            self._changed.clear()
            await self._reap(missed)
            if self._must_look:
                return
            try:
                async with asyncio.timeout(POLL_S):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _reap(self, missed: set[Place]) -> None:
        """Forget tasks that are done; where one left something behind, look again."""
        for place, task in list(self._running.items()):
            if task.done():
                del self._running[place]
                has_caught_up = await task  # raises what stopped it
                if place in missed or not has_caught_up:
                    self._must_look = True

    async def _enter_cursors(self, appender: Appender) -> None:
        await appender.ensure_topics(self._topics)
        async with self._database.short_connection() as connection:
            await connection.execute(
                "INSERT INTO group_cursor (group_name, topic, partition, next_offset)"
                " SELECT %(group)s, topic, partition, first_offset FROM event_partition"
                " WHERE topic = ANY(%(topics)s) AND partition < %(count)s ORDER BY topic, partition"
                " ON CONFLICT DO NOTHING",
                {"group": self._group, "topics": list(self._topics), "count": PARTITIONS_PER_TOPIC},
            )
        self._has_cursors = True

    async def _catch_up(self, place: Place, offset: int, stop: asyncio.Event) -> bool:
        """Handle batches of one partition; tell whether it got through all that was there."""
        async with self._free:
            while not stop.is_set():
                try:
                    events = await reading.batch(
                        self._database, place, offset=offset, events_max=self._events_max, views=self._views
                    )
                    if not events:
                        return True
                    await handle_batch(self._units.begin, place, events, self._handler, stop=stop)
                except CursorMoved:
                    await asyncio.sleep(STEP_BACK_S)
                    return False
                except DatabaseUnavailable:
                    return False  # look again, with back-off
                offset = events[-1].offset + 1
                if len(events) < self._events_max:
                    return True  # of what came meanwhile we are told
        return False

    async def _end(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
