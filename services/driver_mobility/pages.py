"""Read every row of a question, however many pages of the table that takes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, TypeVar

from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec
from emobility.ports.unit_of_work import UnitOfWork

R = TypeVar("R")


async def every(unit: UnitOfWork, spec: TableSpec[R], where: Mapping[str, Any]) -> list[R]:
    """Return all rows that fit, by key; each page is read as it stands by then."""
    found: list[R] = []
    for offset in itertools.count(0, SELECT_ROWS_MAX):
        page = await unit.table(spec).select(where, offset=offset, limit=SELECT_ROWS_MAX)
        found += page
        if len(page) < SELECT_ROWS_MAX:
            return found
    raise AssertionError("a count has no end")
