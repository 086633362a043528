"""A credentials token of one party never reads or writes another's objects: every route, role and party.

The routes are those that hub, CPO, MSP and NSP serve, read from their hosts, so that a new one is in it at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, memory_adapters
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.signing import Ed25519Signer
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.headers import Routing, authorization, routing_headers
from emobility.protocols.ocpi.host import OCPIHost
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
from ocpi_check import objects
from ocpi_check.mock_modules import COMMANDS
from ocpi_check.wire import Party, write_json
from roaming_hub import rate_limits
from roaming_hub.service import HUB
from roaming_hub.service import build as build_hub
from services.charging_operations.service import build as build_operations
from services.driver_mobility.service import build as build_mobility
from services.navigation.service import build as build_navigation
from tests.hub.world import settings

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORIGIN: Final = "http://hub.test"
OWN: Final = {
    "operations": (PartyId("NL-AAA"), PartyId("NL-BBB")),
    "mobility": (PartyId("DE-AAA"), PartyId("DE-BBB")),
    "navigation": (PartyId("BE-AAA"), PartyId("BE-BBB")),
    "hub": (HUB,),
}
ROLES: Final = {"operations": Role.CPO, "mobility": Role.EMSP, "navigation": Role.NSP}
OPPOSITE: Final = {"operations": Role.EMSP, "mobility": Role.CPO, "navigation": Role.CPO, "hub": Role.CPO}
VICTIM, ATTACKER = PartyId("FR-VIC"), PartyId("FR-ATT")


@dataclass(frozen=True)
class Served:
    """A route of a service."""

    service: str
    own_party: PartyId
    method: str
    path: str

    def url(self, owner: PartyId = VICTIM) -> str:
        path = self.path.replace("{country_code}", owner.country_code).replace("{party_id}", owner.party_id)
        for name in ("location_id", "tariff_id", "session_id", "cdr_id", "token_uid", "evse_uid", "connector_id"):
            path = path.replace(f"{{{name}}}", "X1")
        path = path.replace("{command}", COMMANDS[0]).replace("{command_id}", "X1").replace("{resource_id}", "ab" * 16)
        path = path.replace("{module}", "tariffs").replace("{side}", "receiver").replace("{rest:path}", "FR/VIC/X1")
        base = f"/{self.service}" if self.service == "hub" else f"/{self.service}/{self.own_party}"
        return f"{ORIGIN}{base}/ocpi{path}"


@dataclass(frozen=True)
class Everything:
    """All services in one process."""

    http: MemoryHttp
    ports: Ports
    hosts: dict[str, OCPIHost]

    def routes(self) -> Iterator[Served]:
        for service, host in self.hosts.items():
            for route in host.app.routes:
                assert isinstance(route, Route)
                if route.path.rstrip("/").count("/") < 2:
                    continue  # versions and their details, which TOKEN_A opens
                if "2.2.1" not in route.path and "credentials" not in route.path:
                    continue  # the same handlers behind the same door, bridged
                for method in sorted(route.methods or ()):
                    if method != "HEAD":
                        yield Served(service, OWN[service][0], method, route.path)

    async def call(
        self,
        method: str,
        url: str,
        token: str | None,
        *,
        sender: PartyId | None = None,
        to: PartyId | None = None,
        body: Any = None,
    ) -> HttpResponse:
        headers = {} if token is None else {"Authorization": authorization(token)}
        headers |= routing_headers(Routing(to_party=to, from_party=sender))
        return await self.http.request(method, url, headers=headers, body=b"" if body is None else write_json(body))


def token_of(service: str, own_party: PartyId, peer: PartyId, use: str = "c") -> str:
    return f"{service}-{own_party}-{peer}-{use}"


@asynccontextmanager
async def everything() -> AsyncIterator[Everything]:
    clock, randomness, http = VirtualClock(NOW), SeededRandomness(7), MemoryHttp()
    adapters = memory_adapters(master_key=b"k" * 32, clock=clock, randomness=randomness)
    ports = Ports(
        clock=clock,
        timer=LoopTimer(),
        randomness=randomness,
        event_log=adapters.event_log,
        units=adapters.units,
        vault=adapters.vault,
        http=http,
        signer=Ed25519Signer(b"k" * 32),
        payments=SandboxPayments(adapters.units),
    )
    known = settings(ORIGIN)
    services: dict[str, Any] = {
        "operations": build_operations(known, ports),
        "mobility": build_mobility(known, ports),
        "navigation": build_navigation(known, ports),
        "hub": build_hub(known, ports),
    }
    http.mount(ORIGIN, Starlette(routes=[Mount(f"/{name}", app=each.app) for name, each in services.items()]))
    hosts = {name: each.host for name, each in services.items()}
    async with ports.units.begin() as unit:
        for service, parties in OWN.items():
            for own_party in parties:
                if service in ROLES:
                    await hosts[service].add_party(unit, own_party, role=ROLES[service], business_name="Own")
                for party in (VICTIM, ATTACKER):
                    await registered(unit, ports, service, own_party, party)
        await unit.commit()
    yield Everything(http, ports, hosts)


async def registered(unit: Any, ports: Ports, service: str, own_party: PartyId, party: PartyId) -> None:
    """Enter a platform of one party as registered with one of ours."""
    endpoints = tuple(
        PeerEndpoint(module=module, role=side, url=f"https://{party.code.lower()}.test/{module}")
        for module in ("tariffs", "locations", "sessions", "cdrs", "tokens", "commands")
        for side in InterfaceRole
    )
    peer = Peer(
        own_party=own_party,
        peer_id=party.code,
        state=PeerState.REGISTERED,
        origin=f"https://{party.code.lower()}.test",
        versions_url=f"https://{party.code.lower()}.test/versions",
        endpoints=endpoints,
        outgoing_token=await ports.vault.seal("token-b", identifier=f"peer:{own_party}:{party}"),
        last_updated=NOW,
    )
    await unit.table(PEER).put(peer)
    role = PeerRole(
        own_party=own_party,
        party_id=party,
        role=OPPOSITE[service],
        peer_id=party.code,
        business_name="Theirs",
        last_updated=NOW,
    )
    await unit.table(PEER_ROLE).put(role)
    await add_incoming_token(unit, peer, token_of(service, own_party, party), TokenUse.REQUESTS)
    await add_incoming_token(unit, peer, token_of(service, own_party, party, "a"), TokenUse.REGISTRATION)


def code(answer: HttpResponse) -> int:
    return int(msgspec.json.decode(answer.body)["status_code"])


def is_refused(answer: HttpResponse) -> bool:
    return answer.status in {401, 403, 404, 405} or 2000 <= code(answer) < 5000


async def test_no_route_opens_to_a_token_that_is_not_its_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "BAD_TOKEN_COST", 0)  # else so many bad tokens from one address are 429
    opened: list[str] = []
    count = 0
    async with everything() as here:
        for route in here.routes():
            siblings = [each for each in OWN[route.service] if each != route.own_party]
            elsewhere = [token_of(route.service, each, VICTIM) for each in siblings]
            other = "mobility" if route.service == "operations" else "operations"
            elsewhere.append(token_of(other, OWN[other][0], VICTIM))
            token_a = [] if "credentials" in route.path else [token_of(route.service, route.own_party, VICTIM, "a")]
            for token in (None, "unknown", *elsewhere, *token_a):
                answer = await here.call(route.method, route.url(), token, sender=VICTIM)
                count += 1
                if answer.status != 401:
                    opened.append(f"{route} with {token}: HTTP {answer.status}")

    assert opened == []
    assert count > 200


async def test_no_route_takes_a_party_in_anothers_name_or_place() -> None:
    passed: list[str] = []
    count = 0
    async with everything() as here:
        for route in here.routes():
            if "credentials" in route.path:
                continue
            token = token_of(route.service, route.own_party, ATTACKER)
            answers = [await here.call(route.method, route.url(), token, sender=VICTIM, body={"id": "X1"})]
            if "{party_id}" in route.path or route.service == "hub":
                to = VICTIM if route.service == "hub" else None
                own = [await here.call(route.method, route.url(), token, sender=ATTACKER, to=to, body={"id": "X1"})]
                # To the hub this is a message of the attacker's own to the victim; the victim's platform decides.
                answers += own if route.service != "hub" else []
            count += len(answers)
            is_open = "hubclientinfo" in route.path
            passed += [f"{route}: {each}" for each in answers if not is_refused(each) and not is_open]

    assert passed == []
    assert count > 40


@pytest.mark.parametrize(
    ("service", "module"),
    [
        ("operations", "tokens"),
        ("mobility", "locations"),
        ("mobility", "tariffs"),
        ("navigation", "locations"),
        ("navigation", "tariffs"),
    ],
)
async def test_what_one_party_pushed_another_neither_reads_nor_changes_nor_removes(service: str, module: str) -> None:
    victim, own = Party("FR", "VIC"), OWN[service][0]
    pushed: dict[str, Any] = {
        "tokens": objects.token(victim, "X1", NOW),
        "locations": {**objects.location(victim, 1, NOW), "id": "X1"},
        "tariffs": {**objects.tariff(victim, 1, NOW, "2.2.1"), "id": "X1"},
    }[module]
    async with everything() as here:
        base = f"{ORIGIN}/{service}/{own}/ocpi/2.2.1/{module}/receiver"
        theirs, attackers = token_of(service, own, VICTIM), token_of(service, own, ATTACKER)
        taken = await here.call("PUT", f"{base}/FR/VIC/X1", theirs, sender=VICTIM, body=pushed)
        before = await here.call("GET", f"{base}/FR/VIC/X1", theirs, sender=VICTIM)

        change = {**pushed, "last_updated": "2026-03-02T00:00:00Z", "status": "COMPLETED", "name": "Stolen"}
        attacks = [
            await here.call(method, f"{base}/FR/{path}/X1", attackers, sender=sender, body=body)
            for path in ("VIC", "vic")
            for sender in (ATTACKER, None, VICTIM)
            for method, body in (("GET", None), ("PUT", change), ("PATCH", change), ("DELETE", None))
        ]
        in_body = await here.call("PUT", f"{base}/FR/ATT/X1", attackers, sender=ATTACKER, body=change)
        after = await here.call("GET", f"{base}/FR/VIC/X1", theirs, sender=VICTIM)

    assert (taken.status, code(taken)) in {(201, 1000), (200, 1000)}, taken
    assert all(is_refused(each) for each in [*attacks, in_body])
    assert all(each.status in {404, 405} or code(each) == 2001 for each in attacks)
    assert msgspec.json.decode(before.body)["data"] == msgspec.json.decode(after.body)["data"]
