"""What somebody types wrong is answered in one line that says what is wrong with what."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from emobility.adapters.chain_keys.keystore import KeyRefused
from emobility.adapters.cosigned_ledger.exported import MalformedLedgerFile, open_exported, read_heads
from services.cli.__main__ import app


@pytest.mark.parametrize("content", ["{}", "[]", ""])
def test_a_file_that_is_no_ledger_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(content)

    with pytest.raises(MalformedLedgerFile, match=r"receipt\.json is no ledger: "):
        open_exported(file)


def test_a_file_that_keeps_no_heads_is_named(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text('{"number": "one"}')

    with pytest.raises(MalformedLedgerFile, match="kept is no file of heads: "):
        read_heads(file)


def test_a_keystore_without_a_key_is_not_shown_as_nothing(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["key", "show", "--keystore", str(tmp_path)])

    assert isinstance(ended.exception, KeyRefused)
    assert "holds no key" in str(ended.exception)


def test_an_audit_of_half_a_period_says_what_is_missing() -> None:
    ended = CliRunner().invoke(app, ["audit", "--from", "2022-03-01"])

    assert ended.exit_code == 2
    assert "needs both --from and --to" in " ".join(ended.stderr.split())
