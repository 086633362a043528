"""What an operator does from the command line, through the running installation's own API."""

from __future__ import annotations

import getpass
import json as json_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx
from rich.console import Console
from rich.table import Table

from services.embedded.run_folder import Installation, NothingHere

TIMEOUT_S: Final = 30.0
IMPORT_TIMEOUT_S: Final = 600.0
REFUSED: Final = 1
NOT_RUNNING: Final = 2
SETTLEMENT: Final = "/settlement/"
"""Paths of the settlement, which is a process of its own."""


def list_quarantine(*, party: str, json: bool, run_folder: Path) -> int:
    """Print a CPO's quarantined sessions."""
    status, rows = call(run_folder, "GET", f"/operations/{in_path(party)}/quarantine")
    if rows == [] and call(run_folder, "GET", f"/operations/{in_path(party)}/locations")[1] == []:
        return print_answer(httpx.codes.NOT_FOUND, {"error": f"{party} is no CPO with stations here"})
    if status != httpx.codes.OK or json:
        return print_answer(status, rows)
    table = Table(title=f"quarantine of {party}")
    for name in ("id", "state", "Wh", "reasons", "details"):
        # The id is there to be copied: it is never cut.
        table.add_column(name, justify="right" if name == "Wh" else "left", no_wrap=name == "id", overflow="fold")
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
    return print_answer(
        *call(
            run_folder,
            "POST",
            f"/operations/{in_path(party)}/quarantine/{in_path(quarantine_id)}/resolve",
            decision,
        )
    )


def show_timeline(
    *,
    party: str,
    station: str,
    transaction: str | None,
    since: str | None,
    until: str | None,
    json: bool,
    run_folder: Path,
) -> int:
    """Print why a charge failed: the verdict, then everything in order."""
    base = f"/operations/{in_path(party)}"
    if transaction is None:
        times = {name: value for name, value in (("from", since), ("to", until)) if value is not None}
        path = f"{base}/stations/{in_path(station)}/timeline?{urlencode(times)}"
    else:
        path = f"{base}/transactions/{in_path(station)}/{in_path(transaction)}/timeline"
    status, timeline = call(run_folder, "GET", path)
    if status != httpx.codes.OK or json:
        return print_answer(status, timeline)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{timeline['outcome']}: {timeline['verdict']}", style="bold", markup=False)
    for entry in timeline["entries"]:
        console.print(f"{entry['at']:<27}  {entry['kind']:<13}  {entry['why']}", markup=False)
    if timeline["is_cut"]:
        console.print("there is more than is shown: ask for a shorter time", markup=False)
    return 0


def import_file(*, party: str, what: str, file: Path, query: dict[str, str], json: bool, run_folder: Path) -> int:
    """Enter what a file holds; print what was taken and, line by line, what was refused."""
    path = f"/operations/{in_path(party)}/imports/{what}?{urlencode(query)}"
    try:
        content = file.read_bytes()
    except OSError as error:
        return print_answer(0, {"error": f"can't read {file}: {error.strerror}"})
    status, report = call(run_folder, "POST", path, content, timeout_s=IMPORT_TIMEOUT_S)
    if status != httpx.codes.OK or json:
        return print_answer(status, report) or (REFUSED if status == httpx.codes.OK and report["refused_count"] else 0)
    console = Console(soft_wrap=True, highlight=False)
    would = "would be " if report["is_dry_run"] else ""
    counts = f"{report['taken']} {would}taken, {report['unchanged']} unchanged, {report['refused_count']} refused"
    console.print(counts, style="bold", markup=False)
    for row in report["refused"]:
        console.print(f"line {row['line']}: {row['row']}: {row['why']}", markup=False)
    if report["ignored_columns"]:
        console.print(f"columns not taken: {', '.join(report['ignored_columns'])}", markup=False)
    if report["without_credential"]:
        console.print(f"no password yet: {', '.join(report['without_credential'])}", markup=False)
    return REFUSED if report["refused_count"] else 0


def call(
    run_folder: Path, method: str, path: str, body: Any = None, *, timeout_s: float = TIMEOUT_S
) -> tuple[int, Any]:
    """Call the running installation; see `call_at`."""
    try:
        installation = Installation.open(run_folder)
    except NothingHere as nothing:
        return 0, {"error": str(nothing)}
    origin = installation.settlement_url if path.startswith(SETTLEMENT) else installation.business_url
    start = f"start it with `wattroam up --run-folder {run_folder}`, or name the folder of one that serves"
    token = installation.internal_token
    return call_at(origin, token, method, path, body, otherwise=start, timeout_s=timeout_s)


def call_at(
    origin: str,
    token: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    otherwise: str,
    timeout_s: float = TIMEOUT_S,
) -> tuple[int, Any]:
    """Call a process of ours; a body of bytes goes as it is, any other as JSON.

    An answer is JSON, a text, or of a PDF its bytes; its status is 0 where nothing answers, and says what to do
    `otherwise`.
    """
    content: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    try:
        answer = httpx.request(
            method,
            f"{origin}{path}",
            headers={"authorization": f"Bearer {token}"},
            timeout=timeout_s,
            trust_env=False,
            **content,
        )
    except httpx.TransportError as error:
        return 0, {"error": f"nothing answers at {origin} ({error}); {otherwise}"}
    kind = answer.headers.get("content-type", "")
    if httpx.codes.is_success(answer.status_code) and "json" not in kind:
        return answer.status_code, answer.content if kind == "application/pdf" else answer.text
    try:
        return answer.status_code, answer.json()
    except ValueError:
        return answer.status_code, {"error": answer.text[:500]}


def print_answer(status: int, answer: Any) -> int:
    """Print what the API answered, and return the exit code."""
    if httpx.codes.is_success(status):
        Console(soft_wrap=True).print_json(json_module.dumps(answer))
        return 0
    Console(stderr=True, soft_wrap=True).print(_sentence(answer), style="red", markup=False)
    return REFUSED if status else NOT_RUNNING


def _sentence(answer: Any) -> str:
    """Return a refusal as one line: the error's name and, where the API gives one, its sentence."""
    if not isinstance(answer, dict):
        return str(answer)
    detail = answer.get("detail")
    error = answer.get("error", detail if detail is not None else str(answer))
    sentence = f"{error}: {detail}" if detail is not None and error != detail else str(error)
    return " ".join(sentence.split())


def in_path(text: str) -> str:
    """Return what somebody typed as one segment of a path, whatever it holds."""
    return quote(text, safe="")
