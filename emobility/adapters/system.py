"""Time and chance as the machine has them, and a clock that a time master steps for a demo.

This module is the one place that asks the operating system for the time or for randomness.
"""

from __future__ import annotations

import asyncio
import heapq
import mmap
import os
import secrets
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from emobility.domain.errors import RuleBroken, Unavailable

WALL_CLOCK_RECHECK_S: Final = 30.0
"""A sleeper looks at the wall clock at least this often, because the clock may be set meanwhile."""
STEP_POLL_S: Final = 0.004
"""How often a process looks whether the time master has stepped the clock."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CLOCK_BYTES: Final = 8


class ClockRanBackwards(RuleBroken):
    """Somebody asked a stepped clock to go back; timestamps already given out would lie in the future."""

    def __init__(self, *, now: datetime, at: datetime) -> None:
        self.now = now
        self.at = at
        super().__init__(f"the clock shows {now.isoformat()} and can't go back to {at.isoformat()}")


class ClockFileMissing(Unavailable):
    """There is no stepped clock at this path, or the file is not one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is not a stepped clock; the time master makes it first")


class SystemClock:
    """The machine's own clock (`Clock`)."""

    def now(self) -> datetime:
        """Return the present moment, aware, UTC."""
        return datetime.now(UTC)  # noqa: TID251  # the port's own implementation

    async def sleep_until(self, at: datetime) -> None:
        """Return once `now()` has reached `at`."""
        while (remaining_s := (at - self.now()).total_seconds()) > 0:  # noqa: ASYNC110  # nobody tells when a clock is set
            await asyncio.sleep(min(remaining_s, WALL_CLOCK_RECHECK_S))


class SteppedClock:
    """A clock that shows what one time master wrote (`Clock`), shared by processes through a file.

    The file holds one 8-byte integer in the machine's byte order: microseconds since 1970-01-01 UTC. It is mapped
    into memory and written by one aligned store, so a reader sees the old or the new moment and nothing between.
    """

    def __init__(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            raise ClockFileMissing(path) from None
        try:
            if os.fstat(descriptor).st_size != _CLOCK_BYTES:
                raise ClockFileMissing(path)
            self._memory = mmap.mmap(descriptor, _CLOCK_BYTES)
        finally:
            os.close(descriptor)
        self._moment = memoryview(self._memory).cast("q")
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sleeper_count = 0
        self._polling_loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def create(cls, path: Path, *, at: datetime) -> Self:
        """Make the clock's file, showing `at`, and open it."""
        unborn = path.with_name(path.name + ".new")
        unborn.write_bytes(memoryview(bytearray(_CLOCK_BYTES)))
        unborn.replace(path)
        clock = cls(path)
        clock._moment[0] = _microseconds(at)
        return clock

    def now(self) -> datetime:
        """Return the moment the time master last wrote, aware, UTC."""
        return _EPOCH + timedelta(microseconds=self._moment[0])

    def step_to(self, at: datetime) -> None:
        """Show `at` from now on, in every process. For the time master alone. Raises `ClockRanBackwards`."""
        microseconds = _microseconds(at)
        if microseconds < self._moment[0]:
            raise ClockRanBackwards(now=self.now(), at=at)
        self._moment[0] = microseconds

    async def sleep_until(self, at: datetime) -> None:
        """Return once `now()` has reached `at`, at most `STEP_POLL_S` after the step."""
        microseconds = _microseconds(at)
        if self._moment[0] >= microseconds:
            return
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._sleeper_count += 1
        heapq.heappush(self._sleepers, (microseconds, self._sleeper_count, woken))
        if self._polling_loop is not loop:
            self._polling_loop = loop
            loop.call_later(STEP_POLL_S, self._wake, loop)
        await woken

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake who is due. One poll serves all sleepers of the process, however many there are."""
        reached = self._moment[0]
        while self._sleepers and (self._sleepers[0][2].done() or self._sleepers[0][0] <= reached):
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)
        if self._sleepers:
            loop.call_later(STEP_POLL_S, self._wake, loop)
        else:
            self._polling_loop = None


class SystemTimer:
    """Monotonic time of the running loop (`Timer`)."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment."""
        return time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds."""
        await asyncio.sleep(duration_s)


class SystemRandomness:
    """The operating system's randomness (`Randomness`)."""

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes nobody can guess."""
        return secrets.token_bytes(count)

    def uuid(self) -> str:
        """Return a random UUID (version 4) as text."""
        return str(uuid.uuid4())  # noqa: TID251  # the port's own implementation


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
