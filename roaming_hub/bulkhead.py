"""Bound what one receiver may hold up: calls under way and callers waiting, counted per platform."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from emobility.domain.errors import Unavailable

CALLS_AT_ONCE_MAX: Final = 32
"""Calls to one platform under way together."""
CALLS_WAITING_MAX: Final = 256
"""Further callers that may wait for a place; one more is answered at once."""


class ReceiverBusy(Unavailable):
    """The receiver has as many calls under way and waiting as the hub allows."""


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
