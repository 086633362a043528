"""OCPP 2.1, block R: the grid rules that a station follows as a distributed energy resource."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context
from charge_point_gateway.notice import Told
from emobility.events.station_told import DERAlarmReported, DERControlsReported, DERControlSwitched
from emobility.protocols.station_control.told import moment_of, whole_of


class NotifyDERAlarm(Told):
    """A grid rule was broken, or holds again (R02, R03)."""

    action: ClassVar[str] = "NotifyDERAlarm"
    event = DERAlarmReported

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Which rule, why, and when."""
        return {
            "control_type": payload["controlType"],
            "grid_event_fault": payload.get("gridEventFault"),
            "is_ended": payload.get("alarmEnded", False),
            "occurred_at": moment_of(payload["timestamp"]),
        }


class NotifyDERStartStop(Told):
    """A scheduled control began or ended (R04)."""

    action: ClassVar[str] = "NotifyDERStartStop"
    event = DERControlSwitched

    def identifiers(self, payload: dict[str, Any]) -> tuple[str, ...]:
        """The controls."""
        return (payload["controlId"], *payload.get("supersededIds", ()))

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Which control, which it takes the place of, and when."""
        return {
            "control_id": payload["controlId"],
            "is_started": payload["started"],
            "superseded_ids": tuple(payload.get("supersededIds", ())),
            "occurred_at": moment_of(payload["timestamp"]),
        }


class ReportDERControl(Told):
    """The controls that were asked for (R04)."""

    action: ClassVar[str] = "ReportDERControl"
    event = DERControlsReported

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Nothing but the page itself, and which report it is of."""
        return {"request_id": whole_of(payload["requestId"])}
