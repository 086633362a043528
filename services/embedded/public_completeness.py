"""The completeness report of a CPO's public data, on a screen."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import httpx
from rich.console import Console
from rich.table import Table

from services.embedded.operator import call, in_path, print_answer

NAMED_MAX: Final = 3
"""Objects named per field on the screen; `--json` has more."""


def show_completeness(*, party: str, json: bool, run_folder: Path) -> int:
    """Print the report of a CPO."""
    status, report = call(run_folder, "GET", f"/operations/{in_path(party)}/afir")
    if status != httpx.codes.OK or json:
        return print_answer(status, report)
    counted = f"{report['locations']} locations, {report['evses']} EVSEs, {report['connectors']} connectors"
    table = Table(title=f"AFIR, {party}: {counted}, {report['hidden']} not public")
    for name in ("field", "of", "in OCPI", "present", "missing at"):
        table.add_column(name, justify="right" if name == "present" else "left", overflow="fold")
    for each in report["fields"]:
        missing = each["missing"]
        more = each["total"] - each["present"] - len(missing[:NAMED_MAX])
        table.add_row(
            each["field"]["name"],
            each["field"]["level"],
            each["field"]["ocpi"],
            f"{each['present']}/{each['total']}",
            ", ".join(missing[:NAMED_MAX]) + (f" and {more} more" if more > 0 else ""),
        )
    Console().print(table)
    return 0
