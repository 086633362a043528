"""The vault in PostgreSQL: wrapped keys in the table `subject_key`, outside the event log.

A process remembers keys. Every erasure and restriction raises the epoch in its own transaction, and a remembered key
counts only in the epoch it was read in, which is asked for when the last answer is `ERASURE_SEEN_WITHIN_S` old. When
the epoch can't be had, nothing is opened.
"""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self

from emobility.adapters.postgres.connections import Connection, Database
from emobility.adapters.sealing import KEY_BYTES, NONCE_BYTES, MasterKey, SubjectKey
from emobility.domain.personal import Sealed, SubjectErased, SubjectRestricted
from emobility.ports.clock import Clock, Randomness
from emobility.ports.vault import ERASURE_SEEN_WITHIN_S

REMEMBERED_KEYS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """A subject's key as it stood in an epoch."""

    key: SubjectKey
    restricted_until: datetime | None
    epoch: int


@dataclass(slots=True)
class _Memory:
    """What a process remembers; all views of its vault share it."""

    keys: OrderedDict[str, _Key] = field(default_factory=OrderedDict)
    epoch: int = -1
    asked_at_s: float = float("-inf")
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class PostgresVault:
    """Keys per subject; see `emobility.ports.vault.Vault`. Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database, *, master_key: bytes, clock: Clock, randomness: Randomness) -> None:
        self._database = database
        self._master = MasterKey(master_key)
        self._clock = clock
        self._randomness = randomness
        self._memory = _Memory()
        self._is_evidence = False

    @property
    def evidence(self) -> Self:
        """The same vault, for evidence."""
        view = copy.copy(self)
        view._is_evidence = True  # noqa: SLF001  # a copy of our own
        return view

    def subject_of(self, identifier: str) -> str:
        """Return the keyed hash of an identifier, case folded."""
        return self._master.subject_of(identifier)

    async def seal(self, text: str, *, identifier: str | None = None) -> Sealed:
        """Seal `text` under the key of `identifier`, by default of `text` itself. Raises `SubjectErased`."""
        return await self.seal_under(text, subject=self.subject_of(text if identifier is None else identifier))

    async def seal_under(self, text: str, *, subject: str) -> Sealed:
        """Seal `text` under a known subject. Raises `SubjectErased`."""
        known = await self._known(subject)
        if known is None:
            async with self._database.short_connection() as connection:
                known = await self._made(connection, subject, epoch=self._memory.epoch)
        return known.key.seal(text, subject=subject)

    async def open(self, sealed: Sealed) -> str:
        """Return the text. Raises `SubjectErased` (also for a subject that never had a key), `SubjectRestricted`."""
        known = await self._known(sealed.subject)
        if known is None:
            raise SubjectErased(subject=sealed.subject)
        if known.restricted_until is not None and not self._is_evidence:
            raise SubjectRestricted(subject=sealed.subject, until=known.restricted_until)
        return known.key.open(sealed)

    async def bind(self, dependent: str, *, to: str) -> None:
        """Let the data of one subject share the fate of another's."""
        async with self._database.short_connection() as connection, connection.transaction():
            await _lock(connection, to)
            found = await connection.execute(
                "SELECT erased_at, restricted_until FROM subject_key WHERE subject = %(subject)s", {"subject": to}
            )
            row = await found.fetchone()
            await connection.execute(
                "INSERT INTO subject_bond (subject, dependent) VALUES (%(subject)s, %(dependent)s)"
                " ON CONFLICT DO NOTHING",
                {"subject": to, "dependent": dependent},
            )
        if row is not None and row[0] is not None:
            await self.erase(dependent)
        elif row is not None and row[1] is not None:
            await self.restrict(dependent, until=row[1])

    async def restrict(self, subject: str, *, until: datetime) -> None:
        """Close the subject's data, and what is bound to it, to all but evidence until a moment."""
        await self._change(
            subject,
            "UPDATE subject_key SET restricted_until = GREATEST(restricted_until, %(until)s)"
            " WHERE erased_at IS NULL AND (subject = %(subject)s"
            " OR subject IN (SELECT dependent FROM subject_bond WHERE subject = %(subject)s))",
            {"subject": subject, "until": until},
        )

    async def erase(self, subject: str) -> None:
        """Destroy the subject's key and those bound to it; twice is as once."""
        await self._change(
            subject,
            "INSERT INTO subject_key (subject, wrapped_key, created_at, erased_at)"
            " SELECT each.subject, NULL, %(now)s, %(now)s FROM (SELECT %(subject)s::text AS subject"
            " UNION SELECT dependent FROM subject_bond WHERE subject = %(subject)s) AS each"
            " ON CONFLICT (subject) DO UPDATE"
            " SET wrapped_key = NULL, erased_at = EXCLUDED.erased_at, restricted_until = NULL"
            " WHERE subject_key.erased_at IS NULL",
            {"subject": subject, "now": self._clock.now()},
        )

    async def erase_due(self) -> int:
        """Destroy the keys whose restriction is over; return how many."""
        return await self._change(
            None,
            "UPDATE subject_key SET wrapped_key = NULL, erased_at = %(now)s, restricted_until = NULL"
            " WHERE restricted_until <= %(now)s",
            {"now": self._clock.now()},
        )

    async def _change(self, subject: str | None, statement: str, values: dict[str, object]) -> int:
        """Change keys and, where any changed, raise the epoch in the same transaction; return how many changed.

        `subject`: whose bonds the statement reads.
        """
        async with self._database.short_connection() as connection, connection.transaction():
            if subject is not None:
                await _lock(connection, subject)
            changed = (await connection.execute(statement, values)).rowcount
            if changed:
                await connection.execute("UPDATE subject_key_epoch SET epoch = epoch + 1")
        self._memory.asked_at_s = float("-inf")
        return changed

    async def _known(self, subject: str) -> _Key | None:
        """Return the subject's key as it stands, None if it never had one. Raises `SubjectErased`."""
        await self._ask_for_epoch()
        memory = self._memory
        known = memory.keys.get(subject)
        if known is not None and known.epoch == memory.epoch:
            memory.keys.move_to_end(subject)
            return known
        epoch = memory.epoch  # of before the key is read: a change in between leaves a key that counts no more
        async with self._database.short_connection() as connection:
            return await self._stored(connection, subject, epoch=epoch)

    async def _ask_for_epoch(self) -> None:
        memory, now_s = self._memory, asyncio.get_running_loop().time
        if now_s() - memory.asked_at_s < ERASURE_SEEN_WITHIN_S:
            return
        async with memory.asking:
            asked_at_s = now_s()
            if asked_at_s - memory.asked_at_s < ERASURE_SEEN_WITHIN_S:
                return
            async with self._database.short_connection() as connection:
                row = await (await connection.execute("SELECT epoch FROM subject_key_epoch")).fetchone()
            if row is None:
                raise AssertionError("subject_key_epoch has no row")
            memory.epoch, memory.asked_at_s = int(row[0]), asked_at_s

    async def _stored(self, connection: Connection, subject: str, *, epoch: int) -> _Key | None:
        cursor = await connection.execute(
            "SELECT wrapped_key, restricted_until FROM subject_key WHERE subject = %(subject)s", {"subject": subject}
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        if row[0] is None:
            raise SubjectErased(subject=subject)
        key = SubjectKey(self._master.unwrap(bytes(row[0]), subject=subject))
        known = self._memory.keys[subject] = _Key(key=key, restricted_until=row[1], epoch=epoch)
        self._memory.keys.move_to_end(subject)
        if len(self._memory.keys) > REMEMBERED_KEYS_MAX:
            self._memory.keys.popitem(last=False)
        return known

    async def _made(self, connection: Connection, subject: str, *, epoch: int) -> _Key:
        key = self._randomness.token_bytes(KEY_BYTES)
        wrapped = self._master.wrap(key, subject=subject, nonce=self._randomness.token_bytes(NONCE_BYTES))
        await connection.execute(
            "INSERT INTO subject_key (subject, wrapped_key, created_at)"
            " VALUES (%(subject)s, %(wrapped)s, %(now)s) ON CONFLICT DO NOTHING",
            {"subject": subject, "wrapped": wrapped, "now": self._clock.now()},
        )
        # Another process may have been faster: its key counts.
        stored = await self._stored(connection, subject, epoch=epoch)
        if stored is None:
            raise AssertionError(f"the key of subject {subject[:12]} was stored and is not there")
        return stored


async def _lock(connection: Connection, subject: str) -> None:
    """Let one transaction at a time bind to a subject, close it or erase it.

    A statement of its own: the next one sees what the transaction that was waited for did; with the wait inside it, it
    would go by what there was before. It also holds for a subject that has no key yet.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%(subject)s, 0))", {"subject": subject})
