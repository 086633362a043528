"""Rows and events in one transaction: both are there afterwards, or neither is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Any, Protocol, TypeVar

from emobility.domain.errors import Unavailable
from emobility.events.event import Envelope
from emobility.ports.stores import Table, TableSpec

R = TypeVar("R")
T = TypeVar("T")


class UnitConflict(Unavailable):
    """Two units waited for each other's rows and this one was rolled back; run it again from the start."""


class Novelty(Enum):
    """What the inbox says of an event."""

    NEW = "new"
    REPEATED = "repeated"
    """Same idempotency key, same content: acknowledge again, do nothing."""
    CONFLICTING = "conflicting"
    """Same idempotency key, other content: keep both, quarantine."""


class UnitOfWork(Protocol):
    """One transaction. Leave its context without `commit` and nothing happened."""

    def table(self, spec: TableSpec[R]) -> Table[R]:
        """Return the rows of a table in this transaction."""

    def emit(self, *envelopes: Envelope) -> None:
        """Add events; they enter the log with the commit, in this order per key."""

    async def novelty(self, group: str, envelope: Envelope) -> Novelty:
        """Enter the event into the group's inbox and tell whether the group has seen its idempotency key before."""

    def on_commit(self, told: Callable[[], None]) -> None:
        """Have `told()` called once the commit is confirmed, and never otherwise. It may only set something off."""

    async def commit(self, *, is_repeatable: bool = False) -> None:
        """Make rows and events durable together.

        Args:
            is_repeatable: What the unit did is done again, to the same end, if a crash of the server loses it; so it
                returns before the disk confirms. Never where something was promised to somebody.
        """


class Units(Protocol):
    """Opens units of work."""

    @property
    def commits(self) -> int:
        """How many units of this process were committed; while it stays the same, nothing moved here."""

    def on_change(self, spec: TableSpec[Any], told: Callable[[], None]) -> None:
        """Have `told()` called after the commit of each unit of this process that wrote records of a table.

        What other processes write is not told, so whoever follows a table also looks now and then.
        """

    def begin(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Open a unit; it rolls back when its context is left without `commit`."""

    async def concluded(
        self, question: Hashable, tables: Sequence[TableSpec[Any]], read: Callable[[UnitOfWork], Awaitable[T]]
    ) -> T:
        """Return what follows from rows that are kept for a while, itself kept as long as they may be.

        Args:
            question: Names it, together with what `read` was given.
            tables: All that `read` reads; each `is_reference`.
            read: Works the answer out in a unit of its own. Nobody may change what it returns; what it raises is not
                kept.
        """

    async def put_all(
        self, groups: Sequence[tuple[TableSpec[Any], Sequence[Any]]], *, is_repeatable: bool = False
    ) -> None:
        """Put records in a unit of their own: for what is written with every message, cheaper than to open one.

        Args:
            groups: Different tables, and of each some records, each key once.
            is_repeatable: See `UnitOfWork.commit`.

        Raises:
            RecordExists: as `Table.put_all`; then nothing is put.
        """

    async def insert_all(self, spec: TableSpec[R], records: Sequence[R], *, is_repeatable: bool = False) -> list[R]:
        """Add records, each key once, in a unit of their own; return those that are there already."""
