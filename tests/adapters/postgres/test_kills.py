"""kill -9 of the server and of a consumer, in the middle of load: what was confirmed is there, once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg
import pytest

from emobility.adapters.memory import VirtualClock
from emobility.adapters.postgres import PostgresAdapters, migrate, open_postgres
from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.domain.identifiers import PartyId
from emobility.events.charging import CHARGING, StationBooted
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.event_log import LogUnavailable
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.embedded_postgres import EmbeddedPostgres

pytestmark = [pytest.mark.fault, pytest.mark.postgres]

T0: Final = datetime(2022, 3, 27, tzinfo=UTC)
WRITERS: Final = 4
DEADLINE_S: Final = 90.0
ACKNOWLEDGED_BEFORE_KILL: Final = 400
ROUNDS: Final = 3
CONTROL_ROUNDS_MAX: Final = 10
REPOSITORY: Final = Path(__file__).parents[3]


def booted(station: str, number: int) -> Envelope:
    event = StationBooted(
        party_id=PartyId("NL-TNM"),
        charging_station_id=station,
        ocpp_version="2.0.1",
        vendor="ACME",
        model=str(number),
        booted_at=T0,
    )
    return Envelope(event=event, event_id=f"{station}/{number}", correlation_id="c", recorded_at=T0)


def kill_9(server: EmbeddedPostgres) -> None:
    """End the postmaster and all its children at once, as a power cut would."""
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text(encoding="ascii").split()
    family = [server.pid, *(int(child) for child in children)]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)  # so that nobody can tidy up after a sibling
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def restart(server: EmbeddedPostgres) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await server.down()
    server.kill()
    await server.start()


@asynccontextmanager
async def opened(dsn: str, *, durable: bool = True) -> AsyncIterator[PostgresAdapters]:
    async with open_postgres(
        dsn, master_key=bytes(32), clock=VirtualClock(T0), randomness=SystemRandomness(), durable=durable
    ) as adapters:
        yield adapters


@pytest.fixture
async def own_server(server_folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server of this test's own, to be killed."""
    folder = server_folder / SystemRandomness().uuid()
    server = EmbeddedPostgres(folder, timer=SystemTimer(), randomness=SystemRandomness())
    await server.start()
    await migrate(server.dsn)
    yield server
    server.kill()
    server.discard()


async def acknowledged_until_killed(server: EmbeddedPostgres, *, run: str, durable: bool) -> set[str]:
    """Append from several writers, kill the server in the middle, and return what was confirmed."""
    acknowledged: set[str] = set()

    async def write(adapters: PostgresAdapters, writer: int) -> None:
        number = 0
        with suppress(LogUnavailable):
            while True:
                batch = [booted(f"{run}-{writer}", number + step) for step in range(5)]
                await adapters.event_log.append(batch)
                acknowledged.update(each.event_id for each in batch)
                number += 5

    async with opened(server.dsn, durable=durable) as adapters, asyncio.timeout(DEADLINE_S):
        writers = asyncio.gather(*(write(adapters, writer) for writer in range(WRITERS)))
        while len(acknowledged) < ACKNOWLEDGED_BEFORE_KILL:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0)
        kill_9(server)
        await writers
    await restart(server)
    return acknowledged


async def stored_in(server: EmbeddedPostgres) -> list[LoggedEvent]:
    async with opened(server.dsn) as adapters:
        return [logged async for logged in adapters.event_log.read([CHARGING])]


async def test_what_was_confirmed_survives_kill_9_of_the_server_and_offsets_stay_dense(
    own_server: EmbeddedPostgres,
) -> None:
    acknowledged: set[str] = set()
    for number in range(ROUNDS):
        acknowledged |= await acknowledged_until_killed(own_server, run=f"R{number}", durable=True)

    stored = await stored_in(own_server)
    assert acknowledged - {logged.envelope.event_id for logged in stored} == set()
    for partition in {logged.partition for logged in stored}:
        offsets = [logged.offset for logged in stored if logged.partition == partition]
        assert offsets == list(range(len(offsets)))


async def test_without_waiting_for_the_disk_the_same_kill_does_lose(own_server: EmbeddedPostgres) -> None:
    """The negative control: a test that could not fail would prove nothing."""
    lost = 0
    for number in range(CONTROL_ROUNDS_MAX):
        acknowledged = await acknowledged_until_killed(own_server, run=f"R{number}", durable=False)
        lost = len(acknowledged - {logged.envelope.event_id for logged in await stored_in(own_server)})
        if lost:
            break

    assert lost > 0


async def test_a_consumer_outlives_the_server_and_handles_everything_once(own_server: EmbeddedPostgres) -> None:
    with psycopg.connect(own_server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE effect (event_id TEXT PRIMARY KEY)")
    handled = 0

    async def handle(unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        nonlocal handled
        for logged in events:
            await unit.execute(  # type: ignore[attr-defined]  # a raw effect, to be counted by the server itself
                b"INSERT INTO effect (event_id) VALUES (%(id)s)", {"id": logged.envelope.event_id}
            )
        handled += len(events)

    stop = asyncio.Event()
    async with opened(own_server.dsn) as adapters, asyncio.timeout(DEADLINE_S):
        await adapters.event_log.append([booted(f"S{number % 9}", number) for number in range(500)])
        task = asyncio.create_task(
            adapters.event_log.consume("readers", [CHARGING], handle, stop=stop, batch_events_max=10)
        )
        while handled < 100:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0)
        kill_9(own_server)
        await restart(own_server)
        await _appended(adapters, [booted("after", number) for number in range(50)])
        while await _lag(adapters) != 0:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.02)
        stop.set()
        await task
        parked = await adapters.event_log.parked("readers")

    with psycopg.connect(own_server.dsn) as connection:
        effects = connection.execute("SELECT count(*) FROM effect").fetchone()
    assert (effects, parked) == ((550,), [])


async def _appended(adapters: PostgresAdapters, batch: Sequence[Envelope]) -> None:
    """Append as the gateway does: the same again until it is confirmed."""
    while True:
        try:
            await adapters.event_log.append(batch)
        except LogUnavailable:
            await asyncio.sleep(0.05)
        else:
            return


async def _lag(adapters: PostgresAdapters) -> int | None:
    return (await adapters.event_log.lag()).get("readers")


CONSUMER: Final = """
import asyncio, sys
from datetime import UTC, datetime
from emobility.adapters.memory import VirtualClock
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemRandomness

async def handle(unit, events):
    for logged in events:
        await unit.execute(b"INSERT INTO effect (event_id) VALUES (%(id)s)", {"id": logged.envelope.event_id})
        print(logged.offset, flush=True)

async def main():
    clock = VirtualClock(datetime(2022, 3, 27, tzinfo=UTC))
    async with open_postgres(
        sys.argv[1], master_key=bytes(32), clock=clock, randomness=SystemRandomness()
    ) as adapters:
        await adapters.event_log.consume(
            "readers", ["charging"], handle, stop=asyncio.Event(), batch_events_max=50
        )

asyncio.run(main())
"""


async def test_a_consumer_killed_in_the_middle_of_batches_leaves_no_effect_undone_or_doubled(
    postgres_dsn: str,
) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE effect (event_id TEXT PRIMARY KEY)")
    async with opened(postgres_dsn) as adapters, asyncio.timeout(DEADLINE_S):
        await adapters.event_log.append([booted(f"S{number % 20}", number) for number in range(1_000)])
        for lines in (25, 130, 60):
            await _consume_and_die(postgres_dsn, lines)
        last = await _consumer(postgres_dsn)
        try:
            while await _lag(adapters) != 0:  # noqa: ASYNC110 - nobody sets an event for it
                await asyncio.sleep(0.02)
        finally:
            await _kill(last)
        parked = await adapters.event_log.parked("readers")

    with psycopg.connect(postgres_dsn) as connection:
        effects = connection.execute("SELECT count(*) FROM effect").fetchone()
    assert (effects, parked) == ((1_000,), [])


async def _consumer(dsn: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CONSUMER,
        dsn,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=asyncio.subprocess.PIPE,
    )


async def _consume_and_die(dsn: str, lines: int) -> None:
    consumer = await _consumer(dsn)
    assert consumer.stdout is not None
    for _ in range(lines):
        assert await consumer.stdout.readline()
    await _kill(consumer)


async def _kill(consumer: asyncio.subprocess.Process) -> None:
    consumer.send_signal(signal.SIGKILL)
    assert consumer.stdout is not None
    await consumer.stdout.read()
    await consumer.wait()
