"""A month of faults on a chain and on a ledger: the same money on both, each fault met, nothing unaccounted for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from emobility.adapters.memory import run_virtual
from services.embedded import lab
from services.embedded.lab import Laboratory, played
from services.embedded.lab_market import CPOS, HOSTILE, SILENT
from services.embedded.lab_month import BookKind, MonthRun, played_month
from services.settlement.records import StatementState


@pytest.fixture(scope="module")
def laboratory() -> Laboratory:
    return played(7, short=True)


def month_on(laboratory: Laboratory, book: BookKind) -> MonthRun:
    return next(each for each in laboratory.months if each.book is book)


def test_every_equation_holds_on_both(laboratory: Laboratory) -> None:
    assert list(laboratory.faults) == []
    assert all(each.report.is_full for each in laboratory.months)
    assert all(sum(check.compared for check in each.report.checks) > 500 for each in laboratory.months)


def test_both_come_to_the_same_amounts_in_five_currencies(laboratory: Laboratory) -> None:
    chain, ledger = (month_on(laboratory, each) for each in (BookKind.CHAIN, BookKind.LEDGER))

    assert set(chain.final_e4) == set(CPOS)
    assert chain.final_e4 == ledger.final_e4
    assert chain.statements == ledger.statements


@pytest.mark.parametrize("book", list(BookKind))
def test_each_fault_befell_it_and_was_met(laboratory: Laboratory, book: BookKind) -> None:
    month = month_on(laboratory, book)

    told = {each.what: each.outcome for each in month.happened}
    assert told[f"{HOSTILE} hands in a signature that is not its own"] == "refused: SignatureNotOfParty"
    assert told[f"{HOSTILE} contests statement 1 with a bond"] == "the verdict makes it FINAL; its bond is lost"
    assert "FINAL" in told[f"{SILENT} never signs"]
    assert sum(what.startswith("the worker is killed") for what in told) == 2
    returned = [outcome for what, outcome in told.items() if what.startswith("a bank returns")]
    assert returned == ["it books 2 MATCHED, 1 RETURNED"]
    if book is BookKind.CHAIN:
        again = "of their 2 transactions 2 are there again, in the same bytes"
        assert told["the chain loses 6 final blocks"] == again
    else:
        assert told["another process opens the ledger"].endswith("entries, same head")
    assert month.statements[StatementState.UNFUNDED] == 1
    assert month.statements[StatementState.FINAL] > 40


def test_all_whose_keys_are_here_countersigned_the_newest_entry(laboratory: Laboratory) -> None:
    assert month_on(laboratory, BookKind.LEDGER).countersigned == 12
    assert month_on(laboratory, BookKind.CHAIN).countersigned is None


@pytest.mark.long
def test_two_months_of_one_seed_are_the_same_to_the_byte() -> None:
    heads = {run_virtual(played_month(3, BookKind.LEDGER, days=1, sessions_per_day=1)).head for _ in range(2)}

    assert len(heads) == 1


def test_it_is_printed_for_machines_and_ends_with_1_where_something_differs(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unequal = Laboratory(seed=7, months=(laboratory.months[0], _with_a_cent_more(laboratory.months[1])), streets={})
    found: list[tuple[int, dict[str, Any]]] = []
    for each in (laboratory, unequal):
        monkeypatch.setattr(lab, "played", lambda *_, each=each, **__: each)
        code = lab.run_lab(seed=7, short=True, json=True)
        found.append((code, json.loads(capsys.readouterr().out)))

    assert [code for code, _ in found] == [0, 1]
    assert found[0][1]["months"][1]["audit"]["clean"]
    assert found[1][1]["faults"] == ["chain and ledger came to different amounts"]


def _with_a_cent_more(month: MonthRun) -> MonthRun:
    return replace(month, final_e4=month.final_e4 | {"EUR": month.final_e4["EUR"] + 100})
