"""What `docs/settlement.md` shows is what the system computes, and what it names exists."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from emobility.adapters.receipt_proofs import ReceiptProofs
from emobility.domain.batch.statement import STATEMENTS_MAX
from emobility.domain.receipt.checking import verify_receipt
from services.cli.verifying import run_verify
from services.driver_mobility.receipt_checking import EXPLAINED, VERDICTS
from services.settlement.closing import LEAVES_MAX
from services.settlement.crash_points import CrashPoint
from services.settlement.deployment import ACCEPTANCE_WINDOW_S, WITHDRAWAL_DELAY_S
from services.settlement.service import WATCH_S
from tests.docs.settlement_example import Example, played

ROOT: Final = Path(__file__).parents[2]
DOC: Final = (ROOT / "docs" / "settlement.md").read_text()
PROGRAM_S_MAX: Final = 30
NAMED: Final = re.compile(
    r"`((?:emobility|services|settlement_contracts|tests)/[a-zA-Z_/]+(?:\.py|\.sol)?)(?:: ([A-Za-z_]+))?`"
)


@pytest.fixture(scope="module")
def example() -> Example:
    return asyncio.run(played())


def program() -> str:
    (found,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    return str(found)


def recompute(folder: Path, statement: bytes) -> subprocess.CompletedProcess[str]:
    """Run the document's program on a statement."""
    (folder / "statement.json").write_bytes(statement)
    command = [sys.executable, "-W", "ignore", "-c", program(), "statement.json"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PROGRAM_S_MAX, check=False)


def test_the_money_stands_where_the_contracts_put_it(example: Example) -> None:
    assert example.money() in DOC


def test_the_leaves_are_those_of_the_trees(example: Example) -> None:
    assert example.leaves() in DOC


def test_every_hash_is_what_the_system_computes(example: Example) -> None:
    assert example.hashes() in DOC


def test_the_verifier_says_what_the_document_shows(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "receipt.json").write_bytes(example.receipt())
    receipt = verify_receipt(example.receipt(), ReceiptProofs()).receipt
    assert receipt is not None
    monkeypatch.chdir(tmp_path)

    finding = asyncio.run(example.on_chain(receipt))
    verified = run_verify(paths=[Path("receipt.json")], rpc_url=None, json=False)

    assert verified == 0
    assert capsys.readouterr().out in DOC
    assert f"  {finding.check:<10}{finding.verdict:<10}{finding.says}" in DOC


def test_the_page_refuses_a_changed_price_as_the_document_shows(example: Example) -> None:
    changed = example.receipt().replace(b'"price":"0.41"', b'"price":"0.51"', 1)
    assert changed != example.receipt()

    findings = verify_receipt(changed, ReceiptProofs()).findings

    for finding in findings:
        answer = f"{VERDICTS[finding.verdict]}. {finding.says}"
        assert f"  {EXPLAINED[finding.check].asks:<42}{answer}\n" in DOC


def test_the_documents_program_finds_the_roots_of_the_statement(example: Example, tmp_path: Path) -> None:
    found = recompute(tmp_path, example.document())

    assert found.stdout.split() == [
        example.statement.evidence_root.hex(),
        example.statement.sum_root.hex(),
        example.statement.struct_hash.hex(),
    ]
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("name", ["import_wh", "due_e4", "commitment", "meter"])
def test_the_documents_program_refuses_a_statement_that_was_changed(
    example: Example, tmp_path: Path, name: str
) -> None:
    changed = json.loads(example.document())
    changed["cdrs"][0][name] = "01" * 32 if name in {"commitment", "meter"} else 1

    found = recompute(tmp_path, json.dumps(changed).encode())

    assert found.returncode == 1
    assert "this is not the statement that was signed" in found.stderr


def test_a_table_of_a_statement_can_not_give_its_roots(example: Example) -> None:
    head = example.table().splitlines()[0].split(",")

    assert {"commitment", "cdr_key"}.isdisjoint(head)
    assert {"due_e4", "credit_e4"} <= set(head)


def test_the_bounds_that_the_document_states_are_the_systems() -> None:
    stated = (11, 10, 100_000, 256, 48 * 3600, 24 * 3600)

    assert stated == (
        len(CrashPoint),
        WATCH_S,
        LEAVES_MAX,
        STATEMENTS_MAX,
        WITHDRAWAL_DELAY_S,
        ACCEPTANCE_WINDOW_S,
    )


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED.findall(DOC))))
def test_what_the_document_names_is_there(path: str, name: str) -> None:
    named = ROOT / path

    assert named.exists()
    assert not name or re.search(rf"\b{name}\b", named.read_text())
