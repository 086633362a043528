"""How a frozen dataclass lies in a table: the mapping that `emobility.ports.stores` fixes, one column after another."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from psycopg import sql

from emobility.adapters.texts import refuse_nul_in_json
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.events import codec
from emobility.ports.stores import TableSpec

R = TypeVar("R")

_PLAIN: Final[dict[type, str]] = {
    bool: "BOOLEAN",
    int: "BIGINT",
    str: "TEXT",
    bytes: "BYTEA",
    Decimal: "NUMERIC",
    datetime: "TIMESTAMPTZ",
}


def _same(value: Any) -> Any:
    return value


def _json_text(value: Any) -> str:
    data = codec.encode(value)
    refuse_nul_in_json(data, type(value).__name__)
    return data.decode()


def _in_utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC)  # the connection's time zone is UTC already


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name and SQL type, and how a value gets in."""

    name: str
    sql_type: str
    is_nullable: bool
    dump: Callable[[Any], Any]
    """From the field's value to what psycopg takes; never called with None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordField:
    """A field of the record, its columns, and how their values become the field's value again."""

    name: str
    columns: tuple[Column, ...]
    load: Callable[[Any], Any]

    @property
    def json_type(self) -> str:
        """The SQL type as which `json_to_recordset` reads the field from a record that the codec wrote."""
        if len(self.columns) > 1:
            return "JSONB"
        return "TEXT" if self.columns[0].sql_type == "BYTEA" else self.columns[0].sql_type

    def from_json(self) -> tuple[sql.Composable, ...]:
        """Return what makes the columns' values of what was read."""
        name = sql.Identifier("row", self.name)
        if len(self.columns) > 1:
            return (
                sql.SQL("{} ->> 'subject'").format(name),
                sql.SQL("decode({} ->> 'box', 'base64')").format(name),
            )
        return (sql.SQL("decode({}, 'base64')").format(name) if self.columns[0].sql_type == "BYTEA" else name,)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Split `T | None` into T and True."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        is_nullable = len(kinds) < len(typing.get_args(hint))
        return (kinds[0] if len(kinds) == 1 else typing.Union[tuple(kinds)]), is_nullable  # noqa: UP007 - built at run time
    return hint, False


def _field(name: str, hint: Any) -> RecordField:
    kind, is_nullable = _without_none(hint)
    kind = getattr(kind, "__supertype__", kind)
    if kind is Sealed:
        return _sealed(name, is_nullable=is_nullable)
    sql_type, dump, load = _conversion(kind)
    column = Column(name=name, sql_type=sql_type, is_nullable=is_nullable, dump=dump)
    return RecordField(name=name, columns=(column,), load=load)


def _conversion(kind: Any) -> tuple[str, Callable[[Any], Any], Callable[[Any], Any]]:
    """Return SQL type, dumper and loader of a type; anything nested goes through the codec."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "TEXT", lambda value: str(value.value), kind
    if kind is PartyId:
        return "TEXT", lambda value: value.code, codec.party_id_of
    if kind is datetime:
        return "TIMESTAMPTZ", _same, _in_utc
    if kind in _PLAIN:
        return _PLAIN[kind], _same, _same
    return "JSONB", _json_text, lambda data: codec.decode(data, kind)


def _sealed(name: str, *, is_nullable: bool) -> RecordField:
    subject = Column(name=f"{name}_subject", sql_type="TEXT", is_nullable=is_nullable, dump=_same)
    box = Column(name=f"{name}_box", sql_type="BYTEA", is_nullable=is_nullable, dump=_same)
    return RecordField(name=name, columns=(subject, box), load=_same)


def json_of_rows(rows: Sequence[Any], table: str) -> str:
    """Return records, or some of their fields by name, as a JSON array. Raises `TextWithNUL`."""
    data = codec.encode(rows)
    refuse_nul_in_json(data, table)
    return data.decode()


class RecordMapping(Generic[R]):
    """The columns of a table and the way from records to rows and back."""

    def __init__(self, spec: TableSpec[R]) -> None:
        self.spec = spec
        hints = typing.get_type_hints(spec.record)
        self._names = tuple(field.name for field in fields(typing.cast("Any", spec.record)))
        self.fields = tuple(_field(name, hints[name]) for name in self._names)
        self._loads = [(field.name, field.load) for field in self.fields if field.load is not _same]
        self._sealed = any(len(field.columns) > 1 for field in self.fields)
        self.columns: tuple[Column, ...] = tuple(column for field in self.fields for column in field.columns)
        self.by_name: dict[str, Column] = {column.name: column for column in self.columns}
        missing = [name for group in (spec.key, *spec.unique) for name in group if name not in self.by_name]
        if missing:
            raise AssertionError(f"{spec.name}: no column {missing}")

    def column(self, name: str) -> Column:
        """Return a column that may be asked for; nested ones may not."""
        column = self.by_name.get(name)
        if column is None or column.sql_type == "JSONB":
            raise AssertionError(f"{self.spec.name} can't be asked by {name}")
        return column

    def row_of(self, record: R) -> dict[str, Any]:
        """Return a record's column values by name."""
        row: dict[str, Any] = {}
        for field in self.fields:
            value = getattr(record, field.name)
            if len(field.columns) > 1:
                subject, box = field.columns
                row[subject.name] = None if value is None else value.subject
                row[box.name] = None if value is None else value.box
            else:
                column = field.columns[0]
                row[column.name] = None if value is None else column.dump(value)
        return row

    def json_of(self, records: Sequence[R]) -> str:
        """Return records as a JSON array, for `json_to_recordset` and `fields`. Raises `TextWithNUL`.

        The codec writes a record in one go: many times as fast as field by field.
        """
        return json_of_rows(records, self.spec.name)

    def key_of(self, record: R) -> tuple[Any, ...]:
        """Return a record's key as a row holds it."""
        return tuple(self.by_name[name].dump(getattr(record, name)) for name in self.spec.key)

    def record_of(self, row: Sequence[Any]) -> R:
        """Build the record of a row whose values stand in the order of `columns`."""
        if self._sealed:
            row = self._without_boxes(row)
        values = dict(zip(self._names, row, strict=True))
        for name, load in self._loads:
            value = values[name]
            if value is not None:
                values[name] = load(value)
        return self.spec.record(**values)

    def _without_boxes(self, row: Sequence[Any]) -> Sequence[Any]:
        """Put each `Sealed` together of its two columns."""
        values: list[Any] = []
        of_columns = iter(row)
        for field in self.fields:
            value = next(of_columns)
            if len(field.columns) > 1:
                box = next(of_columns)
                value = None if value is None else Sealed(subject=value, box=bytes(box))
            values.append(value)
        return values

    def values_of(self, names: Sequence[str], row: Sequence[Any]) -> tuple[Any, ...]:
        """Return the values of columns that may be asked for, from a row of these alone."""
        loads = {field.name: field.load for field in self.fields}
        pairs = zip(names, row, strict=True)
        return tuple(None if value is None else loads.get(name, _same)(value) for name, value in pairs)
