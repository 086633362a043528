"""A broker that hangs: whoever waits for it gives up, and the producer is replaced whole, its thread included."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Final

import pytest

from emobility.adapters.kafka.broker import Admin, Message, Producer
from emobility.runtime.embedded_kafka import EmbeddedKafka

pytestmark = [pytest.mark.fault, pytest.mark.kafka]

TOPIC: Final = "faults-hanging-broker"
DEADLINE_S: Final = 60.0
MESSAGES: Final = [
    Message(topic=TOPIC, partition=partition, key=b"k", value=b"v", timestamp_ms=1) for partition in range(4)
]


async def test_a_publish_that_was_given_up_leaves_no_thread_and_the_next_one_succeeds(
    kafka_server: EmbeddedKafka,
) -> None:
    admin, producer = Admin(kafka_server.bootstrap), Producer(kafka_server.bootstrap)
    await admin.ensure_topics([TOPIC])
    await producer.publish(MESSAGES)
    (before,) = producer_threads()
    assert kafka_server.pid is not None

    os.kill(kafka_server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await producer.publish(MESSAGES)
    finally:
        os.kill(kafka_server.pid, signal.SIGCONT)
    async with asyncio.timeout(DEADLINE_S):
        await producer.publish(MESSAGES)
        while before in (now := producer_threads()):  # noqa: ASYNC110 - a thread sends no event when it ends
            await asyncio.sleep(0.02)

    assert len(now) == 1
    await producer.close()
    await admin.close()


def producer_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "producer" in thread.name and "network" in thread.name}
