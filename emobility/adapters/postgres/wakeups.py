"""Wakes consumers, in this process at once and in others by NOTIFY after the commit.

NOTIFY inside an appending transaction would make all commits queue behind one lock of the server, so it is sent
afterwards, by itself, one for any number of appends. One that gets lost costs at most `POLL_S`: consumers look anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import psycopg

from emobility.adapters.consuming import BackOff
from emobility.adapters.postgres.connections import Database, connection_options
from emobility.domain.errors import Unavailable

CHANNEL: Final = "wattroam_event"
POLL_S: Final = 0.5
"""How often a consumer looks for events that nobody announced."""
LISTEN_S: Final = 5.0
"""How long one wait for notifications lasts, so that a dead connection is noticed."""


class Wakeups:
    """Tells consumers of this process that events may have come."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sleepers: list[Callable[[], None]] = []
        self._appended = asyncio.Event()
        self._stop = asyncio.Event()

    def appended(self) -> None:
        """Say that this process appended: wake our consumers and, soon, those of others."""
        self._wake()
        self._appended.set()

    def _wake(self) -> None:
        for wake in self._sleepers:
            wake()

    @contextlib.contextmanager
    def subscribed(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` whenever events may have come."""
        self._sleepers.append(wake)
        try:
            yield
        finally:
            self._sleepers.remove(wake)

    async def notify_others(self) -> None:
        """Send one NOTIFY for all appends since the last."""
        while True:
            await self._appended.wait()
            self._appended.clear()
            with contextlib.suppress(Unavailable):
                async with self._database.short_connection() as connection:
                    await connection.execute(f"NOTIFY {CHANNEL}".encode())

    async def listen(self) -> None:
        """Wake our consumers when others appended; come back after every loss of the connection."""
        back_off = BackOff(max_s=1.0)
        while True:
            with contextlib.suppress(psycopg.Error):
                await self._listen_once(back_off)
            await back_off.wait(self._stop)

    async def _listen_once(self, back_off: BackOff) -> None:
        options = connection_options(durable=True)
        connection = await psycopg.AsyncConnection.connect(self._database.dsn, autocommit=True, **options)
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            back_off.reset()
            while True:
                self._wake()
                async for _ in connection.notifies(timeout=LISTEN_S, stop_after=1):
                    break
                else:
                    await connection.execute("SELECT 1")
