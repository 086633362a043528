from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from emobility.runtime.telemetry import REDACTED, TEXT_CHARACTERS_MAX, configure_logging, redact, redact_text

CANARY = "c4n4ry7f3a9b"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, excepthook = root.handlers[:], root.level, sys.excepthook
    stream = io.StringIO()
    configure_logging(process="gateway", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook = excepthook
    structlog.reset_defaults()


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_process_and_fields(lines: io.StringIO) -> None:
    structlog.get_logger("here").info("session opened", party="NL-TNM", energy_wh=1_200, correlation_id="abc")

    (line,) = parsed(lines)
    assert line["event"] == "session opened"
    assert (line["level"], line["process"], line["energy_wh"]) == ("info", "gateway", 1_200)
    assert line["timestamp"].endswith("Z")


def test_libraries_log_the_same_way(lines: io.StringIO) -> None:
    logging.getLogger("some.library").warning("connecting to postgresql://me:%s@host/db", CANARY)

    (line,) = parsed(lines)
    assert line["event"] == f"connecting to postgresql://me:{REDACTED}@host/db"


def test_what_ends_a_process_is_logged_cause_by_cause(lines: io.StringIO) -> None:
    causes = ExceptionGroup("inner", [LookupError("no cursor"), RuntimeError(f"Authorization: Bearer {CANARY}")])
    death = ExceptionGroup("outer", [causes])

    sys.excepthook(type(death), death, None)

    first, second = parsed(lines)
    assert (first["event"], first["level"], first["reason"]) == ("process_failed", "critical", "no cursor")
    assert "LookupError: no cursor" in first["exception"]
    assert CANARY not in json.dumps(second)


def test_a_traceback_is_redacted(lines: io.StringIO) -> None:
    def breaks() -> None:
        raise RuntimeError(f"Authorization: Bearer {CANARY}")

    try:
        breaks()
    except RuntimeError:
        structlog.get_logger().exception("it broke")

    assert CANARY not in lines.getvalue()
    assert "RuntimeError" in parsed(lines)[0]["exception"]


@pytest.mark.parametrize(
    "fields",
    [
        {"id_token": CANARY},
        {"idTag": CANARY},
        {"id_tag": CANARY},
        {"token": CANARY},
        {"token_uid": CANARY},
        {"internal_token": SecretStr(CANARY)},
        {"password": CANARY},
        {"contract_id": CANARY},
        {"Authorization": f"Basic {CANARY}"},
        {"master_key": CANARY},
        {"card_number": 4242424242424242},
        {"headers": {"Authorization": CANARY, "X-Request-ID": "1"}},
        {"request": {"tokens": [{"uid": CANARY}]}},
        {"request": [{"idTag": CANARY}]},
        {"frame": CANARY.encode()},
        {"url": f"https://user:{CANARY}@host/"},
        {"text": f"Token {CANARY}"},
        {"text": f'{{"idTag": "{CANARY}", "connectorId": 1}}'},
        {"text": f"{{'id_token': '{CANARY}'}}"},
        {"text": f"password={CANARY}&next=1"},
        {"error": ValueError(f"bad token: {CANARY}")},
    ],
    ids=str,
)
def test_secrets_and_personal_data_do_not_reach_the_log(fields: dict[str, Any], lines: io.StringIO) -> None:
    structlog.get_logger().info("something happened", **fields)

    (line,) = parsed(lines)
    assert CANARY not in lines.getvalue()
    del line["timestamp"]  # whose microseconds may be these digits
    assert "4242" not in json.dumps(line)


def test_what_is_no_secret_stays() -> None:
    event = {"event": "x", "party": "NL-TNM", "evse": 3, "is_token_valid": True, "token_kind": "RFID", "none": None}

    assert redact(None, "info", dict(event)) == event


def test_a_long_text_is_cut() -> None:
    assert len(redact_text("x" * 100_000)) == TEXT_CHARACTERS_MAX + 1


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))  # fmt: skip
def test_anything_can_be_logged(value: Any) -> None:
    json.dumps(redact(None, "info", {"event": "x", "value": value}), default=str)
