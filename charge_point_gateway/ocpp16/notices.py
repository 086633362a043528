"""Messages of OCPP 1.6 that are kept as they came: their subjects are not managed here yet."""

from __future__ import annotations

from typing import ClassVar

from charge_point_gateway.notice import Notice


class DiagnosticsStatusNotification(Notice):
    """Progress of a diagnostics upload (4.4)."""

    action: ClassVar[str] = "DiagnosticsStatusNotification"


class FirmwareStatusNotification(Notice):
    """Progress of a firmware update (4.5)."""

    action: ClassVar[str] = "FirmwareStatusNotification"


class LogStatusNotification(Notice):
    """Progress of a log upload (security white paper)."""

    action: ClassVar[str] = "LogStatusNotification"


class SignedFirmwareStatusNotification(Notice):
    """Progress of a signed firmware update (security white paper)."""

    action: ClassVar[str] = "SignedFirmwareStatusNotification"
