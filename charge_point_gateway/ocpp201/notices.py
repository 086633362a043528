"""Messages of OCPP 2.0.1 that are acknowledged without effect: their subjects are not managed here yet.

A notification must not be answered by a CALLERROR: the station could only repeat it. Requests whose answer would have
to mean something (certificates, charging needs) are left out and answered NotSupported.
"""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Message


class ClearedChargingLimit(Message):
    """An external charging limit is gone (K13)."""

    action: ClassVar[str] = "ClearedChargingLimit"


class FirmwareStatusNotification(Message):
    """Progress of a firmware update (L01)."""

    action: ClassVar[str] = "FirmwareStatusNotification"


class LogStatusNotification(Message):
    """Progress of a log upload (N01)."""

    action: ClassVar[str] = "LogStatusNotification"


class NotifyChargingLimit(Message):
    """An external charging limit applies (K12)."""

    action: ClassVar[str] = "NotifyChargingLimit"


class NotifyCustomerInformation(Message):
    """Customer data that were asked for (N09)."""

    action: ClassVar[str] = "NotifyCustomerInformation"


class NotifyDisplayMessages(Message):
    """Display messages that were asked for (O03)."""

    action: ClassVar[str] = "NotifyDisplayMessages"


class NotifyEVChargingSchedule(Message):
    """The EV's own schedule; Accepted says it was understood, not that it is followed (K15)."""

    action: ClassVar[str] = "NotifyEVChargingSchedule"

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Accepted."""
        return {"status": "Accepted"}


class NotifyEvent(Message):
    """A monitored variable changed (N07)."""

    action: ClassVar[str] = "NotifyEvent"


class NotifyMonitoringReport(Message):
    """Monitors that were asked for (N02)."""

    action: ClassVar[str] = "NotifyMonitoringReport"


class NotifyReport(Message):
    """The device model that was asked for (B07)."""

    action: ClassVar[str] = "NotifyReport"


class PublishFirmwareStatusNotification(Message):
    """Progress of a firmware publication (L03)."""

    action: ClassVar[str] = "PublishFirmwareStatusNotification"


class ReportChargingProfiles(Message):
    """Charging profiles that were asked for (K09)."""

    action: ClassVar[str] = "ReportChargingProfiles"


class ReservationStatusUpdate(Message):
    """A reservation is over (H02); none is made here."""

    action: ClassVar[str] = "ReservationStatusUpdate"
