"""Periodic event streams (OCPP 2.1, N11 to N15): values of a monitored variable in a row, by SEND, unanswered."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept
from simulator.stations.monitors import Monitors
from simulator.truth import timestamp

if TYPE_CHECKING:
    from simulator.stations.ocpp201 import Station201

VALUES_KEPT_MAX: Final = 100
"""Values that wait while a station is offline; the oldest makes room."""


@dataclass(slots=True)
class Stream:
    """An open stream: every `interval_s`, or as soon as there are `values_max`."""

    monitor_id: int
    interval_s: int
    values_max: int
    sent_at: datetime
    values: list[tuple[datetime, str]] = field(default_factory=list)


class EventStreams(Concept):
    """By id, which is the monitor's."""

    station: Station201

    def __init__(self, station: Station201, monitors: Monitors) -> None:
        super().__init__(station)
        self.monitors = monitors
        self.streams: dict[int, Stream] = {}

    def commands(self) -> Commands:
        """The CSMS changes and lists; a monitor set with a stream opens one."""
        return {
            "AdjustPeriodicEventStream": self._adjust,
            "GetPeriodicEventStream": self._get,
            "SetVariableMonitoring": self._set_monitors,
        }

    def _set_monitors(self, payload: Payload) -> Reply:
        reply = self.monitors.commands()["SetVariableMonitoring"](payload)
        asked = [
            (result["id"], wanted["periodicEventStream"])
            for wanted, result in zip(payload["setMonitoringData"], reply.payload["setMonitoringResult"], strict=True)
            if "periodicEventStream" in wanted and result["status"] == "Accepted"
        ]

        def then() -> None:
            for monitor_id, parameters in asked:
                self.open(monitor_id, parameters)

        return Reply(payload=reply.payload, then=then)

    def open(self, monitor_id: int, parameters: dict[str, int]) -> None:
        """Ask the CSMS to take a stream; it begins when that is accepted."""
        data = {"id": monitor_id, "variableMonitoringId": monitor_id, "params": parameters}

        def answered(answer: Payload) -> None:
            if answer["status"] == "Accepted":
                self.streams[monitor_id] = Stream(
                    monitor_id, parameters.get("interval", 60), parameters.get("values", 10), self.station.now()
                )

        self.station.request("OpenPeriodicEventStream", lambda: {"constantStreamData": data}, on_answer=answered)

    def tick(self) -> None:
        """Take values, send what is due, close what has no monitor any more."""
        now = self.station.now()
        for number, stream in list(self.streams.items()):
            monitor = self.monitors.monitors.get(stream.monitor_id)
            if monitor is None:
                del self.streams[number]
                self.station.tell("ClosePeriodicEventStream", {"id": number})
                continue
            stream.values = [*stream.values, (now, self.monitors.model.variables[monitor.name].value)]
            stream.values = stream.values[-VALUES_KEPT_MAX:]
            is_due = now - stream.sent_at >= timedelta(seconds=stream.interval_s)
            if self.station.is_accepted and (is_due or len(stream.values) >= stream.values_max):
                self._send(number, stream)
                stream.sent_at = now

    def _send(self, number: int, stream: Stream) -> None:
        (first_at, _), *_ = stream.values
        told = {
            "id": number,
            "pending": 0,
            "basetime": timestamp(first_at),
            "data": [{"t": (at - first_at).total_seconds(), "v": value} for at, value in stream.values],
        }
        stream.values = []
        self.station.send("NotifyPeriodicEventStream", told)

    def _adjust(self, payload: Payload) -> Reply:
        stream = self.streams.get(payload["id"])
        if stream is None:
            return Reply(payload={"status": "Rejected"})
        stream.interval_s = payload["params"].get("interval", stream.interval_s)
        stream.values_max = payload["params"].get("values", stream.values_max)
        return Reply(payload={"status": "Accepted"})

    def _get(self, _: Payload) -> Reply:
        data = [
            {
                "id": number,
                "variableMonitoringId": stream.monitor_id,
                "params": {"interval": stream.interval_s, "values": stream.values_max},
            }
            for number, stream in self.streams.items()
        ]
        return Reply(payload={"constantStreamData": data} if data else {})
