"""NotifyEvent (OCPP 2.0.1, N07): monitored variables changed."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context
from charge_point_gateway.notice import Told
from emobility.events.station_told import MonitoredEventsReported
from emobility.protocols.station_control.told import monitored_events_of


class NotifyEvent(Told):
    """Its events stay in the payload: a driver's text may be a variable, too."""

    action: ClassVar[str] = "NotifyEvent"
    event = MonitoredEventsReported

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Nothing but that the events can be read."""
        monitored_events_of(payload)
        return {}
