"""Status notifications about firmware and logs: the same in every version but for their names.

A station says them again when it is asked to (TriggerMessage), so each counts, and none tells more than where the task
is.
"""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Fact, Message, optional_whole, rfc3339
from emobility.events.station_tasks import (
    FirmwarePublicationReported,
    FirmwareStatusReported,
    LogStatusReported,
    TaskReported,
)
from emobility.protocols.station_control.redaction import redacted


class TaskStatus(Message):
    """A status that becomes an event of the kind `reported`."""

    reported: ClassVar[type[TaskReported]]

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The status."""
        event = self.reported(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            status=payload["status"],
            occurred_at=context.now,
            request_id=optional_whole(payload.get("requestId")),
            reason_code=payload.get("statusInfo", {}).get("reasonCode"),
            **self.details(payload),
        )
        told = f"{rfc3339(context.now)}/{context.message_id}"
        return (Fact(f"{context.station_key}/task/{self.action}/{told}", event),)

    def details(self, payload: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - see `Message`
        """Return what the event has besides."""
        return {}


class FirmwareStatusNotification(TaskStatus):
    """Progress of a firmware update (1.6, 4.5; 2.0.1, L01)."""

    action: ClassVar[str] = "FirmwareStatusNotification"
    reported: ClassVar[type[TaskReported]] = FirmwareStatusReported


class SignedFirmwareStatusNotification(TaskStatus):
    """Progress of a signed firmware update (1.6 security white paper)."""

    action: ClassVar[str] = "SignedFirmwareStatusNotification"
    reported: ClassVar[type[TaskReported]] = FirmwareStatusReported


class PublishFirmwareStatusNotification(TaskStatus):
    """Progress of a firmware publication (2.0.1, L03)."""

    action: ClassVar[str] = "PublishFirmwareStatusNotification"
    reported: ClassVar[type[TaskReported]] = FirmwarePublicationReported

    def details(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Where it is offered."""
        return {"locations": tuple(redacted(payload.get("location", [])))}


class LogStatusNotification(TaskStatus):
    """Progress of a log upload (1.6 security white paper; 2.0.1, N01)."""

    action: ClassVar[str] = "LogStatusNotification"
    reported: ClassVar[type[TaskReported]] = LogStatusReported


class DiagnosticsStatusNotification(TaskStatus):
    """Progress of a diagnostics upload (1.6, 4.4)."""

    action: ClassVar[str] = "DiagnosticsStatusNotification"
    reported: ClassVar[type[TaskReported]] = LogStatusReported
