"""One seed, memory adapters and a virtual clock: the same event log byte for byte, wherever it is played."""

from __future__ import annotations

import pytest

from services.audit.audit import audit
from services.audit.figures import figures_of
from tests.journeys.per_session import session_lines
from tests.journeys.runs import NEVER_NEEDED, SEED, SMALL, full_memory_run, memory_runs, twin_runs

pytestmark = [pytest.mark.timeout(900), pytest.mark.deeper]


def test_the_demo_played_twice_in_processes_that_hash_differently_gives_the_same_event_log() -> None:
    first, second = twin_runs()

    assert len(first.log) > 100_000
    assert first.log == second.log


def test_everything_a_run_stores_is_the_same_the_second_time() -> None:
    first, second = twin_runs()

    assert session_lines(first.books) == session_lines(second.books)
    assert first.report.truth.as_json() == second.report.truth.as_json()
    assert first.report.figures() == second.report.figures()


def test_both_settle_the_same_to_the_last_root_and_every_receipt_holds() -> None:
    first, second = twin_runs()

    assert first.settled == second.settled
    assert sum(each.net_e4 for each in first.settled.parties) == 0
    assert sum(each.statements for each in first.settled.pairs) >= 2
    assert first.receipts == second.receipts
    assert first.receipts.issued == first.receipts.verified == sum(each.final_cdrs for each in first.settled.pairs)


def test_what_is_settled_is_what_both_companies_hold_as_owed() -> None:
    run = full_memory_run()

    owed = {(each.cpo, each.emsp): each.net_e4 for each in figures_of(run.books).wholesale}
    assert {(each.cpo_id.code, each.emsp_id.code): each.final_e4 for each in run.settled.pairs} == owed


def test_another_seed_gives_another_log() -> None:
    one = twin_runs()[0]
    (other,) = memory_runs(SEED + 1, SMALL)

    assert one.log != other.log
    assert session_lines(one.books).keys().isdisjoint(session_lines(other.books).keys())


def test_another_seed_keeps_every_rule_of_the_audit_too() -> None:
    (other,) = memory_runs(SEED + 1, SMALL)

    report = audit(other.books, other.report.truth.as_json(), sight=other.sight)

    assert report.differences == ()
    assert {check.rule for check in report.checks if check.compared == 0} <= NEVER_NEEDED
