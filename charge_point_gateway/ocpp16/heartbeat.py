"""Heartbeat: the station is there, and wants the time (OCPP 1.6, 4.6; 2.0.1, G02)."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Message, rfc3339


class Heartbeat(Message):
    """Tells the time; both versions have the same message."""

    action: ClassVar[str] = "Heartbeat"

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """The time."""
        return {"currentTime": rfc3339(context.now)}
