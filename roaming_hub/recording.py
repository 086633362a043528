"""Make what concerns many messages durable together: a commit costs a disk flush, whatever it carries.

Rows wait while a commit is under way; the next commit takes them all. Who waits for a row waits for one flush, or two.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from emobility.domain.errors import Unavailable
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import Units

GROUP_ROWS_MAX: Final = 2_000
"""Rows of one commit; a message with more of its own goes alone."""
WAITING_ROWS_MAX: Final = 50_000
"""Rows that may wait for a commit; with more, the database is in trouble and the hub says so."""

Row = tuple[TableSpec[Any], Any]
"""A table and a record to put into it."""


class RecordingBusy(Unavailable):
    """`WAITING_ROWS_MAX` rows wait already."""


class Recording:
    """Puts rows, those that wait at the same time in one unit.

    Args:
        units: Where.
        is_repeatable: What is lost with a crash is done again, so no commit waits for the disk.
    """

    def __init__(self, units: Units, *, is_repeatable: bool = False) -> None:
        self._units = units
        self._is_repeatable = is_repeatable
        self._waiting: deque[tuple[Sequence[Row], asyncio.Future[None]]] = deque()
        self._rows_waiting = 0
        self._writing: asyncio.Task[None] | None = None

    async def put(self, rows: Sequence[Row]) -> None:
        """Return once the rows are durable. Raises `Unavailable`; then they may be."""
        if not rows:
            return
        if self._rows_waiting + len(rows) > WAITING_ROWS_MAX:
            raise RecordingBusy(f"{self._rows_waiting} rows wait for the database")
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, durable))
        self._rows_waiting += len(rows)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await durable

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft()]
                taken = len(group[0][0])
                while self._waiting and taken + len(self._waiting[0][0]) <= GROUP_ROWS_MAX:
                    group.append(self._waiting.popleft())
                    taken += len(group[-1][0])
                self._rows_waiting -= taken
                await self._write(group)
        finally:
            self._writing = None

    async def _write(self, group: Sequence[tuple[Sequence[Row], asyncio.Future[None]]]) -> None:
        try:
            await self._commit([row for rows, _ in group for row in rows])
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it was
            if len(group) > 1 and not isinstance(error, Unavailable):
                # One row nobody can store must fail alone.
                for each in group:
                    await self._write([each])
                return
            for _, durable in group:
                if not durable.done():
                    durable.set_exception(error)
            return
        for _, durable in group:
            if not durable.done():
                durable.set_result(None)

    async def _commit(self, rows: Sequence[Row]) -> None:
        by_table: dict[str, tuple[TableSpec[Any], dict[tuple[Any, ...], Any]]] = {}
        for spec, record in rows:
            key = tuple(getattr(record, name) for name in spec.key)
            by_table.setdefault(spec.name, (spec, {}))[1][key] = record
        groups = []
        for spec, records in by_table.values():
            # In the order of their keys, so that two processes don't wait for each other.
            ordered = sorted(records, key=lambda key: tuple(map(str, key)))
            groups.append((spec, [records[key] for key in ordered]))
        await self._units.put_all(groups, is_repeatable=self._is_repeatable)
