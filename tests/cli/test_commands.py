"""The `wattroam` command from outside: what it says, and how it ends, when there is nothing to work on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.audit.books import CONSUMER_GROUPS
from services.cli.__main__ import app

ROOT = Path(__file__).parents[2]
SECRETS = {
    "WATTROAM_INTERNAL_TOKEN": "f" * 64,
    "WATTROAM_MASTER_KEY": "e" * 64,
    "WATTROAM_GATEWAY_PLAIN": "true",  # TLS ends before the gateway
}
NOBODY_LISTENS = "postgresql://wattroam:secret@127.0.0.1:1/wattroam"
DEPLOYABLES = ("gateway", "hub", "operations", "mobility", "navigation", "settlement")


def wattroam(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with no variable of ours but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WATTROAM_")}
    argv = [sys.executable, "-m", "services.cli", *arguments]
    return subprocess.run(
        argv, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=120, check=False
    )


def side_by_side(commands: list[tuple[str, ...]], **environment: str) -> list[subprocess.CompletedProcess[str]]:
    """Run several at once: starting Python is most of their time."""
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda command: wattroam(*command, **environment), commands))


def assert_one_clear_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    for word in words:
        assert word in ended.stderr


def test_help_names_every_command_and_imports_neither_rich_nor_services() -> None:
    script = (
        "import sys\n"
        "from services.cli.__main__ import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = ('rich', 'asyncio', 'fastapi', 'pydantic', 'msgspec', 'psycopg', 'kafka', 'emobility')\n"
        "print('loaded:', [name for name in heavy if name in sys.modules], code)\n"
    )

    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    own = (
        "demo",
        "up",
        "simulate",
        "migrate",
        "audit",
        "verify",
        "prune",
        "bench",
        "erase",
        "retention",
        "quarantine",
        "parked",
    )
    for command in (*own, "timeline", "import", "bank", "invoice", "ocpi", "openapi", *DEPLOYABLES):
        assert f"\n  {command} " in ended.stdout
    assert ended.stdout.endswith("loaded: [] 0\n")


@pytest.mark.parametrize("command", [("quarantine",), ("parked",), ()])
def test_a_command_without_its_verb_shows_its_help(command: tuple[str, ...]) -> None:
    ended = wattroam(*command)

    assert "Usage: wattroam" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_each_group_of_which_events_may_be_parked_is_named() -> None:
    shown = CliRunner().invoke(app, ["parked", "list", "--help"], terminal_width=200).output

    assert [group for group in CONSUMER_GROUPS if not re.search(rf"\b{group}\b(?!-)", shown)] == []


@pytest.mark.long
def test_where_nothing_runs_or_ran_each_command_says_how_to_start(tmp_path: Path) -> None:
    commands = [
        ("audit",),
        ("quarantine", "list", "NL-TUL"),
        ("quarantine", "resolve", "NL-TUL", "Q1", "--outcome", "WAIVE", "--why", "because"),
        ("parked", "list", "charging_operations"),
        ("parked", "replay", "charging_operations", "key"),
        ("parked", "discard", "charging_operations", "charging/3@17", "--why", "because"),
        ("parked", "discarded", "charging_operations"),
        ("prune",),
    ]

    for ended in side_by_side([(*command, "--run-folder", str(tmp_path / "none")) for command in commands]):
        assert_one_clear_line(ended, "nothing runs or ran in", "wattroam up")


def test_an_installation_that_does_not_run_is_told_from_none(tmp_path: Path) -> None:
    (tmp_path / "installation.json").write_text(json.dumps(_an_installation()))

    ended = wattroam("quarantine", "list", "NL-TUL", "--run-folder", str(tmp_path))

    assert_one_clear_line(ended, "nothing answers at http://127.0.0.1:1", f"wattroam up --run-folder {tmp_path}`")


def test_a_process_without_its_secrets_names_the_variable() -> None:
    for ended in side_by_side([(name,) for name in DEPLOYABLES]):
        assert_one_clear_line(ended, "WATTROAM_INTERNAL_TOKEN")


def test_a_gateway_that_no_station_could_reach_says_what_to_set() -> None:
    ended = wattroam("gateway", **(SECRETS | {"WATTROAM_GATEWAY_PLAIN": "false"}))

    assert_one_clear_line(ended, "no station could connect", "WATTROAM_GATEWAY_CERTIFICATE_FILE")


def test_a_process_without_a_database_says_how_to_name_one() -> None:
    for ended in side_by_side([(name,) for name in (*DEPLOYABLES, "migrate")], **SECRETS):
        assert_one_clear_line(ended, "set WATTROAM_DATABASE_URL")


@pytest.mark.long
def test_a_database_that_does_not_answer_is_one_line_without_its_password() -> None:
    for ended in side_by_side([("audit",), ("migrate",)], WATTROAM_DATABASE_URL=NOBODY_LISTENS, **SECRETS):
        assert_one_clear_line(ended, "the database does not answer")
        assert "secret" not in ended.stderr


def test_a_setting_out_of_range_is_named() -> None:
    ended = wattroam("hub", WATTROAM_BUSINESS_PORT="eighty", **SECRETS)

    assert_one_clear_line(ended, "WATTROAM_BUSINESS_PORT")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"transactions": []}'])
def test_a_truth_that_is_none_is_refused_before_anything_is_opened(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "truth.json"
    if content is not None:
        file.write_text(content)

    ended = wattroam("audit", "--truth", str(file), "--run-folder", str(tmp_path / "none"))

    assert_one_clear_line(ended, "is not what a simulator knows of a run")


def test_a_demo_does_not_mix_with_what_is_stored(tmp_path: Path) -> None:
    (tmp_path / "installation.json").write_text(json.dumps(_an_installation()))

    ended = wattroam("demo", "--run-folder", str(tmp_path))

    assert_one_clear_line(ended, "holds an installation already")


def test_events_stay_where_they_began(tmp_path: Path) -> None:
    (tmp_path / "installation.json").write_text(json.dumps(_an_installation()))

    ended = wattroam("up", "--event-log", "kafka", "--run-folder", str(tmp_path))

    assert_one_clear_line(ended, "live in postgres, not in kafka")


@pytest.mark.parametrize(
    "command",
    [
        ("demo", "--event-log", "paper"),
        ("demo", "--seed", "seven"),
        ("audit", "--quick", "--full"),
        ("up", "--event-log", "memory"),
        ("quarantine", "resolve", "NL-TUL", "Q1", "--outcome", "FORGET", "--why", "because"),
        ("quarantine", "resolve", "NL-TUL", "Q1", "--outcome", "WAIVE"),
        ("nonsense",),
    ],
)
def test_what_no_command_takes_is_refused_with_the_way_to_help(command: tuple[str, ...]) -> None:
    ended = wattroam(*command)

    assert ended.returncode == 2
    assert "Error: " in ended.stderr
    assert "Traceback" not in ended.stderr


def _an_installation() -> dict[str, object]:
    return {
        "event_log": "postgres",
        "internal_token": "f" * 64,
        "master_key": "e" * 64,
        "business_port": 1,
        "gateway_ocpp_port": 2,
        "gateway_api_port": 3,
        "database_url": None,
        "kafka_bootstrap": None,
    }
