"""The auditor's page: the report of a period as one HTML file that needs no other and runs no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from emobility.runtime.html_pages import templates_in
from services.audit.command import verdict
from services.audit.period_report import NOBODY, PeriodReport, gap_sentence, gaps_of, money_of
from services.audit.reconciliation import PairFigures, PairName
from services.audit.stages import FAULTS, Stage

_TEMPLATE: Final = templates_in(Path(__file__).parent / "templates").get_template("period.html")


def page_of(found: PeriodReport) -> str:
    """Return the page."""
    period = found.reconciled.period
    return _TEMPLATE.render(
        since=f"{period.since:%Y-%m-%d %H:%M}",
        before=f"{period.before:%Y-%m-%d %H:%M}",
        report=found.report,
        verdict=verdict(found.report),
        pairs=[_pair(name, pair) for name, pair in found.reconciled.pairs.items()],
        not_looked_at=found.not_looked_at,
    )


def _pair(name: PairName, pair: PairFigures) -> dict[str, Any]:
    cpo, msp, currency = name
    return {
        "cpo": cpo,
        "msp": msp or NOBODY,
        "currency": currency or "no currency",
        "rows": [
            {
                "stage": str(stage),
                "documents": f"{amounts.documents:,}",
                "import_wh": f"{amounts.import_wh:,}",
                "export_wh": f"{amounts.export_wh:,}",
                "money": "" if stage is Stage.METERED else money_of(amounts),
            }
            for stage, amounts in pair.stages.items()
        ],
        "gaps": [
            {"sentence": gap_sentence(before, stage, cause, gap, currency), "is_fault": cause in FAULTS}
            for before, stage, cause, gap in gaps_of(pair)
        ],
    }
