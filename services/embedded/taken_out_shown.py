"""What verdicts took out of a party's statements, on a screen, and whose word it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from services.embedded.operator import call, in_path, print_answer
from services.embedded.screen import money

NOTHING: Final = "-"
VOID: Final = "VOID"


def show_taken_out(*, party: str, json: bool, run_folder: Path) -> int:
    """Print the statements of a party that wait for a word, and the CDRs that no statement takes."""
    path = f"/settlement/{in_path(party)}"
    status, statements = call(run_folder, "GET", f"{path}/statements")
    if status != httpx.codes.OK:
        return print_answer(status, statements)
    status, cdrs = call(run_folder, "GET", f"{path}/held-cdrs")
    if status != httpx.codes.OK:
        return print_answer(status, cdrs)
    void = [each for each in statements if each["state"] == VOID]
    if json:
        return print_answer(status, {"statements": void, "cdrs": cdrs})
    if not void and not cdrs:
        Console().print(f"no verdict took anything out of the statements of {party}", markup=False)
        return 0
    table = Table(title=f"Taken out of the statements of {party}")
    for name in ("what", "proven", "net", "waits for", "statement"):
        table.add_column(name, justify="right" if name == "net" else "left", overflow="fold")
    for each in void:
        row = (f"statement {each['sequence']}", NOTHING, _net(each), each["waits_for"] or NOTHING, each["statement"])
        table.add_row(*row)
    for each in cdrs:
        waits_for = each["waits_for"] or f"nothing: {_end_of(each)}"
        table.add_row(f"CDR {each['cdr']}", each["kind"] or NOTHING, _net(each), waits_for, each["statement"])
    Console().print(table)
    return 0


def _net(row: dict[str, Any]) -> str:
    return money(row["due_e4"] - row["credit_e4"], row["currency"])


def _end_of(cdr: dict[str, Any]) -> str:
    return f"{cdr['credited_by']} takes it back" if cdr["credited_by"] else "it counts elsewhere"
