"""What an audit of a period says: figures by pair and stage, what makes a stage differ from the one before, and faults.

For people as text, for machines as JSON; the auditor's page (`page.py`) is made of the same.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from emobility.domain.money import decimal_from_e4
from services.audit.command import print_report
from services.audit.reconciliation import Gap, PairFigures, PairName, Reconciled
from services.audit.report import AuditReport
from services.audit.stages import FAULTS, STAGES, Amounts, Cause, Stage

NOBODY: Final = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodReport:
    """The figures of a period, and every rule that was tried.

    Attributes:
        not_looked_at: What this audit says nothing about, each in a sentence.
    """

    reconciled: Reconciled
    report: AuditReport
    not_looked_at: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        period = self.reconciled.period
        return {
            "period": {"from": period.since.isoformat(), "to": period.before.isoformat()},
            **self.report.as_json(),
            "pairs": [_pair_as_json(name, pair) for name, pair in self.reconciled.pairs.items()],
            "not_looked_at": list(self.not_looked_at),
        }


def _pair_as_json(name: PairName, pair: PairFigures) -> dict[str, Any]:
    cpo, msp, currency = name
    return {
        "cpo": cpo,
        "msp": msp or None,
        "currency": currency or None,
        "stages": {str(stage): _amounts_as_json(stage, amounts) for stage, amounts in pair.stages.items()},
        "gaps": [
            {
                "from": str(before),
                "to": str(stage),
                "cause": cause.name,
                "why": cause.value,
                "is_fault": cause in FAULTS,
                **_amounts_as_json(None, gap.amounts),
                "objects": [each for each in gap.objects if each],
                "more": gap.count - len(gap.objects),
            }
            for before, stage, cause, gap in gaps_of(pair)
        ],
    }


def gaps_of(pair: PairFigures) -> Iterator[tuple[Stage, Stage, Cause, Gap]]:
    """Yield what each stage lacks of the one before, in the order of stages; faults first."""
    for before, stage in pairwise(STAGES):
        found = [(cause, gap) for (at, cause), gap in pair.gaps.items() if at is stage]
        for cause, gap in sorted(found, key=lambda each: (each[0] not in FAULTS, each[0].name)):
            yield before, stage, cause, gap


def _amounts_as_json(stage: Stage | None, amounts: Amounts) -> dict[str, int]:
    if stage is Stage.METERED:
        return {"sessions": amounts.documents, "import_wh": amounts.import_wh, "export_wh": amounts.export_wh}
    return amounts._asdict()


def tell_period(found: PeriodReport, *, json: bool) -> int:
    """Print it; return 0 when every rule holds, 1 when not."""
    if json:
        Console(soft_wrap=True).print_json(json_module.dumps(found.as_json()))
    else:
        print_period(found, Console())
    return 0 if found.report.is_clean else 1


def print_period(found: PeriodReport, console: Console) -> None:
    """Print figures and gaps pair by pair, then the rules as every audit prints them, then what was not looked at."""
    period = found.reconciled.period
    console.print(f"charges that ended from {period.since:%Y-%m-%d %H:%M} to before {period.before:%Y-%m-%d %H:%M} UTC")
    for (cpo, msp, currency), pair in found.reconciled.pairs.items():
        table = Table(title=f"{cpo} to {msp or NOBODY}, {currency or 'no currency'}", title_justify="left")
        table.add_column("stage")
        for name in ("documents", "Wh", "Wh export", currency or "amount"):
            table.add_column(name, justify="right")
        for stage, amounts in pair.stages.items():
            money = "" if stage is Stage.METERED else money_of(amounts)
            table.add_row(
                str(stage), f"{amounts.documents:,}", f"{amounts.import_wh:,}", f"{amounts.export_wh:,}", money
            )
        console.print(table)
        for before, stage, cause, gap in gaps_of(pair):
            style = "red" if cause in FAULTS else "yellow"
            console.print(gap_sentence(before, stage, cause, gap, currency), style=style, markup=False, soft_wrap=True)
    print_report(found.report, console)
    for sentence in found.not_looked_at:
        console.print(f"not looked at: {sentence}", style="yellow", markup=False, soft_wrap=True)


def money_of(amounts: Amounts) -> str:
    """Return an amount as people write it, to the last ten-thousandth."""
    return f"{decimal_from_e4(amounts.net_e4):,.4f}"


def gap_sentence(before: Stage, stage: Stage, cause: Cause, gap: Gap, currency: str) -> str:
    """Say how much a stage lacks of the one before it, and why."""
    amounts = gap.amounts
    energy = f"{amounts.import_wh:,} Wh" + (f" and {amounts.export_wh:,} Wh export" if amounts.export_wh else "")
    money = "" if stage is Stage.CDR else f", {money_of(amounts)} {currency}"
    named = [each for each in gap.objects if each]
    more = f" and {gap.count - len(gap.objects):,} more" if gap.count > len(gap.objects) else ""
    whose = f": {', '.join(named)}{more}" if named else ""
    return f"{before} - {stage} = {energy}{money} ({gap.count:,}): {cause.value}{whose}"
