"""`wattroam audit`: opens the database of an installation, audits it, prints what it found."""

from __future__ import annotations

import json as json_module
from typing import Any

from rich.console import Console
from rich.table import Table

from emobility.adapters.postgres import DatabaseUnavailable
from emobility.runtime.settings import Settings
from emobility.wiring import DatabaseNotNamed, open_ports
from services.audit.audit import audit
from services.audit.books import gather_books
from services.audit.report import AuditReport


async def run_audit(settings: Settings, *, json: bool, truth: dict[str, Any] | None) -> int:
    """Print the report; return 0 when every rule holds, 1 when not, 2 when the data can't be read."""
    try:
        async with open_ports(settings) as ports:
            report = audit(await gather_books(ports.units, ports.event_log), truth)
    except (DatabaseUnavailable, DatabaseNotNamed) as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return 2
    if json:
        Console(soft_wrap=True).print_json(json_module.dumps(report.as_json()))
    else:
        print_report(report, Console())
    return 0 if report.is_clean else 1


def print_report(report: AuditReport, console: Console) -> None:
    """Print the checks and, below them, every difference."""
    table = Table(title="audit", title_justify="left")
    table.add_column("rule")
    table.add_column("compared", justify="right")
    table.add_column("differences", justify="right")
    for check in report.checks:
        count = len(check.differences)
        table.add_row(check.rule, f"{check.compared:,}", f"[red]{count}[/red]" if count else "0")
    console.print(table)
    for each in report.differences:
        amounts = f"expected {each.expected:,}, found {each.found:,} {each.unit}"
        console.print(f"{each.rule}: {each.scope}: {amounts}: {each.cause}", style="red", markup=False)
