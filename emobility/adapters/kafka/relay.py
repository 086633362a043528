"""Carries events from the outbox, the log in PostgreSQL, to Kafka, in the order of each partition.

Each process relays; the relay's cursor row, locked while a batch is under way, lets one at a time do a partition. A
relay that dies between Kafka's confirmation and its own commit leaves a batch that is published again: the outbox
offset in each record tells consumers so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from emobility.adapters.consuming import BackOff, Place
from emobility.adapters.kafka.broker import Message, Producer
from emobility.adapters.postgres import PostgresAdapters
from emobility.domain.errors import Unavailable
from emobility.events import codec
from emobility.events.event import LoggedEvent
from emobility.ports.event_log import CursorMoved

RELAY_GROUP: Final = "kafka_relay"
RELAYED_AT_ONCE_MAX: Final = 500
PARTITIONS_AT_ONCE_MAX: Final = 3
"""Each holds a connection while Kafka confirms."""
POLL_S: Final = 0.5

_log = structlog.get_logger()


class Relay:
    """One process's relay."""

    def __init__(self, postgres: PostgresAdapters, producer: Producer, *, prefix: str) -> None:
        self._postgres = postgres
        self._producer = producer
        self._prefix = prefix
        self._changed = asyncio.Event()
        self._free = asyncio.Semaphore(PARTITIONS_AT_ONCE_MAX)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish what the outbox holds until `stop` is set; brokers that are away are waited for."""
        back_off = BackOff(max_s=1.0)
        with self._postgres.wakeups.subscribed(self._changed.set):
            while not stop.is_set():
                self._changed.clear()
                try:
                    relayed = await self._relay_all()
                except Unavailable as error:
                    _log.warning("the outbox waits", reason=str(error)[:200])
                    await back_off.wait(stop)
                    continue
                back_off.reset()
                if not relayed:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await self._changed.wait()

    async def _relay_all(self) -> int:
        """Publish one batch of each partition that has any; return how many events went."""
        counts = await asyncio.gather(*(self._relay_place(place, offset) for place, offset in await self._waiting()))
        return sum(counts)

    async def _waiting(self) -> Sequence[tuple[Place, int]]:
        async with self._postgres.database.short_connection() as connection:
            await connection.execute(
                "INSERT INTO group_cursor (group_name, topic, partition, next_offset)"
                " SELECT %(group)s, topic, partition, first_offset FROM event_partition"
                " WHERE NOT EXISTS (SELECT 1 FROM group_cursor WHERE group_name = %(group)s"
                " AND group_cursor.topic = event_partition.topic"
                " AND group_cursor.partition = event_partition.partition) ON CONFLICT DO NOTHING",
                {"group": RELAY_GROUP},
            )
            cursor = await connection.execute(
                "SELECT topic, partition, next_offset FROM group_cursor JOIN event_partition USING (topic, partition)"
                " WHERE group_name = %(group)s AND next_offset < head ORDER BY topic, partition",
                {"group": RELAY_GROUP},
            )
            rows = await cursor.fetchall()
        return [(Place(group=RELAY_GROUP, topic=row[0], partition=row[1]), row[2]) for row in rows]

    async def _relay_place(self, place: Place, offset: int) -> int:
        events = await self._postgres.event_log.batch(place, offset=offset, events_max=RELAYED_AT_ONCE_MAX)
        if not events:
            return 0
        async with self._free:
            return await self._publish(place, events)

    async def _publish(self, place: Place, events: Sequence[LoggedEvent]) -> int:
        with suppress(CursorMoved):  # another process's relay has this partition
            async with self._postgres.units.begin() as unit:
                await unit.move_cursor(place, expected=events[0].offset, to=events[-1].offset + 1)
                await self._producer.publish([self._message(logged) for logged in events])
                await unit.commit()
            return len(events)
        return 0

    def _message(self, logged: LoggedEvent) -> Message:
        envelope = logged.envelope
        return Message(
            topic=f"{self._prefix}.{logged.topic}",
            partition=logged.partition,
            key=envelope.event.key.encode(),
            value=codec.encode_envelope(envelope),
            timestamp_ms=int(envelope.recorded_at.timestamp() * 1000),
            outbox_offset=logged.offset,
        )
