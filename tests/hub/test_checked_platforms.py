"""`wattroam ocpi check` on plain platforms, and what it says of one that can't be checked."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any, Final

import pytest

from emobility.adapters.system import SystemClock
from emobility.runtime.http_server import listening
from ocpi_check.checks import CHECKS
from ocpi_check.command import CANNOT_RUN, FAILED, OptionsUnusable, check_platform, ports_of, tokens_of
from ocpi_check.mock import MockParty, Reply
from ocpi_check.run import Target
from ocpi_check.wire import Caller, Party, read_json, token_header, write_json

NOW: Final = SystemClock().now
DOC: Final = (Path(__file__).parents[2] / "docs" / "how-to" / "check-an-ocpi-endpoint.md").read_text()
TOKEN_A: Final = "token-a"
OF_HUBS: Final = {each.rule for each in CHECKS if each.roles == ("HUB",)}
WITH_MORE_TOKENS: Final = {"T4", "C4", "C5", "C6", "C8", "C10"}


async def check(mock: MockParty, version: str = "2.2.1", **changes: Any) -> int:
    options = {"tokens": [TOKEN_A], "operator_url": None, "operator_token": None, "only": [], "json": True, "now": NOW}
    target = Target(versions_url=mock.versions_url, role=mock.role, version=version)
    return await check_platform(target, **{**options, **changes})


def a_platform(role: str, caller: Caller) -> MockParty:
    mock = MockParty(party=Party("NL", "MCK"), role=role, now=NOW, caller=caller)
    mock.token_a = TOKEN_A
    return mock


@pytest.mark.parametrize("version", ["2.2.1", "2.3.0"])
@pytest.mark.parametrize("role", ["CPO", "EMSP"])
async def test_a_plain_platform_is_checked_as_far_as_its_role_goes(
    role: str, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    caller = Caller()
    async with a_platform(role, caller) as mock:
        code = await check(mock, version)
    await caller.close()

    findings = json.loads(capsys.readouterr().out)["findings"]
    verdicts = {each["rule"]: each["verdict"] for each in findings}
    assert [each for each in findings if each["verdict"] == "FAIL"] == []
    assert code == 0
    assert {rule for rule, verdict in verdicts.items() if verdict == "SKIP"} >= OF_HUBS | WITH_MORE_TOKENS
    assert list(verdicts.values()).count("PASS") >= 20


async def test_a_rule_that_is_broken_is_told_with_what_was_sent_expected_and_got(
    capsys: pytest.CaptureFixture[str],
) -> None:
    caller = Caller()
    async with a_platform("CPO", caller) as mock:
        mock.script(Reply(http=200), part="CARD", method="PUT")
        code = await check(mock, only=["T11"], json=False)
    await caller.close()

    printed = capsys.readouterr().out
    assert code == FAILED
    assert "FAIL T11" in printed
    assert "[transport_and_format.asciidoc#transport_and_format_put]" in printed
    assert "expected HTTP 201, S 1xxx" in printed
    assert "got      HTTP 200, S 1000" in printed
    assert "0 PASS, 1 FAIL, 0 SKIP of 1" in printed


@pytest.mark.parametrize(
    "changes", [{"only": ["X9"]}, {"tokens": []}, {"operator_url": "http://127.0.0.1:1"}, {"tokens": ["CPO:N=x"]}]
)
async def test_what_can_not_be_run_is_said_at_once(changes: dict[str, Any]) -> None:
    caller = Caller()
    async with a_platform("CPO", caller) as mock:
        with pytest.raises(OptionsUnusable):
            await check(mock, **changes)
    await caller.close()


async def test_a_platform_that_is_not_there_is_no_finding(free_port: int) -> None:
    caller = Caller()
    mock = MockParty(party=Party("NL", "MCK"), role="CPO", now=NOW, caller=caller, port=free_port)
    with pytest.raises(OptionsUnusable, match="nothing answers"):
        await check(mock)
    await caller.close()
    assert CANNOT_RUN == 2


async def test_a_driven_mock_answers_as_it_is_told_and_tells_what_it_got() -> None:
    caller = Caller()
    async with a_platform("CPO", caller) as mock:
        mock.is_driven = True
        mock.tokens.add("known")
        url = f"{mock.base_url}/ocpi/2.2.1/tokens/receiver/DE/MSP/C1"
        headers = {"Authorization": token_header("known")}
        answers = f"{mock.base_url}/mock/answers"
        taken = await caller.call("POST", answers, headers={}, body={"part": "/tokens/", "http": 503, "code": 3000})
        refused = await caller.call("POST", answers, headers={}, body={"status": 1})

        told = [await caller.call("GET", url, headers=headers) for _ in range(2)]
        heard = await caller.call("GET", f"{mock.base_url}/mock/heard", headers={})
    await caller.close()

    assert (taken.code, refused.http) == (1000, 400)
    assert [(each.http, each.code) for each in told] == [(503, 3000), (404, 2000)]
    assert heard.data == ["GET /ocpi/2.2.1/tokens/receiver/DE/MSP/C1"] * 2


def test_the_documents_lines_are_those_of_the_checklist() -> None:
    lines = re.findall(r"^(?:PASS|FAIL|SKIP) (\w+) +(.+?)  \[(.+)\]$", DOC, re.MULTILINE)

    known = {each.rule: each for each in CHECKS}
    assert [rule for rule, *_ in lines] == ["T1", "T11", "R1"]
    assert all(title == known[rule].title for rule, title, _ in lines)
    assert all(anchor == known[rule].anchor for rule, _, anchor in lines)


def test_options_are_read_as_they_are_meant() -> None:
    assert ports_of("9101-9103") == (9101, 9102, 9103)
    assert ports_of(None) == ()
    assert tokens_of(["abc", "EMSP:DE-CHK=t=1"], "CPO") == [
        ("EMSP", Party("NL", "CHK"), "abc"),
        ("EMSP", Party("DE", "CHK"), "t=1"),
    ]


def test_each_rule_has_one_line_and_an_anchor() -> None:
    groups = {"T": 13, "P": 7, "C": 13, "R": 15, "B": 6, "O": 5, "G": 4, "H": 5, "M": 12}

    assert [each.rule for each in CHECKS] == [
        f"{name}{n}" for name, count in groups.items() for n in range(1, count + 1)
    ]
    assert all(".asciidoc" in each.anchor and len(each.title) > 10 for each in CHECKS)


def test_numbers_are_written_as_they_were_read() -> None:
    text = b'{"a": 0.10, "b": [1.0, 12345678901234567890.123456789, -0.0], "c": "0.10", "d": 7}'

    assert write_json(read_json(text)) == text


def test_a_served_socket_sends_at_once() -> None:
    """Else the body of an answer waits for the acknowledgement of its head: 40 ms on a connection that is kept."""
    with listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
