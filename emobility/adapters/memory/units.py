"""Units of work over dicts: rows, inbox, cursors and events become visible together at the commit, or never."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from emobility.adapters.consuming import Place, content_hash, encoded
from emobility.adapters.memory.records import (
    CURSOR,
    DEAD_LETTER,
    INBOX,
    PARKED_KEY,
    Cursor,
    DeadLetter,
    InboxEntry,
    ParkedKey,
)
from emobility.adapters.memory.tables import MemoryTable, RowLocks, Rows
from emobility.events import codec
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.clock import Clock
from emobility.ports.event_log import CursorMoved, partition_of
from emobility.ports.stores import TableSpec, require_reference
from emobility.ports.unit_of_work import Novelty

R = TypeVar("R")
T = TypeVar("T")

INBOX_AGE: Final = timedelta(days=30)
"""How long an idempotency key is remembered at least; money hangs on it."""


@dataclass(slots=True)
class StoredEvent:
    """An event as it lies in the log."""

    data: bytes
    stored_at: datetime


class MemoryPartition:
    """Events of one partition with dense offsets; `first` grows when old ones are dropped."""

    def __init__(self) -> None:
        self.first = 0
        self.events: list[StoredEvent] = []

    @property
    def head(self) -> int:
        """The offset the next event gets."""
        return self.first + len(self.events)


class MemoryState:
    """What a database and a broker would hold; share one between adapters that see the same world."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.locks = RowLocks()
        self.tables: dict[str, Rows] = {}
        self.partitions: dict[tuple[str, int], MemoryPartition] = {}
        self.on_append: list[Any] = []
        self.followers: dict[str, list[Callable[[], None]]] = {}
        self.commits = 0

    def rows(self, spec: TableSpec[Any]) -> Rows:
        """Return the committed rows of a table; one name has one spec."""
        rows = self.tables.get(spec.name)
        if rows is None:
            rows = self.tables[spec.name] = Rows(spec)
        elif rows.spec != spec:
            raise AssertionError(f"table {spec.name} has two specs: {rows.spec} and {spec}")
        return rows

    def partition(self, topic: str, number: int) -> MemoryPartition:
        """Return a partition, empty when nothing was ever put into it."""
        return self.partitions.setdefault((topic, number), MemoryPartition())

    def append(self, events: Sequence[tuple[Envelope, bytes]]) -> None:
        """Give each event the next offset of its partition."""
        stored_at = self.clock.now()
        for envelope, data in events:
            place = (envelope.event.topic, partition_of(envelope.event.key))
            self.partition(*place).events.append(StoredEvent(data, stored_at))
        for wake in self.on_append:
            wake()


class MemoryUnit:
    """One transaction; see `emobility.ports.unit_of_work.UnitOfWork` and `ConsumingUnit`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self._tables: dict[str, MemoryTable[Any]] = {}
        self._emitted: list[tuple[Envelope, bytes]] = []
        self._told: list[Callable[[], None]] = []
        self._is_over = False
        self.locks: list[Any] = []

    def refuse_if_over(self) -> None:
        """A unit is used neither after its commit nor after its context."""
        if self._is_over:
            raise AssertionError("this unit of work is over")

    def table(self, spec: TableSpec[R]) -> MemoryTable[R]:
        """Return the rows of a table in this transaction."""
        rows = self._state.rows(spec)
        table = self._tables.get(spec.name)
        if table is None:
            table = self._tables[spec.name] = MemoryTable(self, rows, self._state.locks)
        return table

    def emit(self, *envelopes: Envelope) -> None:
        """Add events. Raises `EventTooLarge`."""
        self.refuse_if_over()
        self._emitted.extend((envelope, encoded(envelope)) for envelope in envelopes)

    async def novelty(self, group: str, envelope: Envelope) -> Novelty:
        """Enter the event into the group's inbox and tell whether its idempotency key was seen before."""
        inbox = self.table(INBOX)
        digest = content_hash(envelope)
        await inbox.lock_key(group, envelope.event_id)
        seen = await inbox.get(group, envelope.event_id)
        if seen is not None:
            return Novelty.REPEATED if seen.content_hash == digest else Novelty.CONFLICTING
        entry = InboxEntry(
            group_name=group, event_id=envelope.event_id, content_hash=digest, seen_at=self._state.clock.now()
        )
        await inbox.insert(entry)
        return Novelty.NEW

    def on_commit(self, told: Callable[[], None]) -> None:
        """Have `told()` called once the commit is done."""
        self._told.append(told)

    async def commit(self, *, is_repeatable: bool = False) -> None:
        """Make rows and events visible together."""
        del is_repeatable  # nothing here outlives the process
        self.refuse_if_over()
        self._state.commits += 1
        for name, table in self._tables.items():
            if table.changes:
                self._told += self._state.followers.get(name, ())
            table.rows.apply(table.changes)
        if self._emitted:
            self._state.append(self._emitted)
        self.end()
        for told in self._told:
            told()

    def end(self) -> None:
        """Give up all locks; without a commit before, nothing happened."""
        self._is_over = True
        self._state.locks.release_all(self)

    async def move_cursor(self, place: Place, *, expected: int, to: int) -> None:
        """Move a group's cursor. Raises `CursorMoved`."""
        cursors = self.table(CURSOR)
        cursor = await cursors.get_for_update(place.group, place.topic, place.partition)
        if cursor is None or cursor.next_offset != expected:
            raise CursorMoved(f"{place} does not stand at {expected} but at {cursor}")
        await cursors.put(Cursor(group_name=place.group, topic=place.topic, partition=place.partition, next_offset=to))

    async def fresh(self, place: Place, events: Sequence[LoggedEvent]) -> Sequence[LoggedEvent]:
        """This log repeats nothing."""
        del place
        return events

    async def parked_keys(self, place: Place, keys: Sequence[str]) -> frozenset[str]:
        """Return which of `keys` are parked, locked until this unit ends."""
        parked = self.table(PARKED_KEY)
        return frozenset([key for key in keys if await parked.get_for_update(place.group, place.topic, key)])

    async def park(self, place: Place, logged: LoggedEvent, reason: str) -> None:
        """Put an event into the dead letters."""
        key = logged.envelope.event.key
        await self.table(PARKED_KEY).put(ParkedKey(group_name=place.group, topic=place.topic, key=key))
        letter = DeadLetter(
            group_name=place.group,
            topic=place.topic,
            partition=place.partition,
            log_offset=logged.offset,
            key=key,
            reason=reason,
            envelope=logged.data or codec.encode_envelope(logged.envelope),
            parked_at=self._state.clock.now(),
        )
        await self.table(DEAD_LETTER).put(letter)


class MemoryUnits:
    """Opens units over one `MemoryState`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    @property
    def state(self) -> MemoryState:
        """What they change."""
        return self._state

    @property
    def commits(self) -> int:
        """How many units were committed."""
        return self._state.commits

    def on_change(self, spec: TableSpec[Any], told: Callable[[], None]) -> None:
        """Have `told()` called after each commit that wrote records of a table."""
        self._state.followers.setdefault(spec.name, []).append(told)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryUnit]:
        """Open a unit; it rolls back when its context is left without `commit`."""
        unit = MemoryUnit(self._state)
        try:
            yield unit
        finally:
            unit.end()

    async def concluded(
        self, question: Hashable, tables: Sequence[TableSpec[Any]], read: Callable[[MemoryUnit], Awaitable[T]]
    ) -> T:
        """Return what follows from reference rows; see the port. Here rows cost nothing to read again."""
        del question
        require_reference(tables)
        async with self.begin() as unit:
            return await read(unit)

    async def put_all(
        self, groups: Sequence[tuple[TableSpec[Any], Sequence[Any]]], *, is_repeatable: bool = False
    ) -> None:
        """Put records of different tables in a unit of their own; see the port."""
        async with self.begin() as unit:
            for spec, records in groups:
                await unit.table(spec).put_all(records)
            await unit.commit(is_repeatable=is_repeatable)

    async def insert_all(self, spec: TableSpec[R], records: Sequence[R], *, is_repeatable: bool = False) -> list[R]:
        """Add records in a unit of their own; see the port."""
        async with self.begin() as unit:
            there = await unit.table(spec).insert_all(records)
            await unit.commit(is_repeatable=is_repeatable)
        return there

    async def forget_old_inbox(self, *, age: timedelta = INBOX_AGE) -> int:
        """Drop idempotency keys older than `age`, never younger than `INBOX_AGE`; return how many went."""
        before = self._state.clock.now() - max(age, INBOX_AGE)
        async with self.begin() as unit:
            inbox = unit.table(INBOX)
            old = await inbox.select(before=("seen_at", before))
            for entry in old:
                await inbox.delete(entry.group_name, entry.event_id)
            await unit.commit()
        return len(old)
