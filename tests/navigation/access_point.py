"""A national access point at the hub beside one CPO, and what that CPO publishes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi.v221 import write
from services.navigation.service import NavigationService, build
from tests.hub.world import (
    CPO,
    HUB_ORIGIN,
    INTERNAL_TOKEN,
    Platform,
    World,
    bare_world,
    memory_ports,
    running,
    settings,
    until,
)

ORIGIN: Final = "http://navigation.test"
NAP: Final = PartyId("DK-NAP")
LOCATIONS: Final = "locations/receiver/NL/TNM"
TARIFFS: Final = "tariffs/receiver/NL/TNM"


class AccessPoint:
    """The access point as the world sees it."""

    def __init__(self, world: World, service: NavigationService, cpo: Platform) -> None:
        self.world = world
        self.service = service
        self.cpo = cpo

    async def operate(self, method: str, path: str, body: Any = None) -> HttpResponse:
        headers = {"Authorization": f"Bearer {INTERNAL_TOKEN}", "Content-Type": "application/json"}
        payload = b"" if body is None else write(body)
        return await self.world.http.request(method, f"{ORIGIN}/navigation{path}", headers=headers, body=payload)

    async def push(self, method: str, path: str, body: Any) -> HttpResponse:
        return await self.cpo.call(method, path, to=NAP, body=body if isinstance(body, bytes) else write(body))

    async def public(self, path: str, *, party: PartyId = NAP, **headers: str) -> HttpResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.world.http.request("GET", f"{ORIGIN}/navigation/{party}/public/{path}", headers=sent)

    async def locations(self, query: str = "") -> dict[str, Any]:
        answer = await self.public(f"locations?{query}")
        assert answer.status == 200, answer
        decoded: dict[str, Any] = msgspec.json.decode(answer.body)
        return decoded

    async def settled(self) -> None:
        async def is_settled() -> bool:
            return not (await self.service.backlog() + await self.world.hub.backlog())

        await until(is_settled, what="nothing is left to fetch or send")


@asynccontextmanager
async def access_point(script: Any) -> AsyncIterator[AccessPoint]:
    world = bare_world()
    cpo = await world.join(CPO, Role.CPO)
    cpo.script = script
    service = build(settings(ORIGIN), memory_ports(world.http, world.clock, world.randomness))
    world.http.mount(ORIGIN, Starlette(routes=[Mount("/navigation", app=service.app)]))
    made = AccessPoint(world, service, cpo)
    async with running(world.hub, service):
        hosted = await made.operate("PUT", f"/{NAP}", {"name": "Access point", "role": "NAP"})
        token_a = await world.invite(NAP, Role.NAP, msgspec.json.decode(hosted.body)["versions_url"])
        registered = await made.operate(
            "POST", f"/{NAP}/ocpi-register", {"versions_url": f"{HUB_ORIGIN}/hub/ocpi/versions", "token_a": token_a}
        )
        assert registered.status == 200, registered
        await made.settled()
        yield made
