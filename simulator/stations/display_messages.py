"""Messages on a station's display (OCPP 2.x, block O): set, listed in NotifyDisplayMessages, cleared, over in time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station


class DisplayMessages(Concept):
    """By id."""

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.shown: dict[int, dict[str, Any]] = {}

    def commands(self) -> Commands:
        """The three of the block."""
        return {
            "SetDisplayMessage": self._set,
            "GetDisplayMessages": self._get,
            "ClearDisplayMessage": lambda payload: Reply(
                payload={"status": "Accepted" if self.shown.pop(payload["id"], None) else "Unknown"}
            ),
        }

    def tick(self) -> None:
        """Take down what is over."""
        now = self.station.now()
        for each in list(self.shown.values()):
            if "endDateTime" in each and datetime.fromisoformat(each["endDateTime"]) <= now:
                del self.shown[each["id"]]

    def _set(self, payload: Payload) -> Reply:
        message = payload["message"]
        transaction_id = message.get("transactionId")
        if transaction_id is not None and self.station.running(transaction_id) is None:
            return Reply(payload={"status": "UnknownTransaction"})
        if message["message"]["format"] == "QRCODE":
            return Reply(payload={"status": "NotSupportedMessageFormat"})
        self.shown[message["id"]] = message
        return Reply(payload={"status": "Accepted"})

    def _get(self, payload: Payload) -> Reply:
        wanted = {name: payload[name] for name in ("priority", "state") if name in payload}
        found = [
            each
            for each in self.shown.values()
            if each["id"] in payload.get("id", [each["id"]])
            and all(each.get(name) == value for name, value in wanted.items())
        ]
        if not found:
            return Reply(payload={"status": "Unknown"})
        told = {"requestId": payload["requestId"], "messageInfo": found}
        return Reply(payload={"status": "Accepted"}, then=lambda: self.station.tell("NotifyDisplayMessages", told))
