"""A demo ends with 0 only if everything holds and everything is settled or waits for something that has a name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from services.audit.audit import audit
from services.audit.report import AuditReport, Check, Difference, Waiting
from services.embedded.concluding import Conclusion
from services.embedded.receipts import ReceiptFigures
from services.settlement.ledger import SettlementLedger
from tests.journeys.runs import SEED, SMALL, memory_runs

pytestmark = pytest.mark.timeout(900)


def ended(
    *,
    report: AuditReport | None = None,
    settled: SettlementLedger | None = None,
    receipts: ReceiptFigures | None = None,
) -> int:
    """Tell how a small run ended, but for what is given; return the exit code."""
    (run,) = memory_runs(SEED, SMALL)
    conclusion = Conclusion(
        run.books,
        report or sound(),
        run.report.figures(),
        settled or run.settled,
        receipts or run.receipts,
        event_log="memory",
    )
    return conclusion.tell(json=True, duration_s=1.0)


def sound() -> AuditReport:
    (run,) = memory_runs(SEED, SMALL)
    return audit(run.books, run.report.truth.as_json(), sight=run.sight)


def less_settled(by_wh: int) -> SettlementLedger:
    (run,) = memory_runs(SEED, SMALL)
    first, *rest = run.settled.pairs
    return replace(run.settled, pairs=(replace(first, final_wh=first.final_wh - by_wh), *rest))


def test_a_sound_run_ends_with_0_and_complains_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = ended()

    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    assert json.loads(told.out)["audit"]["full"]


def test_energy_that_is_neither_settled_nor_waiting_ends_it_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    code = ended(settled=less_settled(5))

    assert code == 1
    assert " Wh are settled and 0 Wh wait with a reason" in capsys.readouterr().err


def test_energy_that_waits_with_a_reason_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = Waiting(reason="cover: the payer's is short", currency="EUR", cdrs=1, energy_wh=5, net_e4=1)

    code = ended(settled=less_settled(5), report=replace(sound(), waiting=(waiting,)))

    assert (code, capsys.readouterr().err) == (0, "")


def test_nets_that_do_not_add_up_end_it_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = memory_runs(SEED, SMALL)
    first, *rest = run.settled.parties
    parties = (replace(first, net_e4=first.net_e4 + 1), *rest)

    code = ended(settled=replace(run.settled, parties=parties))

    assert (code, capsys.readouterr().err) == (1, "what parties get and give comes to 0.0001 EUR, not to nothing\n")


def test_a_difference_and_a_receipt_that_does_not_hold_end_it_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    difference = Difference(rule="r", scope="s", expected=1, found=0, unit="u", cause="c")
    report = replace(sound(), checks=(Check(rule="r", compared=1, differences=(difference,)),))

    (run,) = memory_runs(SEED, SMALL)
    issued = run.receipts.issued

    code = ended(report=report, receipts=ReceiptFigures(issued=issued, verified=issued - 1))

    assert code == 1
    assert capsys.readouterr().err == f"the audit found 1 difference\nof {issued} receipts only {issued - 1} hold\n"


def test_a_final_cdr_without_a_receipt_ends_it_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = memory_runs(SEED, SMALL)
    issued = run.receipts.issued

    code = ended(receipts=ReceiptFigures(issued=issued - 1, verified=issued - 1))

    assert code == 1
    assert capsys.readouterr().err == f"{issued} CDRs are final and {issued - 1} receipts were issued\n"
