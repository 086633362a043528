"""Reads whole tables."""

from __future__ import annotations

from typing import TypeVar

from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec
from emobility.ports.unit_of_work import UnitOfWork

R = TypeVar("R")


async def all_rows(unit: UnitOfWork, spec: TableSpec[R]) -> list[R]:
    """Return every row of a table, in the order of its key."""
    rows: list[R] = []
    while True:
        page = await unit.table(spec).select(order_by=spec.key, offset=len(rows))
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            return rows
