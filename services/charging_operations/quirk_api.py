"""What an operator tolerates of stations of a kind; paths below /{party}, guarded as in `operator_api`.

GET    /{party}/quirks          profiles in force: the party's own, and the built-in ones it has not replaced
PUT    /{party}/quirks/{name}   QuirkProfile; it counts within seconds, for every station that matches
DELETE /{party}/quirks/{name}   the standard counts again, or the built-in profile of that name
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.quirks import NamedQuirkProfile, QuirkProfile, check_profile
from emobility.runtime.access import TokenRole
from services.charging_operations.office import NotFound, require_hosted
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.routes import Route, RouteTable, read_body


@dataclass(frozen=True, slots=True, kw_only=True)
class QuirkAPI:
    """Routes about quirk profiles; the gateways keep them."""

    operator: OperatorAPI

    def mount_on(self, table: RouteTable) -> None:
        """Add the routes."""
        table.add(
            "Quirk profiles",
            [
                Route("GET", "/quirks", self.list_quirks, answers=list[NamedQuirkProfile]),
                Route("PUT", "/quirks/{name}", self.put_quirk, body=QuirkProfile, answers=QuirkProfile),
                Route("DELETE", "/quirks/{name}", self.drop_quirk),
            ],
            writes=TokenRole.OWNER,
        )

    async def list_quirks(self, _request: Request, party_id: PartyId) -> Any:
        """List profiles in force, by name."""
        await self._require_hosted(party_id)
        return await self.operator.office.stations.quirks(party_id)

    async def put_quirk(self, request: Request, party_id: PartyId) -> Any:
        """Enter or change a profile."""
        profile, name = await read_body(request, QuirkProfile), request.path_params["name"]
        check_profile(name, profile)
        await self._require_hosted(party_id)
        await self.operator.office.stations.put_quirk(party_id, name, profile)
        return profile

    async def drop_quirk(self, request: Request, party_id: PartyId) -> Any:
        """Take a profile away. Raises `NotFound`."""
        name = request.path_params["name"]
        in_force = await self.operator.office.stations.quirks(party_id)
        if not any(each.name == name and not each.is_built_in for each in in_force):
            raise NotFound(f"no quirk profile {name!r:.60} of this party's own")
        await self.operator.office.stations.drop_quirk(party_id, name)
        return {"name": name}

    async def _require_hosted(self, party_id: PartyId) -> None:
        async with self.operator.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
