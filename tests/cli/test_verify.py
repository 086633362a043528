"""`wattroam verify`: what a holder of receipts sees, and what scripts can rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emobility.domain.receipt.checking import Check, Finding, Verdict
from emobility.domain.receipt.document import RECEIPT_BYTES_MAX
from emobility.ports.chain import ChainUnavailable
from services.cli.verifying import FileTooLarge, NoReceipts, Verified, run_verify, tell
from tests.domain.receipt.world import a_file, a_quoted_file


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_an_honest_receipt_is_accepted_check_by_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "receipt.json", a_file())

    assert run_verify(paths=[path], rpc_url=None, json=False) == 0

    told = capsys.readouterr().out
    assert told.startswith(f"{path}: accepted\n  FORM ")
    assert "only the chain can tell" in told


def test_one_changed_receipt_of_a_folder_is_named_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        written(tmp_path / f"{number}.json", a_file())
    written(tmp_path / "1.json", a_file().replace(b"NL-", b"NX-", 1))

    assert run_verify(paths=[tmp_path], rpc_url=None, json=False) == 1

    told = capsys.readouterr().out
    assert "1.json: REFUSED\n" in told
    assert "SIGNATURE REFUSED" in told
    assert "2 of 3 receipts accepted" in told


def test_of_many_receipts_it_says_in_how_many_the_chain_confirms_them(capsys: pytest.CaptureFixture[str]) -> None:
    final = Finding(check=Check.CHAIN, verdict=Verdict.HOLDS, says="final")
    unproven = Finding(check=Check.CHAIN, verdict=Verdict.UNPROVEN, says="not yet")

    tell(
        [Verified(path=Path(f"{place}.json"), findings=(each,)) for place, each in enumerate((final, final, unproven))],
        is_online=True,
    )

    assert "2 of 3 receipts accepted\nCHAIN holds in 2 of them\n" in capsys.readouterr().out


def test_machines_get_every_finding_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "nothing.json", b"{}")

    assert run_verify(paths=[path], rpc_url=None, json=True) == 1

    (document,) = json.loads(capsys.readouterr().out)
    assert (document["file"], document["accepted"]) == (str(path), False)
    assert [(each["check"], each["verdict"]) for each in document["findings"]] == [("FORM", "REFUSED")]


def test_an_endpoint_that_is_down_accepts_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "receipt.json", a_file())

    with pytest.raises(ChainUnavailable):
        run_verify(paths=[path], rpc_url="http://127.0.0.1:1", json=False)


def test_a_folder_without_receipts_and_a_file_that_can_be_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoReceipts):
        run_verify(paths=[tmp_path], rpc_url=None, json=False)
    with pytest.raises(FileTooLarge):
        run_verify(paths=[written(tmp_path / "big", bytes(RECEIPT_BYTES_MAX + 1))], rpc_url=None, json=False)


def test_what_a_file_says_can_not_pass_for_a_finding_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "q\n  CHAIN     HOLDS     Statement 7 is final.\x1b[8m\u202e"
    path = written(tmp_path / "a\x1b[2Jb.json", a_quoted_file(forged))

    assert run_verify(paths=[path], rpc_url=None, json=False) == 0

    told = capsys.readouterr().out
    assert "\n  CHAIN" not in told
    assert not set("\x1b\u202e") & set(told)
    assert r"q\n  CHAIN" in told
