"""Rows of one process's own state, typed by the frozen dataclass they are.

A `TableSpec` names a table, its record and its key. The memory adapter keeps records in a dict; the PostgreSQL adapter
maps each field to the column of the same name in a table that a numbered migration made: `int` BIGINT, `str` and
enums TEXT, `bool` BOOLEAN, `datetime` TIMESTAMPTZ, `Decimal` NUMERIC, `bytes` BYTEA, `PartyId` TEXT, `Sealed` two
columns (`<field>_subject` TEXT, `<field>_box` BYTEA; filter by `<field>_subject`), anything nested JSONB by the codec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from emobility.domain.errors import MalformedInput, RuleBroken

R = TypeVar("R")

SELECT_ROWS_MAX: Final = 10_000
"""Most rows one `select` returns; ask again with `offset` for more."""


class RecordExists(RuleBroken):
    """A record with this key, or with the same value of a unique column, is there already."""

    def __init__(self, *, table: str, key: tuple[Any, ...]) -> None:
        self.table = table
        self.key = key
        super().__init__(f"{table} {key} exists")


class TextWithNUL(MalformedInput):
    """A text has the character NUL, which no row and no event can hold; nothing was written, the unit stays usable."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: a text has the character NUL")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec(Generic[R]):
    """A table.

    Attributes:
        name: Singular, as in `charge_detail_record`.
        record: The frozen dataclass of a row.
        key: Fields of the primary key, party first.
        unique: Further groups of fields that are unique together.
        is_reference: It changes rarely and is read with every message, so plain reads are kept for a while. What this
            process changes is seen at once, what another changes a moment later (`adapters/postgres/reference_rows`).
    """

    name: str
    record: type[R]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...] = ()
    is_reference: bool = False


def require_reference(tables: Sequence[TableSpec[Any]]) -> None:
    """See that all of these change rarely."""
    for spec in tables:
        assert spec.is_reference, f"nothing that follows from {spec.name} may be kept"


class Table(Protocol[R]):
    """Rows of one table as one unit of work sees them. Every method raises `TextWithNUL` for such a text."""

    async def get(self, *key: Any) -> R | None:
        """Return the record with this key."""

    async def get_for_update(self, *key: Any) -> R | None:
        """Return it, and keep others from changing it until this unit ends."""

    async def insert(self, record: R) -> None:
        """Add a record. Raises `RecordExists`; the unit stays usable."""

    async def put(self, record: R) -> None:
        """Add a record or replace the one with its key. Raises `RecordExists` on another unique column."""

    async def insert_all(self, records: Sequence[R]) -> list[R]:
        """Add many in one go, each key once; return those whose key or unique value is there already."""

    async def put_all(self, records: Sequence[R]) -> None:
        """Put many in one go, each key once. Raises `RecordExists` as `put` does, and then puts none."""

    async def set_all(self, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Write some fields of many records in one go, each key once; what is not there stays away.

        Args:
            names: Fields, none of a unique group.
            rows: For each record its key, then the values of these fields.
        """

    async def delete(self, *key: Any, where: Mapping[str, Any] | None = None) -> bool:
        """Remove a record, if its fields equal `where`; tell whether one went."""

    async def remove(self, *key: Any, where: Mapping[str, Any] | None = None) -> None:
        """Remove a record, if it is there and its fields equal `where`; cheaper than `delete`, for nobody is told."""

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
        """Return records whose fields equal `where` (None matches an absent value; a tuple matches any of its values).

        Args:
            where: Field → value; nested fields can't be asked for. A `Sealed` field `f` is asked as `f_subject`.
            since: Field and moment; only records at or after it.
            before: Field and moment; only records before it.
            order_by: Fields, ascending, a leading `-` for descending; the key always breaks ties.
            offset: Records to skip.
            limit: Records to return at most, not above `SELECT_ROWS_MAX`.
        """

    async def count(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        since: tuple[str, datetime] | None = None,
        before: tuple[str, datetime] | None = None,
    ) -> int:
        """Count what `select` without `limit` would return."""

    async def distinct(self, fields: Sequence[str], where: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the different values that these fields have together in the records `select(where)` would return.

        In the order of the values, at most `SELECT_ROWS_MAX` of them; the rows themselves are not read.
        """
