"""Bound what one receiver may hold up: calls under way, callers waiting, and calls to one that does not answer.

A platform that failed several calls in a row is not called for a while: its senders are told at once. Then one call
tries it; what it says decides whether the others may follow. A platform that calls us is there, whatever we believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from emobility.domain.errors import Unavailable
from emobility.ports.clock import Timer

CALLS_AT_ONCE_MAX: Final = 32
"""Calls to one platform under way together."""
CALLS_WAITING_MAX: Final = 256
"""Further callers that may wait for a place; one more is answered at once."""
FAILURES_UNTIL_OPEN: Final = 5
"""Calls that fail one after the other until a platform is not called for a while."""
OPEN_S_MIN: Final = 5.0
OPEN_S_MAX: Final = 60.0
"""How long it is not called; doubled with each trial that fails."""


class ReceiverBusy(Unavailable):
    """The receiver has as many calls under way and waiting as the hub allows."""


class CircuitOpen(Unavailable):
    """The receiver failed its last calls; it is not called for a while."""


class Bulkhead:
    """One compartment per platform."""

    def __init__(self) -> None:
        self._places: dict[str, asyncio.Semaphore] = {}
        self._waiting: dict[str, int] = {}
        self.in_flight = 0

    @asynccontextmanager
    async def place(self, peer_id: str) -> AsyncIterator[None]:
        """Hold a place for one call. Raises `ReceiverBusy`."""
        places = self._places.setdefault(peer_id, asyncio.Semaphore(CALLS_AT_ONCE_MAX))
        if places.locked():
            if self._waiting.get(peer_id, 0) >= CALLS_WAITING_MAX:
                raise ReceiverBusy(f"{CALLS_WAITING_MAX} calls wait for {peer_id}")
            self._waiting[peer_id] = self._waiting.get(peer_id, 0) + 1
            try:
                await places.acquire()
            finally:
                self._waiting[peer_id] -= 1
        else:
            await places.acquire()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            places.release()


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    trials: int = 0
    """Times it was opened since anything was answered."""
    open_until_s: float = 0.0
    is_tried: bool = False


class Circuits:
    """One circuit breaker per platform."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._circuits: dict[str, _Circuit] = {}
        """Only those with failures."""

    @property
    def open(self) -> int:
        """How many platforms are not called now."""
        return sum(each.trials > 0 for each in self._circuits.values())

    def admit(self, peer_id: str) -> None:
        """Return if the platform may be called; one call at a time tries one that failed. Raises `CircuitOpen`."""
        circuit = self._circuits.get(peer_id)
        if circuit is None or not circuit.trials:
            return
        if circuit.is_tried or self._timer.monotonic_s() < circuit.open_until_s:
            raise CircuitOpen(f"{peer_id} did not answer its last {circuit.failures} calls")
        circuit.is_tried = True

    def answered(self, peer_id: str) -> None:
        """The platform answered, or called us: it is there."""
        self._circuits.pop(peer_id, None)

    def failed(self, peer_id: str) -> bool:
        """A call failed; tell whether the platform is not called for a while now."""
        circuit = self._circuits.setdefault(peer_id, _Circuit())
        circuit.failures += 1
        if circuit.failures < FAILURES_UNTIL_OPEN or (circuit.trials and not circuit.is_tried):
            return False
        circuit.trials += 1
        circuit.is_tried = False
        pause_s = min(OPEN_S_MIN * (1 << min(circuit.trials - 1, 8)), OPEN_S_MAX)
        circuit.open_until_s = self._timer.monotonic_s() + pause_s
        return True

    def given_up(self, peer_id: str) -> None:
        """A call that was admitted was not made after all: another may try."""
        circuit = self._circuits.get(peer_id)
        if circuit is not None:
            circuit.is_tried = False
