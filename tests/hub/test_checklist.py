"""The checklist of `wattroam ocpi check`, run on our own hub through real sockets; and each check can fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from ocpi_check.checks import CHECKS
from ocpi_check.table import Finding, Verdict
from roaming_hub import presence
from tests.hub.checked import CheckedHub, serving_hub

NOT_IN_221: Final = {"T9", "M11"}
"""Only 2.3.0 has them."""
SPOILED_OTHERWISE: Final = {"T3", "T7", "T13", "H3"}
"""About versions, envelopes and calls by the hub, about which this liar does not lie."""


def described(found: Mapping[str, Finding], verdict: Verdict) -> dict[str, str]:
    return {
        rule: f"{each.check.title}: sent {each.sent!r}, expected {each.expected!r}, got {each.got!r}"
        for rule, each in found.items()
        if each.verdict is verdict
    }


@pytest.mark.parametrize("version", ["2.2.1", "2.3.0"])
async def test_the_hub_meets_every_line_of_the_checklist(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_hub(monkeypatch) as hub:
        found = await hub.checked(version)

    failed, skipped = described(found, Verdict.FAIL), described(found, Verdict.SKIP)
    assert failed == {}, json.dumps(failed, indent=1)
    assert set(skipped) == (NOT_IN_221 if version == "2.2.1" else set()), json.dumps(skipped, indent=1)
    assert len(found) == len(CHECKS) == 80


# Each check can fail: a proxy before the hub spoils what passes


@dataclass
class Passing:
    """A request and its answer on their way through the proxy."""

    method: str
    path: str
    sent_headers: dict[str, str]
    sent_body: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def envelope(self) -> dict[str, Any]:
        value = json.loads(self.body or b"{}")
        return value if isinstance(value, dict) else {}

    def say(self, **changes: Any) -> None:
        self.body = json.dumps({**self.envelope, **changes}).encode()

    @property
    def data(self) -> Any:
        return self.envelope.get("data")

    @property
    def is_module(self) -> bool:
        return "/2.2.1/" in self.path and "credentials" not in self.path


Spoil = Callable[[Passing], None]


class SpoilingProxy:
    """Stands before a hub; `before` changes requests, `after` answers."""

    def __init__(self, hub_origin: str) -> None:
        self._hub_origin = hub_origin
        self._client = httpx.AsyncClient(trust_env=False)
        self.before: Spoil = lambda _: None
        self.after: Spoil = lambda _: None

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        target = request.scope["raw_path"].decode() + (f"?{request.url.query}" if request.url.query else "")
        unsent = {"host", "content-length", "connection"}
        passing = Passing(
            method=request.method,
            path=target,
            sent_headers={name: value for name, value in request.headers.items() if name not in unsent},
            sent_body=await request.body(),
        )
        self.before(passing)
        answer = await self._client.request(
            passing.method,
            f"{self._hub_origin}{passing.path}",
            headers=passing.sent_headers,
            content=passing.sent_body,
            timeout=30,
        )
        passing.status, passing.body = answer.status_code, answer.content
        passing.headers = {
            name: value for name, value in answer.headers.items() if name not in {"content-length", "date", "server"}
        }
        self.after(passing)
        await Response(passing.body, status_code=passing.status, headers=passing.headers)(scope, receive, send)

    def rest(self) -> None:
        self.before = self.after = lambda _: None

    async def close(self) -> None:
        await self._client.aclose()


def http(was: int, becomes: int) -> Spoil:
    def spoil(passing: Passing) -> None:
        if passing.status == was:
            passing.status = becomes

    return spoil


def code(was: int, becomes: int) -> Spoil:
    def spoil(passing: Passing) -> None:
        if passing.envelope.get("status_code") == was:
            passing.say(status_code=becomes)

    return spoil


def without(name: str) -> Spoil:
    def spoil(passing: Passing) -> None:
        passing.headers.pop(name, None)

    return spoil


def header(name: str, value: str) -> Spoil:
    def spoil(passing: Passing) -> None:
        if passing.is_module:
            passing.headers[name] = value

    return spoil


def listed(change: Callable[[list[Any]], list[Any]]) -> Spoil:
    def spoil(passing: Passing) -> None:
        if isinstance(passing.data, list) and passing.is_module:
            passing.say(data=change(passing.data))

    return spoil


def said(name: str, change: Callable[[Any], Any]) -> Spoil:
    """Change a member of `data` wherever it stands."""

    def spoil(passing: Passing) -> None:
        if isinstance(passing.data, dict) and name in passing.data:
            passing.say(data={**passing.data, name: change(passing.data[name])})

    return spoil


def as_floats(passing: Passing) -> None:
    """What a hub does that reads JSON into doubles."""
    try:
        passing.sent_body = json.dumps(json.loads(passing.sent_body)).encode() if passing.sent_body else b""
    except ValueError:
        return


def no_timestamp(passing: Passing) -> None:
    envelope = passing.envelope
    envelope.pop("timestamp", None)
    passing.body = json.dumps(envelope).encode()


def stack_trace(passing: Passing) -> None:
    passing.say(status_message='Traceback (most recent call last):\n File "hub.py", line 1')


def other_correlation(passing: Passing) -> None:
    passing.sent_headers["x-correlation-id"] = "another"


def own_sender(passing: Passing) -> None:
    passing.sent_headers.pop("ocpi-from-party-id", None)
    passing.sent_headers.pop("ocpi-from-country-code", None)


def empty_link(passing: Passing) -> None:
    passing.headers.setdefault("link", "")


def one_version(passing: Passing) -> None:
    if passing.path.endswith("/versions") and isinstance(passing.data, list):
        passing.say(data=[each for each in passing.data if each["version"] == "2.2.1"])


def nowhere(passing: Passing) -> None:
    if passing.is_module:
        passing.path = "/nowhere"


def lie(status: int, said_code: int) -> Spoil:
    def spoil(passing: Passing) -> None:
        if passing.path == "/nowhere":
            passing.status, passing.headers = status, {}
            passing.body = json.dumps({"status_code": said_code, "timestamp": "2026-03-01T12:00:00Z"}).encode()

    return spoil


def taken(passing: Passing) -> None:
    if passing.status == 404:
        passing.status = 200
        passing.say(status_code=1000)


def lower_case(passing: Passing) -> None:
    if isinstance(passing.data, dict) and "id" in passing.data:
        passing.say(data={**passing.data, "id": str(passing.data["id"]).lower()})


ANSWERS: Final[list[tuple[str, Spoil]]] = [
    ("T1", http(401, 403)),
    ("T3", http(401, 200)),
    ("T5", http(400, 200)),
    ("T6", http(200, 422)),
    ("T7", no_timestamp),
    ("T8", without("x-correlation-id")),
    ("T11", http(201, 200)),
    ("T12", lower_case),
    ("T13", stack_trace),
    ("P1", without("x-limit")),
    ("P2", empty_link),
    ("P4", listed(lambda found: found[:1])),
    ("P7", listed(lambda found: found[::-1])),
    ("C1", one_version),
    ("C2", said("endpoints", lambda found: [*found, found[0]])),
    ("C3", said("roles", lambda _: [])),
    ("C4", code(3001, 3000)),
    ("C7", http(405, 200)),
    ("C9", http(401, 200)),
    ("C10", http(405, 200)),
    ("C13", said("roles", lambda found: [{**each, "role": "OTHER"} for each in found])),
    ("R2", code(2001, 1000)),
    ("R4", code(4002, 4000)),
    ("R5", code(4003, 4000)),
    ("R7", code(2003, 2000)),
    ("R8", without("ocpi-to-party-id")),
    ("R9", code(2001, 1000)),
    ("R10", lambda passing: passing.headers.update({"ocpi-from-party-id": "HUB"})),
    ("R14", taken),
    ("B6", code(2001, 1000)),
    ("H1", listed(lambda found: [{**each, "status": "PLANNED"} for each in found])),
    ("H5", listed(lambda found: [{**each, "status": "OFFLINE"} for each in found])),
    ("M3", code(2001, 1000)),
    ("M5", code(2004, 2000)),
    ("M6", code(2003, 1000)),
    ("M7", without("location")),
]
REQUESTS: Final[list[tuple[str, Spoil]]] = [
    ("R1", other_correlation),
    ("R11", as_floats),
    ("R8", own_sender),
]


@asynccontextmanager
async def spoiled_hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[CheckedHub, SpoilingProxy]]:
    async with serving_hub(monkeypatch, has_proxy=True) as hub:
        proxy = SpoilingProxy(hub.inner_origin)
        async with hub.serving(proxy.app):
            yield replace(hub, arrival_s=0.2), proxy
        await proxy.close()


@pytest.mark.long
async def test_a_spoiled_answer_or_request_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts: dict[str, Verdict] = {}
    async with spoiled_hub(monkeypatch) as (hub, proxy):
        for where, cases in (("after", ANSWERS), ("before", REQUESTS)):
            for rule, spoil in cases:
                setattr(proxy, where, spoil)
                # Parties leave a hub that is unspoiled again: a later case shall not find what is left of them.
                found = await hub.checked("2.2.1", only=[rule], after_each=lambda _: proxy.rest())
                verdicts[rule] = found[rule].verdict

        monkeypatch.setattr(presence, "PROBE_S", 300.0)
        verdicts["H3"] = (await hub.checked("2.2.1", only=["H3"]))["H3"].verdict

    assert {rule for rule, verdict in verdicts.items() if verdict is not Verdict.FAIL} == set()


async def test_no_check_passes_whatever_the_hub_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one that says yes to all and one that says no to all, each check of a module fails at least once."""
    about_modules = {each.rule for each in CHECKS if each.rule[0] != "C"} - NOT_IN_221 - SPOILED_OTHERWISE
    failed: set[str] = set()
    async with spoiled_hub(monkeypatch) as (hub, proxy):
        for status, said_code in ((200, 1000), (404, 2001)):
            proxy.before, proxy.after = nowhere, lie(status, said_code)
            found = await hub.checked("2.2.1", only=sorted(about_modules - failed))
            failed |= set(described(found, Verdict.FAIL))

    assert about_modules - failed == set()
