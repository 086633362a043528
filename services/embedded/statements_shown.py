"""A party's statements on a screen: what each comes to, and how far it is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import httpx
from rich.console import Console
from rich.table import Table

from services.embedded.operator import call, in_path, print_answer
from services.embedded.screen import money

NUMBERS: Final = frozenset({"no.", "CDRs", "due", "credit", "net"})


def show_statements(*, party: str, json: bool, run_folder: Path) -> int:
    """Print a party's statements as the settlement lists them."""
    status, statements = call(run_folder, "GET", f"/settlement/{in_path(party)}/statements")
    if status != httpx.codes.OK or json:
        return print_answer(status, statements)
    if not statements:
        Console(soft_wrap=True).print(f"{party} has no statement here", markup=False)
        return 0
    table = Table(title=f"Statements of {party}")
    for name in ("CPO", "MSP", "agreement", "no.", "until, UTC", "CDRs", "due", "credit", "net", "state", "statement"):
        table.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold")
    for each in statements:
        waits_for = f": {each['waits_for']}" if each["waits_for"] else ""
        table.add_row(
            each["cpo"],
            each["emsp"],
            f"{each['agreement']} v{each['version']}",
            str(each["sequence"]),
            f"{datetime.fromisoformat(each['period_end']):%Y-%m-%d %H:%M}",
            str(each["count"]),
            *(money(each[name], each["currency"]) for name in ("due_e4", "credit_e4", "net_e4")),
            f"{each['state']}{waits_for}",
            each["statement"],
        )
    Console().print(table)
    return 0
