"""What a CPO decides of authorisation beyond the decision table: the policy, and stations' local lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.messages import CommandResult
from emobility.runtime.access import TokenRole
from services.charging_operations.concurrency import AuthorizationPolicy, ConcurrencyDesk, ShownPolicy
from services.charging_operations.exposure import ExposureDesk, ShownExposure
from services.charging_operations.local_list_records import LocalListRequest, ShownLocalList
from services.charging_operations.local_lists import LocalListDesk
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.routes import Route, RouteTable, answer, read_body


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationAPI:
    """Routes about who may charge, and where that is known."""

    operator: OperatorAPI
    concurrency: ConcurrencyDesk
    local_lists: LocalListDesk
    exposure: ExposureDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        local_list, sync = "/stations/{station_id}/local-list", "/stations/{station_id}/local-list/sync"
        routes.add(
            "Authorisation",
            [
                Route("GET", "/authorization-policy", self.show_policy, None, ShownPolicy),
                Route("PUT", "/authorization-policy", self.put_policy, AuthorizationPolicy, ShownPolicy),
                Route("GET", "/exposure", self.show_exposure, None, list[ShownExposure]),
                Route("GET", local_list, self.show_local_list, None, ShownLocalList),
                Route("PUT", local_list, self.put_local_list, LocalListRequest, ShownLocalList),
                Route(
                    "POST", sync, self.sync_local_list, None, ShownLocalList, also={504: "it did not answer in time"}
                ),
            ],
            writes=TokenRole.OWNER,
        )

    async def show_policy(self, _: Request, party_id: PartyId) -> Any:
        """Show what the CPO decided, and what 2.x stations are to be told as `MasterPassGroupId` of AuthCtrlr."""
        async with self.operator.office.ports.units.begin() as unit:
            return await self.concurrency.shown_policy(unit, party_id)

    async def put_policy(self, request: Request, party_id: PartyId) -> Any:
        """Decide from now on; what runs goes on."""
        policy = await read_body(request, AuthorizationPolicy)
        async with self.operator.office.ports.units.begin() as unit:
            shown = await self.concurrency.put_policy(unit, party_id, policy)
            await unit.commit()
        return shown

    async def show_exposure(self, _: Request, party_id: PartyId) -> Any:
        """Show what each MSP has open: reserved, billed, paid, its limit, and whether its drivers wait."""
        return await self.exposure.shown(party_id)

    async def show_local_list(self, request: Request, party_id: PartyId) -> Any:
        """Show how a station's list stands; no token is shown."""
        station_id = await self.operator.station_of(request, party_id)
        async with self.operator.office.ports.units.begin() as unit:
            return await self.local_lists.shown(unit, party_id, station_id)

    async def put_local_list(self, request: Request, party_id: PartyId) -> Any:
        """Decide which tokens a station may let in by itself; it is told within seconds, or once it is connected."""
        asked = await read_body(request, LocalListRequest)
        station_id = await self.operator.station_of(request, party_id)
        async with self.operator.office.ports.units.begin() as unit:
            await self.local_lists.put(unit, party_id, station_id, asked)
            shown = await self.local_lists.shown(unit, party_id, station_id)
            await unit.commit()
        return shown

    async def sync_local_list(self, request: Request, party_id: PartyId) -> Response:
        """Bring a station's list into line now: 200 with how it stands, 409 when offline, 504 without an answer."""
        station_id = await self.operator.station_of(request, party_id)
        await self.local_lists.sender.sync(party_id, station_id, correlation_id=self.operator.correlation_of(request))
        async with self.operator.office.ports.units.begin() as unit:
            shown = await self.local_lists.shown(unit, party_id, station_id)
        return answer(shown, 504 if shown.answer == CommandResult.TIMED_OUT else 200)
