"""The CSV files of `simulator/data`, read as exact numbers."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """Return the rows of a file as text by column."""
    with resources.files("simulator").joinpath("data", name).open(encoding="utf-8") as file:
        return tuple(csv.DictReader(file))
