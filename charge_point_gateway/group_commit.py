"""Many stations' events in one append: a transaction of the log costs a disk flush, whatever it carries.

Envelopes wait in one bounded queue while an append is under way; the next append takes them together. When a group
fails for another reason than the log being away, it is tried again in halves, so one bad event fails alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from emobility.domain.errors import Unavailable
from emobility.events.event import Envelope
from emobility.ports.event_log import EventLog, LogUnavailable

GROUP_EVENTS_MAX: Final = 500
"""Most events of one append."""
QUEUE_EVENTS_MAX: Final = 20_000
"""Most events that wait; a station whose event does not fit is told to try again."""
APPEND_TIMEOUT_S: Final = 10.0
"""An append that takes longer failed, as far as the stations are concerned; they send again and nothing is doubled."""

Done = Callable[[Exception | None], None]
"""Called once: with None when the events are durable, else with why they may not be."""


class CommitQueueFull(Unavailable):
    """`QUEUE_EVENTS_MAX` events wait already."""


class GroupCommit:
    """Appends what many stations report, in the order it came."""

    def __init__(self, log: EventLog, *, group_events_max: int = GROUP_EVENTS_MAX) -> None:
        self._log = log
        self._group_events_max = group_events_max
        self._queue: deque[tuple[Sequence[Envelope], Done]] = deque()
        self._queued_events = 0
        self._wake = asyncio.Event()
        self.in_flight = 0
        """Events that are being appended now."""

    @property
    def pending(self) -> int:
        """Events that are not durable yet."""
        return self._queued_events + self.in_flight

    def submit(self, envelopes: Sequence[Envelope], done: Done) -> None:
        """Queue one message's events; all of them become durable together. Raises `CommitQueueFull`."""
        if self._queued_events + len(envelopes) > QUEUE_EVENTS_MAX:
            raise CommitQueueFull(f"{self._queued_events} events wait to become durable")
        self._queue.append((envelopes, done))
        self._queued_events += len(envelopes)
        self._wake.set()

    def append(self, envelopes: Sequence[Envelope]) -> asyncio.Future[None]:
        """Queue events; the future is done when they are durable, or fails with why they may not be."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(failure: Exception | None) -> None:
            if future.done():
                return
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

        self.submit(envelopes, settle)
        return future

    async def run(self, stop: asyncio.Event) -> None:
        """Append until `stop` is set and the queue is empty."""
        stopping = asyncio.ensure_future(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while self._queue or not stop.is_set():
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._append_group(self._next_group())
        finally:
            stopping.cancel()

    def _next_group(self) -> list[tuple[Sequence[Envelope], Done]]:
        group = [self._queue.popleft()]
        events = len(group[0][0])
        while self._queue and events + len(self._queue[0][0]) <= self._group_events_max:
            group.append(self._queue.popleft())
            events += len(group[-1][0])
        self._queued_events -= events
        return group

    async def _append_group(self, group: list[tuple[Sequence[Envelope], Done]]) -> None:
        envelopes = [envelope for message, _ in group for envelope in message]
        self.in_flight = len(envelopes)
        try:
            async with asyncio.timeout(APPEND_TIMEOUT_S):
                await self._log.append(envelopes)
        except TimeoutError:
            failure: Exception = LogUnavailable(f"no confirmation within {APPEND_TIMEOUT_S} s")
        except Unavailable as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever one event provokes must not fail its neighbours
            if len(group) > 1:
                half = len(group) // 2
                await self._append_group(group[:half])
                await self._append_group(group[half:])
                return
            failure = error
        else:
            for _, done in group:
                done(None)
            return
        finally:
            self.in_flight = 0
        for _, done in group:
            done(failure)
