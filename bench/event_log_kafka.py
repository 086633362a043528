"""As `bench.event_log`, with a real Apache Kafka broker; a consumer's cursor lies in PostgreSQL, beside its effects.

One broker acknowledges when the kernel has the bytes, not the disk: its figures don't compare with PostgreSQL's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Final

from kafka import KafkaProducer

from bench.event_log import (
    BATCH,
    BATCHES,
    BATCHES_SHORT,
    PACED,
    PACED_SHORT,
    ROUNDS,
    event,
    in_turns,
    opened_postgres,
    p99_ms,
)
from bench.figure import Figure, against_goal, against_rival
from bench.servers import server_folder
from emobility.adapters.kafka import open_kafka
from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.events.codec import encode_envelope
from emobility.runtime.embedded_kafka import EmbeddedKafka
from emobility.runtime.kafka.libraries import find_java, find_libraries

FIGURES: Final = ("event_log.append.kafka", "event_log.end_to_end.p99.kafka")
TOPIC: Final = "bench.charging"
"""The topic that ours appends to; the rival sends to it too."""


async def run(*, short: bool) -> list[Figure]:
    """Measure Kafka. Raises `ComponentMissing`: no Java, or no jars."""
    return await measure(
        rounds=ROUNDS, batches=BATCHES_SHORT if short else BATCHES, paced=PACED_SHORT if short else PACED
    )


async def measure(*, rounds: int, batches: int, paced: int) -> list[Figure]:
    """Measure the latency of `paced` events, then `rounds` of `batches` per writer in turns with the rival."""
    find_java()
    find_libraries()
    async with (
        _broker() as bootstrap,
        opened_postgres() as (_, adapters),
        open_kafka(bootstrap, adapters, prefix="bench") as event_log,
    ):
        latency_ms = await p99_ms(event_log, paced)
        producer = KafkaProducer(bootstrap_servers=bootstrap)
        try:
            ours, rival = await in_turns(event_log, lambda: _plain(producer, batches), rounds, batches)
        finally:
            producer.close()
        return [
            against_rival(
                name=FIGURES[0],
                unit="rows/s",
                ours=ours,
                rival=rival,
                rival_name="kafka-python alone, acks=all, one writer, a flush per batch",
            ),
            against_goal(name=FIGURES[1], value=latency_ms, unit="ms"),
        ]


@asynccontextmanager
async def _broker() -> AsyncIterator[str]:
    with server_folder() as folder:
        server = EmbeddedKafka(folder / "kafka", timer=SystemTimer(), randomness=SystemRandomness())
        try:
            await server.start()
            yield server.bootstrap
        finally:
            server.kill()
            server.discard()


def _plain(producer: KafkaProducer, batches: int) -> float:
    """The rival: the same bytes under the same keys, each batch confirmed before the next."""
    began = perf_counter()
    for number in range(batches):
        for slot in range(BATCH):
            each = event(slot, number)
            producer.send(TOPIC, key=each.event.key.encode(), value=encode_envelope(each))
        producer.flush()
    return batches * BATCH / (perf_counter() - began)
