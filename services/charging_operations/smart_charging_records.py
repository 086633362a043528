"""Rows of charging profiles, external limits and what EVs want; party and station begin every key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from emobility.domain.charging_profile import ChargingProfile, ChargingSchedule, InstalledProfile, Purpose
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.ports.stores import TableSpec


class ProfileState(StrEnum):
    """What is known of a profile's being at its station."""

    INSTALLED = "INSTALLED"
    """We set it, and the station accepted it."""
    REPORTED = "REPORTED"
    """The station says it has it."""
    UNKNOWN = "UNKNOWN"
    """We set it and were not answered."""
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingProfileRecord:
    """A profile of a station. `answer` is the station's own word; `request_id` names the report that named it last."""

    party_id: PartyId
    charging_station_id: str
    source: str
    profile_id: int
    ocpp_evse_id: int
    purpose: Purpose
    stack_level: int
    transaction_id: str | None
    profile: ChargingProfile
    state: ProfileState
    answer: str | None
    changed_at: datetime
    request_id: int | None = None

    @property
    def installed(self) -> InstalledProfile:
        """The profile and its place."""
        return InstalledProfile(evse_id=self.ocpp_evse_id, profile=self.profile, source=self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileReportRecord:
    """GetChargingProfiles and how much of its answer came. `is_whole`: it asked for all profiles."""

    party_id: PartyId
    charging_station_id: str
    request_id: int
    is_whole: bool
    asked_at: datetime
    answer: str | None = None
    pages: int = 0
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalLimitRecord:
    """A limit from outside (NotifyChargingLimit); EVSE 0 is the station. Without schedules nobody told how much.

    `cleared_at` None: it is active.
    """

    party_id: PartyId
    charging_station_id: str
    ocpp_evse_id: int
    source: str
    schedules: tuple[ChargingSchedule, ...]
    is_grid_critical: bool | None
    notified_at: datetime
    cleared_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingNeedsRecord:
    """What the EV at an EVSE told last that it needs (NotifyEVChargingNeeds); `needs` is the whole of it, as it came.

    `max_current_a` is of each phase, `has_v2x`: it can feed in.
    """

    party_id: PartyId
    charging_station_id: str
    ocpp_evse_id: int
    energy_transfer: str
    energy_wh: int | None
    min_current_a: Decimal | None
    max_current_a: Decimal | None
    departure_at: datetime | None
    has_v2x: bool
    needs: Sealed
    told_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EVScheduleRecord:
    """How the EV at an EVSE means to charge (NotifyEVChargingSchedule), counted from `base_at`."""

    party_id: PartyId
    charging_station_id: str
    ocpp_evse_id: int
    base_at: datetime
    schedule: ChargingSchedule
    selected_schedule_id: int | None
    told_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityChargingRecord:
    """Whether a transaction charges by its PriorityCharging profile, as the station told or accepted last."""

    party_id: PartyId
    charging_station_id: str
    transaction_id: str
    is_activated: bool
    is_told_by_station: bool
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingCommandRecord:
    """A command about charging and what the station said. `payload` is what was sent."""

    party_id: PartyId
    charging_station_id: str
    command_id: str
    action: str
    payload: dict[str, Any]
    result: str
    station_status: str | None
    answered_at: datetime


CHARGING_PROFILE: Final = TableSpec(
    name="cpo_charging_profile",
    record=ChargingProfileRecord,
    key=("party_id", "charging_station_id", "source", "profile_id"),
)
PROFILE_REPORT: Final = TableSpec(
    name="cpo_profile_report", record=ProfileReportRecord, key=("party_id", "charging_station_id", "request_id")
)
EXTERNAL_LIMIT: Final = TableSpec(
    name="cpo_external_limit",
    record=ExternalLimitRecord,
    key=("party_id", "charging_station_id", "ocpp_evse_id", "source"),
)
CHARGING_NEEDS: Final = TableSpec(
    name="cpo_charging_needs", record=ChargingNeedsRecord, key=("party_id", "charging_station_id", "ocpp_evse_id")
)
EV_SCHEDULE: Final = TableSpec(
    name="cpo_ev_schedule", record=EVScheduleRecord, key=("party_id", "charging_station_id", "ocpp_evse_id")
)
PRIORITY_CHARGING: Final = TableSpec(
    name="cpo_priority_charging",
    record=PriorityChargingRecord,
    key=("party_id", "charging_station_id", "transaction_id"),
)
CHARGING_COMMAND: Final = TableSpec(
    name="cpo_charging_command",
    record=ChargingCommandRecord,
    key=("party_id", "charging_station_id", "command_id"),
)
