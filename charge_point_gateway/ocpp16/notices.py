"""Messages of OCPP 1.6 that are acknowledged without effect: their subjects are not managed here yet.

A notification must not be answered by a CALLERROR: the station could only repeat it.
"""

from __future__ import annotations

from typing import ClassVar

from charge_point_gateway.message import Message


class DiagnosticsStatusNotification(Message):
    """Progress of a diagnostics upload (4.4)."""

    action: ClassVar[str] = "DiagnosticsStatusNotification"


class FirmwareStatusNotification(Message):
    """Progress of a firmware update (4.5)."""

    action: ClassVar[str] = "FirmwareStatusNotification"


class LogStatusNotification(Message):
    """Progress of a log upload (security white paper)."""

    action: ClassVar[str] = "LogStatusNotification"


class SignedFirmwareStatusNotification(Message):
    """Progress of a signed firmware update (security white paper)."""

    action: ClassVar[str] = "SignedFirmwareStatusNotification"
