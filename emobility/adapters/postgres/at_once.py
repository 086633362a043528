"""Writes that need nothing read before them, as one statement: it is a transaction of its own, and one message.

A unit that only writes sends BEGIN, a statement per table and COMMIT. What is written most often, by the hub and for
every signed message, is written this way instead: for PostgreSQL and for us half the work or less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from psycopg import sql

from emobility.adapters.postgres.statements import TableStatements

_REPEATABLE: Final = sql.SQL("set_config('synchronous_commit', 'off', true)")
"""For this transaction: the statement's end does not wait for the disk."""


class AtOnce:
    """Statements over several tables, composed once per set of them."""

    def __init__(self) -> None:
        self._composed: dict[tuple[Any, ...], bytes] = {}

    def put_all(self, tables: Sequence[TableStatements[Any]], *, is_repeatable: bool) -> bytes:
        """Return what puts records into different tables; of table number n they are the JSON array `rows{n}`."""
        shape = ("put", is_repeatable, *(each.name for each in tables))
        statement = self._composed.get(shape)
        if statement is None:
            puts = sql.SQL(", ").join(
                sql.SQL("{} AS ({})").format(sql.Identifier(f"put{number}"), each.put_all_of(f"rows{number}"))
                for number, each in enumerate(tables)
            )
            last = _REPEATABLE if is_repeatable else sql.SQL("")
            statement = sql.SQL("WITH {} SELECT {}").format(puts, last).as_bytes(None)
            self._composed[shape] = statement
        return statement

    def insert_all(self, table: TableStatements[Any], *, is_repeatable: bool) -> bytes:
        """Return what adds the records of the JSON array `rows` and tells the keys of those that were not there."""
        shape = ("insert", is_repeatable, table.name)
        statement = self._composed.get(shape)
        if statement is None:
            names = table.key_names
            told = sql.SQL(", ").join([names, _REPEATABLE] if is_repeatable else [names])
            composed = sql.SQL("WITH added AS ({}) SELECT {} FROM added").format(table.insert_all_of("rows"), told)
            statement = self._composed[shape] = composed.as_bytes(None)
        return statement
