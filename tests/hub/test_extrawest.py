"""A CPO and an EMSP made with somebody else's library (PyPI `extrawest-ocpi`) roam through our hub.

It deviates from the text in ways that the hub survives: ids in lower case, one object in a list, no ids repeated,
pushes without routing headers, a Location that leads nowhere, HTTP 403 for 401, errors without an envelope.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from emobility.adapters.system import SystemClock
from ocpi_check import objects
from ocpi_check.operating import WattroamOperator
from ocpi_check.wire import Caller, Party, token_header, write_json
from tests.hub.checked import CheckedHub, serving_hub
from tests.hub.world import INTERNAL_TOKEN, until

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = ROOT / "build" / "extrawest" / "bin" / "python"
SCRIPT: Final = Path(__file__).parent / "clients" / "extrawest_platform.py"
CPO, MSP = Party("NL", "EXC"), Party("DE", "EXM")
START_S: Final = 30.0
CARD: Final = "card1"
TOLERANCES: Final = {"appends_to_endpoints": True, "lacks_routing_headers": True, "lists_single_objects": True}


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """A process of theirs."""

    party: Party
    role: str
    origin: str
    client: httpx.AsyncClient

    async def drive(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.client.request(
            method,
            f"{self.origin}/drive/{path}",
            content=write_json(body),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def held(self, module: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.drive("GET", "held"))[module]
        return found

    async def is_up(self) -> bool:
        try:
            return (await self.client.get(f"{self.origin}/drive/held")).status_code == 200
        except httpx.HTTPError:
            return False

    async def register(self, hub: CheckedHub) -> Any:
        caller = Caller()
        operator = WattroamOperator(caller, f"{hub.inner_origin}/hub/admin", INTERNAL_TOKEN)
        asked = {"party_id": str(self.party), "role": self.role, "tolerances": TOLERANCES}
        invited = await operator.invite({**asked, "versions_url": f"{self.origin}/ocpi/versions"})
        await caller.close()
        return await self.drive("POST", "register", {"versions_url": hub.versions_url, "token_a": invited})

    async def call(self, method: str, module: str, role: str, path: str, body: Any, *, to: Party) -> Any:
        headers = {**to.headers("to"), **self.party.headers("from")}
        asked = {"method": method, "module": module, "role": role, "path": path, "body": body, "headers": headers}
        return await self.drive("POST", "call", asked)

    async def push(self, registered: Any, module: str, object_id: str) -> int:
        """Have the library push an object by itself: it knows no routing headers."""
        token = registered["token"]
        receiver = {"endpoints_url": registered["details_url"], "auth_token": token}
        answer = await self.client.post(
            f"{self.origin}/push/2.2.1",
            json={"module_id": module, "object_id": object_id, "receivers": [receiver]},
            headers={"Authorization": token_header(token)},
        )
        pushed: int = answer.json()["receiver_responses"][0]["status_code"]
        return pushed


@asynccontextmanager
async def their_processes(cpo_port: int, msp_port: int) -> AsyncIterator[tuple[Theirs, Theirs]]:
    assert PYTHON.exists(), "make clients installs extrawest-ocpi"
    started = []
    try:
        for role, party, port in (("CPO", CPO, cpo_port), ("EMSP", MSP, msp_port)):
            options = ["--role", role, "--country", party.country_code, "--party", party.party_id, "--port", str(port)]
            started.append(
                await asyncio.create_subprocess_exec(
                    PYTHON, SCRIPT, *options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
        async with httpx.AsyncClient(trust_env=False, timeout=START_S) as client:
            cpo = Theirs(party=CPO, role="CPO", origin=f"http://127.0.0.1:{cpo_port}", client=client)
            msp = Theirs(party=MSP, role="EMSP", origin=f"http://127.0.0.1:{msp_port}", client=client)
            for each in (cpo, msp):
                await until(each.is_up, what=f"{each.role} serves", within_s=START_S)
            yield cpo, msp
    finally:
        for process in started:
            process.kill()
            await process.wait()


async def test_a_charge_between_two_platforms_of_extrawest_roams_through_the_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = SystemClock().now()
    token = objects.token(MSP, CARD, now)
    place = objects.location(CPO, 1, now)
    session = {**objects.session(CPO, MSP, 1, now, "2.2.1"), "cdr_token": objects.cdr_token(MSP, CARD, now)}
    cdr = {**objects.cdr(CPO, MSP, "cdr1", now, "2.2.1"), "cdr_token": objects.cdr_token(MSP, CARD, now)}
    async with serving_hub(monkeypatch) as hub, their_processes(*hub.ports[-2:]) as (cpo, msp):
        as_cpo, as_msp = await cpo.register(hub), await msp.register(hub)
        assert (as_cpo["status_code"], as_msp["status_code"]) == (1000, 1000), (as_cpo, as_msp)
        await msp.drive("PUT", f"held/tokens/{CARD}", token)
        await cpo.drive("PUT", "held/locations/LOC1", place)
        await cpo.drive("PUT", "held/sessions/SESSION1", session)
        await cpo.drive("PUT", "held/cdrs/cdr1", cdr)

        allowed = await cpo.call("POST", "tokens", "SENDER", f"/{CARD}/authorize", {"location_id": "LOC1"}, to=MSP)
        url = f"{msp.origin}/ocpi/emsp/2.2.1/commands/start-1"
        command = {
            "response_url": url,
            "token": token,
            "location_id": "LOC1",
        }
        started = await msp.call("POST", "commands", "RECEIVER", "/START_SESSION", command, to=CPO)
        pushed = (
            await cpo.push(as_cpo, "sessions", "SESSION1"),
            await cpo.push(as_cpo, "cdrs", "cdr1"),
        )

        async def has_result() -> bool:
            return "start-1" in await msp.held("commands")

        await until(has_result, what="the result of START_SESSION reaches the EMSP", within_s=5)
        unknown = await cpo.call("POST", "tokens", "SENDER", "/nobody/authorize", {"location_id": "LOC1"}, to=MSP)
        sessions, cdrs = await msp.held("sessions"), await msp.held("cdrs")

    assert allowed["body"]["data"]["allowed"] == "ALLOWED"
    assert started["body"]["data"]["result"] == "ACCEPTED"
    assert pushed == (200, 200)
    assert (unknown["http"], unknown["body"]["status_code"]) == (404, 2000)
    assert sessions["session1"]["kwh"] == 1.1
    assert cdrs["cdr1"]["total_cost"] == {"excl_vat": 0.33, "incl_vat": 0.4}
