"""Firmware updates, played: each step is told, and after the restart the station is of the new version.

Nothing is downloaded; a location whose last part begins with `broken` fails to come, one with `unsigned` is refused
for its signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station

CHECKSUM_CHARACTERS: Final = 32


class Firmware(Concept):
    """`installing` is what was downloaded and comes into force with the restart: request id and version."""

    action = "FirmwareStatusNotification"

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.installing: tuple[int | None, str] | None = None
        self.published: set[str] = set()

    def commands(self) -> Commands:
        """In the words of 2.x."""
        return {
            "UpdateFirmware": lambda payload: self.update(
                payload["firmware"]["location"],
                payload["requestId"],
                is_signed="signature" in payload["firmware"],
                action=self.action,
            ),
            "PublishFirmware": self._publish,
            "UnpublishFirmware": self._unpublish,
        }

    def update(self, location: str, request_id: int | None, *, is_signed: bool, action: str) -> Reply:
        """Answer, then play the update; told by notifications called `action`."""
        name = urlsplit(location).path.rpartition("/")[2] or "firmware"
        replaced, self.installing = self.installing, None
        steps = ["Downloading"]
        if name.startswith("broken"):
            steps.append("DownloadFailed")
        elif is_signed and name.startswith("unsigned"):
            steps += ["Downloaded", "InvalidSignature"]
        else:
            steps += ["Downloaded", *(["SignatureVerified"] if is_signed else []), "Installing"]
            self.installing = (request_id, name)

        def play() -> None:
            for status in steps:
                self._tell(action, status, request_id)
            if self.installing is not None:
                self.station.restart_soon()

        self._action = action
        return Reply(payload={"status": "AcceptedCanceled" if replaced else "Accepted"}, then=play)

    def booted(self) -> None:
        """The new version is in force."""
        if self.installing is None:
            return
        (request_id, version), self.installing = self.installing, None
        self.station.firmware_version = version[:50]
        self._tell(self._action, "Installed", request_id)

    def tell_status(self) -> None:
        """Answer a TriggerMessage."""
        status = "Idle" if self.installing is None else "Installing"
        self._tell(self.action, status, None if self.installing is None else self.installing[0])

    def _tell(self, action: str, status: str, request_id: int | None) -> None:
        number = {} if request_id is None else {"requestId": request_id}
        self.station.tell(action, {"status": status, **number})

    def _publish(self, payload: Payload) -> Reply:
        checksum, request_id = payload["checksum"], payload["requestId"]
        if len(checksum) != CHECKSUM_CHARACTERS:
            return Reply(payload={"status": "Rejected"})
        location = f"http://{self.station.profile.charging_station_id}.local/{checksum}"

        def play() -> None:
            for status in ("Downloading", "Downloaded", "ChecksumVerified"):
                self.station.tell("PublishFirmwareStatusNotification", {"status": status, "requestId": request_id})
            self.published.add(checksum)
            told = {"status": "Published", "location": [location], "requestId": request_id}
            self.station.tell("PublishFirmwareStatusNotification", told)

        return Reply(payload={"status": "Accepted"}, then=play)

    def _unpublish(self, payload: Payload) -> Reply:
        is_known = payload["checksum"] in self.published
        self.published.discard(payload["checksum"])
        return Reply(payload={"status": "Unpublished" if is_known else "NoFirmware"})


class Firmware16(Firmware):
    """In the words of 1.6: unsigned by UpdateFirmware, signed by the security extension's own two messages."""

    def commands(self) -> Commands:
        """Both kinds of update."""
        return {
            "UpdateFirmware": self._update_unsigned,
            "SignedUpdateFirmware": lambda payload: self.update(
                payload["firmware"]["location"],
                payload["requestId"],
                is_signed=True,
                action="SignedFirmwareStatusNotification",
            ),
        }

    def _update_unsigned(self, payload: Payload) -> Reply:
        reply = self.update(payload["location"], None, is_signed=False, action=self.action)
        return Reply(payload={}, then=reply.then)
