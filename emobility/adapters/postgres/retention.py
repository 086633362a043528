"""Old segments of the log are dropped whole, once every group has passed them and their age is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from psycopg import sql

from emobility.adapters.postgres.connections import Connection, Database
from emobility.ports.event_log import Bounds

RETENTION_AGE: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """Consecutive offsets of all partitions of a topic, in a table of their own."""

    topic: str
    first: int
    end: int
    table: str


async def prunable(database: Database, *, before: datetime) -> Mapping[tuple[str, int], Bounds]:
    """Return which offsets of each partition lie in segments that `drop_old_segments` would drop."""
    async with database.short_connection() as connection:
        ends = {segment.topic: segment.end for segment in await _old_segments(connection, before)}
        cursor = await connection.execute(
            "SELECT topic, partition, first_offset FROM event_partition WHERE topic = ANY(%(topics)s)"
            " ORDER BY topic, partition",
            {"topics": sorted(ends)},
        )
        rows = await cursor.fetchall()
    return {(topic, partition): Bounds(first=first, end=ends[topic]) for topic, partition, first in rows}


async def drop_old_segments(database: Database, *, before: datetime) -> int:
    """Drop segments whose events are all older than `before` and passed by every group; return how many events went."""
    async with database.short_connection() as connection:
        return sum([await _drop(connection, segment) for segment in await _old_segments(connection, before)])


async def _old_segments(connection: Connection, before: datetime) -> list[_Segment]:
    """Return what may go, in order: a later segment never before an earlier one of its topic.

    A topic that no group ever consumed keeps everything: its consumer may only not have started yet.
    """
    cursor = await connection.execute(
        "SELECT topic, first_offset, end_offset, table_name FROM event_segment ORDER BY topic, first_offset"
    )
    old: list[_Segment] = []
    kept_topics: set[str] = set()
    for topic, first, end, table in await cursor.fetchall():
        if topic not in kept_topics and await _is_over(connection, topic, end, before):
            old.append(_Segment(topic=topic, first=first, end=end, table=table))
        else:
            kept_topics.add(topic)
    return old


async def _is_over(connection: Connection, topic: str, end: int, before: datetime) -> bool:
    cursor = await connection.execute(
        "SELECT (SELECT coalesce(bool_and(next_offset >= %(end)s), false) FROM group_cursor WHERE topic = %(topic)s)"
        " AND (SELECT coalesce(bool_and(stored_at < %(before)s), false) FROM event"
        " WHERE topic = %(topic)s AND log_offset = %(last)s)",
        {"topic": topic, "end": end, "last": end - 1, "before": before},
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _drop(connection: Connection, segment: _Segment) -> int:
    values = {"topic": segment.topic, "first": segment.first, "end": segment.end}
    cursor = await connection.execute("SELECT count(*) FROM event_partition WHERE topic = %(topic)s", values)
    row = await cursor.fetchone()
    await connection.execute(
        "UPDATE event_partition SET first_offset = greatest(first_offset, %(end)s) WHERE topic = %(topic)s",
        values,
    )
    # Concurrently: readers and writers of the log go on.
    await connection.execute(
        sql.SQL("ALTER TABLE event DETACH PARTITION {} CONCURRENTLY").format(sql.Identifier(segment.table))
    )
    await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(segment.table)))
    await connection.execute("DELETE FROM event_segment WHERE topic = %(topic)s AND first_offset = %(first)s", values)
    return (segment.end - segment.first) * (int(row[0]) if row else 0)
