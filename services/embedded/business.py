"""The business process: hub and back offices behind one port, each an ASGI app of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

import roaming_hub.service
import services.charging_operations.service
import services.driver_mobility.service
import services.navigation.service
from emobility.ports.event_log import Handler
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.host import OCPIHost
from emobility.runtime.access import Access
from emobility.runtime.settings import Settings
from services.charging_operations.exposure import GROUP as EXPOSURE_GROUP
from services.driver_mobility.unpaid import GROUP as UNPAID_GROUP
from services.embedded.live_page import LivePage

QUIET_POLL_S: Final = 0.003
LOOK_ANYWAY_S: Final = 0.25
"""Whoever waits for rest looks again this late although nothing was committed here, or work did not stop."""
QUIET_HOLD_S: Final = 2.0
"""How long a question whether anything is left may wait for a no."""


class MountedService(Protocol):
    """A deployable with an HTTP face."""

    @property
    def app(self) -> ASGIApp:
        """Its routes, without the prefix it is mounted at."""

    @property
    def host(self) -> OCPIHost:
        """Its OCPI, which `app` serves too."""

    async def run(self, stop: asyncio.Event) -> None:
        """Its background work, until `stop` is set."""

    async def backlog(self) -> int:
        """Count what it still has to send or finish, beyond the lag of its consumers."""


class Business:
    """Hub, CPO, MSP and NSP back offices in one process; they speak to each other over HTTP like anyone else."""

    def __init__(
        self, ports: Ports, access: Access, *, mounted: Mapping[str, MountedService], handlers: Mapping[str, Handler]
    ) -> None:
        self._ports = ports
        self._access = access
        self._mounted = mounted
        self._apps = {prefix: service.host.straight(service.app) for prefix, service in mounted.items()}
        self.handlers = handlers
        """Of each consumer group, to hand parked events on again."""
        self._requests = 0
        self._serving = 0
        self._rested: tuple[int, int] | None = None
        self.own = FastAPI(openapi_url=None)
        self.own.add_api_route("/livez", self._live, methods=["GET"])
        self.own.add_api_route("/internal/quiet", self._quiet, methods=["GET"])

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the service that its path begins with, or answer it (ASGI)."""
        prefix = scope["path"].removeprefix("/").partition("/")[0] if scope["type"] == "http" else ""
        app = self._apps.get(prefix)
        if app is None:
            await self.own(scope, receive, send)
            return
        self._requests += 1
        self._serving += 1
        try:
            await app({**scope, "root_path": f"{scope.get('root_path', '')}/{prefix}"}, receive, send)
        finally:
            self._serving -= 1

    async def run(self, stop: asyncio.Event) -> None:
        """Run every service's background work until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            for service in self._mounted.values():
                tasks.create_task(service.run(stop))

    async def outstanding(self) -> int:
        """Count events not handled or, when there are none, messages a service has not delivered; 0: nothing moves.

        Work moves from log to delivery and back, so an empty look counts only if nothing moved meanwhile.
        """
        while True:
            moved = self._moved()
            if left := await self._look(moved):
                return left
            if self._moved() == moved:
                self._rested = moved
                return 0

    def _moved(self) -> tuple[int, int]:
        """Return what stays the same while nothing happens in this process."""
        return self._ports.units.commits, self._requests

    async def _settle(self, *, since: int) -> None:
        """Wait until there were more than `since` commits and then rest for a moment; a look costs many statements."""
        timer, units = self._ports.timer, self._ports.units
        ends_at_s, before = timer.monotonic_s() + LOOK_ANYWAY_S, units.commits
        while timer.monotonic_s() < ends_at_s:
            await timer.sleep(QUIET_POLL_S)
            if since != units.commits == before and not self._serving:
                return
            before = units.commits

    async def _look(self, moved: tuple[int, int]) -> int:
        # Another process may append; what services have to deliver grows by what happens here alone. Groups of other
        # processes don't count: settlement changes nothing here.
        lags = await self._ports.event_log.lag()
        if lag := sum(behind for group, behind in lags.items() if group in self.handlers):
            return lag
        if moved == self._rested:
            return 0
        for service in self._mounted.values():
            if pending := await service.backlog():
                return pending
        return 0

    async def _live(self) -> Response:
        return JSONResponse({"status": "live"})

    async def _quiet(self, request: Request) -> Response:
        """Answer once nothing is left, or after `QUIET_HOLD_S`; `has_waited`: look elsewhere again."""
        await self._access.internal(request)
        timer, units, has_waited = self._ports.timer, self._ports.units, False
        ends_at_s = timer.monotonic_s() + QUIET_HOLD_S
        commits = units.commits
        while (left := await self.outstanding()) and timer.monotonic_s() < ends_at_s:
            has_waited = True
            await self._settle(since=commits)
            commits = units.commits
        return JSONResponse({"outstanding": left, "has_waited": has_waited})


def build(settings: Settings, ports: Ports) -> Business:
    """Put the hub and the back offices together."""
    operations = services.charging_operations.service.build(settings, ports)
    mobility = services.driver_mobility.service.build(settings, ports)
    business = Business(
        ports,
        Access(settings.internal_token, units=ports.units, master_key=settings.master_key_bytes),
        mounted={
            "hub": roaming_hub.service.build(settings, ports),
            "operations": operations,
            "mobility": mobility,
            "navigation": services.navigation.service.build(settings, ports),
        },
        handlers={
            "charging_operations": operations.sessions.handle,
            EXPOSURE_GROUP: operations.exposure.handle,
            "driver_mobility": mobility.checking.handle,
            UNPAID_GROUP: mobility.unpaid.handle,
        },
    )
    if settings.environment != "production":
        LivePage(ports).mount_on(business.own)
    return business
