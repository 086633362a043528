"""Wherever a party may name a URL - versions, endpoints, response_url, a page, a logo - the hub never calls inside.

The hub runs on the real guarded client; what a host resolves to and what is connected to are the test's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.adapters.http_egress import GuardedHttpClient, is_public
from emobility.adapters.memory import MemoryHttp, SeededRandomness, VirtualClock
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi.headers import Routing, authorization, routing_headers
from emobility.protocols.ocpi.peers import (
    PEER,
    PEER_ROLE,
    Peer,
    PeerEndpoint,
    PeerRole,
    PeerState,
    TokenUse,
    add_incoming_token,
)
from emobility.protocols.ocpi.v221 import InterfaceRole
from ocpi_check.wire import write_json
from roaming_hub.service import HUB, RoamingHub, build
from tests.hub.world import HUB_ORIGIN, INTERNAL_TOKEN, START, memory_ports, settings

PUBLIC: Final = "93.184.216.34"
NAME: Final = "https://partner.example"
CPO, MSP = PartyId("NL-TNM"), PartyId("DE-MSP")
INSIDE: Final[list[list[str]]] = [
    ["127.0.0.1"],
    ["169.254.169.254"],
    ["fd00:ec2::254"],
    ["10.0.0.5"],
    ["::1"],
    ["::ffff:127.0.0.1"],
    ["::ffff:a9fe:a9fe"],
    ["64:ff9b::7f00:1"],
    ["2002:7f00:1::"],
    ["168.63.129.16"],
    ["100.64.0.1"],
    ["0.0.0.0"],  # noqa: S104 - an address to refuse
    [PUBLIC, "127.0.0.1"],
]


@dataclass
class Network:
    """Resolves one name, and remembers what was connected to; only `here`, a loopback port, really answers."""

    addresses: list[list[str]]
    here: int | None = None
    connected: list[tuple[str, int]] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        del port
        assert host == "partner.example", host
        return self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]

    async def connect(self, address: str, port: int) -> socket.socket:
        self.connected.append((address, port))
        if port != self.here:
            raise ConnectionRefusedError(address)
        connecting = socket.socket()
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, (address, port))
        return connecting

    def inside(self) -> list[tuple[str, int]]:
        """What was connected to and is neither public nor the party's own."""
        return [
            (address, port)
            for address, port in self.connected
            if port != self.here and not is_public(ipaddress.ip_address(address))
        ]


@dataclass
class Hub:
    """A hub that calls out through the guarded client."""

    hub: RoamingHub
    front: MemoryHttp
    network: Network

    async def call(self, method: str, path: str, headers: dict[str, str], body: Any = None) -> HttpResponse:
        url = path if path.startswith("http") else f"{HUB_ORIGIN}/hub{path}"
        return await self.front.request(method, url, headers=headers, body=b"" if body is None else write_json(body))

    async def invite(self, versions_url: str) -> HttpResponse:
        asked = {"party_id": CPO.code, "role": "CPO", "versions_url": versions_url}
        headers = {"Authorization": f"Bearer {INTERNAL_TOKEN}", "Content-Type": "application/json"}
        return await self.call("POST", "/admin/registrations", headers, asked)

    async def register(self, versions_url: str, **more: Any) -> HttpResponse:
        token_a = json.loads((await self.invite(versions_url)).body)["token_a"]
        role = {"role": "CPO", "country_code": "NL", "party_id": "TNM", "business_details": {"name": "TNM", **more}}
        posted = {"token": "token-b", "url": versions_url, "roles": [role]}
        return await self.call("POST", "/ocpi/2.2.1/credentials", {"Authorization": authorization(token_a)}, posted)

    async def enter(self, party: PartyId, role: Role, origin: str) -> None:
        """Enter a party as registered: its endpoints were judged then, its name may lead elsewhere now."""
        ports = self.hub.ports
        peer = Peer(
            own_party=HUB,
            peer_id=party.code,
            state=PeerState.REGISTERED,
            origin=origin,
            versions_url=f"{origin}/versions",
            endpoints=tuple(
                PeerEndpoint(module=module, role=side, url=f"{origin}/{module}")
                for module in ("tariffs", "commands")
                for side in InterfaceRole
            ),
            outgoing_token=await ports.vault.seal("token-b", identifier=f"peer:{party}"),
            last_updated=START,
        )
        ports.http.allow_origin(origin)
        async with ports.units.begin() as unit:
            await unit.table(PEER).put(peer)
            await unit.table(PEER_ROLE).put(
                PeerRole(
                    own_party=HUB,
                    party_id=party,
                    role=role,
                    peer_id=party.code,
                    business_name=party.code,
                    last_updated=START,
                )
            )
            await add_incoming_token(unit, peer, f"token-of-{party}", TokenUse.REQUESTS)
            await unit.commit()

    async def send(self, method: str, path: str, sender: PartyId, to: PartyId, body: Any = None) -> HttpResponse:
        headers = {
            "Authorization": authorization(f"token-of-{sender}"),
            **routing_headers(Routing(to_party=to, from_party=sender)),
        }
        return await self.call(method, path, headers, body)


@asynccontextmanager
async def guarded_hub(network: Network) -> AsyncIterator[Hub]:
    embedded = [] if network.here is None else [f"http://127.0.0.1:{network.here}"]
    async with GuardedHttpClient(
        embedded_origins=embedded, resolver=network.resolve, connect=network.connect
    ) as client:
        hub = build(settings(), memory_ports(client, VirtualClock(START), SeededRandomness(7)))
        front = MemoryHttp()
        front.mount(HUB_ORIGIN, Starlette(routes=[Mount("/hub", app=hub.app)]))
        yield Hub(hub, front, network)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """Serve one answer to whatever is asked; yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in {b"\r\n", b""}:
            pass
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def code(answer: HttpResponse) -> int:
    return int(json.loads(answer.body)["status_code"])


async def test_versions_whose_name_leads_inside_are_not_fetched() -> None:
    async with guarded_hub(Network([])) as here:
        for addresses in INSIDE:
            here.network.addresses = [addresses]
            answer = await here.register(f"{NAME}/versions")

            assert code(answer) == 3001, addresses
            assert here.network.connected == [], addresses


async def test_an_endpoint_whose_name_leads_inside_by_now_is_not_called() -> None:
    async with guarded_hub(Network([])) as here:
        await here.enter(CPO, Role.CPO, NAME)
        await here.enter(MSP, Role.EMSP, NAME)
        for addresses in INSIDE:
            here.network.addresses = [addresses]

            pushed = await here.send("PUT", "/ocpi/2.2.1/tariffs/receiver/NL/TNM/T1", CPO, MSP, {"id": "T1"})
            pulled = await here.send("GET", "/ocpi/2.2.1/tariffs/sender", MSP, CPO)

            assert (code(pushed), code(pulled)) == (4003, 4003), addresses
            assert here.network.connected == [], addresses


async def test_a_name_that_changes_between_two_calls_is_judged_at_each() -> None:
    """Rebinding: public when it registers, inside when it is called."""
    async with guarded_hub(Network([[PUBLIC], ["127.0.0.1"]])) as here:
        await here.enter(CPO, Role.CPO, NAME)
        await here.enter(MSP, Role.EMSP, NAME)
        for _ in range(3):
            await here.send("PUT", "/ocpi/2.2.1/tariffs/receiver/NL/TNM/T1", CPO, MSP, {"id": "T1"})

        assert here.network.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_leads_nobody_inside(status: str) -> None:
    redirect = (
        f"HTTP/1.1 {status}\r\nLocation: http://169.254.169.254/latest/meta-data\r\nContent-Length: 0\r\n\r\n".encode()
    )
    async with answering(redirect) as port, guarded_hub(Network([[PUBLIC]], here=port)) as here:
        origin = f"http://127.0.0.1:{port}"
        registered = await here.register(f"{origin}/versions")
        await here.enter(CPO, Role.CPO, origin)
        await here.enter(MSP, Role.EMSP, origin)
        forwarded = await here.send("PUT", "/ocpi/2.2.1/tariffs/receiver/NL/TNM/T1", CPO, MSP, {"id": "T1"})

        assert code(registered) == 3001
        assert code(forwarded) == 4000
        assert "location" not in forwarded.headers
        assert here.network.inside() == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1:5432/",
        "https://partner.example@127.0.0.1/",
        "https://partner.example.evil.example/",
        "http://partner.example/",
        "https://partner.example:8443/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
    ],
)
async def test_a_url_in_a_command_or_an_answer_leads_nobody_elsewhere(url: str) -> None:
    page = b'{"status_code":1000,"data":[],"timestamp":"2026-03-01T12:00:00Z"}'
    head = f'HTTP/1.1 200 OK\r\nLink: <{url}>; rel="next"\r\nLocation: {url}\r\nContent-Length: {len(page)}\r\n\r\n'
    async with answering(head.encode() + page) as port, guarded_hub(Network([[PUBLIC]], here=port)) as here:
        origin = f"http://127.0.0.1:{port}"
        await here.enter(CPO, Role.CPO, origin)
        await here.enter(MSP, Role.EMSP, NAME)

        command = await here.send(
            "POST", "/ocpi/2.2.1/commands/receiver/START_SESSION", MSP, CPO, {"response_url": url}
        )
        listed = await here.send("GET", "/ocpi/2.2.1/tariffs/sender", MSP, CPO)

        assert code(command) == 2001
        assert code(listed) == 4000
        assert url not in str(listed.headers)
        assert here.network.inside() == []


async def test_a_logo_and_a_website_are_never_fetched() -> None:
    async with guarded_hub(Network([[PUBLIC]])) as here:
        logo = {"url": "http://169.254.169.254/logo.png", "category": "OPERATOR", "type": "png"}
        answer = await here.register(f"{NAME}/versions", logo=logo, website="http://127.0.0.1:5432/")

        assert code(answer) == 3001  # its versions are not there, and nothing else was asked for
        assert set(here.network.connected) == {(PUBLIC, 443)}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/versions", "https://169.254.169.254/", "ftp://partner.example/"])
async def test_an_operator_can_not_register_an_origin_inside_either(url: str) -> None:
    async with guarded_hub(Network([[PUBLIC]])) as here:
        invited = await here.invite(url)
        if invited.status == 201:
            answer = await here.register(url)
            assert code(answer) == 3001

        assert here.network.connected == []
