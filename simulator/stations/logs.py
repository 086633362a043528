"""Logs and diagnostics, played: each step of an upload is told, and nothing is uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station


class Logs(Concept):
    """`uploading` is the request under way."""

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.uploading: int | None = None

    def commands(self) -> Commands:
        """All versions have it."""
        return {"GetLog": self._get}

    def tell_status(self) -> None:
        """Answer a TriggerMessage."""
        if self.uploading is None:
            self.station.tell("LogStatusNotification", {"status": "Idle"})
        else:
            self.station.tell("LogStatusNotification", {"status": "Uploading", "requestId": self.uploading})

    def _get(self, payload: Payload) -> Reply:
        request_id, name = payload["requestId"], f"{self.station.profile.charging_station_id}.log"
        last = "UploadFailure" if "broken" in payload["log"]["remoteLocation"] else "Uploaded"

        def play() -> None:
            for status in ("Uploading", last):
                self.station.tell("LogStatusNotification", {"status": status, "requestId": request_id})

        return Reply(payload={"status": "Accepted", "filename": name}, then=play)


class Logs16(Logs):
    """With GetDiagnostics, which 1.6 had first."""

    def commands(self) -> Commands:
        """Both."""
        return super().commands() | {"GetDiagnostics": self._diagnostics}

    def _diagnostics(self, _: Payload) -> Reply:
        def play() -> None:
            for status in ("Uploading", "Uploaded"):
                self.station.tell("DiagnosticsStatusNotification", {"status": status})

        name = f"{self.station.profile.charging_station_id}.diagnostics"
        return Reply(payload={"fileName": name}, then=play)
