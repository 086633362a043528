"""Keep a server running: start it, notice when it goes down, start it again with bounded back-off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from emobility.domain.errors import Unavailable
from emobility.ports.clock import Timer

BACK_OFF_FIRST_S: Final = 0.2
BACK_OFF_MAX_S: Final = 10.0
STEADY_AFTER_S: Final = 30.0
"""A server that ran this long starts over with the shortest back-off when it dies."""
RESTARTS_MAX: Final = 20
"""Deaths in a row, each before `STEADY_AFTER_S`, after which supervision gives up."""


class ServerFailed(Unavailable):
    """A server of ours did not come up, or keeps dying."""

    def __init__(self, name: str, reason: str, *, log_tail: str = "") -> None:
        self.name = name
        self.reason = reason
        self.log_tail = log_tail
        super().__init__(f"{name}: {reason}" + (f"\n{log_tail}" if log_tail else ""))


class ComponentMissing(Unavailable):
    """Something this machine lacks; the sentence says what and how to get it."""


class Server(Protocol):
    """What can be supervised: a process of ours, or an embedded PostgreSQL or Kafka."""

    @property
    def name(self) -> str:
        """What people call it; also the name of its log."""

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""

    async def start(self) -> None:
        """Start it and return once it is ready. Raises `ServerFailed`, `ComponentMissing`."""

    async def down(self) -> str:
        """Return, with the reason, when it has ended by itself."""

    async def stop(self) -> None:
        """Stop it, gently first; stopping twice is as once."""

    def kill(self) -> None:
        """End it and all its processes at once; for the way out."""

    def log_tail(self) -> str:
        """Return the last lines of its log."""


@dataclass(slots=True)
class BackOff:
    """How long to wait before the next start: doubling from `BACK_OFF_FIRST_S` to `BACK_OFF_MAX_S`."""

    deaths: int = 0

    def after_death(self, *, ran_s: float) -> float:
        """Return the pause after a server died that ran `ran_s` seconds."""
        self.deaths = 1 if ran_s >= STEADY_AFTER_S else self.deaths + 1
        return min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2.0 ** (self.deaths - 1))

    @property
    def is_exhausted(self) -> bool:
        """Whether it died more often in a row than `RESTARTS_MAX`."""
        return self.deaths > RESTARTS_MAX


async def keep_running(
    server: Server, stop: asyncio.Event, timer: Timer, *, on_change: Callable[[str], None] = lambda _: None
) -> None:
    """Restart a server that has been started whenever it goes down, until `stop` is set; the caller stops it.

    Args:
        server: Started already.
        stop: Ends the supervision.
        timer: Measures back-off.
        on_change: Told in a sentence what happened.

    Raises:
        ServerFailed: it died more than `RESTARTS_MAX` times in a row.
    """
    back_off = BackOff()
    while not stop.is_set():
        started_s = timer.monotonic_s()
        reason = await _first_of(server.down(), stop)
        while reason is not None:
            pause_s = back_off.after_death(ran_s=timer.monotonic_s() - started_s)
            if back_off.is_exhausted:
                raise ServerFailed(server.name, f"died {back_off.deaths} times in a row", log_tail=server.log_tail())
            on_change(f"{server.name} went down ({reason}); starting it again in {pause_s:.1f} s")
            if await _first_of(_pause(timer, pause_s), stop) is None:
                return
            started_s = timer.monotonic_s()
            try:
                if await _first_of(_start(server), stop) is None:
                    return
            except ServerFailed as failure:
                reason = failure.reason
            else:
                reason = None
                on_change(f"{server.name} is back")


async def _pause(timer: Timer, duration_s: float) -> str:
    await timer.sleep(duration_s)
    return "paused"


async def _start(server: Server) -> str:
    await server.start()
    return "started"


async def _first_of(work: Coroutine[Any, Any, str], stop: asyncio.Event) -> str | None:
    """Return what `work` gives, or None when `stop` was set first."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return None if stop.is_set() else task.result()
    finally:
        task.cancel()
        stopping.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
