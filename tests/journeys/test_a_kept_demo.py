"""`wattroam demo --keep`: what goes on serving can be looked at, decided on and audited; Ctrl-C ends all of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.journeys.runs import ENOUGH_S, ROOT, Demo, processes_of

RECEIPTS_ASKED = 5

pytestmark = [pytest.mark.timeout(1200), pytest.mark.postgres]


def wattroam(demo: Demo, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "services.cli", *arguments, "--run-folder", str(demo.folder)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=ENOUGH_S, check=False)


def answer(ended: subprocess.CompletedProcess[str]) -> Any:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def assert_refused(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in ended.stderr


def audited(demo: Demo) -> tuple[int, Any]:
    ended = wattroam(demo, "audit", "--json", "--truth", str(demo.truth_file))
    return ended.returncode, json.loads(ended.stdout)


def test_the_live_page_shows_figures_and_ways_on_and_nothing_about_a_person(on_postgres: Demo) -> None:
    page = httpx.get(f"{on_postgres.business_url}/", trust_env=False)

    assert page.status_code == 200
    assert f"<dd>{on_postgres.document['sessions']}</dd>" in page.text
    assert '<a href="/mobility/NL-ZON/">' in page.text
    assert "script" not in page.text
    for sealed in ("NL-ZON-C", "subject", "4242", "D0001"):
        assert sealed not in page.text
    ways = re.findall(r'href="([^"]+)"', page.text)
    assert {"/live.css", "/mobility/NL-ZON/", "/mobility/DE-RHN/"} < set(ways)
    assert sum(way.startswith("/navigation/") for way in ways) == 1
    for way in ways:
        assert httpx.get(f"{on_postgres.business_url}{way}", trust_env=False).status_code == 200


def test_every_receipt_is_accepted_from_its_file_and_by_the_chain(on_postgres: Demo) -> None:
    told = on_postgres.document["receipts"]
    rpc = json.loads((on_postgres.folder / "installation.json").read_text())["chain_rpc_url"]
    for online in ((), ("--rpc", rpc)):
        argv = [sys.executable, "-m", "services.cli", "verify", told["folder"], "--json", *online]
        ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=ENOUGH_S, check=False)
        verified = answer(ended)

        assert len(verified) == told["issued"] == told["verified"] > 0
        assert all(each["accepted"] for each in verified)
        checks = {finding["check"]: finding["verdict"] for finding in verified[0]["findings"]}
        assert checks.get("CHAIN") == ("HOLDS" if online else None)


def test_the_running_system_hands_each_driver_the_receipt_that_the_demo_wrote(on_postgres: Demo) -> None:
    files = sorted(Path(on_postgres.document["receipts"]["folder"]).glob("*.json"))[:RECEIPTS_ASKED]
    token = json.loads((on_postgres.folder / "installation.json").read_text())["internal_token"]
    for file in files:
        record = json.loads(file.read_bytes())["record"]
        mobility = f"{on_postgres.business_url}/mobility/{record['seller']}"
        handed_out = httpx.get(
            f"{mobility}/drivers/{record['quote']['driver_id']}/receipts/{file.name}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        link = f"{mobility}/check/{hashlib.sha256(handed_out.content).hexdigest()}"
        checked = httpx.post(link, files={"receipt": handed_out.content}, trust_env=False)

        assert handed_out.content == file.read_bytes()
        assert (checked.status_code, "nothing in it was changed" in checked.text) == (200, True)


def test_a_quarantine_is_listed_billed_and_leaves_nothing_unaccounted_for(on_postgres: Demo) -> None:
    (row,) = [
        row
        for party in ("NL-TUL", "NL-POL")
        for row in answer(wattroam(on_postgres, "quarantine", "list", party, "--json"))
        if row["state"] == "OPEN"
    ]
    party, number = row.get("party_id", "NL-TUL"), row["quarantine_id"]
    assert row["reasons"] == ["SIGNATURE_INVALID"]
    assert number in wattroam(on_postgres, "quarantine", "list", party).stdout

    proven_wh = row["energy_import_wh"] - 88
    decide = ("quarantine", "resolve", party, number, "--outcome", "BILL", "--why", "read off the meter")
    resolved = answer(wattroam(on_postgres, *decide, "--proven-wh", str(proven_wh)))

    assert resolved["state"] == "BILLED"
    wait_until_quiet(on_postgres)
    code, report = audited(on_postgres)
    assert (code, report["differences"], report["full"]) == (0, [], True)
    before = len(on_postgres.books.cpo_cdrs)
    on_postgres_now = Demo(folder=on_postgres.folder, process=on_postgres.process)
    on_postgres_now.read_books()
    (new,) = [cdr for cdr in on_postgres_now.books.cpo_cdrs if cdr.session_id == row["session_id"]]
    (held,) = [each for each in on_postgres_now.books.quarantine if each.quarantine_id == number]
    assert len(on_postgres_now.books.cpo_cdrs) == before + 1
    assert (new.energy_import_wh, held.waived_import_wh) == (proven_wh, 88)
    assert_refused(wattroam(on_postgres, *decide), "BILLED")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (("quarantine", "list", "XX-NOP"), "XX-NOP is no CPO"),
        (("quarantine", "list", "not a party"), "no such party"),
        (("quarantine", "resolve", "NL-TUL", "nothing", "--outcome", "WAIVE", "--why", "x"), "nothing"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(on_postgres: Demo, command: tuple[str, ...], word: str) -> None:
    assert_refused(wattroam(on_postgres, *command), word)


def test_a_group_that_there_is_not_is_named(on_postgres: Demo) -> None:
    ended = wattroam(on_postgres, "parked", "replay", "nobody", "key")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "wattroam: no group is called nobody; known: charging_operations, driver_mobility, settlement,"
        " settlement-money, charging_operations_exposure, driver_mobility_unpaid\n"
    )


def test_of_a_young_log_nothing_may_be_pruned(on_postgres: Demo) -> None:
    assert answer(wattroam(on_postgres, "prune", "--json")) == {
        "prunable": [],
        "prunable_events": 0,
        "dropped_events": None,
    }


def test_nothing_is_parked_and_replaying_nothing_handles_nothing(on_postgres: Demo) -> None:
    assert answer(wattroam(on_postgres, "parked", "list", "charging_operations", "--json")) == []
    assert answer(wattroam(on_postgres, "parked", "replay", "charging_operations", "no key")) == {"handled": 0}


def test_the_audit_ends_with_1_and_names_what_somebody_changed_behind_its_back(on_postgres: Demo) -> None:
    dsn = on_postgres.installation["database_url"]
    with psycopg.connect(dsn, autocommit=True) as connection:
        changed = connection.execute(
            "UPDATE cpo_cdr SET energy_import_wh = energy_import_wh + 1 WHERE cdr_id = "
            "(SELECT min(cdr_id) FROM cpo_cdr WHERE NOT is_credit) RETURNING cdr_id"
        ).fetchone()
        assert changed is not None
        code, report = audited(on_postgres)
        shown = wattroam(on_postgres, "audit")
        connection.execute("UPDATE cpo_cdr SET energy_import_wh = energy_import_wh - 1 WHERE cdr_id = %s", changed)

    assert code == shown.returncode == 1
    assert [each["rule"] for each in report["differences"]] == ["energy is conserved"]
    assert report["differences"][0]["found"] - report["differences"][0]["expected"] == 1
    assert "energy is conserved" in shown.stdout
    assert audited(on_postgres)[0] == 0


def test_the_audit_names_a_statement_that_somebody_changed_and_the_chain_it_differs_from(on_postgres: Demo) -> None:
    with psycopg.connect(on_postgres.installation["database_url"], autocommit=True) as connection:
        where = b"WHERE statement_hash = (SELECT min(statement_hash) FROM settlement_statement)"
        connection.execute(b"UPDATE settlement_statement SET due_e4 = due_e4 + 1 " + where)
        code, report = audited(on_postgres)
        connection.execute(b"UPDATE settlement_statement SET due_e4 = due_e4 - 1 " + where)

    assert code == 1
    first = next(each for each in report["differences"] if each["rule"] == "a statement is what its CDRs make it")
    assert first["found"] - first["expected"] == 1
    assert "an agreement stands in its book as it does here" in {each["rule"] for each in report["differences"]}


def test_a_second_demo_in_the_same_folder_is_refused_while_it_serves(on_postgres: Demo) -> None:
    ended = wattroam(on_postgres, "demo")

    assert ended.returncode == 2
    assert "holds an installation already" in ended.stderr


@pytest.mark.long
def test_ctrl_c_in_the_middle_of_a_demo_stops_everything(server_folder: Path) -> None:
    demo = Demo.start(server_folder / "demo-interrupted")
    deadline_s = time.monotonic() + ENOUGH_S
    while not (demo.folder / "simulation").exists() and "% " not in demo.stderr:
        assert demo.process.poll() is None, demo.stderr
        assert time.monotonic() < deadline_s
        time.sleep(0.2)

    os.kill(demo.process.pid, signal.SIGINT)

    assert demo.process.wait(60) == 130
    assert "Traceback" not in demo.stderr
    assert processes_of(demo.folder) == []


def test_after_its_end_its_folder_passes_a_full_audit_which_leaves_the_chain_as_it_was(on_postgres: Demo) -> None:
    """Ends the demo that the tests above look at, so it is the last of them."""
    on_postgres.process.send_signal(signal.SIGINT)
    assert on_postgres.process.wait(ENOUGH_S) == 0
    state = on_postgres.folder / "chain" / "state.json"
    before = state.read_bytes()

    report = answer(wattroam(on_postgres, "audit", "--full", "--json", "--truth", str(on_postgres.truth_file)))

    assert (report["clean"], report["full"], report["why_quick"]) == (True, True, None)
    compared = {check["rule"]: check["compared"] for check in report["checks"]}
    assert compared["final here is final on the chain, and the other way round"] > 0
    assert {each["reason"] for each in report["waiting"]} <= {"the MSP disputes it"}  # what was billed of a quarantine
    assert state.read_bytes() == before
    assert processes_of(on_postgres.folder) == []


def wait_until_quiet(demo: Demo) -> None:
    """Return once no event is unhandled and no message unsent."""
    token = demo.installation["internal_token"]
    deadline_s = time.monotonic() + ENOUGH_S
    while True:
        headers = {"authorization": f"Bearer {token}"}
        told = httpx.get(f"{demo.business_url}/internal/quiet", headers=headers, timeout=60, trust_env=False).json()
        if told["outstanding"] == 0:
            return
        assert time.monotonic() < deadline_s, told
        time.sleep(0.1)
