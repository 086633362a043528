"""Facts about charging limits: what stations were told of them. What stations tell by themselves is `charging`'s."""

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


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingLimitConfirmed(StationEvent):
    """A station confirmed the limit that the load manager gave an EVSE; per phase, in tenths of an ampere.

    `transaction_id` None: the limit is for whoever charges there without one of his own (the fallback).
    """

    wire_name: ClassVar[str] = "charging.charging_limit_confirmed.v1"
    ocpp_evse_id: int
    load_group_id: str
    limit_da: int
    confirmed_at: datetime
    transaction_id: str | None = None
