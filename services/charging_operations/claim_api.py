"""Claims of stations over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.runtime.access import TokenRole
from services.charging_operations.claims import CLAIM, ClaimDesk, ClaimRecord, ClaimState, StationClaim
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.routes import PAGE, Query, Route, RouteTable, read_body

CLAIM_QUERY: Final = (
    *PAGE,
    Query("state", ClaimState, "only in this state"),
    Query("charging_station_id", str, "only of this station"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMade:
    """What to set at the station. The password is shown once and not kept."""

    claim: ClaimRecord
    password: str
    path: str
    """Behind the gateway's address; the station's id ends it, and is the user name."""
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAPI:
    """Routes of claims."""

    operator: OperatorAPI
    desk: ClaimDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        routes.add(
            "Claims",
            [
                Route("POST", "/claims", self.claim_station, StationClaim, ClaimMade, status=201),
                Route("GET", "/claims", self.list_claims, None, list[ClaimRecord], CLAIM_QUERY),
                Route("DELETE", "/claims/{claim_id}", self.withdraw_claim, None, ClaimRecord),
            ],
            writes=TokenRole.OWNER,
        )

    async def claim_station(self, request: Request, party_id: PartyId) -> Any:
        """Claim a station that will dial in: its password comes back once, and its first boot enters the station."""
        claim, password = await self.desk.make(party_id, await read_body(request, StationClaim))
        path = f"/ocpp/{party_id}/{claim.charging_station_id}"
        return ClaimMade(claim=claim, password=password, path=path, expires_at=claim.expires_at)

    async def list_claims(self, request: Request, party_id: PartyId) -> Any:
        """List claims, the newest first, each with how it ended."""
        narrowing = ("state", "charging_station_id")
        return await self.operator.rows(request, party_id, CLAIM, *narrowing, order_by=("-created_at",))

    async def withdraw_claim(self, request: Request, party_id: PartyId) -> Any:
        """End a claim that no station has used."""
        return await self.desk.withdraw(party_id, request.path_params["claim_id"])
