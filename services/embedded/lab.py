"""`wattroam lab`: a month of a consortium and a street of stations, each settled on a chain and on a ledger, audited.

Everything is drawn from the seed and happens in this process, in virtual time, so a month takes seconds. The street is
the deterministic system: stations, drivers, disputes, a driver who is erased. The month is its partners': currencies,
modes, banks, and companies that make trouble. Of both the auditor's page is printed, once for each book.
"""

from __future__ import annotations

import json as json_module
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from emobility.adapters.memory import run_virtual
from emobility.domain.money import decimal_from_e4
from services.audit.audit import audit
from services.audit.command import print_report
from services.audit.period_report import print_period
from services.audit.report import AuditReport
from services.embedded.deterministic import MemoryRun, run_in_memory
from services.embedded.lab_month import DAYS, BookKind, MonthRun, played_month
from services.embedded.progress import Progress
from simulator.planning import plan_scenario

DIFFERS: Final = 1
ARRIVALS_PER_DAY: Final = 16
SHORT_DAYS: Final = 9
Told = Callable[[str, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Street:
    """What a run of the deterministic system leaves, with its audit."""

    run: MemoryRun
    report: AuditReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Laboratory:
    """All that was played; a short one has no street."""

    seed: int
    months: tuple[MonthRun, ...]
    streets: dict[BookKind, Street]

    @property
    def faults(self) -> Iterator[str]:
        """What a sound laboratory does not show."""
        for month in self.months:
            if not month.report.is_clean:
                yield f"the month on the {month.book}: {len(month.report.differences)} differences"
        for book, street in self.streets.items():
            if not street.report.is_clean:
                yield f"the street on the {book}: {len(street.report.differences)} differences"
            if street.run.reconciled is not None and not street.run.reconciled.report.is_clean:
                yield f"the street on the {book}: it does not reconcile"
            if street.run.receipts.issued != street.run.receipts.verified:
                yield f"the street on the {book}: of {street.run.receipts.issued} receipts not all hold"
        if len({tuple(month.final_e4.items()) for month in self.months}) > 1:
            yield "chain and ledger came to different amounts"

    def as_json(self) -> dict[str, Any]:
        """Return it for machines; amounts in ten-thousandths."""
        return {
            "seed": self.seed,
            "months": [_month_json(month) for month in self.months],
            "streets": {
                book.value: {
                    "receipts": {"issued": street.run.receipts.issued, "verified": street.run.receipts.verified},
                    "erased": [each.code for each in street.run.erased],
                    "audit": street.report.as_json(),
                    "reconciled": None if street.run.reconciled is None else street.run.reconciled.as_json(),
                }
                for book, street in self.streets.items()
            },
            "faults": list(self.faults),
        }


def run_lab(*, seed: int, short: bool, json: bool) -> int:
    """Play and print; return 0 when every equation holds on both, else 1."""
    began = time.monotonic()
    with Progress() as progress:
        laboratory = played(seed, short=short, progress=progress.tell)
    duration_s = round(time.monotonic() - began, 1)
    if json:
        sys.stdout.write(json_module.dumps(laboratory.as_json() | {"duration_s": duration_s}, indent=1) + "\n")
    else:
        _print(laboratory, Console())
        sys.stdout.write(f"{duration_s} s\n")
    for fault in laboratory.faults:
        sys.stderr.write(f"{fault}\n")
    return DIFFERS if any(laboratory.faults) else 0


def played(seed: int, *, short: bool, progress: Told = lambda _sentence, _permille: None) -> Laboratory:
    """Play everything of a seed on both books; short: nine days, and no street."""
    days = SHORT_DAYS if short else DAYS
    months = tuple(run_virtual(played_month(seed, book, days=days, progress=progress)) for book in BookKind)
    streets = {} if short else {book: _street(seed, book, progress) for book in BookKind}
    return Laboratory(seed=seed, months=months, streets=streets)


def _street(seed: int, book: BookKind, progress: Told) -> Street:
    scenario = plan_scenario(seed, arrivals_per_day=ARRIVALS_PER_DAY)
    run = run_in_memory(seed, progress=progress, scenario=scenario, settles_on=book.value, erases=True)
    return Street(run=run, report=audit(run.books, run.report.truth.as_json(), sight=run.sight))


def _print(laboratory: Laboratory, console: Console) -> None:
    for month in laboratory.months:
        _print_month(month, console)
    for book, street in laboratory.streets.items():
        console.rule(f"the street on the {book}", align="left")
        receipts, erased = street.run.receipts, ", ".join(each.code for each in street.run.erased)
        console.print(
            f"{receipts.verified} of {receipts.issued} receipts hold; then a driver of each of {erased} is erased"
        )
        print_report(street.report, console)
        if street.run.reconciled is not None:
            print_period(street.run.reconciled, console)


def _print_month(month: MonthRun, console: Console) -> None:
    console.rule(f"the month on the {month.book}", align="left")
    unit = "entries" if month.book is BookKind.LEDGER else "blocks"
    signed = "" if month.countersigned is None else f", the newest countersigned by {month.countersigned} companies"
    states = ", ".join(f"{count} {state.value}" for state, count in month.statements.items())
    console.print(
        f"{month.sessions:,} charges; statements: {states}; {month.entries:,} {unit}{signed}", highlight=False
    )
    for currency, net_e4 in month.final_e4.items():
        console.print(f"  final: {decimal_from_e4(net_e4):>16,.4f} {currency}", highlight=False)
    table = Table(title="what befell it", title_justify="left")
    for heading in ("at", "what", "outcome"):
        table.add_column(heading, overflow="fold")
    for each in month.happened:
        table.add_row(f"{each.at:%d %b}", each.what, each.outcome)
    console.print(table)
    print_report(month.report, console)


def _month_json(month: MonthRun) -> dict[str, Any]:
    return {
        "book": month.book.value,
        "sessions": month.sessions,
        "statements": {state.value: count for state, count in month.statements.items()},
        "final_e4": month.final_e4,
        "happened": [
            {"at": each.at.isoformat(), "what": each.what, "outcome": each.outcome} for each in month.happened
        ],
        "entries": month.entries,
        "head": month.head.hex(),
        "countersigned": month.countersigned,
        "audit": month.report.as_json(),
    }
