"""The event log in Kafka; cursors, dead letters and the outbox of services stay in PostgreSQL, with their effects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from emobility.adapters.consuming import BackOff, Place, encoded, handle_batch
from emobility.adapters.kafka.broker import OUTBOX_HEADER, Admin, Message, Producer
from emobility.adapters.kafka.connecting import REQUEST_TIMEOUT_MS, connected
from emobility.adapters.kafka.cursors import Cursors, begin_consuming
from emobility.adapters.kafka.polling import Assigned, Partition, Poller
from emobility.adapters.kafka.relay import RELAY_GROUP
from emobility.adapters.postgres import PostgresAdapters
from emobility.domain.errors import Unavailable
from emobility.events import codec
from emobility.events.event import NO_VIEWS, Envelope, LoggedEvent, Views
from emobility.ports.event_log import (
    BATCH_EVENTS_MAX,
    Bounds,
    CursorMoved,
    DiscardedEvent,
    Handler,
    ParkedEvent,
    partition_of,
)

STEP_BACK_S: Final = 0.05
READ_POLL_MS: Final = 500


class KafkaEventLog:
    """See `emobility.ports.event_log.EventLog`. `append` goes straight to the brokers; `emit` through the outbox."""

    def __init__(
        self,
        bootstrap: str,
        postgres: PostgresAdapters,
        producer: Producer,
        admin: Admin,
        *,
        prefix: str,
        retention_age: timedelta,
    ) -> None:
        self._bootstrap = bootstrap
        self._postgres = postgres
        self._producer = producer
        self._admin = admin
        self._prefix = prefix
        self._retention_age = retention_age
        self._cursors = Cursors(postgres.units)
        self._topic_ids: dict[str, str] = {}

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        """Return when every replica in sync has all events.

        Raises:
            LogUnavailable: not all were confirmed; some may be in, so the same append is repeated, and consumers know
                events again by their idempotency keys.
            EventTooLarge: nothing was sent.
        """
        values = [(envelope, encoded(envelope)) for envelope in envelopes]
        await self.ensure_topics({envelope.event.topic for envelope in envelopes})
        await self._producer.publish([self._message(envelope, value) for envelope, value in values])

    def _message(self, envelope: Envelope, value: bytes) -> Message:
        event = envelope.event
        return Message(
            topic=self._kafka_topic(event.topic),
            partition=partition_of(event.key),
            key=event.key.encode(),
            value=value,
            timestamp_ms=int(envelope.recorded_at.timestamp() * 1000),
        )

    def _kafka_topic(self, topic: str) -> str:
        return f"{self._prefix}.{topic}"

    def _our_topic(self, kafka_topic: str) -> str:
        return kafka_topic.removeprefix(f"{self._prefix}.")

    async def ensure_topics(self, topics: set[str]) -> None:
        """Make topics before their first event. Raises `LogUnavailable`, `CursorOutsideLog`."""
        missing = sorted(self._kafka_topic(topic) for topic in topics if topic not in self._topic_ids)
        if missing:
            ids = await self._admin.ensure_topics(missing)
            self._topic_ids.update({self._our_topic(topic): topic_id for topic, topic_id in ids.items()})

    async def consume(
        self,
        group: str,
        topics: Sequence[str],
        handler: Handler,
        *,
        stop: asyncio.Event,
        batch_events_max: int = BATCH_EVENTS_MAX,
        views: Views = NO_VIEWS,
    ) -> None:
        """Hand every event to `handler` until `stop` is set, and always the whole; see the port.

        Raises:
            CursorOutsideLog: the topic was made anew or re-partitioned, or the brokers do not hold the offset.
        """
        del views  # what a relay repeated is told by all that an event says
        back_off = BackOff(max_s=1.0)
        while not stop.is_set():
            try:
                await self._consume(group, topics, handler, stop, batch_events_max)
            except Unavailable:
                await back_off.wait(stop)

    async def _consume(
        self, group: str, topics: Sequence[str], handler: Handler, stop: asyncio.Event, events_max: int
    ) -> None:
        self._topic_ids.clear()  # a topic may have been made anew
        await self._stored_offsets(group, topics)
        workers: set[asyncio.Task[None]] = set()
        work = partial(self._work, group=group, handler=handler, stop=stop, events_max=events_max)

        def begin(assigned: Sequence[Assigned]) -> None:
            for each in assigned:
                worker = asyncio.create_task(work(poller, each))
                workers.add(worker)
                worker.add_done_callback(_done)

        def _done(worker: asyncio.Task[None]) -> None:
            workers.discard(worker)
            if not worker.cancelled() and worker.exception() is not None and not failed.done():
                failed.set_result(worker.exception())

        failed: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        poller = Poller(
            bootstrap=self._bootstrap,
            group=f"{self._prefix}.{group}",
            topics=[self._kafka_topic(topic) for topic in topics],
            stored_offsets=partial(self._offsets_of, group, topics),
            on_assigned=begin,
        )
        poller.start()
        wait_for_stop = asyncio.create_task(stop.wait())
        try:
            ends: set[asyncio.Future[Any]] = {wait_for_stop, poller.ended, failed}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wait_for_stop.cancel()
            poller.stop()
            with suppress(BaseException):
                await asyncio.shield(poller.ended)  # no thread outlives its consumer
            if stop.is_set():
                await asyncio.gather(*workers, return_exceptions=True)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if failed.done() and (error := failed.result()) is not None:
            raise error
        if poller.ended.done():
            poller.ended.result()  # raises what stopped it

    async def _stored_offsets(self, group: str, topics: Sequence[str]) -> Mapping[Partition, int]:
        """Return where the group goes on, by our topics. Raises `CursorOutsideLog`, `Unavailable`."""
        await self.ensure_topics(set(topics))
        held = await self._bounds(topics)
        return await self._cursors.enter(group, {topic: self._topic_ids[topic] for topic in topics}, held)

    async def _bounds(self, topics: Sequence[str]) -> Mapping[Partition, Bounds]:
        held = await self._admin.bounds([self._kafka_topic(topic) for topic in topics])
        return {(self._our_topic(topic), number): bounds for (topic, number), bounds in held.items()}

    async def _offsets_of(
        self, group: str, topics: Sequence[str], places: Sequence[Partition]
    ) -> Mapping[Partition, int]:
        stored = await self._stored_offsets(group, topics)
        return {(topic, number): stored[self._our_topic(topic), number] for topic, number in places}

    async def _work(
        self,
        poller: Poller,
        assigned: Assigned,
        *,
        group: str,
        handler: Handler,
        stop: asyncio.Event,
        events_max: int,
    ) -> None:
        """Handle one partition's batches while it is ours."""
        place = Place(group=group, topic=self._our_topic(assigned.topic), partition=assigned.number)
        while not stop.is_set() and not self._is_gone(assigned):
            if not assigned.batches:
                assigned.changed.clear()
                await _either(assigned.changed, stop)
                continue
            records = assigned.batches.popleft()
            poller.resume(assigned)
            for start in range(0, len(records), events_max):
                part = records[start : start + events_max]
                if self._is_gone(assigned) or not await self._handle(place, part, handler, stop):
                    await asyncio.sleep(STEP_BACK_S)
                    poller.read_again(assigned)  # does nothing when it is not ours any more
                    return

    @staticmethod
    def _is_gone(assigned: Assigned) -> bool:
        return assigned.is_revoked

    async def _handle(self, place: Place, records: Sequence[Any], handler: Handler, stop: asyncio.Event) -> bool:
        """Handle records in one or more units; False when another worker was faster."""
        events = [self._logged(record) for record in records]
        outbox_offsets = {record.offset: int(value) for record in records if (value := _outbox(record)) is not None}
        begin = partial(begin_consuming, self._postgres.units, outbox_offsets)
        try:
            await handle_batch(begin, place, events, handler, stop=stop)
        except CursorMoved:
            return False
        return True

    def _logged(self, record: Any) -> LoggedEvent:
        return LoggedEvent(
            topic=self._our_topic(record.topic),
            partition=record.partition,
            offset=record.offset,
            envelope=codec.decode_envelope(record.value),
        )

    async def read(self, topics: Sequence[str]) -> AsyncIterator[LoggedEvent]:
        """Yield all that the brokers hold now, by topic, partition and offset, without what a relay repeated."""
        await self.ensure_topics(set(topics))
        held = await self._bounds(topics)
        for (topic, number), bounds in held.items():
            relayed_to = 0
            for record in await asyncio.to_thread(self._fetch, topic, number, bounds):
                outbox_offset = _outbox(record)
                if outbox_offset is not None:
                    if int(outbox_offset) < relayed_to:
                        continue
                    relayed_to = int(outbox_offset) + 1
                yield self._logged(record)

    def _fetch(self, topic: str, number: int, bounds: Bounds) -> list[Any]:
        """Return a partition's records; runs in a thread of its own."""
        records: list[Any] = []
        if bounds.first == bounds.end:
            return records
        place = TopicPartition(self._kafka_topic(topic), number)
        consumer = connected(
            KafkaConsumer,
            self._bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            bootstrap_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            consumer.assign([place])
            consumer.seek(place, bounds.first)
            while not records or records[-1].offset < bounds.end - 1:
                records.extend(consumer.poll(timeout_ms=READ_POLL_MS).get(place, []))
        finally:
            consumer.close(autocommit=False)
        return [record for record in records if record.offset < bounds.end]

    async def bounds(self, topics: Sequence[str]) -> Mapping[tuple[str, int], Bounds]:
        """Return what the brokers hold of each partition that ever held anything. Raises `LogUnavailable`."""
        await self.ensure_topics(set(topics))
        return {place: bounds for place, bounds in (await self._bounds(topics)).items() if bounds.end}

    async def lag(self) -> Mapping[str, int]:
        """Return for each group how many events it has not handled: behind in Kafka, and still in the outbox."""
        unpublished = await self._cursors.unpublished(RELAY_GROUP)  # first: what is relayed meanwhile counts later
        cursors = await self._cursors.all()
        if not cursors:
            return {}
        ends = await self._admin.ends(
            [self._kafka_topic(topic) for topic in sorted({each.topic for each, _ in cursors})]
        )
        lags: dict[str, int] = {}
        topics: dict[str, set[str]] = {}
        for place, next_offset in cursors:
            behind = ends[self._kafka_topic(place.topic), place.partition] - next_offset
            lags[place.group] = lags.get(place.group, 0) + behind
            topics.setdefault(place.group, set()).add(place.topic)
        for group, names in topics.items():
            lags[group] += sum(unpublished.get(topic, 0) for topic in names)
        return lags

    async def parked(self, group: str) -> Sequence[ParkedEvent]:
        """Return the group's dead letters, in order."""
        return await self._postgres.event_log.parked(group)

    async def replay_parked(self, group: str, key: str, handler: Handler) -> int:
        """Hand a parked key's events to `handler` again; what it handled leaves the dead letters."""
        return await self._postgres.event_log.replay_parked(group, key, handler)

    async def discard_parked(self, group: str, *, topic: str, partition: int, offset: int, who: str, why: str) -> None:
        """Take one event out of the dead letters for good. Raises `NotParked`, `DiscardUnexplained`."""
        log = self._postgres.event_log
        await log.discard_parked(group, topic=topic, partition=partition, offset=offset, who=who, why=why)

    async def discarded(self, group: str) -> Sequence[DiscardedEvent]:
        """Return what was discarded of the group's dead letters, in the log's order."""
        return await self._postgres.event_log.discarded(group)

    async def prunable(self) -> Mapping[tuple[str, int], Bounds]:
        """Return what every group has passed and whose age is over. Raises `LogUnavailable`."""
        passed: dict[Partition, int] = {}
        for place, next_offset in await self._cursors.all():
            partition = (place.topic, place.partition)
            passed[partition] = min(passed.get(partition, next_offset), next_offset)
        topics = sorted({topic for topic, _ in passed})
        if not topics:
            return {}
        before = self._postgres.clock.now() - self._retention_age
        kafka_topics = [self._kafka_topic(topic) for topic in topics]
        young = await self._admin.offsets_at(kafka_topics, int(before.timestamp() * 1000))
        old: dict[Partition, Bounds] = {}
        for (topic, number), held in (await self._bounds(topics)).items():
            end = min(young[self._kafka_topic(topic), number], passed[topic, number])
            if end > held.first:
                old[topic, number] = Bounds(first=held.first, end=end)
        return old

    async def prune(self) -> int:
        """Let the brokers drop what is `prunable`, and the outbox its old segments; return how many events went."""
        await self._postgres.event_log.prune()  # the same events, counted once
        old = await self.prunable()
        if old:
            await self._admin.delete_before(
                {(self._kafka_topic(topic), number): bounds.end for (topic, number), bounds in old.items()}
            )
        return sum(bounds.events for bounds in old.values())


def _outbox(record: Any) -> bytes | None:
    for name, value in record.headers:
        if name == OUTBOX_HEADER:
            outbox_offset: bytes = value
            return outbox_offset
    return None


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(first.wait()), asyncio.ensure_future(second.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
