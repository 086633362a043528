"""The plan of a demo: who takes part, who charges where and when, and what goes wrong. A pure function of a seed.

Two CPOs each have a house MSP; a charge is roaming when the driver's MSP is not the house MSP of the CPO. All that a
run does differently from another follows from `plan_scenario(seed)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from emobility.domain.identifiers import PartyId
from simulator.stations.profile import StationProfile
from simulator.vehicles import VehicleModel

TIME_ZONE: Final = "Europe/Amsterdam"
GRID_S: Final = 300
"""Arrivals and departures fall on this grid, so that many things happen at one moment."""
UNKNOWN_CARD: Final = "04DEADBEEF0001"


class StartedBy(StrEnum):
    """How a driver starts."""

    RFID = "RFID"
    APP = "APP"


class StoppedBy(StrEnum):
    """How a driver stops."""

    CARD = "CARD"
    APP = "APP"
    CABLE = "CABLE"


class SessionFault(StrEnum):
    """What goes wrong with one session."""

    NONE = "NONE"
    STATION_OFFLINE = "STATION_OFFLINE"
    STATION_REBOOTS = "STATION_REBOOTS"
    FORGED_METER_VALUE = "FORGED_METER_VALUE"
    END_SENT_TWICE = "END_SENT_TWICE"
    DISPUTED = "DISPUTED"
    CARD_DECLINED = "CARD_DECLINED"
    """The hold before the start is declined: the driver may not charge."""
    PAYMENT_DECLINED = "PAYMENT_DECLINED"
    """A plan without a hold: the charge is billed and its payment declined; the bill stays outstanding."""


class PlanKind(StrEnum):
    """A driver's retail plan."""

    PASS_THROUGH = "PASS_THROUGH"  # noqa: S105 - a plan, no password
    FLAT = "FLAT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """A party of the demo."""

    party_id: PartyId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationPlan:
    """Where stations stand; coordinates in degrees as text."""

    party_id: PartyId
    location_id: str
    name: str
    address: str
    city: str
    postal_code: str
    latitude: str
    longitude: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorPlan:
    """The one connector of an EVSE, in OCPI's words."""

    standard: str
    power_type: str
    voltage_v: int
    current_a: int
    power_w: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StationPlan:
    """A station: its OCPP side (`profile`) and what its CPO publishes of it. EVSEs are those of the profile."""

    profile: StationProfile
    location_id: str
    connector: ConnectorPlan
    evse_uids: tuple[str, ...]

    @property
    def party_id(self) -> PartyId:
        """Its CPO."""
        return self.profile.party_id

    @property
    def charging_station_id(self) -> str:
        """Its OCPP identity."""
        return self.profile.charging_station_id

    @property
    def is_dc(self) -> bool:
        """It charges by direct current."""
        return self.connector.power_type == "DC"

    def evse_uid(self, ocpp_evse_id: int) -> str:
        """Return what OCPI calls an EVSE."""
        return self.evse_uids[ocpp_evse_id - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverPlan:
    """A driver with a contract at an MSP, a card to hold to readers, an app (its token is the MSP's own), and a car."""

    emsp_id: PartyId
    number: int
    name: str
    contract_id: str
    plan: PlanKind
    rfid_uid: str
    vehicle: VehicleModel
    card_is_declined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """One charge: between `arrives_at` and `leaves_at` the vehicle is plugged in and takes `wanted_wh` at most."""

    number: int
    party_id: PartyId
    charging_station_id: str
    ocpp_evse_id: int
    driver: DriverPlan
    started_by: StartedBy
    stopped_by: StoppedBy
    arrives_at: datetime
    leaves_at: datetime
    power_w: int
    wanted_wh: int
    is_roaming: bool
    fault: SessionFault = SessionFault.NONE

    @property
    def full_at(self) -> datetime:
        """When the vehicle has what it wants, if nothing comes between; rounded up to a second."""
        return self.arrives_at + timedelta(seconds=-(self.wanted_wh * 3_600 // -self.power_w))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A station is away between two moments: its network (`loses_power` False) or its power."""

    party_id: PartyId
    charging_station_id: str
    begins_at: datetime
    ends_at: datetime
    loses_power: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Intrusion:
    """Somebody holds an unknown card to a reader (`id_token`), or connects with a wrong password (None)."""

    party_id: PartyId
    charging_station_id: str
    ocpp_evse_id: int
    at: datetime
    id_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All of it. `home_of` maps a CPO to its house MSP."""

    seed: int
    time_zone: str
    days: tuple[date, ...]
    begins_at: datetime
    ends_at: datetime
    cpos: tuple[Company, ...]
    emsps: tuple[Company, ...]
    nsp: Company
    hub: Company
    home_of: dict[PartyId, PartyId]
    locations: tuple[LocationPlan, ...]
    stations: tuple[StationPlan, ...]
    drivers: tuple[DriverPlan, ...]
    sessions: tuple[SessionPlan, ...]
    outages: tuple[Outage, ...]
    intrusions: tuple[Intrusion, ...]

    def station(self, party_id: PartyId, charging_station_id: str) -> StationPlan:
        """Return a station by party and OCPP identity."""
        return next(
            each
            for each in self.stations
            if (each.party_id, each.charging_station_id) == (party_id, charging_station_id)
        )
