"""Priority charging (OCPP 2.1, K21 and K22): a transaction that follows a PriorityCharging profile while it is on."""

from __future__ import annotations

from simulator.stations.calls import Payload, Reply
from simulator.stations.charging_profiles import ChargingProfiles
from simulator.stations.concept import Commands, Concept
from simulator.stations.station import SimulatedEVSE, Station, Transaction


class PriorityCharging(Concept):
    """EVSEs whose transactions have priority."""

    def __init__(self, station: Station, profiles: ChargingProfiles) -> None:
        super().__init__(station)
        self.profiles = profiles
        self.evse_ids: set[int] = set()
        profiles.priority = lambda evse_id: evse_id in self.evse_ids

    def commands(self) -> Commands:
        """The CSMS asks for it (K21)."""
        return {"UsePriorityCharging": self._use}

    def ask(self, evse_id: int, *, activate: bool = True) -> bool:
        """The driver asks for it at the station (K22); tell whether there is a profile for it."""
        evse = self.station.evses[evse_id]
        if evse.transaction is None or not self._has_profile(evse_id):
            return False
        self._switch(evse_id, activate=activate)
        told = {"transactionId": evse.transaction.local_id, "activated": activate}
        self.station.tell("NotifyPriorityCharging", told)
        return True

    def ended(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        """It ends with its transaction."""
        del transaction
        self.evse_ids.discard(evse.profile.ocpp_evse_id)

    def _has_profile(self, evse_id: int) -> bool:
        return any(
            each.profile["chargingProfilePurpose"] == "PriorityCharging" and each.evse_id in (0, evse_id)
            for each in self.profiles.installed
        )

    def _switch(self, evse_id: int, *, activate: bool) -> None:
        (self.evse_ids.add if activate else self.evse_ids.discard)(evse_id)
        self.station.advance(self.station.evses[evse_id])

    def _use(self, payload: Payload) -> Reply:
        evse = self.station.running(payload["transactionId"])
        if evse is None:
            return Reply(payload={"status": "Rejected"})
        evse_id = evse.profile.ocpp_evse_id
        if not self._has_profile(evse_id):
            return Reply(payload={"status": "NoProfile"})
        self._switch(evse_id, activate=payload["activate"])
        return Reply(payload={"status": "Accepted"})
