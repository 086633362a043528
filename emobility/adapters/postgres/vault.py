"""The vault in PostgreSQL: wrapped keys in the table `subject_key`, outside the event log."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from emobility.adapters.postgres.connections import Connection, Database
from emobility.adapters.sealing import KEY_BYTES, NONCE_BYTES, MasterKey, opened_with, sealed_under
from emobility.domain.personal import Sealed, SubjectErased
from emobility.ports.clock import Clock, Randomness

CACHED_KEYS_MAX: Final = 10_000
CACHED_KEY_AGE_S: Final = 60.0
"""How long another process may still open what this one erased."""


class PostgresVault:
    """Keys per subject; see `emobility.ports.vault.Vault`."""

    def __init__(self, database: Database, *, master_key: bytes, clock: Clock, randomness: Randomness) -> None:
        self._database = database
        self._master = MasterKey(master_key)
        self._clock = clock
        self._randomness = randomness
        self._cache: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def subject_of(self, identifier: str) -> str:
        """Return the keyed hash of an identifier, case folded."""
        return self._master.subject_of(identifier)

    async def seal(self, text: str, *, identifier: str | None = None) -> Sealed:
        """Seal `text` under the key of `identifier`, by default of `text` itself.

        Raises:
            SubjectErased: the person's data were erased.
            DatabaseUnavailable: the key could not be fetched or made.
        """
        return await self.seal_under(text, subject=self.subject_of(text if identifier is None else identifier))

    async def seal_under(self, text: str, *, subject: str) -> Sealed:
        """Seal `text` under a known subject. Raises as `seal`."""
        key = self._cached(subject)
        if key is None:
            async with self._database.short_connection() as connection:
                key = await self._stored(connection, subject) or await self._made(connection, subject)
        return sealed_under(key, subject=subject, text=text)

    async def open(self, sealed: Sealed) -> str:
        """Return the text. Raises `SubjectErased` (also for a subject that never had a key), `DatabaseUnavailable`."""
        key = self._cached(sealed.subject)
        if key is None:
            async with self._database.short_connection() as connection:
                key = await self._stored(connection, sealed.subject)
        if key is None:
            raise SubjectErased(subject=sealed.subject)
        return opened_with(key, sealed)

    async def erase(self, subject: str) -> None:
        """Destroy the subject's key; twice is as once. Other processes forget it within `CACHED_KEY_AGE_S`."""
        self._cache.pop(subject, None)
        async with self._database.short_connection() as connection:
            await connection.execute(
                "INSERT INTO subject_key (subject, wrapped_key, created_at, erased_at)"
                " VALUES (%(subject)s, NULL, %(now)s, %(now)s)"
                " ON CONFLICT (subject) DO UPDATE SET wrapped_key = NULL, erased_at = EXCLUDED.erased_at"
                " WHERE subject_key.erased_at IS NULL",
                {"subject": subject, "now": self._clock.now()},
            )
        self._cache.pop(subject, None)

    def _cached(self, subject: str) -> bytes | None:
        entry = self._cache.get(subject)
        if entry is None or entry[1] < asyncio.get_running_loop().time():
            return None
        self._cache.move_to_end(subject)
        return entry[0]

    def _remember(self, subject: str, key: bytes) -> bytes:
        self._cache[subject] = (key, asyncio.get_running_loop().time() + CACHED_KEY_AGE_S)
        self._cache.move_to_end(subject)
        if len(self._cache) > CACHED_KEYS_MAX:
            self._cache.popitem(last=False)
        return key

    async def _stored(self, connection: Connection, subject: str) -> bytes | None:
        cursor = await connection.execute(
            "SELECT wrapped_key FROM subject_key WHERE subject = %(subject)s", {"subject": subject}
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        if row[0] is None:
            raise SubjectErased(subject=subject)
        return self._remember(subject, self._master.unwrap(bytes(row[0]), subject=subject))

    async def _made(self, connection: Connection, subject: str) -> bytes:
        key = self._randomness.token_bytes(KEY_BYTES)
        wrapped = self._master.wrap(key, subject=subject, nonce=self._randomness.token_bytes(NONCE_BYTES))
        await connection.execute(
            "INSERT INTO subject_key (subject, wrapped_key, created_at)"
            " VALUES (%(subject)s, %(wrapped)s, %(now)s) ON CONFLICT DO NOTHING",
            {"subject": subject, "wrapped": wrapped, "now": self._clock.now()},
        )
        stored = await self._stored(connection, subject)  # another process may have been faster: its key counts
        if stored is None:
            raise AssertionError(f"the key of subject {subject[:12]} was stored and is not there")
        return stored
