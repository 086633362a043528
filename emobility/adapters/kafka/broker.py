"""Blocking conversations with the brokers, each in one thread of its own, so that the event loop never waits.

kafka-python has no asyncio: its admin client and its producer are called through executors of a single thread; a
consumer is polled by `polling`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError

from emobility.adapters.kafka.connecting import REQUEST_TIMEOUT_MS, connected
from emobility.ports.event_log import PARTITIONS_PER_TOPIC, Bounds, CursorOutsideLog, LogUnavailable

T = TypeVar("T")

DELIVERY_TIMEOUT_MS: Final = 10_000
"""How long an append waits for all replicas before it is called unconfirmed."""
CLOSE_TIMEOUT_S: Final = 2.0
OUTBOX_HEADER: Final = "outbox"
"""Carries an event's offset in the outbox: how consumers know what a relay repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A record to publish."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    timestamp_ms: int
    outbox_offset: int | None = None


class _Thread:
    """Runs blocking calls one after another in one thread."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        """Return the call's result. Raises `LogUnavailable` for whatever Kafka could not do."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        except KafkaError as error:
            raise LogUnavailable(f"Kafka: {type(error).__name__}: {error}") from error

    def submit(self, call: Callable[[], None]) -> None:
        """Have the call made after those before it; nobody waits for it."""
        self._executor.submit(call)

    def shutdown(self) -> None:
        """Let the thread end when its last call is done."""
        self._executor.shutdown(wait=False)


class Producer:
    """Publishes with `acks=all` and idempotence; a producer that failed is replaced."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._thread = _Thread("kafka-producer")
        self._producer: KafkaProducer | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when every replica in sync has all of them. Raises `LogUnavailable`: some may be in, repeat all."""
        loop = asyncio.get_running_loop()
        confirmed = [loop.create_future() for _ in messages]
        try:
            await self._thread.run(lambda: self._send(messages, confirmed, loop))
            await asyncio.gather(*confirmed)
        except (KafkaError, LogUnavailable) as error:
            self._give_up(confirmed)
            raise LogUnavailable(f"Kafka did not confirm: {error}") from error
        except asyncio.CancelledError:
            # Whoever waited gave up first. A producer whose batches expire keeps a gap in its sequence numbers.
            self._give_up(confirmed)
            raise

    def _give_up(self, confirmed: Sequence[asyncio.Future[None]]) -> None:
        for each in confirmed:
            each.cancel()
        self._thread.submit(self._discard)

    def _send(
        self, messages: Sequence[Message], confirmed: Sequence[asyncio.Future[None]], loop: asyncio.AbstractEventLoop
    ) -> None:
        if self._producer is None:
            self._producer = connected(
                KafkaProducer,
                self._bootstrap,
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                request_timeout_ms=REQUEST_TIMEOUT_MS,
                max_block_ms=REQUEST_TIMEOUT_MS,
                bootstrap_timeout_ms=REQUEST_TIMEOUT_MS,
                max_request_size=1_048_576,
            )
        for message, future in zip(messages, confirmed, strict=True):
            headers = [] if message.outbox_offset is None else [(OUTBOX_HEADER, str(message.outbox_offset).encode())]
            sent = self._producer.send(
                message.topic,
                value=message.value,
                key=message.key,
                partition=message.partition,
                timestamp_ms=message.timestamp_ms,
                headers=headers,
            )
            sent.add_callback(lambda _, future=future: loop.call_soon_threadsafe(_confirm, future, None))
            sent.add_errback(lambda error, future=future: loop.call_soon_threadsafe(_confirm, future, error))

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            # kafka-python 3.0.12: `close` first waits for what is unsent, and when that takes too long it raises and
            # leaves thread and connections behind. A forced end fails what is unsent, so that `close` comes through.
            with contextlib.suppress(KafkaError):
                producer._sender.force_close()  # noqa: SLF001 - there is no public way
                producer.close(timeout=CLOSE_TIMEOUT_S)

    async def close(self) -> None:
        """Give the connections back."""
        await self._thread.run(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._producer is not None:
            # What is unsent then was confirmed to nobody.
            with contextlib.suppress(KafkaTimeoutError):
                self._producer.flush(timeout=CLOSE_TIMEOUT_S)
        self._discard()


def _confirm(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


class Admin:
    """Topics, their identity and what the brokers hold of them."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._thread = _Thread("kafka-admin")
        self._client: KafkaAdminClient | None = None

    async def ensure_topics(self, topics: Sequence[str]) -> dict[str, str]:
        """Make topics that are not there and return each one's id.

        Raises:
            CursorOutsideLog: a topic has another number of partitions: keys would not find theirs.
            LogUnavailable: the brokers do not answer.
        """
        return await self._run(lambda: self._ensure_topics(topics))

    def _ensure_topics(self, topics: Sequence[str]) -> dict[str, str]:
        client = self._connected()
        known = {topic["name"]: topic for topic in client.describe_topics() if not topic.get("error_code")}
        missing = {
            # The brokers keep everything until `prune` says which offsets every group has passed.
            topic: {"num_partitions": PARTITIONS_PER_TOPIC, "configs": {"retention.ms": "-1", "retention.bytes": "-1"}}
            for topic in topics
            if topic not in known
        }
        if missing:
            try:
                client.create_topics(missing, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                client.wait_for_topics(list(missing))
            known = {topic["name"]: topic for topic in client.describe_topics()}
        for topic in topics:
            count = len(known[topic]["partitions"])
            if count != PARTITIONS_PER_TOPIC:
                raise CursorOutsideLog(f"topic {topic} has {count} partitions, not {PARTITIONS_PER_TOPIC}")
        return {topic: str(known[topic]["topic_id"]) for topic in topics}

    async def bounds(self, topics: Sequence[str]) -> Mapping[tuple[str, int], Bounds]:
        """Return what the brokers hold of each partition. Raises `LogUnavailable`."""

        def asked() -> dict[tuple[str, int], Bounds]:
            client = self._connected()
            places = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS_PER_TOPIC)]
            first = client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
            end = client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
            return {
                (place.topic, place.partition): Bounds(first=first[place].offset, end=end[place].offset)
                for place in places
            }

        return await self._run(asked)

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
        """Return where each partition ends; half of what `bounds` asks. Raises `LogUnavailable`."""

        def asked() -> dict[tuple[str, int], int]:
            places = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS_PER_TOPIC)]
            end = self._connected().list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
            return {(place.topic, place.partition): end[place].offset for place in places}

        return await self._run(asked)

    async def delete_before(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Drop records before an offset of each partition. Raises `LogUnavailable`."""
        wanted = {TopicPartition(topic, number): offset for (topic, number), offset in offsets.items()}
        await self._run(lambda: self._connected().delete_records(wanted))

    async def offsets_at(self, topics: Sequence[str], timestamp_ms: int) -> Mapping[tuple[str, int], int]:
        """Return each partition's first offset at or after a moment; its end when there is none."""

        def asked() -> dict[tuple[str, int], int]:
            client = self._connected()
            places = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS_PER_TOPIC)]
            found = client.list_partition_offsets(dict.fromkeys(places, timestamp_ms))
            end = client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
            return {
                (place.topic, place.partition): found[place].offset if found[place].offset >= 0 else end[place].offset
                for place in places
            }

        return await self._run(asked)

    def _connected(self) -> Any:
        if self._client is None:
            self._client = connected(KafkaAdminClient, self._bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
        return self._client

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await self._thread.run(call)
        except LogUnavailable:
            await self._thread.run(self._discard)
            raise

    def _discard(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._thread.run(self._discard)
        self._thread.shutdown()
