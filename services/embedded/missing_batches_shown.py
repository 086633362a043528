"""Confidential batches that the chain has and a restored database has not, on a screen, and an operator's word."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from services.embedded.operator import call, in_path, print_answer

PATH: Final = "/settlement/internal/missing-batches"


def show_missing_batches(*, json: bool, run_folder: Path) -> int:
    """Print which batches are missing, which pairs each holds, and whose word let them go."""
    status, batches = call(run_folder, "GET", PATH)
    if status != httpx.codes.OK or json:
        return print_answer(status, batches)
    if not batches:
        Console().print("every confidential batch of the chain is here", markup=False)
        return 0
    table = Table(title="Confidential batches that stand on the chain and not here")
    for name in ("batch", "currency", "found", "pairs that may be in it", "they"):
        table.add_column(name, overflow="fold")
    for each in batches:
        row = (each["batch"], each["currency"], each["found_at"], ", ".join(each["pairs"]), _state(each["word"]))
        table.add_row(*row)
    Console().print(table)
    return 0


def give_word(*, batch: str, why: str, run_folder: Path) -> int:
    """Say that nothing that waits here, or will come in again, is in a batch."""
    body = {"who": getpass.getuser(), "why": why}
    return print_answer(*call(run_folder, "POST", f"{PATH}/{in_path(batch)}/word", body))


def _state(word: dict[str, Any] | None) -> str:
    return "wait for a word" if word is None else f"go on by the word of {word['who']}: {word['why']}"
