"""The local authorisation list (OCPP 1.6, 5.15; 2.x, block D): drivers a station lets charge while it is offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station


class LocalList(Concept):
    """Tokens with what the CSMS said of them."""

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.version = 0
        self.tokens: dict[str, dict[str, Any]] = {}

    def commands(self) -> Commands:
        """In the words of 2.x."""
        return {
            "SendLocalList": lambda payload: self._send(
                payload, payload["versionNumber"], key=lambda each: each["idToken"]["idToken"], told="idTokenInfo"
            ),
            "GetLocalListVersion": lambda _: Reply(payload={"versionNumber": self.version}),
        }

    def accepts(self, id_token: str) -> bool:
        """Tell whether a token is on it, and good."""
        return self.tokens.get(id_token, {}).get("status") == "Accepted"

    def _send(self, payload: Payload, version: int, *, key: Any, told: str) -> Reply:
        entries = payload.get("localAuthorizationList", [])
        if payload["updateType"] == "Differential" and version <= self.version:
            return Reply(payload={"status": "VersionMismatch"})
        if payload["updateType"] == "Full":
            if any(told not in each for each in entries):
                return Reply(payload={"status": "Failed"})
            self.tokens.clear()
        for each in entries:
            if told in each:
                self.tokens[key(each)] = each[told]
            else:
                self.tokens.pop(key(each), None)
        self.version = version
        return Reply(payload={"status": "Accepted"})


class LocalList16(LocalList):
    """In the words of 1.6."""

    def commands(self) -> Commands:
        """The same two."""
        return {
            "SendLocalList": lambda payload: self._send(
                payload, payload["listVersion"], key=lambda each: each["idTag"], told="idTagInfo"
            ),
            "GetLocalListVersion": lambda _: Reply(payload={"listVersion": self.version}),
        }
