"""Tables as dicts under row locks, with the isolation of PostgreSQL's READ COMMITTED.

A unit sees what others have committed and what it wrote itself. Changing a row (or `get_for_update`) takes the row's
lock and keeps it until the unit ends; others who want the row wait in turn. Two units that wait for each other:
one gets `UnitConflict`, as PostgreSQL's deadlock detector would do. There is no lock over all units, because handlers
and HTTP handlers share one loop here: a unit that stays open while another service works must not stop the world.
Still, never call out over HTTP inside a unit; in production that would hold rows for as long as the peer likes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from emobility.adapters.texts import refuse_nul, refuse_nul_in_record
from emobility.ports.stores import SELECT_ROWS_MAX, RecordExists, TableSpec, TextWithNUL
from emobility.ports.unit_of_work import UnitConflict

if TYPE_CHECKING:
    from emobility.adapters.memory.units import MemoryUnit

R = TypeVar("R")
_SUBJECT: Final = "_subject"


def field_reader(record: type[Any], field: str) -> Callable[[Any], Any]:
    """Return how to read a field of a record; `<field>_subject` reads the subject of a `Sealed` field."""
    reader = _READERS.get((record, field))
    if reader is None:
        reader = _READERS[record, field] = _new_reader(record, field)
    return reader


_READERS: Final[dict[tuple[type[Any], str], Callable[[Any], Any]]] = {}


def _new_reader(record: type[Any], field: str) -> Callable[[Any], Any]:
    names = {each.name for each in fields_of(record)}
    if field in names:
        return attrgetter(field)
    sealed = field.removesuffix(_SUBJECT)
    if sealed != field and sealed in names:

        def subject(row: Any) -> Any:
            value = getattr(row, sealed)
            return None if value is None else value.subject

        return subject
    raise AssertionError(f"{record} has no field {field}")


class RowLocks:
    """Who may change which row; waiters are served in the order they came."""

    def __init__(self) -> None:
        self._owners: dict[Hashable, MemoryUnit] = {}
        self._waiting: dict[Hashable, deque[tuple[MemoryUnit, asyncio.Future[None]]]] = {}
        self._wanted: dict[MemoryUnit, Hashable] = {}

    async def take(self, unit: MemoryUnit, lock: Hashable) -> None:
        """Wait for a lock and keep it until `release_all`. Raises `UnitConflict` instead of waiting in a circle."""
        owner = self._owners.get(lock)
        if owner is unit:
            return
        if owner is None:
            self._own(unit, lock)
            return
        self._refuse_circle(unit, lock)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(lock, deque()).append((unit, turn))
        self._wanted[unit] = lock
        try:
            await turn
        except asyncio.CancelledError:
            if self._owners.get(lock) is not unit:
                self._waiting[lock].remove((unit, turn))
            raise
        finally:
            self._wanted.pop(unit, None)

    def _own(self, unit: MemoryUnit, lock: Hashable) -> None:
        self._owners[lock] = unit
        unit.locks.append(lock)

    def _refuse_circle(self, unit: MemoryUnit, lock: Hashable) -> None:
        wanted: Hashable | None = lock
        while wanted is not None:
            owner = self._owners.get(wanted)
            if owner is unit:
                raise UnitConflict(f"two units wait for each other's rows at {lock}")
            wanted = self._wanted.get(owner) if owner is not None else None

    def release_all(self, unit: MemoryUnit) -> None:
        """Give every lock of a unit to whoever waits for it."""
        for lock in unit.locks:
            del self._owners[lock]
            waiting = self._waiting.get(lock)
            while waiting:
                heir, turn = waiting.popleft()
                if not turn.cancelled():
                    self._own(heir, lock)
                    self._wanted.pop(heir, None)  # at once: it wants nothing any more, even before it runs on
                    turn.set_result(None)
                    break
            if not waiting:
                self._waiting.pop(lock, None)
        unit.locks.clear()


class Rows:
    """The committed rows of one table and their unique values."""

    def __init__(self, spec: TableSpec[Any]) -> None:
        self.spec = spec
        self.by_key: dict[tuple[Any, ...], Any] = {}
        self._unique: list[dict[tuple[Any, ...], tuple[Any, ...]]] = [{} for _ in spec.unique]
        self._readers = [[field_reader(spec.record, field) for field in group] for group in spec.unique]
        self._key_readers = [field_reader(spec.record, field) for field in spec.key]

    def key_of(self, record: Any) -> tuple[Any, ...]:
        """Return a record's primary key."""
        return tuple(read(record) for read in self._key_readers)

    def unique_values(self, record: Any) -> list[tuple[Any, ...] | None]:
        """Return the values of each unique group; None where a value is absent, which never collides (as in SQL)."""
        groups = (tuple(read(record) for read in readers) for readers in self._readers)
        return [None if None in values else values for values in groups]

    def holder(self, group: int, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the key of the committed record that has these unique values."""
        return self._unique[group].get(values)

    def apply(self, changes: Mapping[tuple[Any, ...], Any]) -> None:
        """Make a unit's changes the committed state; None deletes."""
        for key in changes:
            self._forget(key)
        for key, record in changes.items():
            if record is not None:
                self.by_key[key] = record
                for group, values in enumerate(self.unique_values(record)):
                    if values is not None:
                        self._unique[group][values] = key

    def _forget(self, key: tuple[Any, ...]) -> None:
        record = self.by_key.pop(key, None)
        if record is None:
            return
        for group, values in enumerate(self.unique_values(record)):
            if values is not None and self._unique[group].get(values) == key:
                del self._unique[group][values]


class MemoryTable(Generic[R]):
    """One table as one unit sees it; see `emobility.ports.stores.Table`."""

    def __init__(self, unit: MemoryUnit, rows: Rows, locks: RowLocks) -> None:
        self._unit = unit
        self.rows = rows
        self._locks = locks
        self.changes: dict[tuple[Any, ...], R | None] = {}

    async def get(self, *key: Any) -> R | None:
        """Return the record with this key."""
        self._unit.refuse_if_over()
        refuse_nul(key, self.rows.spec.name)
        return self._seen(key)

    def _seen(self, key: tuple[Any, ...]) -> R | None:
        if key in self.changes:
            return self.changes[key]
        return cast("R | None", self.rows.by_key.get(key))

    async def _lock(self, *what: Hashable) -> None:
        self._unit.refuse_if_over()
        await self._locks.take(self._unit, (self.rows.spec.name, *what))

    async def lock_key(self, *key: Any) -> None:
        """Keep others from adding or changing the record with this key, whether it exists or not."""
        await self._lock(key)

    async def get_for_update(self, *key: Any) -> R | None:
        """Return the record and keep others from changing it until this unit ends."""
        refuse_nul(key, self.rows.spec.name)
        if self._seen(key) is None:
            return None  # as in SQL: a row that is not there can't be locked
        await self._lock(key)
        return self._seen(key)

    async def insert(self, record: R) -> None:
        """Add a record. Raises `RecordExists`; the unit stays usable."""
        refuse_nul_in_record(record, self.rows.spec.name)
        key = self.rows.key_of(record)
        await self._lock(key)
        if self._seen(key) is not None:
            raise RecordExists(table=self.rows.spec.name, key=key)
        await self._refuse_duplicate(key, record)
        self.changes[key] = record

    async def put(self, record: R) -> None:
        """Add a record or replace the one with its key. Raises `RecordExists` on another unique column."""
        refuse_nul_in_record(record, self.rows.spec.name)
        key = self.rows.key_of(record)
        await self._lock(key)
        await self._refuse_duplicate(key, record)
        self.changes[key] = record

    async def insert_all(self, records: Sequence[R]) -> list[R]:
        """Add many, each key once; return those whose key or unique value is there already."""
        for record in records:
            refuse_nul_in_record(record, self.rows.spec.name)
        known = []
        for record in records:
            try:
                await self.insert(record)
            except RecordExists:
                known.append(record)
        return known

    async def put_all(self, records: Sequence[R]) -> None:
        """Put many, each key once. Raises `RecordExists`, and then puts none."""
        before = dict(self.changes)
        try:
            for record in records:
                await self.put(record)
        except (RecordExists, TextWithNUL):
            self.changes = before
            raise

    async def set_all(self, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Write these fields of many records; see the port."""
        width = len(self.rows.spec.key)
        for row in rows:
            refuse_nul(row, self.rows.spec.name)
            seen = await self.get_for_update(*row[:width])
            if seen is not None:
                self.changes[row[:width]] = replace(cast("Any", seen), **dict(zip(names, row[width:], strict=True)))

    async def delete(self, *key: Any, where: Mapping[str, Any] | None = None) -> bool:
        """Remove a record, if its fields equal `where`; tell whether one went."""
        refuse_nul((*key, *(where or {}).values()), self.rows.spec.name)
        if self._seen(key) is None:
            return False
        await self._lock(key)
        seen = self._seen(key)
        if seen is None or any(
            field_reader(self.rows.spec.record, field)(seen) != value for field, value in (where or {}).items()
        ):
            return False
        self.changes[key] = None
        return True

    async def remove(self, *key: Any, where: Mapping[str, Any] | None = None) -> None:
        """Remove a record, if it is there and its fields equal `where`."""
        await self.delete(*key, where=where)

    async def _refuse_duplicate(self, key: tuple[Any, ...], record: R) -> None:
        for group, values in enumerate(self.rows.unique_values(record)):
            if values is None:
                continue
            await self._lock("unique", group, values)
            if self._holds(group, values, but_not=key):
                raise RecordExists(table=self.rows.spec.name, key=values)

    def _holds(self, group: int, values: tuple[Any, ...], *, but_not: tuple[Any, ...]) -> bool:
        committed = self.rows.holder(group, values)
        if committed is not None and committed != but_not and committed not in self.changes:
            return True
        return any(
            key != but_not and changed is not None and self.rows.unique_values(changed)[group] == values
            for key, changed in self.changes.items()
        )

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
        if limit > SELECT_ROWS_MAX:
            raise AssertionError(f"a select of {limit} rows exceeds {SELECT_ROWS_MAX}")
        found = self._matching(where, since, before)
        record = self.rows.spec.record
        found.sort(key=self.rows.key_of)
        for field in reversed(order_by):
            read = field_reader(record, field.removeprefix("-"))
            found.sort(key=lambda row, read=read: _sortable(read(row)), reverse=field.startswith("-"))  # type: ignore[misc]  # mypy can't type a default of a lambda
        return found[offset : offset + limit]

    async def count(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        since: tuple[str, datetime] | None = None,
        before: tuple[str, datetime] | None = None,
    ) -> int:
        """Count what `select` without `limit` would return."""
        return len(self._matching(where, since, before))

    async def distinct(self, fields: Sequence[str], where: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the different values of these fields; see the port."""
        readers = [field_reader(self.rows.spec.record, field) for field in fields]
        found = {tuple(read(row) for read in readers) for row in self._matching(where, None, None)}
        return sorted(found, key=lambda values: [_sortable(value) for value in values])[:SELECT_ROWS_MAX]

    def _matching(
        self,
        where: Mapping[str, Any] | None,
        since: tuple[str, datetime] | None,
        before: tuple[str, datetime] | None,
    ) -> list[R]:
        self._unit.refuse_if_over()
        refuse_nul((where or {}).values(), self.rows.spec.name)
        record = self.rows.spec.record
        rules: list[Callable[[Any], bool]] = [
            _equals(field_reader(record, field), value) for field, value in (where or {}).items()
        ]
        if since is not None:
            rules.append(_not_before(field_reader(record, since[0]), since[1]))
        if before is not None:
            rules.append(_before(field_reader(record, before[0]), before[1]))
        rows = {**self.rows.by_key, **self.changes}
        return [row for row in rows.values() if row is not None and all(rule(row) for rule in rules)]


def _sortable(value: Any) -> tuple[bool, Any]:
    """PostgreSQL's order: absent values after all others, before them when descending."""
    return (value is None, 0 if value is None else value)


def _equals(read: Callable[[Any], Any], value: Any) -> Callable[[Any], bool]:
    if isinstance(value, tuple):
        return lambda row: read(row) in value
    return lambda row: bool(read(row) == value)


def _not_before(read: Callable[[Any], Any], moment: datetime) -> Callable[[Any], bool]:
    return lambda row: (at := read(row)) is not None and at >= moment


def _before(read: Callable[[Any], Any], moment: datetime) -> Callable[[Any], bool]:
    return lambda row: (at := read(row)) is not None and at < moment
