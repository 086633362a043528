"""What an operator does from the command line, through the running installation's own API."""

from __future__ import annotations

import getpass
import json as json_module
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from services.embedded.run_folder import Installation, NothingHere

TIMEOUT_S: Final = 30.0
REFUSED: Final = 1
NOT_RUNNING: Final = 2


def list_quarantine(*, party: str, json: bool, run_folder: Path) -> int:
    """Print a CPO's quarantined sessions."""
    status, rows = _call(run_folder, "GET", f"/operations/{party}/quarantine")
    if status != httpx.codes.OK or json:
        return _print_answer(status, rows)
    table = Table(title=f"quarantine of {party}")
    for name in ("id", "state", "Wh", "reasons", "details"):
        table.add_column(name, justify="right" if name == "Wh" else "left")
    for row in rows:
        table.add_row(
            row["quarantine_id"],
            row["state"],
            f"{row['energy_import_wh']:,}",
            ", ".join(row["reasons"]),
            "; ".join(row["details"]),
        )
    Console().print(table)
    return 0


def resolve_quarantine(
    *, party: str, quarantine_id: str, outcome: str, why: str, proven_wh: int | None, run_folder: Path
) -> int:
    """Decide on quarantined energy; print what was decided."""
    decision = {"outcome": outcome, "who": getpass.getuser(), "why": why, "proven_import_wh": proven_wh}
    return _print_answer(
        *_call(run_folder, "POST", f"/operations/{party}/quarantine/{quarantine_id}/resolve", decision)
    )


def list_parked(*, group: str, json: bool, run_folder: Path) -> int:
    """Print a consumer group's dead letters."""
    status, rows = _call(run_folder, "GET", f"/internal/parked/{group}")
    if status != httpx.codes.OK or json:
        return _print_answer(status, rows)
    table = Table(title=f"parked events of {group}")
    for name in ("topic", "partition", "offset", "key", "event", "reason"):
        table.add_column(name)
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("topic", "partition", "offset", "key", "event", "reason")))
    Console().print(table)
    return 0


def replay_parked(*, group: str, key: str, run_folder: Path) -> int:
    """Hand a key's dead letters on again."""
    return _print_answer(*_call(run_folder, "POST", f"/internal/parked/{group}/replay", {"key": key}))


def _call(run_folder: Path, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    try:
        installation = Installation.open(run_folder)
        answer = httpx.request(
            method,
            f"{installation.business_url}{path}",
            json=body,
            headers={"authorization": f"Bearer {installation.internal_token}"},
            timeout=TIMEOUT_S,
            trust_env=False,
        )
    except NothingHere as nothing:
        return 0, {"error": str(nothing)}
    except httpx.TransportError as error:
        return 0, {"error": f"nothing answers at {installation.business_url} ({error}); start it with `wattroam up`"}
    try:
        return answer.status_code, answer.json()
    except ValueError:
        return answer.status_code, {"error": answer.text[:500]}


def _print_answer(status: int, answer: Any) -> int:
    if httpx.codes.is_success(status):
        Console(soft_wrap=True).print_json(json_module.dumps(answer))
        return 0
    Console(stderr=True, soft_wrap=True).print(
        answer.get("error", str(answer)) if isinstance(answer, dict) else str(answer), style="red", markup=False
    )
    return REFUSED if status else NOT_RUNNING
