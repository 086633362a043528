"""How many records wait to be worked off, for `backlog()` of a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import Units


class Backlog:
    """Counts records of one kind that wait; while nobody in this process wrote the table, none stays none."""

    def __init__(self, units: Units, spec: TableSpec[Any], where: Mapping[str, Any]) -> None:
        self._units = units
        self._spec = spec
        self._where = where
        self._may_wait = True
        units.on_change(spec, self._changed)

    def _changed(self) -> None:
        self._may_wait = True

    async def count(self) -> int:
        """Return how many wait. Raises `Unavailable`."""
        if not self._may_wait:
            return 0
        self._may_wait = False  # before the question, so that what is written meanwhile counts
        async with self._units.begin() as unit:
            waiting = await unit.table(self._spec).count(self._where)
        self._may_wait = self._may_wait or waiting > 0
        return waiting
