"""Questions to the log's tables that change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emobility.adapters.consuming import Place, viewed
from emobility.adapters.postgres.connections import Database
from emobility.events import codec
from emobility.events.event import NO_VIEWS, LoggedEvent, Views
from emobility.ports.event_log import PARTITIONS_PER_TOPIC, Bounds, CursorOutsideLog, ParkedEvent

READ_EVENTS: Final = 1_000
"""Events fetched at once by `everything`."""
LAGS: Final = b"""SELECT group_name, sum(head - next_offset)::bigint FROM group_cursor
JOIN event_partition USING (topic, partition) GROUP BY group_name ORDER BY group_name"""
PARKED: Final = b"""SELECT topic, partition, log_offset, envelope, reason, parked_at FROM dead_letter
WHERE group_name = %(group)s ORDER BY topic, partition, log_offset"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a group stands in a partition."""

    place: Place
    next_offset: int
    head: int


def logged(topic: str, partition: int, offset: int, data: Any) -> LoggedEvent:
    """Build an event from its row."""
    return LoggedEvent(topic=topic, partition=partition, offset=offset, envelope=codec.decode_envelope(bytes(data)))


async def batch(
    database: Database, place: Place, *, offset: int, events_max: int, views: Views = NO_VIEWS
) -> list[LoggedEvent]:
    """Return the next events of a partition. Raises `DatabaseUnavailable`, `UnknownEvent`."""
    async with database.short_connection() as connection:
        cursor = await connection.execute(
            "SELECT log_offset, envelope FROM event WHERE topic = %(topic)s AND partition = %(partition)s"
            " AND log_offset >= %(offset)s AND log_offset < %(end)s ORDER BY log_offset",
            {"topic": place.topic, "partition": place.partition, "offset": offset, "end": offset + events_max},
            binary=True,
        )
        rows = await cursor.fetchall()
    return [viewed(place.topic, place.partition, row[0], row[1], views) for row in rows]


async def standings(database: Database, group: str, topics: Sequence[str]) -> list[Standing]:
    """Return where a group stands in each partition.

    Raises:
        CursorOutsideLog: it stands where the log holds nothing, or the topic has another number of partitions.
        DatabaseUnavailable: no answer.
    """
    async with database.short_connection() as connection:
        cursor = await connection.execute(
            "SELECT topic, partition, next_offset, first_offset, head FROM group_cursor"
            " JOIN event_partition USING (topic, partition)"
            " WHERE group_name = %(group)s AND topic = ANY(%(topics)s) ORDER BY topic, partition",
            {"group": group, "topics": list(topics)},
        )
        rows = await cursor.fetchall()
    if len(rows) != len(set(topics)) * PARTITIONS_PER_TOPIC:
        raise CursorOutsideLog(f"{group}: {topics} have {len(rows)} partitions in the log")
    for topic, partition, next_offset, first, head in rows:
        if not first <= next_offset <= head:
            raise CursorOutsideLog(
                f"{group} stands at {next_offset} of {topic}/{partition}; the log holds {first} to {head}"
            )
    return [
        Standing(place=Place(group=group, topic=topic, partition=partition), next_offset=next_offset, head=head)
        for topic, partition, next_offset, _, head in rows
    ]


async def everything(database: Database, topics: Sequence[str]) -> AsyncIterator[LoggedEvent]:
    """Yield all that the log holds now, by topic, partition and offset."""
    held = await bounds(database, topics)
    for topic in topics:
        for partition in range(PARTITIONS_PER_TOPIC):
            within = held.get((topic, partition), Bounds(first=0, end=0))
            offset, end = within.first, within.end
            place = Place(group="", topic=topic, partition=partition)
            while offset < end:
                events = await batch(database, place, offset=offset, events_max=min(READ_EVENTS, end - offset))
                for event in events:
                    yield event
                if not events:
                    break  # pruned meanwhile
                offset = events[-1].offset + 1


async def bounds(database: Database, topics: Sequence[str]) -> Mapping[tuple[str, int], Bounds]:
    """Return what the log holds of each partition that ever held anything."""
    async with database.short_connection() as connection:
        cursor = await connection.execute(
            "SELECT topic, partition, first_offset, head FROM event_partition"
            " WHERE topic = ANY(%(topics)s) AND head > 0 ORDER BY topic, partition",
            {"topics": list(topics)},
        )
        return {(row[0], row[1]): Bounds(first=row[2], end=row[3]) for row in await cursor.fetchall()}


async def lags(database: Database) -> Mapping[str, int]:
    """Return for each group how many events of the PostgreSQL log it has not handled."""
    async with database.short_connection() as connection:
        return dict(await (await connection.execute(LAGS)).fetchall())


async def parked(database: Database, group: str) -> list[ParkedEvent]:
    """Return a group's dead letters, in order."""
    async with database.short_connection() as connection:
        rows = await (await connection.execute(PARKED, {"group": group})).fetchall()
    return parked_of(group, rows)


def parked_of(group: str, rows: Iterable[Sequence[Any]]) -> list[ParkedEvent]:
    """Build dead letters from rows of `PARKED`."""
    return [
        ParkedEvent(group=group, logged=logged(topic, partition, offset, data), reason=reason, parked_at=parked_at)
        for topic, partition, offset, data, reason, parked_at in rows
    ]
