"""Time and chance under control: a clock that is stepped, a loop whose time jumps, randomness from a seed."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import selectors
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, TypeVar

T = TypeVar("T")

STUCK_AFTER_S: Final = 5.0
"""Real seconds a simulation waits for a foreign thread before it is called stuck."""


class VirtualClock:
    """Business time that stands still until `step_to`."""

    def __init__(self, start: datetime) -> None:
        self._now = _utc(start)
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> datetime:
        """Return the present moment, aware, UTC."""
        return self._now

    async def sleep_until(self, at: datetime) -> None:
        """Return once `now()` has reached `at`."""
        if at <= self._now:
            return
        waked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (at, next(self._order), waked))
        await waked

    def step_to(self, at: datetime) -> None:
        """Move time forward and wake whoever waited for it, earliest first; time never runs backwards."""
        if at < self._now:
            raise AssertionError(f"time does not run back from {self._now} to {at}")
        self._now = _utc(at)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, waked = heapq.heappop(self._sleepers)
            if not waked.done():
                waked.set_result(None)

    def step_by(self, duration: timedelta) -> None:
        """Move time forward by a duration."""
        self.step_to(self._now + duration)

    def next_wake(self) -> datetime | None:
        """Return the earliest moment anyone waits for."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise AssertionError(f"{at} has no time zone")
    return at.astimezone(UTC)


class LoopTimer:
    """Transport time of the running loop: real on a real loop, virtual on a `VirtualTimeLoop`."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment."""
        return asyncio.get_running_loop().time()

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds."""
        await asyncio.sleep(duration_s)


class SeededRandomness:
    """Chance that its seed decides: SHA-256 over the seed and a counter."""

    def __init__(self, seed: int | str) -> None:
        self._seed = str(seed).encode()
        self._drawn = count()

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes that only the seed can guess."""
        blocks = [hashlib.sha256(b"%s/%d" % (self._seed, next(self._drawn))).digest() for _ in range(0, count, 32)]
        return b"".join(blocks)[:count]

    def uuid(self) -> str:
        """Return a UUID of version 4 as text."""
        return str(uuid.UUID(bytes=self.token_bytes(16), version=4))


class SimulationStuck(AssertionError):
    """Every task waits and no timer is set: nothing can ever happen again."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for time: when no socket is ready it moves the loop's time to its next timer."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; otherwise let time jump."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None:
            self.loop.jump(timeout)
            return ready
        ready = super().select(STUCK_AFTER_S)
        if not ready:
            raise SimulationStuck("every task waits and no timer is set")
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` jumps to the next timer when nothing is ready: hours pass in milliseconds.

    Deterministic as long as nothing runs in threads and no real socket is used.
    """

    def __init__(self) -> None:
        self._virtual_s = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._virtual_s

    def jump(self, duration_s: float) -> None:
        """Let `duration_s` seconds pass at once."""
        self._virtual_s += duration_s


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a fresh `VirtualTimeLoop`, as `asyncio.run` would."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
