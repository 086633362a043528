"""Units of work over PostgreSQL: rows, inbox, cursor and events in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncCursor
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from emobility.adapters.consuming import Place, content_hash
from emobility.adapters.postgres.appending import Appender, Emitted, SegmentMissing, with_bytes
from emobility.adapters.postgres.at_once import AtOnce
from emobility.adapters.postgres.connections import Connection, Database, taken_from, translated
from emobility.adapters.postgres.reference_rows import NOTIFY_REFERENCES, ReferenceRows, ReferenceTable
from emobility.adapters.postgres.statements import TableStatements
from emobility.adapters.postgres.tables import PostgresTable
from emobility.adapters.texts import refuse_nul
from emobility.events import codec
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.clock import Clock
from emobility.ports.event_log import CursorMoved
from emobility.ports.stores import TableSpec, require_reference
from emobility.ports.unit_of_work import Novelty

R = TypeVar("R")
T = TypeVar("T")

_OPEN: Final = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
INBOX_AGE: Final = timedelta(days=30)
"""How long an idempotency key is remembered at least; money hangs on it."""


class PostgresUnit:
    """One transaction; see `emobility.ports.unit_of_work.UnitOfWork` and `ConsumingUnit`."""

    _reads_newest = True
    """False: it sees a moment of its own, so nothing that others read is served to it, or kept of it."""

    def __init__(self, units: PostgresUnits, connections: AsyncConnectionPool[Connection]) -> None:
        self._units = units
        self._connections = connections
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._emitted: list[Emitted] = []
        self._told: list[Callable[[], None]] = []
        self._has_begun = False
        self._ahead: list[tuple[bytes, Mapping[str, Any]]] = []
        self._changing: dict[str, ReferenceTable] = {}
        self._followed: dict[str, None] = {}
        self._has_parked = True
        """False: nothing of the topic is parked, and who may park in this partition waits for this unit's cursor."""
        self.is_over = False

    async def execute(self, statement: bytes, values: Mapping[str, Any]) -> AsyncCursor[Any]:
        """Run one statement of this unit. Raises `DatabaseUnavailable`, `UnitConflict`, `TextWithNUL`.

        The transaction begins with the first statement that writes or locks. What was read before it needs none:
        under READ COMMITTED every statement sees its own moment anyway, and most units only read.
        """
        self._refuse(values)
        if not _only_reads(statement):
            self._begin()
        with translated():
            connection = await self._connected()
            if not self._ahead:
                return await connection.execute(statement, values)
            async with connection.pipeline():
                await self._send_ahead(connection)
                return await connection.execute(statement, values)

    async def _connected(self) -> Connection:
        """Return the unit's connection: most units of a busy process read only what is kept, and need none."""
        if self._connection is None:
            async with self._connecting:
                if self._connection is None:
                    self._connection = await taken_from(self._connections)
        return self._connection

    async def close(self) -> None:
        """Undo what was not committed and give the connection back."""
        self.is_over = True
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.info.transaction_status in _OPEN:
            with contextlib.suppress(psycopg.Error):  # the pool replaces a connection that broke
                await connection.rollback()
        await self._connections.putconn(connection)

    async def execute_later(self, statement: bytes, values: Mapping[str, Any]) -> None:
        """Have a statement that writes run before the next one, or before the commit, in one message with it.

        Raises `TextWithNUL`; what else `execute` raises comes from what it travels with.
        """
        self._refuse(values)
        self._begin()
        self._ahead.append((statement, values))

    def _refuse(self, values: Mapping[str, Any]) -> None:
        if self.is_over:
            raise AssertionError("this unit of work is over")
        refuse_nul(values.values(), "a statement")

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._ahead.append((b"BEGIN", {}))

    async def _send_ahead(self, connection: Connection) -> None:
        ahead, self._ahead = self._ahead, []
        for statement, values in ahead:
            await connection.execute(statement, values)

    def table(self, spec: TableSpec[R]) -> PostgresTable[R]:
        """Return the rows of a table in this transaction."""
        statements = self._units.statements(spec)
        is_kept = spec.is_reference and self._reads_newest
        reference = self._units.reference_rows.of(spec.name) if is_kept else None

        def changing() -> None:
            if spec.name in self._units.followers:
                self._followed[spec.name] = None
            if reference is not None and spec.name not in self._changing:
                self._changing[spec.name] = reference
                reference.begin_change()

        return PostgresTable(spec, statements, self.execute, self.execute_later, reference=reference, changing=changing)

    def end(self) -> None:
        """Nothing follows: what others may read of the tables this unit changed is settled."""
        for reference in self._changing.values():
            reference.end_change()
        self._changing.clear()

    def emit(self, *envelopes: Envelope) -> None:
        """Add events. Raises `EventTooLarge`."""
        if self.is_over:
            raise AssertionError("this unit of work is over")
        self._emitted.extend(with_bytes(envelopes))

    async def novelty(self, group: str, envelope: Envelope) -> Novelty:
        """Enter the event into the group's inbox and tell whether its idempotency key was seen before."""
        digest = content_hash(envelope)
        entry = {"group": group, "id": envelope.event_id, "hash": digest, "now": self._units.clock.now()}
        entered = await self.execute(
            b"INSERT INTO inbox (group_name, event_id, content_hash, seen_at)"
            b" VALUES (%(group)s, %(id)s, %(hash)s, %(now)s) ON CONFLICT DO NOTHING",
            entry,
        )
        if entered.rowcount:
            return Novelty.NEW
        seen = await self.execute(
            b"SELECT content_hash FROM inbox WHERE group_name = %(group)s AND event_id = %(id)s",
            {"group": group, "id": envelope.event_id},
        )
        row = await seen.fetchone()
        return Novelty.REPEATED if row is not None and bytes(row[0]) == digest else Novelty.CONFLICTING

    def on_commit(self, told: Callable[[], None]) -> None:
        """Have `told()` called once the commit is confirmed."""
        self._told.append(told)

    async def commit(self, *, is_repeatable: bool = False) -> None:
        """Make rows and events durable together. Raises `DatabaseUnavailable`: whether it took effect is unknown."""
        if self.is_over:
            raise AssertionError("this unit of work is over")
        self.is_over = True
        self._units.commits += 1  # before and after: whoever looks meanwhile sees that something moves
        try:
            await self._commit(is_repeatable=is_repeatable)
        finally:
            self._units.commits += 1
        for name in self._followed:
            self._told += self._units.followers[name]
        for told in self._told:
            told()

    async def _commit(self, *, is_repeatable: bool) -> None:
        if self._connection is None and not self._ahead and not self._emitted:
            return  # it did nothing
        with translated():
            connection = await self._connected()
        if connection.info.transaction_status is TransactionStatus.INERROR:
            # PostgreSQL would answer COMMIT by a rollback, and without an error.
            raise AssertionError("a statement of this unit failed: nothing was committed")
        if self._changing:
            self._ahead.append((NOTIFY_REFERENCES, {"tables": " ".join(self._changing)}))
        with translated():
            if not self._emitted:
                if is_repeatable:
                    self._ahead.append((b"SET LOCAL synchronous_commit TO off", {}))
                async with connection.pipeline():
                    await self._send_ahead(connection)
                    await connection.commit()
                return
            appender, now = self._units.appender, self._units.clock.now()
            try:
                await appender.append(connection, self._emitted, now=now, ahead=self._ahead)
            except SegmentMissing as missing:
                await appender.make_room(missing)
                raise

    async def move_cursor(self, place: Place, *, expected: int, to: int) -> None:
        """Move a group's cursor by compare-and-set. Raises `CursorMoved`: it moved, or somebody is moving it."""
        moved = await self.execute(
            b"UPDATE group_cursor SET next_offset = %(to)s WHERE (group_name, topic, partition) IN ("
            b" SELECT group_name, topic, partition FROM group_cursor WHERE group_name = %(group)s"
            b" AND topic = %(topic)s AND partition = %(partition)s AND next_offset = %(expected)s"
            b" FOR UPDATE SKIP LOCKED) RETURNING EXISTS ("
            b" SELECT FROM parked_key WHERE group_name = %(group)s AND topic = %(topic)s)",
            {"to": to, "expected": expected, **_values(place)},
        )
        row = await moved.fetchone()
        if row is None:
            raise CursorMoved(f"{place} does not stand at {expected} any more, or another worker has it")
        self._has_parked = row[0]

    async def fresh(self, place: Place, events: Sequence[LoggedEvent]) -> Sequence[LoggedEvent]:
        """This log repeats nothing."""
        del place
        return events

    async def parked_keys(self, place: Place, keys: Sequence[str]) -> frozenset[str]:
        """Return which of `keys` are parked, locked until this unit ends."""
        if not self._has_parked:
            return frozenset()
        parked = await self.execute(
            b"SELECT key FROM parked_key WHERE group_name = %(group)s AND topic = %(topic)s"
            b" AND key = ANY(%(keys)s) ORDER BY key FOR UPDATE",
            {"keys": list(keys), **_values(place)},
        )
        return frozenset(row[0] for row in await parked.fetchall())

    async def park(self, place: Place, logged: LoggedEvent, reason: str) -> None:
        """Put an event into the dead letters."""
        values = {
            **_values(place),
            "offset": logged.offset,
            "key": logged.envelope.event.key,
            "reason": reason.replace("\0", ""),
            "envelope": logged.data or codec.encode_envelope(logged.envelope),
            "now": self._units.clock.now(),
        }
        await self.execute(
            b"INSERT INTO parked_key (group_name, topic, key) VALUES (%(group)s, %(topic)s, %(key)s)"
            b" ON CONFLICT DO NOTHING",
            values,
        )
        await self.execute(
            b"INSERT INTO dead_letter"
            b" (group_name, topic, partition, log_offset, key, reason, envelope, parked_at) VALUES"
            b" (%(group)s, %(topic)s, %(partition)s, %(offset)s, %(key)s, %(reason)s, %(envelope)s, %(now)s)",
            values,
        )


def _values(place: Place) -> dict[str, Any]:
    return {"group": place.group, "topic": place.topic, "partition": place.partition}


def _only_reads(statement: bytes) -> bool:
    return statement.startswith(b"SELECT") and b"FOR UPDATE" not in statement


UnitT = TypeVar("UnitT", bound=PostgresUnit)


class PostgresUnits:
    """Opens units; each has a connection from its first statement on. Never call out inside one: it would hold rows."""

    def __init__(
        self,
        database: Database,
        appender: Appender,
        *,
        clock: Clock,
        collation: str,
        reference_rows: ReferenceRows,
    ) -> None:
        self._database = database
        self._collation = collation
        self._statements: dict[str, TableStatements[Any]] = {}
        self._specs: dict[str, TableSpec[Any]] = {}
        self._composed = AtOnce()
        self.commits = 0
        self.followers: dict[str, list[Callable[[], None]]] = {}
        self.reference_rows = reference_rows
        self.appender = appender
        self.clock = clock

    def statements(self, spec: TableSpec[R]) -> TableStatements[R]:
        """Return a table's statements; one name has one spec."""
        statements = self._statements.get(spec.name)
        if statements is None:
            statements = self._statements[spec.name] = TableStatements(spec, collation=self._collation)
            self._specs[spec.name] = spec
        elif self._specs[spec.name] != spec:
            raise AssertionError(f"table {spec.name} has two specs: {self._specs[spec.name]} and {spec}")
        return statements

    def on_change(self, spec: TableSpec[Any], told: Callable[[], None]) -> None:
        """Have `told()` called after each commit that wrote records of a table."""
        self.followers.setdefault(spec.name, []).append(told)

    def begin(self) -> AbstractAsyncContextManager[PostgresUnit]:
        """Open a unit; it rolls back when its context is left without `commit`."""
        return self.begin_as(PostgresUnit)

    async def concluded(
        self, question: Hashable, tables: Sequence[TableSpec[Any]], read: Callable[[PostgresUnit], Awaitable[T]]
    ) -> T:
        """Return what follows from reference rows; see the port."""
        names = [spec.name for spec in tables]
        before = self.reference_rows.generations(names)
        known: tuple[T] | None = self.reference_rows.concluded(question, before)
        if known is not None:
            return known[0]
        require_reference(tables)
        async with self.begin() as unit:
            answer = await read(unit)
        self.reference_rows.conclude(question, answer, before=before, now=self.reference_rows.generations(names))
        return answer

    @asynccontextmanager
    async def begin_as(self, kind: type[UnitT]) -> AsyncIterator[UnitT]:
        """Open a unit of a special kind, as `begin` does."""
        unit = kind(self, self._database.units)
        try:
            yield unit
        finally:
            try:
                await unit.close()
            finally:
                unit.end()

    async def put_all(
        self, groups: Sequence[tuple[TableSpec[Any], Sequence[Any]]], *, is_repeatable: bool = False
    ) -> None:
        """Put records of different tables in a unit of their own; see the port."""
        written = [(spec, records) for spec, records in groups if records]
        if any(spec.unique or spec.is_reference for spec, _ in written):
            async with self.begin() as unit:
                for spec, records in written:
                    await unit.table(spec).put_all(records)
                await unit.commit(is_repeatable=is_repeatable)
            return
        if not written:
            return
        tables = [self.statements(spec) for spec, _ in written]
        values = {f"rows{at}": tables[at].mapping.json_of(records) for at, (_, records) in enumerate(written)}
        await self._at_once(self._composed.put_all(tables, is_repeatable=is_repeatable), values)
        self._tell(spec.name for spec, _ in written)

    async def insert_all(self, spec: TableSpec[R], records: Sequence[R], *, is_repeatable: bool = False) -> list[R]:
        """Add records in a unit of their own; see the port."""
        if not records:
            return []
        if spec.is_reference:
            async with self.begin() as unit:
                there = await unit.table(spec).insert_all(records)
                await unit.commit(is_repeatable=is_repeatable)
            return there
        table = self.statements(spec)
        statement = self._composed.insert_all(table, is_repeatable=is_repeatable)
        rows = await self._at_once(statement, {"rows": table.mapping.json_of(records)})
        self._tell([spec.name])
        if len(rows) == len(records):
            return []
        added = {row[: len(spec.key)] for row in rows}
        return [record for record in records if table.mapping.key_of(record) not in added]

    async def _at_once(self, statement: bytes, values: Mapping[str, Any]) -> list[Any]:
        self.commits += 1  # as in `PostgresUnit.commit`
        try:
            async with self._database.short_connection() as connection:
                return await (await connection.execute(statement, values)).fetchall()
        finally:
            self.commits += 1

    def _tell(self, tables: Iterable[str]) -> None:
        for table in tables:
            for told in self.followers.get(table, ()):
                told()

    async def forget_old_inbox(self, *, age: timedelta = INBOX_AGE) -> int:
        """Drop idempotency keys older than `age`, never younger than `INBOX_AGE`; return how many went."""
        before = self.clock.now() - max(age, INBOX_AGE)
        async with self._database.short_connection() as connection:
            cursor = await connection.execute("DELETE FROM inbox WHERE seen_at < %(before)s", {"before": before})
            return cursor.rowcount
