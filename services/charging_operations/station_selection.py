"""Which stations are meant: by id, place, make, firmware and what they speak; nothing said is nobody, never all."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.messages import StationPresence
from services.charging_operations.office import NotUnderstood, Office
from services.charging_operations.records import STATION
from services.charging_operations.station_boots import STATION_IDENTITY, StationIdentityRecord

STATIONS_NAMED_MAX: Final = 10
"""Unknown stations that a refusal names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationSelection:
    """The stations that meet every criterion given; `is_all`: that none is given is meant.

    Vendor, model and firmware are what a station said when it last booted, the OCPP version what it is or was last
    connected by.
    """

    charging_station_ids: tuple[str, ...] = ()
    location_id: str | None = None
    vendor: str | None = None
    model: str | None = None
    firmware_version: str | None = None
    ocpp_version: str | None = None
    is_online_only: bool = False
    is_all: bool = False


CRITERIA: Final = ", ".join(each.name for each in fields(StationSelection) if each.name != "is_all")


async def selected_stations(office: Office, party_id: PartyId, selection: StationSelection) -> list[str]:
    """Return the ids of the stations meant, in order.

    Raises:
        NotUnderstood: no criterion is given and not `is_all`, or a station named is not known.
        GatewayUnavailable, GatewayRefused: who is connected is asked for and can't be told.
    """
    if selection == StationSelection():
        raise NotUnderstood(f"say which stations: is_all, or one of {CRITERIA}")
    async with office.ports.units.begin() as unit:
        stations = await unit.table(STATION).select({"party_id": party_id}, order_by=("charging_station_id",))
        identities = await unit.table(STATION_IDENTITY).select({"party_id": party_id})
    unknown = sorted(set(selection.charging_station_ids) - {row.charging_station_id for row in stations})
    if unknown:
        raise NotUnderstood(f"no station {', '.join(unknown[:STATIONS_NAMED_MAX])}")
    of_interest = selection.ocpp_version is not None or selection.is_online_only
    presences = await office.stations.stations(party_id) if of_interest else []
    said = {row.charging_station_id: row for row in identities}
    seen = {row.charging_station_id: row for row in presences}
    return [
        row.charging_station_id
        for row in stations
        if selection.location_id in (None, row.location_id)
        and (not selection.charging_station_ids or row.charging_station_id in selection.charging_station_ids)
        and _is_meant(selection, said.get(row.charging_station_id), seen.get(row.charging_station_id))
    ]


def _is_meant(selection: StationSelection, said: StationIdentityRecord | None, seen: StationPresence | None) -> bool:
    for name in ("vendor", "model", "firmware_version"):
        wanted = getattr(selection, name)
        if wanted is not None and (said is None or getattr(said, name) != wanted):
            return False
    if selection.ocpp_version is not None and (seen is None or seen.ocpp_version != selection.ocpp_version):
        return False
    return not selection.is_online_only or (seen is not None and seen.is_online)
