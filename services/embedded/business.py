"""The business process: hub and back offices behind one port, each an ASGI app of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

import roaming_hub.service
import services.charging_operations.service
import services.driver_mobility.service

from emobility.ports.ports import Ports
from emobility.runtime.settings import Settings

SEARCHES_TWICE: Final = 2
"""Work moves from log to delivery and back, so only two empty looks in a row mean that nothing is left."""


class MountedService(Protocol):
    """A deployable with an HTTP face."""

    @property
    def app(self) -> ASGIApp:
        """Its routes, without the prefix it is mounted at."""

    async def run(self, stop: asyncio.Event) -> None:
        """Its background work, until `stop` is set."""

    async def backlog(self) -> int:
        """Count what it still has to send or finish, beyond the lag of its consumers."""


class Business:
    """Hub, CPO, MSP and NSP back offices in one process; they speak to each other over HTTP like anyone else."""

    def __init__(self, ports: Ports, mounted: dict[str, MountedService]) -> None:
        self._ports = ports
        self._services: Sequence[MountedService] = tuple(mounted.values())
        self.app = Starlette(
            routes=[
                Route("/internal/quiet", self._quiet),
                Route("/livez", _live),
                *(Mount(f"/{prefix}", app=service.app) for prefix, service in mounted.items()),
            ]
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run every service's background work until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            for service in self._services:
                tasks.create_task(service.run(stop))

    async def outstanding(self) -> int:
        """Count events not handled and messages not delivered; 0 means that nothing moves any more."""
        for _ in range(SEARCHES_TWICE):
            lag = sum((await self._ports.event_log.lag()).values())
            pending = sum([await service.backlog() for service in self._services])
            if lag + pending:
                return lag + pending
        return 0

    async def _quiet(self, _: Request) -> Response:
        return JSONResponse({"outstanding": await self.outstanding()})


async def _live(_: Request) -> Response:
    return JSONResponse({"status": "live"})


def build(settings: Settings, ports: Ports) -> Business:
    """Put the hub and the back offices together."""
    return Business(
        ports,
        {
            "hub": roaming_hub.service.build(settings, ports),
            "operations": services.charging_operations.service.build(settings, ports),
            "mobility": services.driver_mobility.service.build(settings, ports),
        },
    )
