"""Reservations: an EVSE is kept for a token until a moment. In 2.x the station tells when one is over unused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept
from simulator.stations.station import EVSEState, SimulatedEVSE, Station, Transaction


@dataclass(frozen=True, slots=True)
class Reservation:
    """Whom an EVSE is kept for."""

    reservation_id: int
    evse_id: int
    id_token: str
    group_id: str | None
    expires_at: datetime


class Reservations(Concept):
    """Kept by number; an EVSE has one at most."""

    tells_the_end = True

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.kept: dict[int, Reservation] = {}

    def commands(self) -> Commands:
        """In the words of 2.x."""
        return {"ReserveNow": self._reserve, "CancelReservation": self._cancel}

    def reserve(self, wanted: Reservation) -> str:
        """Keep an EVSE (0: any free one); return OCPP's word for what became of it."""
        evses = self.station.evses
        if wanted.evse_id and wanted.evse_id not in evses:
            return "Rejected"
        if wanted.expires_at <= self.station.now():
            return "Rejected"
        self.kept.pop(wanted.reservation_id, None)
        candidates = [wanted.evse_id] if wanted.evse_id else list(evses)
        held = {each.evse_id for each in self.kept.values()}
        free = [number for number in candidates if number not in held and evses[number].is_free]
        usable = [number for number in free if evses[number].is_operative]
        if not usable:
            return "Unavailable" if free else "Occupied"
        evse_id = usable[0]
        self.kept[wanted.reservation_id] = Reservation(
            wanted.reservation_id, evse_id, wanted.id_token, wanted.group_id, wanted.expires_at
        )
        self.station.change_state(evses[evse_id], EVSEState.RESERVED)
        return "Accepted"

    def cancel(self, reservation_id: int) -> bool:
        """Give an EVSE free; tell whether it was kept."""
        reservation = self.kept.pop(reservation_id, None)
        if reservation is None:
            return False
        evse = self.station.evses[reservation.evse_id]
        if evse.state is EVSEState.RESERVED:
            self.station.change_state(evse, EVSEState.AVAILABLE)
        return True

    def is_kept_for_another(self, evse_id: int, id_token: str) -> bool:
        """Tell whether an EVSE waits for somebody else."""
        now = self.station.now()
        return any(
            each.evse_id == evse_id and each.expires_at > now and id_token not in {each.id_token, each.group_id}
            for each in self.kept.values()
        )

    def tick(self) -> None:
        """Let go what is over."""
        now = self.station.now()
        for number in [each.reservation_id for each in self.kept.values() if each.expires_at <= now]:
            self.cancel(number)
            if self.tells_the_end:
                update = {"reservationId": number, "reservationUpdateStatus": "Expired"}
                self.station.tell("ReservationStatusUpdate", update)

    def began(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        """The reservation is used."""
        for each in list(self.kept.values()):
            if each.evse_id == evse.profile.ocpp_evse_id and transaction.id_token in {each.id_token, each.group_id}:
                del self.kept[each.reservation_id]
                transaction.reservation_id = each.reservation_id

    def _reserve(self, payload: Payload) -> Reply:
        status = self.reserve(
            Reservation(
                payload["id"],
                payload.get("evseId", 0),
                payload["idToken"]["idToken"],
                payload.get("groupIdToken", {}).get("idToken"),
                datetime.fromisoformat(payload["expiryDateTime"]),
            )
        )
        return Reply(payload={"status": status})

    def _cancel(self, payload: Payload) -> Reply:
        return Reply(payload={"status": "Accepted" if self.cancel(payload["reservationId"]) else "Rejected"})


class Reservations16(Reservations):
    """In the words of 1.6, which has no message for the end of one."""

    tells_the_end = False

    def _reserve(self, payload: Payload) -> Reply:
        status = self.reserve(
            Reservation(
                payload["reservationId"],
                payload["connectorId"],
                payload["idTag"],
                payload.get("parentIdTag"),
                datetime.fromisoformat(payload["expiryDate"]),
            )
        )
        return Reply(payload={"status": status})
