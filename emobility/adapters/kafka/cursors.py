"""A group's place in Kafka's partitions, kept in PostgreSQL beside the effects of what it read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from emobility.adapters.consuming import Place
from emobility.adapters.postgres import PostgresUnit, PostgresUnits
from emobility.events.event import LoggedEvent
from emobility.ports.event_log import Bounds, CursorMoved, CursorOutsideLog


class KafkaUnit(PostgresUnit):
    """A unit whose cursor is a Kafka offset. `outbox_offsets`: for each Kafka offset, the outbox's own."""

    outbox_offsets: Mapping[int, int] = {}
    _relayed_to = 0

    async def move_cursor(self, place: Place, *, expected: int, to: int) -> None:
        """Move the group's cursor by compare-and-set. Raises `CursorMoved`."""
        moved = await self.execute(
            b"UPDATE kafka_cursor SET next_offset = %(to)s WHERE (group_name, topic, partition) IN ("
            b" SELECT group_name, topic, partition FROM kafka_cursor WHERE group_name = %(group)s"
            b" AND topic = %(topic)s AND partition = %(partition)s AND next_offset = %(expected)s"
            b" FOR UPDATE SKIP LOCKED) RETURNING relayed_to",
            {
                "to": to,
                "expected": expected,
                "group": place.group,
                "topic": place.topic,
                "partition": place.partition,
            },
        )
        row = await moved.fetchone()
        if row is None:
            raise CursorMoved(f"{place} does not stand at {expected} any more, or another worker has it")
        self._relayed_to = int(row[0])

    async def fresh(self, place: Place, events: Sequence[LoggedEvent]) -> Sequence[LoggedEvent]:
        """Leave out what a relay published again, and remember how far it has come."""
        kept: list[LoggedEvent] = []
        relayed_to = self._relayed_to
        for logged in events:
            outbox_offset = self.outbox_offsets.get(logged.offset)
            if outbox_offset is None:
                kept.append(logged)
            elif outbox_offset >= relayed_to:
                kept.append(logged)
                relayed_to = outbox_offset + 1
        if relayed_to != self._relayed_to:
            await self.execute(
                b"UPDATE kafka_cursor SET relayed_to = %(to)s"
                b" WHERE group_name = %(group)s AND topic = %(topic)s AND partition = %(partition)s",
                {"to": relayed_to, "group": place.group, "topic": place.topic, "partition": place.partition},
            )
        return kept


@asynccontextmanager
async def begin_consuming(units: PostgresUnits, outbox_offsets: Mapping[int, int]) -> AsyncIterator[KafkaUnit]:
    """Open a unit for a batch of Kafka records."""
    async with units.begin_as(KafkaUnit) as unit:
        unit.outbox_offsets = outbox_offsets
        yield unit


class Cursors:
    """All groups' places."""

    def __init__(self, units: PostgresUnits) -> None:
        self._units = units

    async def enter(
        self, group: str, topic_ids: Mapping[str, str], bounds: Mapping[tuple[str, int], Bounds]
    ) -> Mapping[tuple[str, int], int]:
        """Give a group a place in each partition, where it has none the log's first; return its next offsets.

        Raises:
            CursorOutsideLog: the topic was made anew, or the log does not hold the offset (any more).
        """
        async with self._units.begin() as unit:
            for (topic, partition), held in sorted(bounds.items()):
                await unit.execute(
                    b"INSERT INTO kafka_cursor (group_name, topic, partition, topic_id, next_offset)"
                    b" VALUES (%(group)s, %(topic)s, %(partition)s, %(topic_id)s, %(first)s) ON CONFLICT DO NOTHING",
                    {
                        "group": group,
                        "topic": topic,
                        "partition": partition,
                        "topic_id": topic_ids[topic],
                        "first": held.first,
                    },
                )
            cursor = await unit.execute(
                b"SELECT topic, partition, topic_id, next_offset FROM kafka_cursor"
                b" WHERE group_name = %(group)s AND topic = ANY(%(topics)s)",
                {"group": group, "topics": sorted(topic_ids)},
            )
            rows = await cursor.fetchall()
            await unit.commit()
        for topic, partition, topic_id, next_offset in rows:
            held = bounds[topic, partition]
            if topic_id != topic_ids[topic]:
                raise CursorOutsideLog(f"{topic} was made anew: {group} read topic {topic_id}")
            if not held.first <= next_offset <= held.end:
                raise CursorOutsideLog(
                    f"{group} stands at {next_offset} of {topic}/{partition}; the log holds {held.first} to {held.end}"
                )
        return {(topic, partition): next_offset for topic, partition, _, next_offset in rows}

    async def all(self) -> list[tuple[Place, int]]:
        """Return each group's next offset in each partition."""
        async with self._units.begin() as unit:
            cursor = await unit.execute(
                b"SELECT group_name, topic, partition, next_offset FROM kafka_cursor"
                b" ORDER BY group_name, topic, partition",
                {},
            )
            return [(Place(group=row[0], topic=row[1], partition=row[2]), row[3]) for row in await cursor.fetchall()]

    async def unpublished(self, relay_group: str) -> Mapping[str, int]:
        """Return for each topic how many events wait in the outbox."""
        async with self._units.begin() as unit:
            cursor = await unit.execute(
                b"SELECT topic, sum(head - coalesce(next_offset, first_offset))::bigint FROM event_partition"
                b" LEFT JOIN group_cursor USING (topic, partition)"
                b" WHERE group_name = %(group)s OR group_name IS NULL GROUP BY topic",
                {"group": relay_group},
            )
            return {topic: int(count) for topic, count in await cursor.fetchall()}
