"""Reservations by operators; paths below /{party}, guards and lists as in `operator_api`.

POST   /{party}/stations/{station_id}/reservations                   ReservationRequest
GET    /{party}/stations/{station_id}/reservations                   `state` narrows it
DELETE /{party}/stations/{station_id}/reservations/{reservation_id}  has the station give it up
GET    /{party}/reservations                                         of all stations
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.messages import CommandResult
from services.charging_operations.office import NotFound, NotUnderstood, require_hosted
from services.charging_operations.operator_api import (
    COMMAND_STATUS,
    ROWS_MAX,
    Handler,
    OperatorAPI,
    answer,
    number_in,
    read_body,
)
from services.charging_operations.reservations import (
    RESERVATION,
    ReservationDesk,
    ReservationRequest,
    ReservationState,
    shown_reservation,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationAPI:
    """Routes about reservations."""

    operator: OperatorAPI
    reservations: ReservationDesk

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, handler in self._routes():
            app.add_api_route(f"/{{party}}{path}", self.operator.guarded(handler), methods=[method])

    def _routes(self) -> list[tuple[str, str, Handler]]:
        station = "/stations/{station_id}/reservations"
        return [
            ("GET", "/reservations", self.list_all),
            ("GET", station, self.list_of_station),
            ("POST", station, self.reserve),
            ("DELETE", f"{station}/{{reservation_id}}", self.cancel),
        ]

    async def reserve(self, request: Request, party_id: PartyId) -> Response:
        """Have a station hold something for a token or group.

        201 when it does and 200 with state REFUSED when it does not; 409 when it is offline, 501 when its version
        can't say this, 504 when it did not answer: then what it may hold is cancelled.
        """
        asked = await read_body(request, ReservationRequest)
        station_id = await self.operator.station_of(request, party_id)
        record, outcome = await self.reservations.reserve(
            party_id, station_id, asked, correlation_id=self.operator.correlation_of(request)
        )
        shown = shown_reservation(record, self.operator.office.now())
        is_held = outcome.result is CommandResult.ACCEPTED
        return answer(shown, 201 if is_held else COMMAND_STATUS.get(outcome.result, 200))

    async def cancel(self, request: Request, party_id: PartyId) -> Response:
        """Have a station give a reservation up; 202 when it did not answer: it is asked again until it does."""
        station_id = await self.operator.station_of(request, party_id)
        reservation_id = request.path_params["reservation_id"]
        if not (reservation_id.isascii() and reservation_id.isdigit() and len(reservation_id) < 12):
            raise NotFound("no such reservation")
        record, _ = await self.reservations.cancel(
            party_id, station_id, int(reservation_id), correlation_id=self.operator.correlation_of(request)
        )
        is_open = record.state is ReservationState.CANCELLING
        return answer(shown_reservation(record, self.operator.office.now()), 202 if is_open else 200)

    async def list_of_station(self, request: Request, party_id: PartyId) -> Any:
        """List a station's reservations, the newest first."""
        station_id = await self.operator.station_of(request, party_id)
        return await self._listed(request, {"party_id": party_id, "charging_station_id": station_id})

    async def list_all(self, request: Request, party_id: PartyId) -> Any:
        """List the reservations of all stations, the newest first."""
        async with self.operator.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        return await self._listed(request, {"party_id": party_id})

    async def _listed(self, request: Request, where: dict[str, Any]) -> Any:
        if "state" in request.query_params:
            try:
                where["state"] = ReservationState(request.query_params["state"])
            except ValueError as error:
                raise NotUnderstood("no such state of a reservation") from error
        offset, limit = number_in(request, "offset", 0), number_in(request, "limit", ROWS_MAX)
        async with self.operator.office.ports.units.begin() as unit:
            rows = await unit.table(RESERVATION).select(
                where, order_by=("-made_at",), offset=offset, limit=min(limit, ROWS_MAX)
            )
        return [shown_reservation(row, self.operator.office.now()) for row in rows]
