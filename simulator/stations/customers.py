"""What a 2.x station knows of its drivers and their charges: CustomerInformation, GetTransactionStatus, CostUpdated."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station


class Customers(Concept):
    """`costs` is what the CSMS last said that a transaction costs."""

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.costs: dict[str, Decimal] = {}

    def commands(self) -> Commands:
        """The three."""
        return {
            "CustomerInformation": self._information,
            "GetTransactionStatus": self._status,
            "CostUpdated": self._cost,
        }

    def _information(self, payload: Payload) -> Reply:
        token = payload.get("idToken", {}).get("idToken")
        named = [name for name in ("idToken", "customerIdentifier", "customerCertificate") if name in payload]
        if len(named) != 1:
            return Reply(payload={"status": "Invalid"})
        charges = [each for each in self.station.transactions if each.id_token == token]

        def report() -> None:
            told = {
                "requestId": payload["requestId"],
                "generatedAt": self.station.timestamp(),
                "seqNo": 0,
                "data": f"{len(charges)} charges",
            }
            self.station.tell("NotifyCustomerInformation", told)

        return Reply(payload={"status": "Accepted"}, then=report if payload["report"] else lambda: None)

    def _status(self, payload: Payload) -> Reply:
        wanted = payload.get("transactionId")
        if wanted is None:
            return Reply(payload={"messagesInQueue": self.station.queued > 0})
        return Reply(
            payload={
                "ongoingIndicator": self.station.running(wanted) is not None,
                "messagesInQueue": wanted in self.station.queued_transactions(),
            }
        )

    def _cost(self, payload: Payload) -> Reply:
        self.costs[payload["transactionId"]] = Decimal(str(payload["totalCost"]))
        return Reply(payload={})
