"""How events enter the log's tables: topics, segments, and the one call that gives dense offsets.

`append_events` takes the counters' rows in ascending order and holds them to the commit. So offset order is commit
order: a reader who sees an offset sees all before it. It must be the last statement of its transaction, and the
commit travels in the same message, because every other writer of the partition waits meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from psycopg import errors, sql
from psycopg.pq import TransactionStatus

from emobility.adapters.consuming import encoded
from emobility.adapters.postgres.connections import Connection, Database, DatabaseUnavailable
from emobility.events.event import Envelope
from emobility.ports.event_log import PARTITIONS_PER_TOPIC, partition_of

SEGMENT_OFFSETS: Final = 1_000_000
"""Offsets per partition in one segment table; an old segment is dropped whole."""
SEGMENT_LOCK: Final = 0x776174740002

_APPEND: Final = (
    b"SELECT append_events(%(topics)b::text[], %(partitions)b::bigint[], %(lengths)b::bigint[],"
    b" %(keys)b::text[], %(envelopes)b::bytea[], %(now)s)"
)


class SegmentMissing(DatabaseUnavailable):
    """The events' segment was not there yet: nothing was appended. After `Appender.make_room`, try again."""

    def __init__(self, *, topics: Sequence[str], events: int) -> None:
        self.topics = topics
        self.events = events
        super().__init__(f"{', '.join(topics)} had no room for {events} events")


Emitted = tuple[Envelope, bytes]


def with_bytes(envelopes: Iterable[Envelope]) -> list[Emitted]:
    """Encode events for the log. Raises `EventTooLarge`."""
    return [(envelope, encoded(envelope)) for envelope in envelopes]


def _runs(emitted: Sequence[Emitted], now: datetime) -> dict[str, Any]:
    """Group events into runs per partition, ascending, each in its order of emission."""
    runs: dict[tuple[str, int], list[tuple[str, bytes]]] = {}
    for envelope, data in emitted:
        key = envelope.event.key
        runs.setdefault((envelope.event.topic, partition_of(key)), []).append((key, data))
    places = sorted(runs)
    ordered = [each for place in places for each in runs[place]]
    return {
        "topics": [topic for topic, _ in places],
        "partitions": [partition for _, partition in places],
        "lengths": [len(runs[place]) for place in places],
        "keys": [key for key, _ in ordered],
        "envelopes": [data for _, data in ordered],
        "now": now,
    }


class Appender:
    """Appends to the tables of the log, from a unit or by itself."""

    def __init__(self, database: Database, *, segment_offsets: int = SEGMENT_OFFSETS) -> None:
        self._database = database
        self._segment_offsets = segment_offsets
        self._segments_end: dict[str, int] = {}
        self._growing: set[asyncio.Task[None]] = set()
        self.on_append: list[Callable[[Sequence[str]], None]] = []

    async def ensure_topics(self, topics: Iterable[str]) -> None:
        """Create what a topic needs before its first event. Raises `DatabaseUnavailable`."""
        for topic in sorted(set(topics)):
            if topic not in self._segments_end:
                await self._grow(topic, room=0)

    async def append(
        self,
        connection: Connection,
        emitted: Sequence[Emitted],
        *,
        now: datetime,
        ahead: Sequence[tuple[bytes, Mapping[str, Any]]] = (),
    ) -> None:
        """Append as the last statement of the connection's transaction and commit it; without one, by itself.

        Args:
            connection: Where the transaction is, or none.
            emitted: What to append.
            now: When it is stored.
            ahead: Statements of the transaction that travel with it; the first may be its BEGIN.

        Raises:
            SegmentMissing: nothing was appended. The caller makes room when it has given its connection back.
        """
        topics = sorted({envelope.event.topic for envelope, _ in emitted})
        await self.ensure_topics(topics)
        try:
            if not ahead and connection.info.transaction_status is TransactionStatus.IDLE:
                cursor = await connection.execute(_APPEND, _runs(emitted, now))
            else:
                async with connection.pipeline():
                    for statement, values in ahead:
                        await connection.execute(statement, values)
                    cursor = await connection.execute(_APPEND, _runs(emitted, now))
                    await connection.commit()
        except errors.CheckViolation as error:
            if error.diag.constraint_name is not None:
                raise  # a row that travelled with it broke a rule; a missing segment has no name
            raise SegmentMissing(topics=topics, events=len(emitted)) from error
        row = await cursor.fetchone()
        self._grow_ahead(topics, head=int(row[0]) if row else 0)
        for wake in self.on_append:
            wake(topics)

    async def make_room(self, missing: SegmentMissing) -> None:
        """Add the segments that an append lacked. Raises `DatabaseUnavailable`."""
        for topic in missing.topics:
            await self._grow(topic, room=missing.events)

    def _grow_ahead(self, topics: Iterable[str], *, head: int) -> None:
        """Make the next segment while the present one is still half empty."""
        for topic in topics:
            if head + self._segment_offsets // 2 > self._segments_end.get(topic, 0):
                self._segments_end[topic] = head + self._segment_offsets
                task = asyncio.create_task(self._grow(topic, room=0))
                self._growing.add(task)
                task.add_done_callback(self._grown)

    def _grown(self, task: asyncio.Task[None]) -> None:
        self._growing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._segments_end.clear()  # ask again at the next append

    async def _grow(self, topic: str, *, room: int) -> None:
        async with self._database.short_connection() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": SEGMENT_LOCK})
            await connection.execute(
                "INSERT INTO event_partition (topic, partition)"
                " SELECT %(topic)s, number FROM generate_series(0, %(last)s) AS number ON CONFLICT DO NOTHING",
                {"topic": topic, "last": PARTITIONS_PER_TOPIC - 1},
            )
            end = await self._add_segments(connection, topic, room=room)
        self._segments_end[topic] = end

    async def _add_segments(self, connection: Connection, topic: str, *, room: int) -> int:
        cursor = await connection.execute(
            "SELECT greatest((SELECT max(end_offset) FROM event_segment WHERE topic = %(topic)s),"
            " (SELECT min(first_offset) FROM event_partition WHERE topic = %(topic)s)),"
            " (SELECT max(head) FROM event_partition WHERE topic = %(topic)s)",
            {"topic": topic},
        )
        row = await cursor.fetchone()
        end, head = (int(row[0]), int(row[1])) if row else (0, 0)
        while end < head + room + self._segment_offsets:
            await self._add_segment(connection, topic, first=end, end=end + self._segment_offsets)
            end += self._segment_offsets
        return end

    async def _add_segment(self, connection: Connection, topic: str, *, first: int, end: int) -> None:
        name = f"event_{topic}_{first}"
        table = sql.Identifier(name)
        bounds = {"topic": sql.Literal(topic), "first": sql.Literal(first), "end": sql.Literal(end)}
        # Attached rather than created as a partition: that would lock the whole log for a moment.
        await connection.execute(
            sql.SQL("CREATE TABLE {} (LIKE event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)").format(table)
        )
        await connection.execute(
            sql.SQL(
                "ALTER TABLE event ATTACH PARTITION {table} FOR VALUES FROM ({topic}, {first}) TO ({topic}, {end})"
            ).format(table=table, **bounds)
        )
        await connection.execute(
            "INSERT INTO event_segment (topic, first_offset, end_offset, table_name)"
            " VALUES (%(topic)s, %(first)s, %(end)s, %(name)s)",
            {"topic": topic, "first": first, "end": end, "name": name},
        )

    async def close(self) -> None:
        """Wait for segments that are being made."""
        await asyncio.gather(*self._growing, return_exceptions=True)
