"""Old segments of the log are dropped whole, once every group has passed them and their age is over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from psycopg import sql

from emobility.adapters.postgres.connections import Connection, Database

RETENTION_AGE: Final = timedelta(days=90)


async def drop_old_segments(database: Database, *, before: datetime) -> int:
    """Drop segments whose events are all older than `before` and passed by every group; return how many events went.

    A topic that no group ever consumed keeps everything: its consumer may only not have started yet.
    """
    dropped = 0
    async with database.short_connection() as connection:
        cursor = await connection.execute(
            "SELECT topic, first_offset, end_offset, table_name FROM event_segment ORDER BY topic, first_offset"
        )
        kept_topics: set[str] = set()
        for topic, first, end, table in await cursor.fetchall():
            # Segments go in order: a later one never before an earlier one.
            if topic not in kept_topics and await _is_over(connection, topic, end, before):
                dropped += await _drop(connection, topic, first, end, table)
            else:
                kept_topics.add(topic)
    return dropped


async def _is_over(connection: Connection, topic: str, end: int, before: datetime) -> bool:
    cursor = await connection.execute(
        "SELECT (SELECT coalesce(bool_and(next_offset >= %(end)s), false) FROM group_cursor WHERE topic = %(topic)s)"
        " AND (SELECT coalesce(bool_and(stored_at < %(before)s), false) FROM event"
        " WHERE topic = %(topic)s AND log_offset = %(last)s)",
        {"topic": topic, "end": end, "last": end - 1, "before": before},
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _drop(connection: Connection, topic: str, first: int, end: int, table: str) -> int:
    cursor = await connection.execute("SELECT count(*) FROM event_partition WHERE topic = %(topic)s", {"topic": topic})
    row = await cursor.fetchone()
    await connection.execute(
        "UPDATE event_partition SET first_offset = greatest(first_offset, %(end)s) WHERE topic = %(topic)s",
        {"topic": topic, "end": end},
    )
    # Concurrently: readers and writers of the log go on.
    await connection.execute(
        sql.SQL("ALTER TABLE event DETACH PARTITION {} CONCURRENTLY").format(sql.Identifier(table))
    )
    await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))
    await connection.execute(
        "DELETE FROM event_segment WHERE topic = %(topic)s AND first_offset = %(first)s",
        {"topic": topic, "first": first},
    )
    return (end - first) * (int(row[0]) if row else 0)
