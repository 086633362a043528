"""`wattroam audit`: what it is told and how it prints what was found."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from emobility.domain.errors import MalformedInput
from emobility.domain.money import decimal_from_e4
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


def tell(report: AuditReport, *, json: bool) -> int:
    """Print the report; return 0 when every rule holds, 1 when not."""
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
    console.print(verdict(report), markup=False, highlight=False)
    for sentence in _caveats(report):
        console.print(sentence, style="yellow", markup=False)
    for each in report.differences:
        amounts = f"expected {each.expected:,}, found {each.found:,} {each.unit}"
        console.print(f"{each.rule}: {each.scope}: {amounts}: {each.cause}", style="red", markup=False)


def verdict(report: AuditReport) -> str:
    """Say in one sentence how it ended."""
    compared = sum(check.compared for check in report.checks)
    count = len(report.differences)
    if count:
        return f"{count:,} difference{'' if count == 1 else 's'}"
    if not compared:
        return "there is nothing to compare yet"
    reach = "the chain included" if report.why_quick is None else "the chain not looked at"
    return f"every equation holds ({len(report.checks)} rules, {compared:,} comparisons), {reach}"


def _caveats(report: AuditReport) -> Iterator[str]:
    """Say why it is a quick one, what waits, what the log can't tell any more, and what was discarded."""
    if report.why_quick is not None:
        yield f"quick: neither signatures nor the chain were looked at: {report.why_quick}"
    for each in report.waiting:
        amount = f"{each.energy_wh:,} Wh, {decimal_from_e4(each.net_e4):,.4f} {each.currency}"
        yield f"not settled yet: {each.cdrs:,} CDRs, {amount}: {each.reason}"
    for gone in report.pruned:
        yield f"pruned: {gone.topic}/{gone.partition} offsets 0 to {gone.events - 1:,}"
    for check in report.checks:
        if check.unknown:
            of_all = f"{check.unknown:,} of {check.compared + check.unknown:,}"
            yield f"partial: {check.rule}: {of_all} can't be recomputed from what there is"
    for dead in report.discarded:
        which, when = f"{dead.parked.group} {place_of(dead.parked.logged)}", f"{dead.discarded_at:%Y-%m-%d %H:%M} UTC"
        yield f"discarded: {which} ({dead.parked.reason}) by {dead.who}, {when}: {dead.why}"
