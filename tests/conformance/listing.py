"""The table of test cases that are driven: `python -m tests.conformance.listing` prints it for README.md."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Final

from tests.conformance.scenario import DRIVEN

HERE: Final = Path(__file__).parent


def table() -> str:
    """Return the table, in the order of the numbers."""
    for module in sorted(HERE.glob("test_ocpp*.py")):
        importlib.import_module(f"tests.conformance.{module.stem}")
    rows = [f"| {each.number} | {each.title} | `{each.test}` |" for _, each in sorted(DRIVEN.items())]
    return "\n".join(["| number | title | test |", "| --- | --- | --- |", *rows, ""])


if __name__ == "__main__":
    sys.stdout.write(table())
