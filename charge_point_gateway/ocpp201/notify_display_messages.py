"""NotifyDisplayMessages (OCPP 2.0.1, O03): the display messages that were asked for."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context
from charge_point_gateway.notice import Told
from emobility.events.station_told import DisplayMessagesReported
from emobility.protocols.station_control.told import display_messages_of, whole_of


class NotifyDisplayMessages(Told):
    """A page; all of one question have its request id."""

    action: ClassVar[str] = "NotifyDisplayMessages"
    event = DisplayMessagesReported

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Which question it answers."""
        display_messages_of(payload)
        return {"request_id": whole_of(payload["requestId"])}
