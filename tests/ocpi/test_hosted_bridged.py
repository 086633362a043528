"""A party of ours that works in 2.2.1, beside a partner of 2.3.0 or 2.1.1: client and host bridge at the edge."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from emobility.adapters.memory import MemoryHttp, SeededRandomness, VirtualClock
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.bridging import ANSWER_LOSSES_HEADER, LOSSES_HEADER, NotBridgeable
from emobility.protocols.ocpi.client import PeerFailed
from emobility.protocols.ocpi.headers import authorization
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.peers import PeerTolerances, tolerate
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.specified import faults
from emobility.protocols.ocpi.v221 import InterfaceRole
from tests.hub.world import CPO, START, anyone, memory_ports, status_code
from tests.ocpi import documents as written

MSP = PartyId("DE-MSP")
OURS, THEIRS = "http://ours.test", "http://theirs.test"
T = "2026-03-01T12:00:00Z"


@dataclass
class Partner:
    """An MSP of one version."""

    version: str
    answer: Any = None
    heard: list[tuple[str, str, Any]] = field(default_factory=list)
    token_b: str = ""

    async def serve(self, request: Request) -> Response:
        path = request.url.path.removeprefix(f"/{self.version}")
        if path == "/versions":
            return enveloped([{"version": self.version, "url": f"{THEIRS}/{self.version}"}])
        if path == "/credentials":
            self.token_b = (await request.json())["token"]
            role = {"role": "EMSP", "country_code": "DE", "party_id": "MSP", "business_details": {"name": "MSP"}}
            own = {"token": "token-c", "url": f"{THEIRS}/versions"}
            return enveloped(own | (role if self.version == "2.1.1" else {"roles": [role]}))
        if not path:
            modules = ("credentials", "cdrs", "tokens", "commands", "locations")
            return enveloped({"version": self.version, "endpoints": [self.endpoint(module) for module in modules]})
        body = await request.body()
        self.heard.append((request.method, path, json.loads(body, parse_float=Decimal) if body else None))
        return enveloped(self.answer)

    def endpoint(self, module: str) -> Any:
        listed = {"identifier": module, "url": f"{THEIRS}/{self.version}/{module}"}
        side = "SENDER" if module in {"tokens", "commands"} else "RECEIVER"
        return listed if self.version == "2.1.1" else listed | {"role": side}

    async def call(self, http: MemoryHttp, method: str, path: str, body: Any = None) -> HttpResponse:
        payload = b"" if body is None else json.dumps(body).encode()
        url = f"{OURS}/cpo/{CPO}/ocpi/{self.version}/{path}"
        return await http.request(method, url, headers={"Authorization": authorization(self.token_b)}, body=payload)


def enveloped(data: Any) -> Response:
    return JSONResponse({"data": data, "status_code": 1000, "timestamp": T})


@dataclass
class Here:
    http: MemoryHttp
    host: OCPIHost
    partner: Partner
    calls: list[OCPICall]


@asynccontextmanager
async def beside(version: str) -> AsyncIterator[Here]:
    http, calls, partner = MemoryHttp(), list[OCPICall](), Partner(version)
    tokens = Interface("tokens", InterfaceRole.RECEIVER)
    locations = Interface("locations", InterfaceRole.SENDER)

    @tokens.route("PUT", "/{country_code}/{party_id}/{token_uid}")
    async def put_token(call: OCPICall) -> Reply:
        calls.append(call)
        call.read_owned(v221.Token, object_id=call.path["token_uid"], id_field="uid")
        return Reply()

    @locations.route("GET")
    async def list_locations(call: OCPICall) -> Reply:
        calls.append(call)
        return call.paged([v221.read(json.dumps(written.LOCATION).encode(), v221.Location)], page=call.page(), total=3)

    ports = memory_ports(http, VirtualClock(START), SeededRandomness(7))
    host = OCPIHost(ports, service="cpo", base_url=f"{OURS}/cpo", interfaces=[tokens, locations])
    inner = Starlette()
    host.mount_on(inner, authorize=anyone)
    http.mount(OURS, Starlette(routes=[Mount("/cpo", app=inner)]))
    methods = ["GET", "POST", "PUT"]
    http.mount(THEIRS, Starlette(routes=[Route("/{rest:path}", partner.serve, methods=methods)]))
    async with ports.units.begin() as unit:
        await host.add_party(unit, CPO, role=Role.CPO, business_name="TNM")
        await unit.commit()
    await host.register(
        CPO,
        versions_url=f"{THEIRS}/versions",
        token_a="a",
        peer_id="msp",
        expected_party=MSP,
        expected_role=Role.EMSP,
        tolerances=PeerTolerances(speaks_2_1_1=True),
    )
    yield Here(http, host, partner, calls)


async def posted(here: Here, cdr: Any) -> Any:
    client = await here.host.connect(CPO, MSP)
    body = v221.read(json.dumps(cdr).encode(), v221.CDR)
    await client.post("cdrs", InterfaceRole.RECEIVER, "", body, to_party=MSP, correlation_id="c")
    return here.partner.heard[-1][2]


@pytest.mark.parametrize("version", ["2.1.1", "2.3.0"])
async def test_what_we_send_arrives_in_the_partners_version(version: str) -> None:
    async with beside(version) as here:
        heard = await posted(here, written.CDR | {"tariffs": []})

    assert faults(heard, "CDR", version) == []
    total = heard["total_cost"] if version == "2.1.1" else heard["total_cost"]["before_taxes"]
    assert total == Decimal("4.44")


async def test_what_the_partner_can_not_be_told_is_refused_before_it_is_called() -> None:
    async with beside("2.1.1") as here:
        with pytest.raises(NotBridgeable, match="credit"):
            await posted(here, written.CDR | {"credit": True, "credit_reference_id": "C0"})

    assert here.partner.heard == []


async def test_what_comes_in_2_3_0_is_handled_in_ours_and_its_loss_told() -> None:
    async with beside("2.3.0") as here:
        pushed = await here.partner.call(
            here.http, "PUT", "tokens/receiver/DE/MSP/012345", written.TOKEN | {"type": "EMAID"}
        )

    assert status_code(pushed) == 1000
    assert pushed.headers[LOSSES_HEADER.lower()] == "1, NO_VALUE /type"
    assert json.loads(here.calls[0].body)["type"] == "OTHER"


async def test_what_we_answer_is_in_the_partners_version_and_its_pages_too() -> None:
    async with beside("2.1.1") as here:
        listed = await here.partner.call(here.http, "GET", "locations/sender?limit=1")

    [location] = json.loads(listed.body)["data"]
    assert faults(location, "Location", "2.1.1") == []
    assert f"/{CPO}/ocpi/2.1.1/locations/sender?" in listed.headers["link"]
    assert listed.headers[ANSWER_LOSSES_HEADER.lower()] == (
        "2, NO_FIELD /0/state, NO_FIELD /0/evses/0/connectors/0/max_electric_power"
    )


async def test_what_the_partner_answers_is_read_in_ours() -> None:
    async with beside("2.3.0") as here:
        here.partner.answer = {"allowed": "ALLOWED", "token": written.TOKEN | {"type": "EMAID"}}
        client = await here.host.connect(CPO, MSP)
        answer = await client.post(
            "tokens", InterfaceRole.SENDER, "012345/authorize", {}, to_party=MSP, correlation_id="c"
        )
        info = answer.as_(v221.AuthorizationInfo)

    assert info.token.type.value == "OTHER"


async def test_an_answer_that_ours_can_not_say_is_a_failure_of_the_partner() -> None:
    async with beside("2.3.0") as here:
        here.partner.answer = written.EVSE_230 | {"connectors": [written.CONNECTOR_230]}
        client = await here.host.connect(CPO, MSP)
        with pytest.raises(PeerFailed):
            await client.get("locations", InterfaceRole.RECEIVER, "NL/TNM/L1/E1", to_party=MSP, correlation_id="c")


async def test_versions_that_a_partner_may_not_speak_are_404() -> None:
    async with beside("2.3.0") as here:
        await here.host.connect(CPO, MSP)
        here.partner.version = "2.1.1"
        async with here.host.ports.units.begin() as unit:
            await tolerate(unit, CPO, "msp", PeerTolerances())
            await unit.commit()
        answer = await here.partner.call(here.http, "GET", "locations/sender")

    assert answer.status == 404
    assert here.calls == []
