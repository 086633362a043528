"""A hub and platforms around it, in memory: real hosts and handshakes, receivers that record what reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, memory_adapters
from emobility.adapters.signing import Ed25519Signer
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpClient, HttpResponse
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.headers import authorization
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.peers import PEER, PeerTolerances
from emobility.protocols.ocpi.v221 import Endpoint, InterfaceRole, read, write
from emobility.protocols.ocpi.versions import SPOKEN
from emobility.runtime.settings import Settings
from roaming_hub.routed_modules import ROUTED_MODULES
from roaming_hub.service import RoamingHub, build

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HUB_ORIGIN = "http://hub.test"
INTERNAL_TOKEN = "i" * 32
CPO, MSP, NSP = PartyId("NL-TNM"), PartyId("DE-MSP"), PartyId("BE-NSP")
OK = b'{"data":null,"status_code":1000,"timestamp":"2026-03-01T12:00:00Z"}'


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A request as a platform got it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


async def heard_of(request: Request) -> Heard:
    """A request with its URL as it was written."""
    query = request.scope["query_string"].decode()
    path = request.scope["raw_path"].decode().partition("?")[0]
    return Heard(
        method=request.method,
        url=f"{request.url.scheme}://{request.url.netloc}{path}" + (f"?{query}" if query else ""),
        headers=dict(request.headers),
        body=await request.body(),
    )


Script = Callable[[Heard], Awaitable[Response]]


async def say_ok(_: Heard) -> Response:
    return Response(OK, media_type="application/json")


@dataclass
class Platform:
    """One party's platform; `script` answers whatever arrives at its modules."""

    party: PartyId
    role: Role
    origin: str
    host: OCPIHost
    http: HttpClient
    heard: list[Heard] = field(default_factory=list)
    script: Script = say_ok
    version: str = "2.2.1"

    @property
    def versions_url(self) -> str:
        return f"{self.host.ocpi_url(self.party)}/versions"

    async def token(self) -> str:
        """The token it presents at the hub."""
        async with self.host.ports.units.begin() as unit:
            peer = await unit.table(PEER).get(self.party, "hub")
        assert peer is not None
        assert peer.outgoing_token is not None
        return await self.host.ports.vault.open(peer.outgoing_token)

    async def call(
        self,
        method: str,
        path: str,
        *,
        to: PartyId | None = None,
        as_: PartyId | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """Call the hub: `path` below its version, such as `tariffs/receiver/NL/TNM/1`, or a whole URL."""
        sent = {"Authorization": authorization(await self.token())}
        if to is not None:
            sent |= {"OCPI-to-country-code": to.country_code, "OCPI-to-party-id": to.party_id}
            sender = as_ or self.party
            sent |= {"OCPI-from-country-code": sender.country_code, "OCPI-from-party-id": sender.party_id}
        url = path if path.startswith("http") else f"{HUB_ORIGIN}/hub/ocpi/{self.version}/{path}"
        return await self.http.request(method, url, headers=sent | dict(headers or {}), body=body)


@dataclass
class World:
    """Everything in one process."""

    http: MemoryHttp
    clock: VirtualClock
    hub: RoamingHub
    platforms: dict[PartyId, Platform]
    randomness: SeededRandomness

    async def admin(self, method: str, path: str, body: Any = None) -> HttpResponse:
        headers = {"Authorization": f"Bearer {INTERNAL_TOKEN}", "Content-Type": "application/json"}
        payload = b"" if body is None else write(body)
        return await self.http.request(method, f"{HUB_ORIGIN}/hub{path}", headers=headers, body=payload)

    async def invite(self, party: PartyId, role: Role, versions_url: str, **more: Any) -> str:
        answer = await self.admin(
            "POST",
            "/admin/registrations",
            {"party_id": party.code, "role": role, "versions_url": versions_url, **more},
        )
        assert answer.status == 201, answer
        return read(answer.body, dict[str, str])["token_a"]

    async def join(self, party: PartyId, role: Role, *, version: str = "2.2.1", **tolerances: Any) -> Platform:
        """Register a platform that speaks one version, as others of its kind do."""
        platform = self.platform(party, role)
        async with platform.host.ports.units.begin() as unit:
            await platform.host.add_party(unit, party, role=role, business_name=f"Company {party}")
            await unit.commit()
        platform.version = version
        token_a = await self.invite(party, role, platform.versions_url, tolerances=tolerances)
        await platform.host.register(
            party,
            versions_url=f"{HUB_ORIGIN}/hub/ocpi/versions",
            token_a=token_a,
            tolerances=PeerTolerances(**tolerances),
            version=version,
        )
        return platform

    def platform(self, party: PartyId, role: Role) -> Platform:
        """Build a platform that is not registered anywhere yet."""
        origin = f"http://{party.code.lower()}.test"
        ports = memory_ports(self.http, self.clock, self.randomness)

        def listed(base_url: str) -> list[Endpoint]:
            return [
                Endpoint(identifier=module, role=side, url=f"{base_url}/{module}/{side.value.lower()}")
                for module in [*ROUTED_MODULES, "hubclientinfo"]
                for side in InterfaceRole
            ]

        host = OCPIHost(ports, service="platform", base_url=f"{origin}/platform", extra_endpoints=listed)
        platform = Platform(party=party, role=role, origin=origin, host=host, http=self.http)

        async def record(request: Request) -> Response:
            heard = await heard_of(request)
            platform.heard.append(heard)
            return await platform.script(heard)

        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        host.add_routes([Route(f"/{version}/{{module}}/{{rest:path}}", record, methods=methods) for version in SPOKEN])
        inner = Starlette()
        host.mount_on(inner, authorize=anyone)
        self.http.mount(origin, Starlette(routes=[Mount("/platform", app=inner)]))
        self.platforms[party] = platform
        return platform


async def anyone(_: Request, __: PartyId) -> None:
    return


def memory_ports(http: HttpClient, clock: VirtualClock, randomness: SeededRandomness) -> Ports:
    adapters = memory_adapters(master_key=b"k" * 32, clock=clock, randomness=randomness)
    return Ports(
        clock=clock,
        timer=LoopTimer(),
        randomness=randomness,
        event_log=adapters.event_log,
        units=adapters.units,
        vault=adapters.vault,
        http=http,
        signer=Ed25519Signer(b"k" * 32),
        payments=cast("Any", None),
    )


def settings(public_url: str = HUB_ORIGIN) -> Settings:
    return Settings.model_validate(
        {
            "environment": "development",
            "event_log": "memory",
            "public_url": public_url,
            "internal_token": INTERNAL_TOKEN,
            "master_key": "ab" * 32,
        }
    )


def bare_world() -> World:
    """A hub nobody has joined."""
    clock, randomness, http = VirtualClock(START), SeededRandomness(7), MemoryHttp()
    hub = build(settings(), memory_ports(http, clock, randomness))
    http.mount(HUB_ORIGIN, Starlette(routes=[Mount("/hub", app=hub.app)]))
    return World(http=http, clock=clock, hub=hub, platforms={}, randomness=randomness)


@asynccontextmanager
async def running(*services: Any) -> AsyncIterator[None]:
    """Run background work for the length of a block."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(service.run(stop)) for service in services]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def until(
    holds: Callable[[], bool] | Callable[[], Awaitable[bool]], *, what: str, within_s: float = 30.0
) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                answer = holds()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"within {within_s} s it did not come true that {what}") from None


class SharedWorld:
    """One world for all examples of a property, each run on its loop. What it shows of itself is short."""

    def __init__(self, runner: asyncio.Runner, world: World) -> None:
        self.runner = runner
        self.world = world


def status_code(answer: HttpResponse) -> int:
    """The OCPI status code of an answer."""
    return cast("int", msgspec.json.decode(answer.body)["status_code"])
