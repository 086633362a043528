"""Dead letters that somebody decided never to handle: out of the queue, kept with who, why and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from emobility.adapters.consuming import refuse_unexplained
from emobility.adapters.postgres.connections import Database
from emobility.adapters.postgres.reading import logged
from emobility.adapters.postgres.units import PostgresUnits
from emobility.ports.event_log import DiscardedEvent, NotParked, ParkedEvent

DISCARDED: Final = b"""SELECT topic, partition, log_offset, envelope, reason, parked_at, who, why, discarded_at
FROM discarded_event WHERE group_name = %(group)s ORDER BY topic, partition, log_offset"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Where a dead letter came from in the log, and whose it is."""

    group: str
    topic: str
    partition: int
    offset: int


async def discard(units: PostgresUnits, letter: Letter, *, who: str, why: str) -> None:
    """Move a dead letter to the discarded events; free its key when it was the last.

    Raises:
        NotParked: it is not there (any more).
        DiscardUnexplained: nobody, or no reason, is named.
    """
    refuse_unexplained(who, why)
    values = {**asdict(letter), "who": who, "why": why, "now": units.clock.now()}
    async with units.begin() as unit:
        # As in a replay: a consumer that meets the key, and a replay of it, wait for this row.
        await unit.execute(
            b"SELECT 1 FROM parked_key WHERE (group_name, topic, key) IN (SELECT group_name, topic, key"
            b" FROM dead_letter WHERE group_name = %(group)s AND topic = %(topic)s AND partition = %(partition)s"
            b" AND log_offset = %(offset)s) FOR UPDATE",
            values,
        )
        moved = await unit.execute(
            b"WITH letter AS (DELETE FROM dead_letter WHERE group_name = %(group)s AND topic = %(topic)s"
            b" AND partition = %(partition)s AND log_offset = %(offset)s RETURNING group_name, topic, partition,"
            b" log_offset, key, reason, envelope, parked_at)"
            b" INSERT INTO discarded_event (group_name, topic, partition, log_offset, key, reason, envelope, parked_at,"
            b" who, why, discarded_at) SELECT group_name, topic, partition, log_offset, key, reason, envelope,"
            b" parked_at, %(who)s, %(why)s, %(now)s FROM letter RETURNING key",
            values,
        )
        row = await moved.fetchone()
        if row is None:
            raise NotParked(letter.group, topic=letter.topic, partition=letter.partition, offset=letter.offset)
        await unit.execute(
            b"DELETE FROM parked_key WHERE group_name = %(group)s AND topic = %(topic)s AND key = %(key)s"
            b" AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE group_name = %(group)s AND topic = %(topic)s"
            b" AND key = %(key)s)",
            {**values, "key": row[0]},
        )
        await unit.commit()


async def discarded(database: Database, group: str) -> Sequence[DiscardedEvent]:
    """Return a group's discarded events, in the log's order."""
    async with database.short_connection() as connection:
        rows = await (await connection.execute(DISCARDED, {"group": group})).fetchall()
    return discarded_of(group, rows)


def discarded_of(group: str, rows: Iterable[Sequence[Any]]) -> list[DiscardedEvent]:
    """Build discarded events from rows of `DISCARDED`."""
    return [
        DiscardedEvent(
            parked=ParkedEvent(group=group, logged=logged(*row[:4]), reason=row[4], parked_at=row[5]),
            who=row[6],
            why=row[7],
            discarded_at=row[8],
        )
        for row in rows
    ]
