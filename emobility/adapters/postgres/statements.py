"""The SQL of a table, composed once per spec and question; values always travel apart from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from psycopg import sql

from emobility.adapters.postgres.columns import RecordField, RecordMapping
from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec

R = TypeVar("R")

Question = tuple[bytes, dict[str, Any]]
"""A statement and its values."""


class TableStatements(Generic[R]):
    """Statements over one table. `collation` makes text sort by code point, as Python does."""

    def __init__(self, spec: TableSpec[R], *, collation: str) -> None:
        self.mapping = RecordMapping(spec)
        self._spec = spec
        self._collation = sql.SQL(collation)
        self._table = sql.Identifier(spec.name)
        self._names = sql.SQL(", ").join(sql.Identifier(column.name) for column in self.mapping.columns)
        self._composed: dict[Any, bytes] = {}
        key = sql.SQL(" AND ").join(self._equals(name) for name in spec.key)
        select = sql.SQL("SELECT {} FROM {} WHERE {}").format(self._names, self._table, key)
        self.get = _bytes(select)
        self.get_for_update = _bytes(select + sql.SQL(" FOR UPDATE"))
        self.insert = _bytes(self._insert() + sql.SQL(" ON CONFLICT DO NOTHING"))
        self.put = _bytes(self._insert() + self._on_conflict_replace())
        self.name = spec.name
        self.key_names = sql.SQL(", ").join(map(sql.Identifier, spec.key))
        self.insert_all = _bytes(self.insert_all_of("rows"))
        self.put_all = _bytes(self.put_all_of("rows"))

    def insert_all_of(self, rows: str) -> sql.Composed:
        """Return what adds the records of a JSON array, and tells the keys of those that were not there."""
        return self._insert_all(rows) + sql.SQL(" ON CONFLICT DO NOTHING RETURNING ") + self.key_names

    def put_all_of(self, rows: str) -> sql.Composed:
        """Return what puts the records of a JSON array."""
        return self._insert_all(rows) + self._on_conflict_replace()

    def key_values(self, key: Sequence[Any]) -> dict[str, Any]:
        """Return the values of a primary key by column."""
        names = self._spec.key
        if len(key) != len(names):
            raise AssertionError(f"the key of {self._spec.name} is {names}, not {key}")
        columns = (self.mapping.column(name) for name in names)
        return {column.name: column.dump(value) for column, value in zip(columns, key, strict=True)}

    def delete(self, key: Sequence[Any], where: Mapping[str, Any]) -> Question:
        """Return the statement of `Table.delete` and its values."""
        where = {**dict(zip(self._spec.key, key, strict=True)), **where}
        shape, values = self._asked(where, None, None)
        statement = self._composed.get(("delete", shape))
        if statement is None:
            conditions = self._conditions(where, None, None)
            statement = self._composed["delete", shape] = _bytes(
                sql.SQL("DELETE FROM {}{}").format(self._table, conditions)
            )
        return statement, values

    def _equals(self, name: str) -> sql.Composable:
        return sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))

    def _insert(self) -> sql.Composed:
        values = sql.SQL(", ").join(
            sql.SQL("{}::{}").format(sql.Placeholder(column.name), sql.SQL(column.sql_type))
            for column in self.mapping.columns
        )
        return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(self._table, self._names, values)

    def _insert_all(self, rows: str) -> sql.Composed:
        """From one JSON array: psycopg takes far longer to dump an array per column."""
        values = sql.SQL(", ").join(value for field in self.mapping.fields for value in field.from_json())
        # In the order of the key: two units that write the same rows wait for each other one way round, not both.
        statement = "INSERT INTO {} ({}) SELECT {} FROM {} ORDER BY {}"
        key = sql.SQL(", ").join(sql.Identifier("row", name) for name in self._spec.key)
        return sql.SQL(statement).format(self._table, self._names, values, _rows(self.mapping.fields, rows), key)

    def set_all(self, names: Sequence[str]) -> bytes:
        """Return the statement of `Table.set_all`."""
        shape = ("set", tuple(names))
        statement = self._composed.get(shape)
        if statement is None:
            by_name = {field.name: field for field in self.mapping.fields}
            written = [
                sql.SQL("{} = {}").format(sql.Identifier(column.name), value)
                for name in names
                for column, value in zip(by_name[name].columns, by_name[name].from_json(), strict=True)
            ]
            same = [sql.SQL("{0}.{1} = row.{1}").format(self._table, sql.Identifier(name)) for name in self._spec.key]
            statement = self._composed[shape] = _bytes(
                sql.SQL("UPDATE {} SET {} FROM {} WHERE {}").format(
                    self._table,
                    sql.SQL(", ").join(written),
                    _rows([by_name[name] for name in (*self._spec.key, *names)]),
                    sql.SQL(" AND ").join(same),
                )
            )
        return statement

    def _on_conflict_replace(self) -> sql.Composed:
        key = sql.SQL(", ").join(sql.Identifier(name) for name in self._spec.key)
        changes = sql.SQL(", ").join(
            sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(column.name)) for column in self.mapping.columns
        )
        return sql.SQL(" ON CONFLICT ({}) DO UPDATE SET {}").format(key, changes)

    def select(
        self,
        where: Mapping[str, Any],
        *,
        since: tuple[str, datetime] | None,
        before: tuple[str, datetime] | None,
        order_by: Sequence[str],
        offset: int,
        limit: int,
    ) -> Question:
        """Return the statement of `Table.select` and its values."""
        if limit > SELECT_ROWS_MAX:
            raise AssertionError(f"a select of {limit} rows exceeds {SELECT_ROWS_MAX}")
        shape, values = self._asked(where, since, before)
        shape = ("select", shape, tuple(order_by))
        statement = self._composed.get(shape)
        if statement is None:
            conditions = self._conditions(where, since, before)
            order = sql.SQL(", ").join(self._order(field) for field in (*order_by, *self._spec.key))
            statement = self._composed[shape] = _bytes(
                sql.SQL("SELECT {} FROM {}{} ORDER BY {} LIMIT {} OFFSET {}").format(
                    self._names, self._table, conditions, order, sql.Placeholder("_limit"), sql.Placeholder("_offset")
                )
            )
        return statement, {**values, "_limit": limit, "_offset": offset}

    def count(
        self,
        where: Mapping[str, Any],
        *,
        since: tuple[str, datetime] | None,
        before: tuple[str, datetime] | None,
    ) -> Question:
        """Return the statement of `Table.count` and its values."""
        shape, values = self._asked(where, since, before)
        shape = ("count", shape)
        statement = self._composed.get(shape)
        if statement is None:
            conditions = self._conditions(where, since, before)
            statement = self._composed[shape] = _bytes(
                sql.SQL("SELECT count(*) FROM {}{}").format(self._table, conditions)
            )
        return statement, values

    def distinct(self, fields: Sequence[str], where: Mapping[str, Any]) -> Question:
        """Return the statement of `Table.distinct` and its values."""
        shape, values = self._asked(where, None, None)
        shape = ("distinct", shape, tuple(fields))
        statement = self._composed.get(shape)
        if statement is None:
            names = sql.SQL(", ").join(sql.Identifier(self.mapping.column(field).name) for field in fields)
            # Not SELECT DISTINCT, which can't be ordered by another collation.
            statement = self._composed[shape] = _bytes(
                sql.SQL("SELECT {0} FROM {1}{2} GROUP BY {0} ORDER BY {3} LIMIT {4}").format(
                    names,
                    self._table,
                    self._conditions(where, None, None),
                    sql.SQL(", ").join(self._order(field) for field in fields),
                    sql.Literal(SELECT_ROWS_MAX),
                )
            )
        return statement, values

    def _asked(
        self, where: Mapping[str, Any], since: tuple[str, datetime] | None, before: tuple[str, datetime] | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what decides the statement's text, and the values."""
        shape: list[Any] = []
        values: dict[str, Any] = {}
        for name, value in where.items():
            column = self.mapping.column(name)
            shape.append((name, _form(value)))
            if isinstance(value, tuple):
                values[name] = [column.dump(one) for one in value if one is not None]
            elif value is not None:
                values[name] = column.dump(value)
        for word, bound in (("since", since), ("before", before)):
            if bound is not None:
                shape.append((word, bound[0]))
                values[f"_{word}"] = bound[1]
        return tuple(shape), values

    def _conditions(
        self, where: Mapping[str, Any], since: tuple[str, datetime] | None, before: tuple[str, datetime] | None
    ) -> sql.Composable:
        conditions = [self._condition(name, _form(value)) for name, value in where.items()]
        for word, sign, bound in (("_since", ">=", since), ("_before", "<", before)):
            if bound is not None:
                name = sql.Identifier(self.mapping.column(bound[0]).name)
                conditions.append(sql.SQL("{} {} {}").format(name, sql.SQL(sign), sql.Placeholder(word)))
        return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")

    def _condition(self, name: str, form: str) -> sql.Composable:
        identifier = sql.Identifier(name)
        if form == _ABSENT:
            return sql.SQL("{} IS NULL").format(identifier)
        if form == _EQUAL:
            return self._equals(name)
        array = sql.SQL(f"{self.mapping.column(name).sql_type}[]")
        any_of = sql.SQL("{} = ANY({}::{})").format(identifier, sql.Placeholder(name), array)
        if form == _ANY:
            return any_of
        return sql.SQL("({} OR {} IS NULL)").format(any_of, identifier)

    def _order(self, field: str) -> sql.Composable:
        column = self.mapping.column(field.removeprefix("-"))
        collation = self._collation if column.sql_type == "TEXT" else sql.SQL("")
        direction = sql.SQL(" DESC") if field.startswith("-") else sql.SQL("")
        return sql.Identifier(column.name) + collation + direction


_ABSENT: Final = "absent"
_EQUAL: Final = "equal"
_ANY: Final = "any"
_ANY_OR_ABSENT: Final = "any or absent"


def _rows(fields: Sequence[RecordField], placeholder: str = "rows") -> sql.Composed:
    """Return what reads records, or some of their fields, out of one JSON array."""
    types = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(field.json_type)) for field in fields
    )
    return sql.SQL("json_to_recordset({}::json) AS row ({})").format(sql.Placeholder(placeholder), types)


def _form(value: Any) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, tuple):
        return _ANY_OR_ABSENT if None in value else _ANY
    return _EQUAL


def _bytes(statement: sql.Composable) -> bytes:
    return statement.as_bytes(None)
