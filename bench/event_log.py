"""How fast the event log takes events durably, and how soon a consumer has handled them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

from bench.figure import Figure, against_goal
from emobility.adapters.postgres import migrate, open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.domain.identifiers import PartyId
from emobility.events.charging import CHARGING, TransactionUpdated
from emobility.events.codec import encode_envelope
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.event_log import EventLog
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.embedded_postgres import EmbeddedPostgres

FIGURES: Final = ("event_log.append", "event_log.end_to_end.p99")
BATCH: Final = 50
WRITERS: Final = 2
BATCHES: Final = 1_500
BATCHES_SHORT: Final = 200
ROWS_PER_S_MIN: Final = 20_000
PACED: Final = 1_000
"""Single events appended one after another for the latency figure."""
PACED_SHORT: Final = 200
PACE_S: Final = 0.005
MASTER_KEY: Final = bytes(32)
_AT: Final = datetime(2022, 3, 27, tzinfo=UTC)


def _event(station: int, seq: int) -> Envelope:
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


@asynccontextmanager
async def _postgres() -> AsyncIterator[tuple[EmbeddedPostgres, EventLog]]:
    with tempfile.TemporaryDirectory(prefix="wattroam-bench-", dir="/var/tmp") as folder:
        timer, randomness, clock = SystemTimer(), SystemRandomness(), SystemClock()
        server = EmbeddedPostgres(Path(folder) / "postgres", timer=timer, randomness=randomness)
        await server.start()
        try:
            await migrate(server.dsn)
            async with open_postgres(server.dsn, master_key=MASTER_KEY, clock=clock, randomness=randomness) as opened:
                yield server, opened.event_log
        finally:
            await server.stop()
            server.discard()


async def _rows_per_s(event_log: EventLog, batches: int) -> float:
    """Two writers append batches of different stations at once."""

    async def write(writer: int) -> None:
        for number in range(batches):
            await event_log.append([_event(writer * 1000 + slot, number) for slot in range(BATCH)])

    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
    return WRITERS * batches * BATCH / (loop.time() - began)


def _plain_rows_per_s(dsn: str, batches: int) -> float:
    """The rival: psycopg's `executemany` into a bare table, one commit per batch, one writer, no offsets, no order."""
    loop = asyncio.get_running_loop()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE bench_plain (id TEXT, body BYTEA)")
        connection.commit()
        began = loop.time()
        for number in range(batches):
            events = [_event(slot, number) for slot in range(BATCH)]
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO bench_plain (id, body) VALUES (%s, %s)",
                    [(event.event_id, encode_envelope(event)) for event in events],
                )
            connection.commit()
        return batches * BATCH / (loop.time() - began)


async def _p99_ms(event_log: EventLog, events: int) -> float:
    """From the call of `append` to the return of the handler's unit, one event at a time, at a steady pace."""
    loop = asyncio.get_running_loop()
    began: dict[str, float] = {}
    took: list[float] = []
    stop = asyncio.Event()

    async def handle(_: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        now = loop.time()
        took.extend(now - began[each.envelope.event_id] for each in batch if each.envelope.event_id in began)
        if len(took) >= events:
            stop.set()

    consuming = asyncio.create_task(event_log.consume("bench", [CHARGING], handle, stop=stop))
    for number in range(events):
        event = _event(9_000 + number % 50, number)
        began[event.event_id] = loop.time()
        await event_log.append([event])
        await asyncio.sleep(PACE_S)
    async with asyncio.timeout(60):
        await stop.wait()
        await consuming
    return sorted(took)[int(len(took) * 0.99)] * 1000


async def run(*, short: bool) -> list[Figure]:
    """Measure PostgreSQL."""
    async with AsyncExitStack() as stack:
        server, event_log = await stack.enter_async_context(_postgres())
        latency_ms = await _p99_ms(event_log, PACED_SHORT if short else PACED)
        rows_per_s = await _rows_per_s(event_log, BATCHES_SHORT if short else BATCHES)
        plain = _plain_rows_per_s(server.dsn, BATCHES_SHORT if short else BATCHES)
        return [
            Figure(
                name="event_log.append",
                value=rows_per_s,
                unit="rows/s",
                rival=plain,
                rival_name="psycopg executemany into a bare table",
                ratio=rows_per_s / plain,
                goal=f">= {ROWS_PER_S_MIN} rows/s",
                holds=rows_per_s >= ROWS_PER_S_MIN,
            ),
            against_goal(name="event_log.end_to_end.p99", value=latency_ms, unit="ms"),
        ]
