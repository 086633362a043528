"""Wakes consumers, in this process at once and in others by NOTIFY after the commit.

NOTIFY inside an appending transaction would make all commits queue behind one lock of the server, so it is sent
afterwards, by itself, one for any number of appends. One that gets lost costs at most `POLL_S`: consumers look anyway.
It names the sender, so that no process hears itself, and the topics, so that only those look whom it concerns.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Final

import psycopg

from emobility.adapters.consuming import BackOff
from emobility.adapters.postgres.connections import Database, connection_options
from emobility.adapters.postgres.reference_rows import REFERENCE_CHANNEL, ReferenceRows
from emobility.domain.errors import Unavailable

CHANNEL: Final = "wattroam_event"
POLL_S: Final = 0.5
"""How often a consumer looks for events that nobody announced."""
LISTEN_S: Final = 5.0
"""How long one wait for notifications lasts, so that a dead connection is noticed."""


class Wakeups:
    """Tells consumers of this process that events may have come."""

    def __init__(self, database: Database, reference_rows: ReferenceRows) -> None:
        self._database = database
        self._reference_rows = reference_rows
        self._sleepers: list[tuple[Callable[[], None], Collection[str] | None]] = []
        self._appended = asyncio.Event()
        self._topics: dict[str, None] = {}
        self._own_pid = 0
        self._stop = asyncio.Event()

    def appended(self, topics: Collection[str]) -> None:
        """Say that this process appended to `topics`: wake our consumers and, soon, those of others."""
        self._wake(topics)
        self._topics |= dict.fromkeys(topics)
        self._appended.set()

    def _wake(self, topics: Collection[str] | None = None) -> None:
        for wake, wanted in self._sleepers:
            if topics is None or wanted is None or any(topic in wanted for topic in topics):
                wake()

    @contextlib.contextmanager
    def subscribed(self, wake: Callable[[], None], *, topics: Collection[str] | None = None) -> Iterator[None]:
        """Call `wake` whenever events may have come, of these topics or (None) of any."""
        sleeper = (wake, topics)
        self._sleepers.append(sleeper)
        try:
            yield
        finally:
            self._sleepers.remove(sleeper)

    async def notify_others(self) -> None:
        """Send one NOTIFY for all appends since the last."""
        while True:
            await self._appended.wait()
            self._appended.clear()
            words, self._topics = " ".join((str(self._own_pid), *self._topics)), {}
            with contextlib.suppress(Unavailable):
                async with self._database.short_connection() as connection:
                    await connection.execute(b"SELECT pg_notify(%(channel)s, %(words)s)", _notice(words))

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
            await connection.execute(f"LISTEN {REFERENCE_CHANNEL}".encode())
            back_off.reset()
            self._own_pid = connection.info.backend_pid
            self._wake()
            with self._reference_rows.followed():
                await self._hear_all(connection)

    async def _hear_all(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            is_alive = False
            async for notice in connection.notifies(timeout=LISTEN_S, stop_after=1):
                is_alive = True
                if notice.channel == REFERENCE_CHANNEL:
                    self._reference_rows.changed_elsewhere(notice.payload.split(" "))
                else:
                    self.heard(notice.payload)
            if not is_alive:
                await connection.execute("SELECT 1")

    def heard(self, words: str) -> None:
        """Take a notice in: its sender's process id and the topics."""
        sender, *topics = words.split(" ")
        if sender != str(self._own_pid):
            self._wake(topics or None)


def _notice(words: str) -> dict[str, str]:
    return {"channel": CHANNEL, "words": words}
