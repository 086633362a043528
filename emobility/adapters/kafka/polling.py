"""One thread that polls one consumer, and the bridge to the event loop: a bounded queue per partition.

The thread joins the group, tells the loop what it was assigned, starts each partition where the loop says (the stored
offset), and pauses a partition whose queue is full. Offsets are never committed to Kafka.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError, OffsetOutOfRangeError

from emobility.adapters.kafka.connecting import REQUEST_TIMEOUT_MS, connected
from emobility.ports.event_log import PARTITIONS_PER_TOPIC, CursorOutsideLog, LogUnavailable

POLL_MS: Final = 50
POLL_RECORDS_MAX: Final = 1_000_000
"""A poll takes all that was fetched; bytes are the bound. kafka-python 3.0.12 never returns to the rest of a partition
that is paused while its records are half taken (`Fetcher._paused_partition_records`), so there must be no rest."""
BATCHES_QUEUED_MAX: Final = 2
"""Batches of one partition that wait for the handler before the partition is paused."""
SESSION_TIMEOUT_MS: Final = 10_000
FETCH_BYTES_MAX: Final = 8_388_608
"""Most bytes the client buffers per fetch; what a paused partition holds is bounded by it."""
ASSIGNMENT_TIMEOUT_S: Final = 20.0

Partition = tuple[str, int]


@dataclass(slots=True)
class Assigned:
    """A partition this worker reads at present. After a seek or a rebalance the old object is `revoked`."""

    topic: str
    number: int
    next_offset: int
    """What is polled next; a poll that gives anything else is put right."""
    batches: deque[list[Any]] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_revoked: bool = False
    is_paused: bool = False


StoredOffsets = Callable[[Sequence[Partition]], Awaitable[Mapping[Partition, int]]]
OnAssigned = Callable[[Sequence[Assigned]], None]


class Poller(threading.Thread):
    """Polls for one `consume`; every callback runs in the event loop."""

    def __init__(
        self,
        *,
        bootstrap: str,
        group: str,
        topics: Sequence[str],
        stored_offsets: StoredOffsets,
        on_assigned: OnAssigned,
    ) -> None:
        super().__init__(name=f"kafka-poll-{group}", daemon=True)
        self._brokers = bootstrap
        self._group = group
        self._topics = list(topics)
        self._stored_offsets = stored_offsets
        self._on_assigned = on_assigned
        self._loop = asyncio.get_running_loop()
        self._commands: queue.SimpleQueue[Callable[[Any], None]] = queue.SimpleQueue()
        self._assigned: dict[Partition, Assigned] = {}
        self._is_stopping = threading.Event()
        self._failure: Exception | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the thread has ended; holds what stopped it."""

    def stop(self) -> None:
        """Ask the thread to end; await `ended`."""
        self._is_stopping.set()

    def resume(self, assigned: Assigned) -> None:
        """The handler has room again."""
        self._commands.put(lambda consumer: self._resume(consumer, assigned))

    def read_again(self, assigned: Assigned) -> None:
        """Another worker moved the cursor: start this partition from the stored offset again, if it is still ours."""
        self._commands.put(lambda consumer: self._read_again(consumer, assigned))

    def run(self) -> None:
        """Poll until stopped."""
        error: BaseException | None = None
        try:
            self._poll_until_stopped()
        except OffsetOutOfRangeError as gone:
            error = CursorOutsideLog(f"{self._group}: {gone}")
        except KafkaError as failed:
            error = LogUnavailable(f"Kafka: {type(failed).__name__}: {failed}")
        except Exception as failed:  # noqa: BLE001 - whatever it was, the loop must learn it
            error = failed
        self._loop.call_soon_threadsafe(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        self._revoke(list(self._assigned))
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)

    def _poll_until_stopped(self) -> None:
        consumer = connected(
            KafkaConsumer,
            self._brokers,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_poll_records=POLL_RECORDS_MAX,
            fetch_max_bytes=FETCH_BYTES_MAX,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=SESSION_TIMEOUT_MS // 4,
            request_timeout_ms=SESSION_TIMEOUT_MS + REQUEST_TIMEOUT_MS,
            bootstrap_timeout_ms=REQUEST_TIMEOUT_MS,
            partition_assignment_strategy=[_AllPartitions],
        )
        try:
            for topic in self._topics:
                consumer.partitions_for_topic(topic)  # asks the brokers; learning it later costs another rebalance
            consumer.subscribe(self._topics, listener=_Rebalance(self, consumer))
            while not self._is_stopping.is_set():
                self._obey(consumer)
                self._hand_over(consumer, consumer.poll(timeout_ms=POLL_MS))
                if self._failure is not None:
                    raise self._failure
        finally:
            consumer.close(autocommit=False, timeout_ms=REQUEST_TIMEOUT_MS)

    def _obey(self, consumer: Any) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            command(consumer)

    def _hand_over(self, consumer: Any, polled: Mapping[Any, list[Any]]) -> None:
        for place, polled_records in polled.items():
            assigned = self._assigned.get((place.topic, place.partition))
            if assigned is None:
                continue
            records = [record for record in polled_records if record.offset >= assigned.next_offset]
            if not records:
                continue
            if records[0].offset != assigned.next_offset:
                consumer.seek(place, assigned.next_offset)
                continue
            assigned.next_offset = records[-1].offset + 1
            assigned.batches.append(records)
            if len(assigned.batches) >= BATCHES_QUEUED_MAX:
                consumer.pause(place)
                assigned.is_paused = True
            self._loop.call_soon_threadsafe(assigned.changed.set)

    def _resume(self, consumer: Any, assigned: Assigned) -> None:
        place = (assigned.topic, assigned.number)
        if self._assigned.get(place) is assigned and assigned.is_paused:
            assigned.is_paused = False
            consumer.resume(TopicPartition(*place))

    def _read_again(self, consumer: Any, assigned: Assigned) -> None:
        place = (assigned.topic, assigned.number)
        if self._assigned.get(place) is assigned:
            self._begin(consumer, self._offsets_of([place]))

    def assigned(self, consumer: Any, places: Sequence[Partition]) -> None:
        """Give partitions a position; runs in Kafka's own thread, which swallows errors.

        The polling thread begins them: a position that is set here can still be overwritten by a poll that is just
        returning records of the time before.
        """
        try:
            offsets = self._offsets_of(places)
            for place, offset in offsets.items():
                consumer.seek(TopicPartition(*place), offset)
        except Exception as error:  # noqa: BLE001 - the polling thread raises it
            self._failure = error
        else:
            self._commands.put(lambda consumer: self._begin(consumer, offsets))

    def _begin(self, consumer: Any, offsets: Mapping[Partition, int]) -> None:
        """Read partitions from these offsets on, if they are still ours."""
        ours = {(place.topic, place.partition) for place in consumer.assignment()}
        begun = []
        for place, offset in offsets.items():
            if place not in ours:
                continue
            self.revoked([place])
            consumer.seek(TopicPartition(*place), offset)
            consumer.resume(TopicPartition(*place))
            self._assigned[place] = Assigned(*place, next_offset=offset)
            begun.append(self._assigned[place])
        self._loop.call_soon_threadsafe(self._on_assigned, begun)

    def _offsets_of(self, places: Sequence[Partition]) -> Mapping[Partition, int]:
        if not places:
            return {}
        return asyncio.run_coroutine_threadsafe(self._ask(places), self._loop).result(timeout=ASSIGNMENT_TIMEOUT_S)

    async def _ask(self, places: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self._stored_offsets(places)

    def revoked(self, places: Sequence[Partition]) -> None:
        """Forget partitions; what waits in their queues will be read by whoever has them now."""
        self._loop.call_soon_threadsafe(self._revoke_all, [self._assigned.pop(place, None) for place in places])

    def _revoke(self, places: Sequence[Partition]) -> None:
        self._revoke_all([self._assigned.pop(place, None) for place in places])

    @staticmethod
    def _revoke_all(gone: Sequence[Assigned | None]) -> None:
        for assigned in gone:
            if assigned is not None:
                assigned.is_revoked = True
                assigned.changed.set()


class _AllPartitions(RangePartitionAssignor):  # type: ignore[misc]  # kafka-python is untyped
    """Hands out every partition that a topic has by contract.

    The range assignor hands out what the group's leader knows. Of a topic made just now that may be none, and
    kafka-python 3.0.12 can take the answer that comes meanwhile for what it handed out, and never does so again.
    """

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> Any:  # noqa: ARG003 - what the leader knows of the brokers
        """Return each member's share."""
        return super().assign(cls, members)

    @staticmethod
    def partitions_for_topic(_topic: str) -> range:
        """In the place of the cluster's metadata."""
        return range(PARTITIONS_PER_TOPIC)


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is untyped
    """Passes assignments on to the poller, in its own thread."""

    def __init__(self, poller: Poller, consumer: Any) -> None:
        self._poller = poller
        self._consumer = consumer

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Start what is ours now."""
        self._poller.assigned(self._consumer, sorted((place.topic, place.partition) for place in assigned))

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Leave what is ours no more."""
        self._poller.revoked(sorted((place.topic, place.partition) for place in revoked))
