"""Parked keys, handed to their handler again by command. Kafka's dead letters lie in the same table."""

from __future__ import annotations

from emobility.adapters.postgres.reading import logged
from emobility.adapters.postgres.units import PostgresUnits
from emobility.ports.event_log import BATCH_EVENTS_MAX, Handler


async def replay(units: PostgresUnits, group: str, key: str, handler: Handler) -> int:
    """Hand a key's dead letters to `handler`, topic by topic; return how many it handled.

    Each batch is one unit. A handler's error leaves the rest parked and reaches the caller.
    """
    handled = 0
    for topic in await _topics(units, group, key):
        while count := await _replay_batch(units, group, topic, key, handler):
            handled += count
    return handled


async def _topics(units: PostgresUnits, group: str, key: str) -> list[str]:
    async with units.begin() as unit:
        cursor = await unit.execute(
            b"SELECT topic FROM parked_key WHERE group_name = %(group)s AND key = %(key)s ORDER BY topic",
            {"group": group, "key": key},
        )
        return [row[0] for row in await cursor.fetchall()]


async def _replay_batch(units: PostgresUnits, group: str, topic: str, key: str, handler: Handler) -> int:
    values = {"group": group, "topic": topic, "key": key, "limit": BATCH_EVENTS_MAX}
    async with units.begin() as unit:
        # A consumer that meets the key waits for this row: it must not overtake its own earlier events.
        await unit.execute(
            b"SELECT 1 FROM parked_key WHERE group_name = %(group)s AND topic = %(topic)s AND key = %(key)s FOR UPDATE",
            values,
        )
        cursor = await unit.execute(
            b"SELECT partition, log_offset, envelope FROM dead_letter WHERE group_name = %(group)s"
            b" AND topic = %(topic)s AND key = %(key)s ORDER BY log_offset LIMIT %(limit)s",
            values,
        )
        rows = await cursor.fetchall()
        events = [logged(topic, partition, offset, data) for partition, offset, data in rows]
        if events:
            await handler(unit, events)
        await unit.execute(
            b"DELETE FROM dead_letter WHERE group_name = %(group)s AND topic = %(topic)s AND key = %(key)s"
            b" AND log_offset = ANY(%(offsets)s)",
            {**values, "offsets": [event.offset for event in events]},
        )
        await unit.execute(
            b"DELETE FROM parked_key WHERE group_name = %(group)s AND topic = %(topic)s AND key = %(key)s"
            b" AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE group_name = %(group)s AND topic = %(topic)s"
            b" AND key = %(key)s)",
            values,
        )
        await unit.commit()
    return len(events)
