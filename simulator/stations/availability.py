"""Availability: the operator takes EVSEs or the station out of service; one that charges goes when it is done."""

from __future__ import annotations

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept
from simulator.stations.station import EVSEState, SimulatedEVSE


class Availability(Concept):
    """Whether an EVSE is operative stands in the EVSE; here it is changed."""

    def commands(self) -> Commands:
        """In the words of 2.x."""
        return {
            "ChangeAvailability": lambda payload: self.change(
                payload.get("evse", {}).get("id", 0), is_operative=payload["operationalStatus"] == "Operative"
            )
        }

    def change(self, evse_id: int, *, is_operative: bool) -> Reply:
        """Put one EVSE, or (0) all, in or out of service."""
        if evse_id and evse_id not in self.station.evses:
            return Reply(payload={"status": "Rejected"})
        chosen = [evse for number, evse in self.station.evses.items() if evse_id in (0, number)]
        for evse in chosen:
            evse.is_operative = is_operative
        if not is_operative and any(evse.transaction is not None for evse in chosen):
            return Reply(payload={"status": "Scheduled"}, then=lambda: self._settle(chosen))
        return Reply(payload={"status": "Accepted"}, then=lambda: self._settle(chosen))

    def tick(self) -> None:
        """Take out what was waiting for its charge to end."""
        self._settle(list(self.station.evses.values()))

    def _settle(self, chosen: list[SimulatedEVSE]) -> None:
        for evse in chosen:
            if not evse.is_operative and evse.is_free and evse.transaction is None:
                self.station.change_state(evse, EVSEState.UNAVAILABLE)
            elif evse.is_operative and evse.state is EVSEState.UNAVAILABLE:
                self.station.change_state(evse, EVSEState.AVAILABLE)


class Availability16(Availability):
    """In the words of 1.6."""

    def commands(self) -> Commands:
        """The same."""
        return {
            "ChangeAvailability": lambda payload: self.change(
                payload["connectorId"], is_operative=payload["type"] == "Operative"
            )
        }


def unlock(station_evses: dict[int, SimulatedEVSE], payload: Payload) -> Reply:
    """Answer UnlockConnector of 2.x: the cable of a running transaction stays."""
    evse = station_evses.get(payload["evseId"])
    if evse is None or payload["connectorId"] != 1:
        return Reply(payload={"status": "UnknownConnector"})
    is_busy = evse.transaction is not None
    return Reply(payload={"status": "OngoingAuthorizedTransaction" if is_busy else "Unlocked"})
