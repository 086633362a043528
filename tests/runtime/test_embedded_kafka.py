from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.runtime.embedded_kafka import EmbeddedKafka
from emobility.runtime.folder_lock import FolderInUse

pytestmark = [pytest.mark.kafka, pytest.mark.fault]

TOPIC = "acknowledged"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    server = EmbeddedKafka(tmp_path / "kafka", timer=SystemTimer(), randomness=SystemRandomness())
    yield server
    server.kill()


def append(bootstrap: str, records: list[bytes]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for acknowledged in [producer.send(TOPIC, record) for record in records]:
        acknowledged.get(timeout=30)
    producer.close()


def held(bootstrap: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(TOPIC, bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest")
    found = [next(consumer).value for _ in range(count)]
    consumer.close()
    return found


@pytest.mark.long
async def test_a_killed_broker_comes_back_at_the_same_address_with_what_it_acknowledged(broker: EmbeddedKafka) -> None:
    await broker.start()
    address, pid = broker.bootstrap, broker.pid
    records = [f"{number}".encode() for number in range(200)]
    await asyncio.to_thread(append, address, records)
    assert pid is not None

    os.kill(pid, signal.SIGKILL)
    reason = await broker.down()
    await broker.start()

    assert reason == "exit code -9"
    assert broker.bootstrap == address
    assert await asyncio.to_thread(held, address, len(records)) == records


async def test_a_second_owner_of_the_brokers_folder_is_refused(broker: EmbeddedKafka, tmp_path: Path) -> None:
    await broker.start()
    second = EmbeddedKafka(tmp_path / "kafka", timer=SystemTimer(), randomness=SystemRandomness())

    with pytest.raises(FolderInUse) as refusal:
        await second.start()

    assert refusal.value.owner_pid == str(os.getpid())
