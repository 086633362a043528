"""The page of bounds says what the code does."""

from __future__ import annotations

import dataclasses
import importlib
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "know-the-gateways-bounds.md"
ROW: Final = re.compile(r"^\| `([a-z_]+)\.([A-Za-z_.]+)` \| ([0-9.]+) \|", re.MULTILINE)


def value_of(module: str, name: str) -> Any:
    """Return a constant, or the default of a dataclass's field."""
    owner: Any = importlib.import_module(f"charge_point_gateway.{module}")
    first, _, field = name.partition(".")
    if not field:
        return getattr(owner, first)
    return {each.name: each.default for each in dataclasses.fields(getattr(owner, first))}[field]


def test_each_bound_on_the_page_is_the_one_in_the_code() -> None:
    rows = ROW.findall(PAGE.read_text())

    told = {f"{module}.{name}": Decimal(value) for module, name, value in rows}
    assert told == {f"{module}.{name}": Decimal(str(value_of(module, name))) for module, name, _ in rows}
    assert len(told) == len(rows) > 40


def test_each_limit_of_a_connection_and_each_rate_is_on_the_page() -> None:
    named = {f"{module}.{name}" for module, name, _ in ROW.findall(PAGE.read_text())}

    for module, record in (("connection", "Limits"), ("admission", "AdmissionRates")):
        fields = dataclasses.fields(getattr(importlib.import_module(f"charge_point_gateway.{module}"), record))
        assert {f"{module}.{record}.{each.name}" for each in fields} <= named
