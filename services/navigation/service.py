"""The navigation service: hosted NSPs and NAPs that gather locations and ad hoc prices and let anyone see them.

Mounted at `/navigation`: `PUT /{party}` hosts an NSP (internal token), `/{party}/ocpi` is its OCPI,
`POST /{party}/pulls` fetches everything again, `GET /{party}/stations` is open to everybody. A NAP's data is given out
below `/{party}/public`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Final, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from emobility.domain.identifiers import MalformedPartyId, PartyId, Role
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.host import HOSTED_PARTY, OCPIHost
from emobility.protocols.ocpi.v221 import write
from emobility.runtime.access import Access
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import Metrics, health_routes
from services.navigation.public_api import PublicAPI
from services.navigation.pulling import Puller
from services.navigation.receiving import client_info_interface, locations_interface, tariffs_interface
from services.navigation.search import Search, find_stations, micro_degrees

SERVICE: Final = "navigation"
RADIUS_M_MAX: Final = 500_000
AGE_BUCKETS_S: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 900)
"""AFIR lets dynamic data be 60 s old."""


class Hosting(BaseModel):
    """An NSP, or a national access point, to act for."""

    name: str = Field(min_length=1, max_length=100)
    role: Literal["NSP", "NAP"] = "NSP"


class NavigationService:
    """The service, built but not yet running."""

    def __init__(self, settings: Settings, ports: Ports) -> None:
        self._ports = ports
        self.metrics = Metrics()
        self._status_age = self.metrics.histogram(
            "navigation_status_age_seconds", "Age of an EVSE's state when it became public.", buckets=AGE_BUCKETS_S
        )
        self._access = Access(settings.internal_token, units=ports.units, master_key=settings.master_key_bytes)
        self.puller = Puller(ports, lambda: self.host)
        self.host = OCPIHost(
            ports,
            service=SERVICE,
            base_url=f"{settings.public_url.rstrip('/')}/{SERVICE}",
            interfaces=[
                locations_interface(ports, self._changed),
                tariffs_interface(ports),
                client_info_interface(self.puller.ask),
            ],
        )
        self.host.on_connected(self.puller.connected)
        self.app = FastAPI(openapi_url=None)
        self.app.router.routes += health_routes(self.metrics)
        self.app.add_api_route("/internal/backlog", self._show_backlog, methods=["GET"])
        self.host.mount_on(self.app, authorize=self._access.party)
        self.app.add_api_route("/{party}", self._host_nsp, methods=["PUT"], status_code=201)
        self.app.add_api_route("/{party}/pulls", self._pull, methods=["POST"], status_code=202)
        PublicAPI(ports, service=SERVICE).mount_on(self.app)
        self.app.add_api_route("/{party}/stations", self._stations, methods=["GET"])

    async def run(self, stop: asyncio.Event) -> None:
        """Send and fetch until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.host.run(stop))
            tasks.create_task(self.puller.run(stop))

    def _changed(self, age: timedelta) -> None:
        self._status_age.observe(max(0.0, age.total_seconds()))

    async def backlog(self) -> int:
        """Count what still has to be fetched or sent."""
        return self.puller.pending() + await self.host.pending()

    async def _show_backlog(self, request: Request) -> dict[str, int]:
        await self._access.internal(request)
        return {"pending": await self.backlog()}

    async def _host_nsp(self, request: Request, party: str, asked: Hosting) -> dict[str, str]:
        await self._access.internal(request)
        party_id = _party(party)
        async with self._ports.units.begin() as unit:
            await self.host.add_party(unit, party_id, role=Role(asked.role), business_name=asked.name)
            await unit.commit()
        return {"party_id": party_id.code, "versions_url": f"{self.host.ocpi_url(party_id)}/versions"}

    async def _pull(self, request: Request, party: str) -> dict[str, int]:
        await self._access.party(request, party)
        self.puller.ask(_party(party), None)
        return {"pending": self.puller.pending()}

    async def _stations(
        self,
        party: str,
        *,
        latitude: Annotated[str | None, Query(max_length=20)] = None,
        longitude: Annotated[str | None, Query(max_length=20)] = None,
        radius_m: Annotated[int | None, Query(ge=0, le=RADIUS_M_MAX)] = None,
        power_w_min: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
        available: bool = False,
        search: Annotated[str, Query(max_length=100)] = "",
    ) -> Response:
        """Search; open to everybody."""
        nsp_id = _party(party)
        if (latitude is None) != (longitude is None) or (radius_m is not None and latitude is None):
            raise HTTPException(status_code=422, detail="latitude and longitude go together; radius_m needs both")
        try:
            place = (
                (micro_degrees(latitude), micro_degrees(longitude))
                if latitude is not None and longitude is not None
                else None
            )
        except ValueError as error:
            raise HTTPException(status_code=422, detail=str(error)) from error
        wanted = Search(place=place, radius_m=radius_m, power_w_min=power_w_min, is_available=available, text=search)
        async with self._ports.units.begin() as unit:
            if await unit.table(HOSTED_PARTY).get(SERVICE, nsp_id) is None:
                raise HTTPException(status_code=404, detail=f"{nsp_id} is not hosted here")
            found = await find_stations(unit, nsp_id, wanted, now=self._ports.clock.now())
        return Response(write({"stations": found}), media_type="application/json")


def _party(text: str) -> PartyId:
    try:
        return PartyId(text)
    except MalformedPartyId as error:
        raise HTTPException(status_code=404, detail="no such party") from error


def build(settings: Settings, ports: Ports) -> NavigationService:
    """Build the service."""
    return NavigationService(settings, ports)
