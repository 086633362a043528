"""`wattroam demo` on real servers: PostgreSQL and Kafka give what memory gives, to the last ten-thousandth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.audit.audit import audit
from services.audit.books import Books
from services.audit.figures import figures_of
from tests.journeys.per_session import account_lines, session_lines
from tests.journeys.runs import Demo, full_memory_run, processes_of

pytestmark = pytest.mark.timeout(1200)
ON_KAFKA = (pytest.mark.kafka, pytest.mark.long)


@pytest.fixture(scope="module")
def memory_books() -> Books:
    return full_memory_run().books


@pytest.fixture(params=["on_postgres", pytest.param("on_kafka", marks=ON_KAFKA)])
def demo(request: pytest.FixtureRequest) -> Demo:
    """Each of the two."""
    played: Demo = request.getfixturevalue(request.param)
    return played


def test_each_session_is_the_same_as_in_memory(demo: Demo, memory_books: Books) -> None:
    expected, found = session_lines(memory_books), session_lines(demo.books)

    assert len(expected) == len(memory_books.cpo_sessions) >= 120
    assert {key: line for key, line in found.items() if line != expected.get(key)} == {}
    assert found.keys() == expected.keys()


def test_each_driver_is_billed_and_pays_the_same_as_in_memory(demo: Demo, memory_books: Books) -> None:
    assert account_lines(demo.books) == account_lines(memory_books) != []


def test_the_figures_it_prints_follow_from_what_it_stored_and_are_those_of_memory(
    demo: Demo, memory_books: Books
) -> None:
    printed = {name: demo.document[name] for name in figures_of(memory_books).as_json()}
    printed["energy_wh"] = {name: wh for name, wh in printed["energy_wh"].items() if name != "settled"}

    assert printed == figures_of(demo.books).as_json() == figures_of(memory_books).as_json()


def test_the_printed_figures_have_the_promised_fields_and_add_up(demo: Demo) -> None:
    document: dict[str, Any] = demo.document
    energy = document["energy_wh"]

    assert document["sessions"] >= 120
    assert document["cdrs"] == document["sessions"] - document["quarantined"] + document["credits"]
    assert energy["metered"] == sum(energy[name] for name in ("cdr", "quarantined", "waived", "open"))
    assert min(energy["metered"], energy["cdr"], energy["quarantined"]) > 0
    assert {"cpo", "msp", "currency", "net_e4"} <= set(document["wholesale"][0])
    for each in document["retail"]:
        assert {"msp", "currency", "billed_e4", "paid_e4"} <= set(each)
        assert each["billed_e4"] == each["paid_e4"] + each["outstanding_e4"]
    assert document["disputes"] == 1
    assert document["duration_s"] > 0
    assert document["simulation"]["call_errors"] == []


def test_everything_owed_is_final_on_its_chain_and_every_receipt_holds(demo: Demo) -> None:
    document, settled = demo.document, full_memory_run().settled

    assert document["energy_wh"]["settled"] == document["energy_wh"]["cdr"]
    assert {each["id"]: each["net_e4"] for each in document["parties"]} == {
        each.party_id.code: each.net_e4 for each in settled.parties
    }
    assert sum(each["net_e4"] for each in document["parties"]) == 0
    sessions = sum(each["sessions"] for each in document["batches"])
    assert document["receipts"]["issued"] == document["receipts"]["verified"] == sessions
    assert len(list(Path(document["receipts"]["folder"]).glob("*.json"))) == sessions
    assert all(each["gas"] > 0 for each in document["batches"])


def test_its_audit_finds_nothing_with_the_stations_word_beside_the_books(demo: Demo) -> None:
    assert demo.document["audit"]["clean"]
    assert demo.document["audit"]["differences"] == []
    compared = {check["rule"]: check["compared"] for check in demo.document["audit"]["checks"]}
    assert compared["acknowledged is stored"] > 500
    assert audit(demo.books).is_clean


def test_its_secrets_are_readable_by_nobody_else(demo: Demo) -> None:
    assert (demo.folder / "installation.json").stat().st_mode & 0o077 == 0
    for log in (demo.folder / "logs").iterdir():
        assert log.stat().st_mode & 0o077 == 0
        text = log.read_text(errors="replace")
        assert demo.installation["internal_token"] not in text
        assert demo.installation["master_key"] not in text


@pytest.mark.kafka
@pytest.mark.long
def test_a_demo_that_is_not_kept_ends_with_0_and_leaves_no_process(on_kafka: Demo) -> None:
    assert on_kafka.process.returncode == 0
    assert processes_of(on_kafka.folder) == []
