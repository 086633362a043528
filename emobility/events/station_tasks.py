"""Facts about work that a station was asked for: how it goes on, in the station's own words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from emobility.events.charging import StationEvent
from emobility.events.event import catalogued


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReported(StationEvent):
    """Base of facts about one task; `request_id` names it, where the version has such a number.

    `status` is OCPP's word as it came, `reason_code` what 2.1 adds to it (StatusInfoType).
    """

    status: str
    occurred_at: datetime
    request_id: int | None = None
    reason_code: str | None = None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareStatusReported(TaskReported):
    """A station reported on a firmware update (FirmwareStatusNotification, SignedFirmwareStatusNotification)."""

    wire_name: ClassVar[str] = "charging.firmware_status_reported.v1"


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwarePublicationReported(TaskReported):
    """A local controller reported on firmware that it offers (PublishFirmwareStatusNotification).

    `locations`: where it is offered, users in URLs masked.
    """

    wire_name: ClassVar[str] = "charging.firmware_publication_reported.v1"
    locations: tuple[str, ...] = ()


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatusReported(TaskReported):
    """A station reported on a log that it uploads (LogStatusNotification, 1.6 DiagnosticsStatusNotification)."""

    wire_name: ClassVar[str] = "charging.log_status_reported.v1"
