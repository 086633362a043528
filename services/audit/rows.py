"""Reads whole tables, or all rows of some kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec
from emobility.ports.unit_of_work import UnitOfWork

R = TypeVar("R")


async def all_rows(unit: UnitOfWork, spec: TableSpec[R], where: Mapping[str, Any] | None = None) -> list[R]:
    """Return every row of a table that `Table.select` finds, in the order of its key."""
    rows: list[R] = []
    while True:
        page = await unit.table(spec).select(where, order_by=spec.key, offset=len(rows))
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            return rows
