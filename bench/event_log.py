"""How fast the event log takes events durably, and how soon a consumer has handled them: here in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

import psycopg

from bench.figure import Figure, against_goal, against_rival
from bench.servers import migrated_postgres
from emobility.adapters.postgres import PostgresAdapters, open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.domain.identifiers import PartyId
from emobility.events.charging import CHARGING, TransactionUpdated
from emobility.events.codec import encode_envelope
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.event_log import EventLog
from emobility.ports.unit_of_work import UnitOfWork

FIGURES: Final = ("event_log.append", "event_log.end_to_end.p99")
BATCH: Final = 50
WRITERS: Final = 2
ROUNDS: Final = 5
BATCHES: Final = 300
"""Of each writer in a round."""
BATCHES_SHORT: Final = 40
ROWS_PER_S_MIN: Final = 20_000
PACED: Final = 1_000
"""Single events appended one after another for the latency figure."""
PACED_SHORT: Final = 200
PACE_S: Final = 0.005
HANDLED_S_MAX: Final = 60.0
"""How long the last event may take to its handler."""
FIRST_STATION: Final = 8_999
"""Its one event shows that the consumer is there."""
MASTER_KEY: Final = bytes(32)
_AT: Final = datetime(2022, 3, 27, tzinfo=UTC)


async def run(*, short: bool) -> list[Figure]:
    """Measure PostgreSQL."""
    return await measure(
        rounds=ROUNDS, batches=BATCHES_SHORT if short else BATCHES, paced=PACED_SHORT if short else PACED
    )


async def measure(*, rounds: int, batches: int, paced: int) -> list[Figure]:
    """Measure the latency of `paced` events, then `rounds` of `batches` per writer in turns with the rival."""
    async with opened_postgres() as (dsn, adapters):
        latency_ms = await p99_ms(adapters.event_log, paced)
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE bench_plain (id TEXT, body BYTEA)")
            connection.commit()
            ours, rival = await in_turns(adapters.event_log, lambda: _plain(connection, batches), rounds, batches)
        return [
            against_rival(
                name=FIGURES[0],
                unit="rows/s",
                ours=ours,
                rival=rival,
                rival_name="psycopg executemany into a bare table, one writer, no offsets, no order",
                value_min=ROWS_PER_S_MIN,
            ),
            against_goal(name=FIGURES[1], value=latency_ms, unit="ms"),
        ]


@asynccontextmanager
async def opened_postgres() -> AsyncIterator[tuple[str, PostgresAdapters]]:
    """The adapters over a PostgreSQL of this bench's own, and its URL."""
    async with (
        migrated_postgres() as server,
        open_postgres(
            server.dsn, master_key=MASTER_KEY, clock=SystemClock(), randomness=SystemRandomness()
        ) as adapters,
    ):
        yield server.dsn, adapters


def event(station: int, seq: int) -> Envelope:
    """Return an event as the gateway appends them."""
    return Envelope(
        event=TransactionUpdated(
            party_id=PartyId("NL-TUL"),
            charging_station_id=f"BENCH-{station:04}",
            transaction_id=f"T{station}",
            occurred_at=_AT,
            seq_no=seq,
        ),
        event_id=f"bench/{station}/{seq}",
        correlation_id="bench",
        recorded_at=_AT,
    )


async def in_turns(
    event_log: EventLog, rival: Callable[[], float], rounds: int, batches: int
) -> tuple[list[float], list[float]]:
    """Return the rows per second of each round, ours and the rival's."""
    ours, others = [], []
    for _ in range(rounds):
        ours.append(await _rows_per_s(event_log, batches))
        others.append(await asyncio.to_thread(rival))
    return ours, others


async def _rows_per_s(event_log: EventLog, batches: int) -> float:
    """Two writers append batches of different stations at once."""

    async def write(writer: int) -> None:
        for number in range(batches):
            await event_log.append([event(writer * 1000 + slot, number) for slot in range(BATCH)])

    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
    return WRITERS * batches * BATCH / (loop.time() - began)


def _plain(connection: psycopg.Connection, batches: int) -> float:
    """The rival: one commit per batch."""
    began = perf_counter()
    for number in range(batches):
        events = [event(slot, number) for slot in range(BATCH)]
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO bench_plain (id, body) VALUES (%s, %s)",
                [(each.event_id, encode_envelope(each)) for each in events],
            )
        connection.commit()
    return batches * BATCH / (perf_counter() - began)


async def p99_ms(event_log: EventLog, events: int) -> float:
    """From the call of `append` to the handler, one event at a time, at a steady pace.

    The first event, which finds the consumer still on its way into its group, is not counted.
    """
    loop = asyncio.get_running_loop()
    began: dict[str, float] = {}
    took_s: list[float] = []
    joined, stop = asyncio.Event(), asyncio.Event()

    async def handle(_: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        now = loop.time()
        joined.set()
        took_s.extend(now - began[each.envelope.event_id] for each in batch if each.envelope.event_id in began)
        if len(took_s) >= events:
            stop.set()

    consuming = asyncio.create_task(event_log.consume("bench", [CHARGING], handle, stop=stop))
    await event_log.append([event(FIRST_STATION, 0)])
    async with asyncio.timeout(HANDLED_S_MAX):
        await joined.wait()
    for number in range(events):
        each = event(9_000 + number % 50, number)
        began[each.event_id] = loop.time()
        await event_log.append([each])
        await asyncio.sleep(PACE_S)
    async with asyncio.timeout(HANDLED_S_MAX):
        await stop.wait()
        await consuming
    return sorted(took_s)[int(len(took_s) * 0.99)] * 1000
