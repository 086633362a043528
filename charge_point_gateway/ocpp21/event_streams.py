"""OCPP 2.1, block N: variables that a station reports in a stream, without being answered."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.notice import Notice


class OpenPeriodicEventStream(Notice):
    """A stream begins (N11)."""

    action: ClassVar[str] = "OpenPeriodicEventStream"
    answer: ClassVar[dict[str, Any]] = {"status": "Accepted"}


class ClosePeriodicEventStream(Notice):
    """A stream ended (N14)."""

    action: ClassVar[str] = "ClosePeriodicEventStream"


class NotifyPeriodicEventStream(Notice):
    """Values of a stream (N13); a SEND."""

    action: ClassVar[str] = "NotifyPeriodicEventStream"
    is_told_once: ClassVar[bool] = True
