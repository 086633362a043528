"""A party's disputes over CDRs of final statements, on a screen: what it must answer first."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from services.embedded.operator import call, in_path, print_answer
from services.embedded.screen import money

NOTHING: Final = "-"


def show_disputes(*, party: str, json: bool, run_folder: Path) -> int:
    """Print a party's disputes; those that wait for it come first, the nearest deadline on top."""
    status, disputes = call(run_folder, "GET", f"/settlement/{in_path(party)}/disputes")
    if status != httpx.codes.OK or json:
        return print_answer(status, disputes)
    if not disputes:
        Console().print(f"{party} has no disputes", markup=False)
        return 0
    own = [each for each in disputes if each["turn_of"] == party]
    table = Table(title=f"Disputes of {party}: {len(own)} wait for its answer")
    for name in ("kind", "CDR", "raised by", "state", "stated", "claimed", "turn of", "until", "case"):
        table.add_column(name, justify="right" if name in {"stated", "claimed"} else "left", overflow="fold")
    others = [each for each in disputes if each["turn_of"] != party]
    for each in sorted(own, key=lambda dispute: str(dispute["deadline"])) + others:
        table.add_row(
            each["kind"],
            each["cdr"] or "not in these books",
            each["raised_by"] or "a proof",
            each["state"],
            _amount(each["stated_e4"], each["currency"]),
            _amount(each["claimed_e4"], each["currency"]),
            each["turn_of"] or NOTHING,
            _moment(each["deadline"]),
            each["case"],
        )
    Console().print(table)
    return 0


def _amount(amount_e4: int | None, currency: str) -> str:
    return NOTHING if amount_e4 is None else money(amount_e4, currency)


def _moment(text: Any) -> str:
    return NOTHING if text is None else f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
