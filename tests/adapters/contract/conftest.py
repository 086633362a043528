"""The worlds that every contract test runs in: memory, PostgreSQL, and PostgreSQL with Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import psycopg
import pytest

from emobility.adapters.memory import (
    MemoryEventLog,
    MemoryState,
    MemoryUnits,
    MemoryVault,
    SeededRandomness,
    VirtualClock,
)
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemRandomness
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.events.charging import CHARGING, StationBooted
from emobility.events.event import NO_VIEWS, Envelope, Views
from emobility.ports.event_log import BATCH_EVENTS_MAX, PARTITIONS_PER_TOPIC, EventLog, Handler, partition_of
from emobility.ports.stores import TableSpec
from emobility.ports.vault import Vault

T0: Final = datetime(2022, 3, 27, tzinfo=UTC)
PARTY: Final = PartyId("NL-TNM")
MASTER_KEY: Final = bytes(range(32))
DEADLINE_S: Final = 60.0
RETENTION: Final = timedelta(days=90)
SERVERS_OF_WORLDS: Final = {"memory": (), "postgres": ("postgres",), "kafka": ("postgres", "kafka")}


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something nested."""

    weight: Decimal
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A record with a field of every kind."""

    party_id: PartyId
    thing_id: str
    serial: str | None = None
    number: int = 0
    is_open: bool = False
    colour: Colour | None = None
    made_at: datetime | None = None
    price: Decimal | None = None
    content: bytes = b""
    person: Sealed | None = None
    parts: tuple[Part, ...] = ()
    words: tuple[str, ...] | None = None


THING: Final = TableSpec(
    name="contract_thing", record=Thing, key=("party_id", "thing_id"), unique=(("party_id", "serial"),)
)
THING_TABLE: Final = """
CREATE TABLE contract_thing (
    party_id TEXT NOT NULL, thing_id TEXT NOT NULL, serial TEXT, number BIGINT NOT NULL, is_open BOOLEAN NOT NULL,
    colour TEXT, made_at TIMESTAMPTZ, price NUMERIC, content BYTEA NOT NULL, person_subject TEXT, person_box BYTEA,
    parts JSONB NOT NULL, words JSONB,
    PRIMARY KEY (party_id, thing_id), UNIQUE (party_id, serial)
)
"""


@dataclass(kw_only=True)
class Process:
    """What one process of ours would hold."""

    event_log: EventLog
    units: Any
    vault: Vault


@dataclass(kw_only=True)
class World:
    """A log, units and a vault, and ways to open more processes over the same state."""

    kind: str
    clock: VirtualClock
    opener: Callable[[], AbstractAsyncContextManager[Process]]
    process: Process
    things: TableSpec[Thing] = field(default_factory=lambda: THING)
    colours: type[Colour] = Colour
    part_type: type[Part] = Part

    @property
    def event_log(self) -> EventLog:
        return self.process.event_log

    @property
    def units(self) -> Any:
        return self.process.units

    @property
    def vault(self) -> Vault:
        return self.process.vault

    @staticmethod
    def booted(station: str, number: int, *, vendor: str = "ACME") -> Envelope:
        """A station's boot number `number`; its key is the station."""
        event = StationBooted(
            party_id=PARTY,
            charging_station_id=station,
            ocpp_version="2.0.1",
            vendor=vendor,
            model=str(number),
            booted_at=T0,
        )
        return Envelope(event=event, event_id=f"{station}/{number}", correlation_id=f"c{number}", recorded_at=T0)

    @staticmethod
    def thing(thing_id: str, **fields: Any) -> Thing:
        return Thing(party_id=PARTY, thing_id=thing_id, **fields)

    @staticmethod
    def stations_of(partition: int, count: int) -> list[str]:
        """Names of stations whose keys lie in one partition."""
        names = (f"S{number}" for number in range(100_000))
        return [name for name in names if partition_of(f"{PARTY}/{name}") == partition][:count]

    @asynccontextmanager
    async def consuming(
        self,
        group: str,
        handler: Handler,
        *,
        process: Process | None = None,
        batch_events_max: int = BATCH_EVENTS_MAX,
        views: Views = NO_VIEWS,
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Run a consumer of the topic `charging` for the length of a `with`."""
        stop = asyncio.Event()
        log = (process or self.process).event_log
        task = asyncio.create_task(
            log.consume(group, [CHARGING], handler, stop=stop, batch_events_max=batch_events_max, views=views)
        )
        try:
            yield task
        finally:
            stop.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), DEADLINE_S)
            if not task.done():
                task.cancel()
                raise AssertionError("the consumer did not stop")

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition, at most `DEADLINE_S`."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - nobody sets an event for it
                await asyncio.sleep(0.01)

    async def until_handled(self, group: str) -> None:
        """Wait until the group has no lag."""
        async with asyncio.timeout(DEADLINE_S):
            while (await self.event_log.lag()).get(group) != 0:  # noqa: ASYNC110 - nobody sets an event for it
                await asyncio.sleep(0.01)

    async def all_logged(self) -> list[Any]:
        """All events of the topic, by partition and offset."""
        return [logged async for logged in self.event_log.read([CHARGING])]

    async def rows(self) -> list[Thing]:
        async with self.units.begin() as unit:
            found: list[Thing] = await unit.table(THING).select()
            return found

    @staticmethod
    def partitions() -> range:
        return range(PARTITIONS_PER_TOPIC)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test in every world, or in those that its module names in `WORLDS`."""
    if "where" in metafunc.fixturenames:
        worlds = getattr(metafunc.module, "WORLDS", SERVERS_OF_WORLDS)
        marked = [
            pytest.param(kind, marks=[getattr(pytest.mark, each) for each in SERVERS_OF_WORLDS[kind]])
            for kind in worlds
        ]
        metafunc.parametrize("where", marked, indirect=True)


@pytest.fixture
def where(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """Which world, and where its servers are. Servers are started here, outside any event loop."""
    kind: str = request.param
    servers = {}
    if kind in {"postgres", "kafka"}:
        servers["dsn"] = request.getfixturevalue("postgres_dsn")
        with psycopg.connect(servers["dsn"], autocommit=True) as connection:
            connection.execute(THING_TABLE.encode())
    if kind == "kafka":
        servers["kafka"] = request.getfixturevalue("kafka_bootstrap")
    return kind, servers


@pytest.fixture
async def world(where: tuple[str, dict[str, str]], request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A world that nobody else uses; its segments are small where the test is about old events."""
    kind, servers = where
    clock = VirtualClock(T0)
    segment_offsets = 10 if "old_events" in request.node.name else 1_000_000
    opener = _memory_opener(clock) if kind == "memory" else _server_opener(clock, servers, segment_offsets)
    async with opener() as process:
        yield World(kind=kind, clock=clock, opener=opener, process=process)


@pytest.fixture
def memory_world() -> Callable[[], World]:
    """Makes fresh worlds in memory, for properties."""

    def made() -> World:
        clock = VirtualClock(T0)
        state = MemoryState(clock)
        vault = MemoryVault(master_key=MASTER_KEY, clock=clock, randomness=SeededRandomness(1))
        process = Process(event_log=MemoryEventLog(state), units=MemoryUnits(state), vault=vault)
        return World(kind="memory", clock=clock, opener=_memory_opener(clock), process=process)

    return made


def _memory_opener(clock: VirtualClock) -> Callable[[], AbstractAsyncContextManager[Process]]:
    state = MemoryState(clock)
    vault = MemoryVault(master_key=MASTER_KEY, clock=clock, randomness=SeededRandomness(1))

    @asynccontextmanager
    async def opened() -> AsyncIterator[Process]:
        yield Process(event_log=MemoryEventLog(state, retention=RETENTION), units=MemoryUnits(state), vault=vault)

    return opened


def _server_opener(
    clock: VirtualClock, servers: dict[str, str], segment_offsets: int
) -> Callable[[], AbstractAsyncContextManager[Process]]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Process]:
        async with AsyncExitStack() as stack:
            adapters = await stack.enter_async_context(
                open_postgres(
                    servers["dsn"],
                    master_key=MASTER_KEY,
                    clock=clock,
                    randomness=SystemRandomness(),
                    retention_age=RETENTION,
                    segment_offsets=segment_offsets,
                )
            )
            event_log: EventLog = adapters.event_log
            if "kafka" in servers:
                from emobility.adapters.kafka import open_kafka  # noqa: PLC0415 - kafka-python warns when imported

                prefix = servers["dsn"].rsplit("/", 1)[1].split("?")[0]
                event_log = await stack.enter_async_context(
                    open_kafka(servers["kafka"], adapters, prefix=prefix, retention_age=RETENTION)
                )
            yield Process(event_log=event_log, units=adapters.units, vault=adapters.vault)

    return opened
