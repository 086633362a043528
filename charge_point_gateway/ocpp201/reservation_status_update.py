"""ReservationStatusUpdate: a reservation is over though nobody used it (OCPP 2.0.1, H02 and H04)."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Fact, Message, whole
from emobility.events.reservations import ReservationEnded


class ReservationStatusUpdate(Message):
    """Durable; an id that nobody gave out is acknowledged like any other."""

    action: ClassVar[str] = "ReservationStatusUpdate"

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The reservation is over, for the reason the station gives."""
        event = ReservationEnded(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            reservation_id=whole(payload["reservationId"]),
            status=payload["reservationUpdateStatus"],
        )
        return (Fact(f"{context.station_key}/reservation/{event.reservation_id}/{event.status}", event),)
