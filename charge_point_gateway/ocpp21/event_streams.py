"""OCPP 2.1, block N: variables that a station reports in a stream, without being answered."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context
from charge_point_gateway.notice import Told
from emobility.events.station_told import EventStreamClosed, EventStreamOpened, EventStreamReported
from emobility.protocols.station_control.told import stream_of, stream_values_of, whole_of


class OpenPeriodicEventStream(Told):
    """A stream begins (N11). One that is opened anew is told in the same words, so nothing tells it once."""

    action: ClassVar[str] = "OpenPeriodicEventStream"
    event = EventStreamOpened
    is_told_once: ClassVar[bool] = False
    answer: ClassVar[dict[str, Any]] = {"status": "Accepted"}

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Which stream."""
        return {"stream_id": stream_of(payload["constantStreamData"]).stream_id}


class ClosePeriodicEventStream(Told):
    """A stream ended (N14)."""

    action: ClassVar[str] = "ClosePeriodicEventStream"
    event = EventStreamClosed
    is_told_once: ClassVar[bool] = False

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Which stream."""
        return {"stream_id": whole_of(payload["id"])}


class NotifyPeriodicEventStream(Told):
    """Values of a stream (N13); a SEND."""

    action: ClassVar[str] = "NotifyPeriodicEventStream"
    event = EventStreamReported

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Which stream."""
        stream_values_of(payload)
        whole_of(payload["pending"])
        return {"stream_id": whole_of(payload["id"])}
