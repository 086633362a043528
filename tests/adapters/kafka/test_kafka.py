"""What is special about Kafka: topics made anew, relays that repeat, retention by command, a broker that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from kafka import KafkaAdminClient
from kafka.cluster import ClusterMetadata

from emobility.adapters.kafka import KafkaEventLog, open_kafka
from emobility.adapters.kafka.broker import Message, Producer
from emobility.adapters.memory import VirtualClock
from emobility.adapters.postgres import PostgresAdapters, open_postgres
from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.domain.identifiers import PartyId
from emobility.events import codec
from emobility.events.charging import CHARGING, StationBooted
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.event_log import CursorOutsideLog, Handler, LogUnavailable, partition_of
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.embedded_kafka import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(240)]

T0: Final = datetime(2022, 3, 27, tzinfo=UTC)
DEADLINE_S: Final = 120.0


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


def prefix_of(dsn: str) -> str:
    return dsn.rsplit("/", 1)[1].split("?", maxsplit=1)[0]


@asynccontextmanager
async def opened(
    bootstrap: str, dsn: str, clock: VirtualClock
) -> AsyncIterator[tuple[KafkaEventLog, PostgresAdapters]]:
    async with (
        open_postgres(dsn, master_key=bytes(32), clock=clock, randomness=SystemRandomness()) as postgres,
        open_kafka(bootstrap, postgres, prefix=prefix_of(dsn)) as log,
    ):
        yield log, postgres


@asynccontextmanager
async def consuming(log: KafkaEventLog, handler: Handler) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(log.consume("readers", [CHARGING], handler, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)


async def until_handled(log: KafkaEventLog) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await log.lag()).get("readers") != 0:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.05)


async def ignore(_unit: UnitOfWork, _events: Sequence[LoggedEvent]) -> None:
    return


async def test_what_a_relay_publishes_again_is_handled_and_read_once(kafka_bootstrap: str, postgres_dsn: str) -> None:
    handled: list[str] = []

    async def collect(_unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        handled.extend(logged.envelope.event_id for logged in events)

    def message(number: int) -> Message:
        envelope = booted("S1", number)
        return Message(
            topic=f"{prefix_of(postgres_dsn)}.{CHARGING}",
            partition=partition_of(envelope.event.key),
            key=envelope.event.key.encode(),
            value=codec.encode_envelope(envelope),
            timestamp_ms=0,
            outbox_offset=number,
        )

    producer = Producer(kafka_bootstrap)
    async with opened(kafka_bootstrap, postgres_dsn, VirtualClock(T0)) as (log, _):
        await producer.publish([message(number) for number in (0, 1, 2, 3)])
        await producer.publish([message(number) for number in (2, 3, 4, 5)])
        await log.append([booted("S1", 6)])
        async with consuming(log, collect):
            async with asyncio.timeout(DEADLINE_S):
                while len(handled) < 7:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)
            await until_handled(log)
        read = [logged.envelope.event_id async for logged in log.read([CHARGING])]
    await producer.close()

    assert handled == read == [f"S1/{number}" for number in range(7)]


async def test_a_leader_that_knows_of_no_partitions_hands_them_all_out(
    kafka_bootstrap: str, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(kafka_bootstrap, postgres_dsn, VirtualClock(T0)) as (log, _):
        await log.append([booted("S1", 0)])
        monkeypatch.setattr(ClusterMetadata, "partitions_for_topic", lambda _cluster, _topic: None)
        async with consuming(log, ignore):
            await until_handled(log)


async def test_a_log_beside_one_that_serves_is_closed_at_once(kafka_bootstrap: str, postgres_dsn: str) -> None:
    async with opened(kafka_bootstrap, postgres_dsn, VirtualClock(T0)) as (serving, _):
        await serving.append([booted("S1", 0)])
        for _ in range(5):
            async with asyncio.timeout(DEADLINE_S), opened(kafka_bootstrap, postgres_dsn, VirtualClock(T0)) as (log, _):
                assert await log.parked("readers") == []


async def test_a_topic_that_was_made_anew_stops_the_consumer(kafka_bootstrap: str, postgres_dsn: str) -> None:
    async with opened(kafka_bootstrap, postgres_dsn, VirtualClock(T0)) as (log, _):
        await log.append([booted("S1", number) for number in range(3)])
        async with consuming(log, ignore):
            async with asyncio.timeout(DEADLINE_S):
                while "readers" not in await log.lag():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)
            await until_handled(log)
        await asyncio.to_thread(_delete_topic, kafka_bootstrap, f"{prefix_of(postgres_dsn)}.{CHARGING}")

        with pytest.raises(CursorOutsideLog, match="made anew"):
            await asyncio.wait_for(log.consume("readers", [CHARGING], ignore, stop=asyncio.Event()), DEADLINE_S)


def _delete_topic(bootstrap: str, topic: str) -> None:
    admin: Any = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.delete_topics([topic])
    admin.close()


async def test_the_broker_keeps_what_is_young_or_unread_and_drops_the_rest(
    kafka_bootstrap: str, postgres_dsn: str
) -> None:
    clock = VirtualClock(T0)
    async with opened(kafka_bootstrap, postgres_dsn, clock) as (log, _):
        await log.append([booted("S1", number) for number in range(5)])
        async with consuming(log, ignore):
            async with asyncio.timeout(DEADLINE_S):
                while "readers" not in await log.lag():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)
            await until_handled(log)
        young = await log.prune()
        await log.append([booted("S1", number) for number in range(5, 8)])
        clock.step_by(timedelta(days=91))
        old = await log.prune()
        left = [logged.offset async for logged in log.read([CHARGING])]

    assert (young, old, left) == (0, 5, [5, 6, 7])


@pytest.fixture
async def own_broker(server_folder: Path) -> AsyncIterator[EmbeddedKafka]:
    """A broker of this test's own, to be killed."""
    folder = server_folder / SystemRandomness().uuid()
    server = EmbeddedKafka(folder, timer=SystemTimer(), randomness=SystemRandomness())
    await server.start()
    yield server
    server.kill()
    server.discard()


@pytest.mark.fault
async def test_kill_9_of_the_broker_loses_nothing_confirmed_and_everything_is_handled_once(
    own_broker: EmbeddedKafka, postgres_dsn: str
) -> None:
    confirmed: set[str] = set()
    handled: dict[str, int] = {}
    is_over = asyncio.Event()

    async def collect(_unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        for logged in events:
            handled[logged.envelope.event_id] = handled.get(logged.envelope.event_id, 0) + 1

    async def emit(postgres: PostgresAdapters) -> None:
        number = 0
        while not is_over.is_set():
            async with postgres.units.begin() as unit:
                unit.emit(booted("outbox", number))
                await unit.commit()
            confirmed.add(f"outbox/{number}")
            number += 1
            await asyncio.sleep(0.01)

    async def append(log: KafkaEventLog) -> None:
        number = 0
        while not is_over.is_set():
            try:
                await log.append([booted("direct", number)])
            except LogUnavailable:
                continue  # as the gateway does: the same again
            confirmed.add(f"direct/{number}")
            number += 1

    async with opened(own_broker.bootstrap, postgres_dsn, VirtualClock(T0)) as (log, postgres), consuming(log, collect):
        work = asyncio.gather(emit(postgres), append(log))
        async with asyncio.timeout(DEADLINE_S):
            while len(confirmed) < 200 or not handled:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            assert own_broker.pid is not None
            os.kill(own_broker.pid, signal.SIGKILL)
            await own_broker.down()
            own_broker.kill()
            await own_broker.start()
            before = sum(name.startswith("direct") for name in confirmed)
            while sum(name.startswith("direct") for name in confirmed) < before + 20:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        is_over.set()
        await work
        await until_handled(log)
        stored = {logged.envelope.event_id async for logged in log.read([CHARGING])}

    assert confirmed - stored == set()
    assert confirmed - set(handled) == set()
    assert {name: times for name, times in handled.items() if times > 1 and name.startswith("outbox")} == {}
