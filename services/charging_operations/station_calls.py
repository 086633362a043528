"""CALLs to a station on an operator's behalf, in the words of the station's own OCPP version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.messages import CommandOutcome, OCPPCall, StationCommand
from services.charging_operations.office import Office

COMMAND_TIMEOUT_S: Final = 30
OCPP_16: Final = "1.6"


class StationOffline(RuleBroken):
    """The station is not connected, so it can't be asked."""


def rfc3339(at: datetime) -> str:
    """Write a moment as stations take it: UTC, milliseconds at most (2.0.1 part 2, 2.1.4)."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def version_of(office: Office, party_id: PartyId, station_id: str) -> str:
    """Return the OCPP version that a station is connected by. Raises `StationOffline`, and what the client raises."""
    presence = await office.stations.presence(party_id, station_id)
    if presence is None or not presence.is_online:
        raise StationOffline(f"station {station_id} is not connected")
    return presence.ocpp_version


async def call_station(
    office: Office, party_id: PartyId, station_id: str, action: str, payload: dict[str, Any], *, correlation_id: str
) -> CommandOutcome:
    """Call an action and return what the station said. Raises what `StationControlClient.command` does."""
    command = StationCommand(
        correlation_id=correlation_id,
        timeout_s=COMMAND_TIMEOUT_S,
        ocpp_call=OCPPCall(action=action, payload=payload),
    )
    return await office.stations.command(party_id, station_id, command)
