"""Facts about charging limits: what stations were told of them. What they tell by themselves is `charging`'s."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from emobility.events.charging import StationEvent
from emobility.events.event import catalogued


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingCommandAnswered(StationEvent):
    """A station answered a command about how it charges, or did not in time.

    `action` is the standard's: SetChargingProfile, ClearChargingProfile, UpdateDynamicSchedule, UsePriorityCharging,
    AFRRSignal. `result` is ours, `station_status` the station's own word.
    """

    wire_name: ClassVar[str] = "charging.charging_command_answered.v1"
    action: str
    result: str
    answered_at: datetime
    station_status: str | None = None
    ocpp_evse_id: int | None = None
    profile_id: int | None = None
    transaction_id: str | None = None
