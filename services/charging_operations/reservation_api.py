"""Reservations by operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.messages import CommandResult
from emobility.runtime.access import TokenRole
from services.charging_operations.office import NotFound
from services.charging_operations.operator_api import COMMAND_STATUS, COMMAND_STATUS_WORDS, OperatorAPI
from services.charging_operations.reservations import (
    RESERVATION,
    ReservationDesk,
    ReservationRecord,
    ReservationRequest,
    ReservationState,
    ShownReservation,
    shown_reservation,
)
from services.charging_operations.routes import PAGE, Query, Route, RouteTable, answer, read_body

STATE: Final = Query("state", ReservationState, "only in this state, as it was last seen by us")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationAPI:
    """Routes about reservations."""

    operator: OperatorAPI
    reservations: ReservationDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        station, shown = "/stations/{station_id}/reservations", list[ShownReservation]
        refused = COMMAND_STATUS_WORDS | {200: "the station said no; the state is REFUSED"}
        kept = {202: "the station did not answer and is asked again until it does"}
        routes.add(
            "Reservations",
            [
                Route("GET", "/reservations", self.list_reservations, None, shown, (*PAGE, STATE)),
                Route("GET", station, self.list_station_reservations, None, shown, (*PAGE, STATE)),
                Route(*("POST", station, self.reserve, ReservationRequest, ShownReservation), status=201, also=refused),
                Route("DELETE", f"{station}/{{reservation_id}}", self.cancel, None, ShownReservation, also=kept),
            ],
            writes=TokenRole.OPERATOR,
        )

    async def reserve(self, request: Request, party_id: PartyId) -> Response:
        """Have a station hold something for a token or group.

        When it did not answer, what it may hold is cancelled.
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
        """Have a station give a reservation up."""
        station_id = await self.operator.station_of(request, party_id)
        reservation_id = request.path_params["reservation_id"]
        if not (reservation_id.isascii() and reservation_id.isdigit() and len(reservation_id) < 12):
            raise NotFound("no such reservation")
        record, _ = await self.reservations.cancel(
            party_id, station_id, int(reservation_id), correlation_id=self.operator.correlation_of(request)
        )
        is_open = record.state is ReservationState.CANCELLING
        return answer(shown_reservation(record, self.operator.office.now()), 202 if is_open else 200)

    async def list_station_reservations(self, request: Request, party_id: PartyId) -> Any:
        """List a station's reservations, the newest first."""
        rows = await self.operator.rows_of_station(request, party_id, RESERVATION, "state", order_by=("-made_at",))
        return self._shown(rows)

    async def list_reservations(self, request: Request, party_id: PartyId) -> Any:
        """List the reservations of all stations, the newest first."""
        return self._shown(await self.operator.rows(request, party_id, RESERVATION, "state", order_by=("-made_at",)))

    def _shown(self, rows: list[ReservationRecord]) -> list[ShownReservation]:
        return [shown_reservation(row, self.operator.office.now()) for row in rows]
