"""Locations, charging stations and their EVSEs, and what the EVSEs are doing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from emobility.domain.charging_station import EVSE, ChargingStation, EVSEStatus, Location
from emobility.domain.identifiers import PartyId
from emobility.domain.location_facts import NOTHING_STATED, LocationFacts
from emobility.events.charging import ConnectorStatusChanged
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.facts_mapping import facts_to_ocpi
from emobility.protocols.ocpi.place_facts import EnergyMix, Hours
from services.charging_operations.meter_keys import note_station_keys, one_form
from services.charging_operations.office import NotFound, NotUnderstood, Office, require_hosted
from services.charging_operations.publishing import Publisher
from services.charging_operations.records import (
    EVSES,
    LOCATION,
    STATION,
    EVSERecord,
    LocationRecord,
    StationRecord,
)

STATION_ID: Final = re.compile(r"[A-Za-z0-9*\-_=:+|@.]{1,48}", re.ASCII)
"""OCPP 2.0.1 identifierString; what a gateway lets into a path."""
STATION_ID_RULE: Final = "a station's id has 1 to 48 letters, digits or *-_=:+|@."
STATUS_OF: Final = {
    # OCPP 1.6 ChargePointStatus; an occupied EVSE is of no use to the next driver whatever its vehicle does.
    "Available": EVSEStatus.AVAILABLE,
    "Preparing": EVSEStatus.CHARGING,
    "Charging": EVSEStatus.CHARGING,
    "SuspendedEV": EVSEStatus.CHARGING,
    "SuspendedEVSE": EVSEStatus.CHARGING,
    "Finishing": EVSEStatus.CHARGING,
    "Reserved": EVSEStatus.RESERVED,
    "Unavailable": EVSEStatus.INOPERATIVE,
    "Faulted": EVSEStatus.OUTOFORDER,
    # OCPP 2.0.1 ConnectorStatusEnumType
    "Occupied": EVSEStatus.CHARGING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationTerms:
    """What an operator states of a location."""

    name: str
    address: str
    city: str
    postal_code: str
    country: str
    latitude: Decimal
    longitude: Decimal
    time_zone: str
    facts: LocationFacts = NOTHING_STATED


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTerms:
    """What an operator states of a station; `tariff_ids` empty: all tariffs of the CPO are sold there."""

    location_id: str
    evses: tuple[EVSE, ...]
    tariff_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StationDesk:
    """Keeps what stands where."""

    office: Office
    publisher: Publisher

    async def put_location(
        self, unit: UnitOfWork, party_id: PartyId, location_id: str, terms: LocationTerms, *, correlation_id: str
    ) -> Location:
        """Enter or change a location. Raises `NotFound`, `NotUnderstood`: it is nowhere, or has no time."""
        await require_hosted(unit, party_id)
        if not (-90 <= terms.latitude <= 90 and -180 <= terms.longitude <= 180):
            raise NotUnderstood("latitude is -90 to 90 degrees, longitude -180 to 180")
        require_zone(terms.time_zone)
        require_sayable(terms.facts)
        location = Location(
            party_id=party_id,
            location_id=location_id,
            name=terms.name,
            address=terms.address,
            city=terms.city,
            postal_code=terms.postal_code,
            country=terms.country,
            latitude=terms.latitude,
            longitude=terms.longitude,
            time_zone=terms.time_zone,
            facts=terms.facts,
            last_updated=self.office.now(),
        )
        await unit.table(LOCATION).put(
            LocationRecord(
                party_id=party_id, location_id=location_id, location=location, last_updated=location.last_updated
            )
        )
        await self.publisher.publish_location(unit, party_id, location_id, correlation_id=correlation_id)
        return location

    async def put_station(
        self, unit: UnitOfWork, party_id: PartyId, station_id: str, terms: StationTerms, *, correlation_id: str
    ) -> ChargingStation:
        """Enter or change a station. An EVSE that is no longer named stays known as REMOVED: its sessions are.

        Raises:
            NotFound: the location is not known.
            NotUnderstood: two EVSEs share a number or uid, or no gateway lets a station of this id in.
        """
        if not STATION_ID.fullmatch(station_id):
            raise NotUnderstood(STATION_ID_RULE)
        if await unit.table(LOCATION).get(party_id, terms.location_id) is None:
            raise NotFound(f"no location {terms.location_id}")
        for field in ("evse_uid", "ocpp_evse_id"):
            repeated = [value for value, count in Counter(getattr(e, field) for e in terms.evses).items() if count > 1]
            if repeated:
                raise NotUnderstood(f"{field} {repeated[0]} stands twice")
        now = self.office.now()
        evses = tuple(
            evse if evse.meter_public_key is None else replace(evse, meter_public_key=one_form(evse.meter_public_key))
            for evse in terms.evses
        )
        known_station = await unit.table(STATION).get(party_id, station_id)
        before = () if known_station is None else known_station.station.evses
        station = ChargingStation(
            party_id=party_id, charging_station_id=station_id, location_id=terms.location_id, evses=evses
        )
        await unit.table(STATION).put(
            StationRecord(
                party_id=party_id,
                charging_station_id=station_id,
                location_id=terms.location_id,
                station=station,
                tariff_ids=terms.tariff_ids,
                last_updated=now,
            )
        )
        await note_station_keys(unit, party_id, evses, before, now=now)
        for evse in terms.evses:
            known = await unit.table(EVSES).get_for_update(party_id, evse.evse_uid)
            await unit.table(EVSES).put(
                EVSERecord(
                    party_id=party_id,
                    evse_uid=evse.evse_uid,
                    charging_station_id=station_id,
                    location_id=terms.location_id,
                    ocpp_evse_id=evse.ocpp_evse_id,
                    status=known.status if known else EVSEStatus.UNKNOWN,
                    changed_at=known.changed_at if known else None,
                    last_updated=now,
                )
            )
        await self.publisher.publish_location(unit, party_id, terms.location_id, correlation_id=correlation_id)
        return station

    async def connector_changed(self, unit: UnitOfWork, event: ConnectorStatusChanged, *, correlation_id: str) -> None:
        """Take a status in; one that is older than the last known changes nothing."""
        status = STATUS_OF.get(event.status)
        if status is None:
            return
        where = {"party_id": event.party_id, "charging_station_id": event.charging_station_id}
        if event.ocpp_evse_id:
            rows = await unit.table(EVSES).select(where | {"ocpp_evse_id": event.ocpp_evse_id})
        elif status in (EVSEStatus.INOPERATIVE, EVSEStatus.OUTOFORDER):
            # Number 0 is the station itself: what it can't do, none of its EVSEs can.
            rows = await unit.table(EVSES).select(where)
        else:
            rows = []
        for row in rows:
            if row.changed_at is not None and event.changed_at < row.changed_at:
                continue
            changed = replace(row, status=status, changed_at=event.changed_at)
            if changed.status is not row.status:
                changed = replace(changed, last_updated=self.office.now())
                await self.publisher.publish_evse(unit, changed, correlation_id=correlation_id)
            await unit.table(EVSES).put(changed)


def require_zone(name: str) -> None:
    """Raise `NotUnderstood` for what is no time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise NotUnderstood(f"no time zone {name[:60]!r}") from error


def require_sayable(facts: LocationFacts) -> None:
    """Raise `NotUnderstood` for facts that OCPI has no room for: a text too long, a day that isn't one, no address."""
    try:
        v221.read(v221.write(facts_to_ocpi(facts)), _Sayable)
    except v221.NotAnOCPIObject as error:
        raise NotUnderstood(str(error)) from error


class _Sayable(v221.OCPIObject, frozen=True, kw_only=True):
    operator: v221.BusinessDetails | None
    wattroam_help_phone: v221.Text25 | None
    parking_type: v221.Text45 | None
    facilities: list[v221.Text45]
    directions: list[v221.DisplayText]
    opening_times: Hours | None
    energy_mix: EnergyMix | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEVSE:
    """An EVSE with its station and location."""

    station: StationRecord
    evse: EVSE
    location: Location


async def evse_at(
    unit: UnitOfWork, party_id: PartyId, charging_station_id: str, ocpp_evse_id: int | None
) -> KnownEVSE | None:
    """Return the EVSE that a station calls by this number."""
    station = await unit.table(STATION).get(party_id, charging_station_id)
    if station is None:
        return None
    location = await unit.table(LOCATION).get(party_id, station.location_id)
    evse = next((each for each in station.station.evses if each.ocpp_evse_id == ocpp_evse_id), None)
    if location is None or evse is None:
        return None
    return KnownEVSE(station=station, evse=evse, location=location.location)
