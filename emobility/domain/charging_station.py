"""Charging stations, EVSEs and connectors, and the locations they stand at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from emobility.domain.identifiers import PartyId
from emobility.domain.location_facts import NOTHING_STATED, LocationFacts


class EVSEStatus(StrEnum):
    """What a driver finds (OCPI 2.2.1, 8.4.22 Status)."""

    AVAILABLE = "AVAILABLE"
    BLOCKED = "BLOCKED"
    CHARGING = "CHARGING"
    INOPERATIVE = "INOPERATIVE"
    OUTOFORDER = "OUTOFORDER"
    PLANNED = "PLANNED"
    REMOVED = "REMOVED"
    RESERVED = "RESERVED"
    UNKNOWN = "UNKNOWN"


class PowerType(StrEnum):
    """How current reaches the vehicle (OCPI 2.2.1, 8.4.19)."""

    AC_1_PHASE = "AC_1_PHASE"
    AC_3_PHASE = "AC_3_PHASE"
    DC = "DC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """A plug of an EVSE. `connector_id` is unique in its EVSE and, for OCPP 2.x, the number the station uses."""

    connector_id: int
    standard: str
    power_type: PowerType
    voltage_v_max: int
    current_a_max: int
    power_w_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EVSE:
    """A unit that charges one vehicle at a time.

    `evse_uid` names it in OCPI and never changes; `ocpp_evse_id` is the station's number for it (an OCPP 1.6 station
    calls it connectorId). `emi3_id` is the eMI3 EVSE id that people read on the station.
    """

    evse_uid: str
    emi3_id: str
    ocpp_evse_id: int
    connectors: tuple[Connector, ...]
    meter_public_key: str | None = None
    """Hex of the meter's public key, pinned out of band; None: values of this EVSE are not signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingStation:
    """One OCPP endpoint of a CPO. `charging_station_id` is its OCPP identity and is never published."""

    party_id: PartyId
    charging_station_id: str
    location_id: str
    evses: tuple[EVSE, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where stations stand. `time_zone` (IANA) decides local time in tariffs; `country_code` is ISO 3166 alpha-3."""

    party_id: PartyId
    location_id: str
    name: str
    address: str
    city: str
    postal_code: str
    country: str
    latitude: Decimal
    longitude: Decimal
    time_zone: str
    last_updated: datetime
    facts: LocationFacts = NOTHING_STATED
