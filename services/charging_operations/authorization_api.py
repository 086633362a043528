"""What a CPO decides of authorisation beyond the decision table; paths below /{party}, guards as in `operator_api`.

GET, PUT /{party}/authorization-policy   AuthorizationPolicy: concurrent transactions, the master pass group
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request

from emobility.domain.identifiers import PartyId
from services.charging_operations.concurrency import AuthorizationPolicy, ConcurrencyDesk
from services.charging_operations.operator_api import Handler, OperatorAPI, read_body


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationAPI:
    """Routes about who may charge, and where that is known."""

    operator: OperatorAPI
    concurrency: ConcurrencyDesk

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, handler in self._routes():
            app.add_api_route(f"/{{party}}{path}", self.operator.guarded(handler), methods=[method])

    def _routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/authorization-policy", self.show_policy),
            ("PUT", "/authorization-policy", self.put_policy),
        ]

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
