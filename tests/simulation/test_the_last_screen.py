"""The demo's last screen: everything on one terminal of 100 by 45, its figures those of the books."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from services.audit.audit import audit
from services.audit.figures import figures_of
from services.audit.report import AuditReport, Check, Difference
from services.embedded.screen import settlement_lines, show
from tests.journeys.runs import full_memory_run

pytestmark = pytest.mark.timeout(900)
WIDTH, HEIGHT = 100, 45


def shown(report: AuditReport | None = None) -> str:
    run = full_memory_run()
    told = io.StringIO()
    audited = report or audit(run.books, run.report.truth.as_json())
    console = Console(file=told, width=WIDTH)
    show(
        console,
        figures_of(run.books),
        audited,
        settled=run.settled,
        settlement=settlement_lines(run.settled, run.receipts),
        simulated=run.report.figures(),
        duration_s=41.2,
    )
    return told.getvalue()


def test_it_fits_one_terminal() -> None:
    lines = shown().splitlines()

    assert len(lines) <= HEIGHT
    assert max(len(line) for line in lines) <= WIDTH
    assert not [line for line in lines if "…" in line]


def test_it_names_everybody_and_what_went_wrong() -> None:
    screen = shown()

    for words in ("NL-TUL", "NL-POL", "NL-ZON", "DE-RHN", "SIGNATURE_INVALID 1", "METER_SIGNATURE_INVALID 1"):
        assert words in screen
    assert f"{figures_of(full_memory_run().books).metered_wh:,}" in screen
    assert "every equation holds" in screen


def test_a_difference_is_told_with_its_rule_place_amounts_and_cause() -> None:
    broken = Difference(
        rule="energy is conserved", scope="NL-TUL/TUL-001/7", expected=10, found=9, unit="Wh", cause="a Wh is missing"
    )
    report = AuditReport(checks=(Check(rule=broken.rule, compared=1, differences=(broken, replace(broken, found=8))),))

    screen = " ".join(shown(report).split())

    assert "2 differences" in screen
    assert "energy is conserved: NL-TUL/TUL-001/7: expected 10, found 9 Wh: a Wh is missing" in screen
