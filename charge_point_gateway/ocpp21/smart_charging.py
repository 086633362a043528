"""OCPP 2.1, block K: charging by schedules that change while they run."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, whole
from charge_point_gateway.notice import Notice
from charge_point_gateway.ocpp201 import notify_ev_charging_needs
from emobility.ports.station_questions import ChargingAdvice, ChargingQuestion, StationQuestion


class NotifyEVChargingNeeds(notify_ev_charging_needs.NotifyEVChargingNeeds):
    """Unlike 2.0.1, 2.1 can say that no profile will follow without refusing the needs."""

    no_profile: ClassVar[str] = "NoChargingProfile"


class NotifyPriorityCharging(Notice):
    """A transaction charges by its priority profile, or does so no more (K21, K22)."""

    action: ClassVar[str] = "NotifyPriorityCharging"


class PullDynamicScheduleUpdate(Notice):
    """A station asks for the present values of a dynamic profile (K28); Rejected where nothing is known of it."""

    action: ClassVar[str] = "PullDynamicScheduleUpdate"

    def station_question(self, payload: dict[str, Any], context: Context) -> StationQuestion | None:
        """What the values are."""
        return ChargingQuestion(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            dynamic_profile_id=whole(payload["chargingProfileId"]),
        )

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """The values; when the back office is away, none."""
        told = context.told
        if not isinstance(told, ChargingAdvice) or not told.is_accepted:
            return {"status": "Rejected"}
        return {"status": "Accepted", "scheduleUpdate": told.schedule_update}
