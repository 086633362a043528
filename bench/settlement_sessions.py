"""How many sessions a second the settlement brings from the event log to their committed place in a closed statement.

Accepted CDRs of a hundred pairs lie in the log. The settlement consumes them, books a leaf each, builds both trees of
each pair and commits: from then on every session's proof can be given out. The rival is a worker that writes session by
session, as is usual: one insert and one update each over psycopg `executemany`, into a table of the same columns and
indexes. It is spared reading, checking and hashing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from time import perf_counter
from typing import Final

import psycopg

from bench.figure import Figure, against_rival
from bench.servers import migrated_postgres
from bench.settlement_pairs import agreements as hundred_pairs
from emobility.domain.agreement import RoamingAgreement
from emobility.domain.cdr import CDR
from emobility.domain.identifiers import PartyId
from emobility.events.event import Envelope
from emobility.runtime.garbage import collect_rarely
from services.settlement.intake import GROUP
from services.settlement.records import LEAF, LeafRecord
from tests.settlement.world import T0, World, a_cdr, accepted, open_world

FIGURES: Final = ("settlement.sessions_per_s",)
SESSIONS_PER_S_MIN: Final = 20_000
SESSIONS: Final = 40_000
SESSIONS_SHORT: Final = 4_000
ROUNDS: Final = 3
PERIODS: Final = 8
"""Charging periods of a session: two hours by quarters."""
APPENDED_AT_ONCE: Final = 500
HANDLED_S_MAX: Final = 120.0
LOOK_S: Final = 0.005


async def run(*, short: bool) -> list[Figure]:
    """Measure rounds in turns with the rival; each settles other sessions of the same pairs."""
    count = SESSIONS_SHORT if short else SESSIONS
    async with migrated_postgres() as server, open_world(server.dsn) as world:
        agreements = hundred_pairs()
        await world.sign(*agreements)
        ours, rival = [], []
        with psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE TABLE bench_leaf (LIKE settlement_leaf INCLUDING ALL)")
            connection.commit()
            for number in range(ROUNDS):
                ours.append(count / await _seconds(world, agreements, count, number))
                leaves = [leaf for leaf in await _leaves(world) if leaf.cdr_id.startswith(f"{number}-")]
                rival.append(count / await asyncio.to_thread(_rival_seconds, connection, leaves))
    return [
        against_rival(
            name=FIGURES[0],
            unit="sessions/s",
            ours=ours,
            rival=rival,
            rival_name="psycopg executemany, an insert and an update per session, no log, no hashes",
            value_min=SESSIONS_PER_S_MIN,
        )
    ]


async def _seconds(world: World, agreements: Sequence[RoamingAgreement], count: int, number: int) -> float:
    """Have so many sessions settled that lie in the log already."""
    waiting = _envelopes(agreements, count, number)
    while some := list(islice(waiting, APPENDED_AT_ONCE)):
        await world.ports.event_log.append(some)
    collect_rarely()  # as `services.settlement.wiring` does
    stop = asyncio.Event()
    began = perf_counter()
    taking_in = asyncio.create_task(world.intake.run(stop))
    async with asyncio.timeout(HANDLED_S_MAX):
        while (await world.ports.event_log.lag()).get(GROUP) != 0:  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(LOOK_S)
        await world.closing.close_now()
    took_s = perf_counter() - began
    stop.set()
    await taking_in
    async with world.ports.units.begin() as unit:
        assert await unit.table(LEAF).count({"sequence": None}) == 0
        assert await unit.table(LEAF).count() == (number + 1) * count
    return took_s


def _envelopes(agreements: Sequence[RoamingAgreement], count: int, number: int) -> Iterator[Envelope]:
    for each in range(count):
        agreement = agreements[each % len(agreements)]
        event = accepted(_cdr(agreement.cpo_id, f"{number}-{each}"), agreement=agreement)
        yield Envelope(event=event, event_id=f"{number}/{each}", correlation_id="bench", recorded_at=T0)


def _cdr(cpo_id: PartyId, cdr_id: str) -> CDR:
    cdr = a_cdr(cdr_id, cpo_id=cpo_id)
    (first,) = cdr.periods
    quarters = (
        replace(first, started_at=first.started_at + timedelta(minutes=15) * quarter) for quarter in range(PERIODS)
    )
    return replace(cdr, periods=tuple(quarters))


async def _leaves(world: World) -> list[LeafRecord]:
    found: list[LeafRecord] = []
    async with world.ports.units.begin() as unit:
        while page := await unit.table(LEAF).select(offset=len(found)):
            found += page
    return found


_COLUMNS: Final = tuple(LEAF.record.__dataclass_fields__)
_VALUES: Final = ", ".join(f"%({column})s" for column in _COLUMNS)
_INSERT: Final = f"INSERT INTO bench_leaf ({', '.join(_COLUMNS)}) VALUES ({_VALUES})"  # noqa: S608 - our own names
_UPDATE: Final = (
    "UPDATE bench_leaf SET version = %(version)s, sequence = %(sequence)s, place = %(place)s"
    " WHERE cpo_id = %(cpo_id)s AND cdr_id = %(cdr_id)s"
)


def _rival_seconds(connection: psycopg.Connection, leaves: Sequence[LeafRecord]) -> float:
    in_statements = [_row(leaf) for leaf in leaves]
    unbatched = [{**row, "version": None, "sequence": None, "place": None} for row in in_statements]
    began = perf_counter()
    for statement, rows in ((_INSERT, unbatched), (_UPDATE, in_statements)):
        for start in range(0, len(rows), APPENDED_AT_ONCE):
            with connection.cursor() as cursor:
                cursor.executemany(statement, rows[start : start + APPENDED_AT_ONCE])
            connection.commit()
    return perf_counter() - began


def _row(leaf: LeafRecord) -> dict[str, object]:
    row = {column: getattr(leaf, column) for column in _COLUMNS}
    return {**row, "cpo_id": leaf.cpo_id.code, "emsp_id": leaf.emsp_id.code}
