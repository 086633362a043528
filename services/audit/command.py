"""`wattroam audit`: opens the database of an installation, audits it, prints what it found."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from emobility.domain.errors import MalformedInput
from emobility.runtime.settings import Settings
from emobility.wiring import open_ports
from services.audit.audit import audit
from services.audit.books import gather_books
from services.audit.handling import place_of
from services.audit.report import AuditReport


class NotATruth(MalformedInput):
    """A file is not what the simulator writes about a run."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is not what a simulator knows of a run: {why}")


def read_truth(file: Path) -> dict[str, Any]:
    """Read what a simulator wrote (`simulator.truth.Truth`). Raises `NotATruth`."""
    try:
        known = json_module.loads(file.read_text())
    except OSError as error:
        raise NotATruth(file, error.strerror or "it can't be read") from error
    except ValueError as error:
        raise NotATruth(file, str(error)) from error
    if not isinstance(known, dict) or not {"acknowledged", "transactions"} <= known.keys():
        raise NotATruth(file, "it names no acknowledged messages and no transactions")
    return known


async def run_audit(settings: Settings, *, json: bool, truth: dict[str, Any] | None) -> int:
    """Print the report; return 0 when every rule holds, 1 when not.

    Raises:
        DatabaseUnavailable: the data can't be read.
        DatabaseNotNamed: nobody said where they are.
    """
    async with open_ports(settings) as ports:
        report = audit(await gather_books(ports.units, ports.event_log), truth)
    if json:
        Console(soft_wrap=True).print_json(json_module.dumps(report.as_json()))
    else:
        print_report(report, Console())
    return 0 if report.is_clean else 1


def print_report(report: AuditReport, console: Console) -> None:
    """Print the checks and, below them, what they could not compare, what was discarded and every difference."""
    table = Table(title="audit", title_justify="left")
    table.add_column("rule")
    table.add_column("compared", justify="right")
    table.add_column("unknown", justify="right")
    table.add_column("differences", justify="right")
    for check in report.checks:
        count = len(check.differences)
        unknown = f"[yellow]{check.unknown:,}[/yellow]" if check.unknown else "0"
        table.add_row(check.rule, f"{check.compared:,}", unknown, f"[red]{count}[/red]" if count else "0")
    console.print(table)
    for sentence in _caveats(report):
        console.print(sentence, style="yellow", markup=False)
    for each in report.differences:
        amounts = f"expected {each.expected:,}, found {each.found:,} {each.unit}"
        console.print(f"{each.rule}: {each.scope}: {amounts}: {each.cause}", style="red", markup=False)


def _caveats(report: AuditReport) -> Iterator[str]:
    """Say what the log can't tell any more, which rules are only partial for it, and what was discarded."""
    for gone in report.pruned:
        yield f"pruned: {gone.topic}/{gone.partition} offsets 0 to {gone.events - 1:,}"
    for check in report.checks:
        if check.unknown:
            of_all = f"{check.unknown:,} of {check.compared + check.unknown:,}"
            yield f"partial: {check.rule}: {of_all} can't be recomputed from what the log still holds"
    for each in report.discarded:
        which, when = f"{each.parked.group} {place_of(each.parked.logged)}", f"{each.discarded_at:%Y-%m-%d %H:%M} UTC"
        yield f"discarded: {which} ({each.parked.reason}) by {each.who}, {when}: {each.why}"
