"""`Table` over PostgreSQL, for any `TableSpec`; isolation is READ COMMITTED."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import psycopg
from psycopg import AsyncCursor

from emobility.adapters.postgres.columns import json_of_rows
from emobility.adapters.postgres.reference_rows import ReferenceTable, question_of
from emobility.adapters.postgres.statements import TableStatements
from emobility.ports.stores import SELECT_ROWS_MAX, RecordExists, TableSpec

R = TypeVar("R")

Execute = Callable[[bytes, Mapping[str, Any]], Awaitable[AsyncCursor[Any]]]
ExecuteLater = Callable[[bytes, Mapping[str, Any]], Awaitable[None]]
Changing = Callable[[], None]
"""Told before a unit changes the table."""


class PostgresTable(Generic[R]):
    """One table in one unit; see `emobility.ports.stores.Table`."""

    def __init__(
        self,
        spec: TableSpec[R],
        statements: TableStatements[R],
        execute: Execute,
        execute_later: ExecuteLater,
        *,
        reference: ReferenceTable | None = None,
        changing: Changing,
    ) -> None:
        self._spec = spec
        self._statements = statements
        self._execute = execute
        self._execute_later = execute_later
        self._reference = reference
        self._changing = changing

    async def get(self, *key: Any) -> R | None:
        """Return the record with this key."""
        values = self._statements.key_values(key)
        if self._reference is None:
            return await self._one(self._statements.get, values)
        question = question_of(self._statements.get, values)
        kept: tuple[R | None] | None = self._reference.find(question)
        if kept is not None:
            return kept[0]
        generation = self._reference.generation()
        known = await self._one(self._statements.get, values)
        # That there is none is kept, too: a rule that nobody made is asked for with every message.
        self._reference.keep(question, (known,), generation=generation)
        return known

    async def get_for_update(self, *key: Any) -> R | None:
        """Return it, and keep others from changing it until this unit ends. Raises `UnitConflict`."""
        return await self._one(self._statements.get_for_update, self._statements.key_values(key))

    async def _one(self, statement: bytes, values: Mapping[str, Any]) -> R | None:
        cursor = await self._execute(statement, values)
        row = await cursor.fetchone()
        return None if row is None else self._statements.mapping.record_of(row)

    async def insert(self, record: R) -> None:
        """Add a record. Raises `RecordExists`; the unit stays usable."""
        self._changing()
        cursor = await self._execute(self._statements.insert, self._statements.mapping.row_of(record))
        if cursor.rowcount == 0:
            raise RecordExists(table=self._spec.name, key=self._statements.mapping.key_of(record))

    async def put(self, record: R) -> None:
        """Add a record or replace the one with its key. Raises `RecordExists` on another unique column."""
        await self._put(self._statements.put, self._statements.mapping.row_of(record), record)

    async def _put(self, statement: bytes, values: Mapping[str, Any], *records: R) -> None:
        self._changing()
        if not self._spec.unique:
            await self._execute_later(statement, values)
            return
        # A further unique column may refuse; the savepoint keeps the unit usable then. It is written out because
        # psycopg's own block would commit the whole unit where this is its first statement.
        await self._execute_later(b"SAVEPOINT before_put", {})
        try:
            await self._execute(statement, values)
        except psycopg.errors.UniqueViolation as error:
            await self._execute(b"ROLLBACK TO SAVEPOINT before_put", {})
            keys = [self._statements.mapping.key_of(record) for record in records]
            raise RecordExists(table=self._spec.name, key=keys[0] if len(keys) == 1 else tuple(keys)) from error
        await self._execute_later(b"RELEASE SAVEPOINT before_put", {})

    async def insert_all(self, records: Sequence[R]) -> list[R]:
        """Add many, each key once, in one statement; return those whose key or unique value is there already."""
        if not records:
            return []
        self._changing()
        mapping = self._statements.mapping
        cursor = await self._execute(self._statements.insert_all, {"rows": mapping.json_of(records)})
        if cursor.rowcount == len(records):
            return []
        added = set(await cursor.fetchall())
        return [record for record in records if mapping.key_of(record) not in added]

    async def put_all(self, records: Sequence[R]) -> None:
        """Put many, each key once, in one statement. Raises `RecordExists`, and then puts none."""
        if records:
            await self._put(self._statements.put_all, {"rows": self._statements.mapping.json_of(records)}, *records)

    async def set_all(self, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Write these fields of many records; see the port."""
        if rows:
            self._changing()
            fields = (*self._spec.key, *names)
            text = json_of_rows([dict(zip(fields, row, strict=True)) for row in rows], self._spec.name)
            await self._execute_later(self._statements.set_all(names), {"rows": text})

    async def delete(self, *key: Any, where: Mapping[str, Any] | None = None) -> bool:
        """Remove a record, if its fields equal `where`; tell whether one went."""
        self._changing()
        cursor = await self._execute(*self._statements.delete(key, where or {}))
        return cursor.rowcount > 0

    async def remove(self, *key: Any, where: Mapping[str, Any] | None = None) -> None:
        """Remove a record, if it is there and its fields equal `where`."""
        self._changing()
        await self._execute_later(*self._statements.delete(key, where or {}))

    async def select(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        since: tuple[str, datetime] | None = None,
        before: tuple[str, datetime] | None = None,
        order_by: Sequence[str] = (),
        offset: int = 0,
        limit: int = SELECT_ROWS_MAX,
    ) -> list[R]:
        """Return matching records in order; see the port."""
        statement, values = self._statements.select(
            where or {}, since=since, before=before, order_by=order_by, offset=offset, limit=limit
        )
        if self._reference is None:
            return await self._all(statement, values)
        question = question_of(statement, values)
        known: tuple[R, ...] | None = self._reference.find(question)
        if known is None:
            generation = self._reference.generation()
            known = tuple(await self._all(statement, values))
            self._reference.keep(question, known, generation=generation)
        return list(known)

    async def _all(self, statement: bytes, values: Mapping[str, Any]) -> list[R]:
        cursor = await self._execute(statement, values)
        record_of = self._statements.mapping.record_of
        return [record_of(row) for row in await cursor.fetchall()]

    async def count(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        since: tuple[str, datetime] | None = None,
        before: tuple[str, datetime] | None = None,
    ) -> int:
        """Count what `select` without `limit` would return."""
        statement, values = self._statements.count(where or {}, since=since, before=before)
        row = await (await self._execute(statement, values)).fetchone()
        return int(row[0]) if row is not None else 0

    async def distinct(self, fields: Sequence[str], where: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the different values of these fields; see the port."""
        cursor = await self._execute(*self._statements.distinct(fields, where or {}))
        return [self._statements.mapping.values_of(fields, row) for row in await cursor.fetchall()]
