"""CALLs to a station on an operator's behalf, in the words of the station's own OCPP version; each is remembered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult, OCPPCall, StationCommand
from services.charging_operations.office import Office

COMMAND_TIMEOUT_S: Final = 30
CALLS_KEPT_MAX: Final = 500
"""CALLs remembered of one station."""
REMOVED_AT_ONCE: Final = 100
OCPP_16: Final = "1.6"


class StationOffline(RuleBroken):
    """The station is not connected, so it can't be asked."""


def rfc3339(at: datetime) -> str:
    """Write a moment as stations take it: UTC, milliseconds at most (2.0.1 part 2, 2.1.4)."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class StationCallRecord:
    """A CALL and what became of it, without what was said; `result` None: nobody knows whether the station got it."""

    party_id: PartyId
    charging_station_id: str
    call_id: str
    action: str
    asked_at: datetime
    correlation_id: str
    result: CommandResult | None = None
    detail: str | None = None
    answered_at: datetime | None = None


STATION_CALL: Final = TableSpec(
    name="cpo_station_call", record=StationCallRecord, key=("party_id", "charging_station_id", "call_id")
)


async def version_of(office: Office, party_id: PartyId, station_id: str) -> str:
    """Return the OCPP version that a station is connected by. Raises `StationOffline`, and what the client raises."""
    presence = await office.stations.presence(party_id, station_id)
    if presence is None or not presence.is_online:
        raise StationOffline(f"station {station_id} is not connected")
    return presence.ocpp_version


async def call_station(
    office: Office,
    party_id: PartyId,
    station_id: str,
    action: str,
    payload: dict[str, Any],
    *,
    correlation_id: str,
    timeout_s: int = COMMAND_TIMEOUT_S,
) -> CommandOutcome:
    """Call an action and return what the station said. Raises what `StationControlClient.command` does."""
    command = StationCommand(
        correlation_id=correlation_id,
        timeout_s=timeout_s,
        ocpp_call=OCPPCall(action=action, payload=payload),
    )
    asked = StationCallRecord(
        party_id=party_id,
        charging_station_id=station_id,
        call_id=office.ports.randomness.uuid(),
        action=action,
        asked_at=office.now(),
        correlation_id=correlation_id,
    )
    await _remember(office, asked)
    outcome = await office.stations.command(party_id, station_id, command)
    await _remember(
        office,
        replace(asked, result=outcome.result, detail=outcome.station_status, answered_at=office.now()),
    )
    return outcome


async def _remember(office: Office, call: StationCallRecord) -> None:
    async with office.ports.units.begin() as unit:
        table = unit.table(STATION_CALL)
        await table.put(call)
        if call.result is None:
            where = {"party_id": call.party_id, "charging_station_id": call.charging_station_id}
            for old in await table.select(where, order_by=("-asked_at",), offset=CALLS_KEPT_MAX, limit=REMOVED_AT_ONCE):
                await table.remove(old.party_id, old.charging_station_id, old.call_id)
        await unit.commit()
