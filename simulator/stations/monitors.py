"""Monitors (OCPP 2.x, block N): variables a station watches, what it tells when they cross a bound, and reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept
from simulator.stations.device_model import DeviceModel, Name, component_of, pages_of

if TYPE_CHECKING:
    from simulator.stations.ocpp201 import Station201

_KINDS: Final = {
    "UpperThreshold": "ThresholdMonitoring",
    "LowerThreshold": "ThresholdMonitoring",
    "Delta": "DeltaMonitoring",
    "Periodic": "PeriodicMonitoring",
    "PeriodicClockAligned": "PeriodicMonitoring",
}
SEVERITY_MAX: Final = 9


@dataclass(slots=True)
class Monitor:
    """One monitor; `is_alarmed`: the bound was crossed and that was told. `last` is what a delta counts from."""

    monitor_id: int
    name: Name
    kind: str
    value: Any
    severity: int
    is_of_transaction: bool
    is_alarmed: bool = False
    last: int | None = field(default=None)


class Monitors(Concept):
    """By id; `level` is the least severe that is told."""

    station: Station201

    def __init__(self, station: Station201, model: DeviceModel) -> None:
        super().__init__(station)
        self.model = model
        self.monitors: dict[int, Monitor] = {}
        self.level = SEVERITY_MAX
        self._ids = 0
        self._events = 0

    def commands(self) -> Commands:
        """The five of the block."""
        return {
            "SetVariableMonitoring": lambda payload: Reply(
                payload={"setMonitoringResult": [self._set(each) for each in payload["setMonitoringData"]]}
            ),
            "ClearVariableMonitoring": lambda payload: Reply(
                payload={
                    "clearMonitoringResult": [
                        {"id": number, "status": "Accepted" if self.monitors.pop(number, None) else "NotFound"}
                        for number in payload["id"]
                    ]
                }
            ),
            "GetMonitoringReport": self._report,
            "SetMonitoringBase": self._base,
            "SetMonitoringLevel": self._set_level,
        }

    def tick(self) -> None:
        """Look at what is watched."""
        for monitor in list(self.monitors.values()):
            text = self.model.variables[monitor.name].value
            if monitor.severity > self.level or not text.lstrip("-").isdecimal():
                continue
            value = int(text)
            if monitor.kind == "Delta":
                if monitor.last is not None and abs(value - monitor.last) >= monitor.value:
                    self._tell(monitor, "Delta", text, is_cleared=False)
                    monitor.last = value
                monitor.last = value if monitor.last is None else monitor.last
            elif monitor.kind.endswith("Threshold"):
                is_beyond = value > monitor.value if monitor.kind.startswith("Upper") else value < monitor.value
                if is_beyond is not monitor.is_alarmed:
                    monitor.is_alarmed = is_beyond
                    self._tell(monitor, "Alerting", text, is_cleared=not is_beyond)

    def _tell(self, monitor: Monitor, trigger: str, value: str, *, is_cleared: bool) -> None:
        self._events += 1
        event = {
            "eventId": self._events,
            "timestamp": self.station.timestamp(),
            "trigger": trigger,
            "actualValue": value,
            "cleared": is_cleared,
            "variableMonitoringId": monitor.monitor_id,
            "eventNotificationType": "CustomMonitor",
            "component": component_of(monitor.name),
            "variable": {"name": monitor.name[2]},
        }
        told = {"generatedAt": self.station.timestamp(), "seqNo": 0, "eventData": [event]}
        self.station.tell("NotifyEvent", told)

    def _set(self, wanted: dict[str, Any]) -> dict[str, Any]:
        name, variable, unknown = self.model.find(wanted)
        answer = {each: wanted[each] for each in ("type", "severity", "component", "variable")}
        if variable is None:
            return answer | {"status": unknown}
        if variable.kind != "integer" or wanted["type"] not in _KINDS:
            return answer | {"status": "UnsupportedMonitorType"}
        number = wanted.get("id")
        if number is not None and number not in self.monitors:
            return answer | {"status": "Rejected"}
        is_twice = any(
            (each.name, each.kind, each.severity) == (name, wanted["type"], wanted["severity"])
            and each.monitor_id != number
            for each in self.monitors.values()
        )
        if is_twice:
            return answer | {"status": "Duplicate"}
        if number is None:
            self._ids += 1
            number = self._ids
        self.monitors[number] = Monitor(
            number, name, wanted["type"], wanted["value"], wanted["severity"], wanted.get("transaction", False)
        )
        return answer | {"status": "Accepted", "id": number}

    def _report(self, payload: Payload) -> Reply:
        criteria = payload.get("monitoringCriteria", list(_KINDS.values()))
        wanted = payload.get("componentVariable", [])
        found = [
            each
            for each in self.monitors.values()
            if _KINDS[each.kind] in criteria
            and (not wanted or any(component_of(each.name)["name"] == one["component"]["name"] for one in wanted))
        ]
        if not found:
            return Reply(payload={"status": "EmptyResultSet"})

        def send() -> None:
            pages = list(pages_of([self._entry(each) for each in found]))
            for seq_no, page in enumerate(pages):
                told = {
                    "requestId": payload["requestId"],
                    "generatedAt": self.station.timestamp(),
                    "seqNo": seq_no,
                    "monitor": page,
                    "tbc": seq_no + 1 < len(pages),
                }
                self.station.tell("NotifyMonitoringReport", told)

        return Reply(payload={"status": "Accepted"}, then=send)

    def _entry(self, monitor: Monitor) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": monitor.monitor_id,
            "transaction": monitor.is_of_transaction,
            "value": monitor.value,
            "type": monitor.kind,
            "severity": monitor.severity,
        }
        if self.station.tells_event_notification_type:
            told["eventNotificationType"] = "CustomMonitor"
        return {
            "component": component_of(monitor.name),
            "variable": {"name": monitor.name[2]},
            "variableMonitoring": [told],
        }

    def _base(self, payload: Payload) -> Reply:
        if payload["monitoringBase"] != "All":
            self.monitors.clear()
        return Reply(payload={"status": "Accepted"})

    def _set_level(self, payload: Payload) -> Reply:
        if not 0 <= payload["severity"] <= SEVERITY_MAX:
            return Reply(payload={"status": "Rejected"})
        self.level = payload["severity"]
        return Reply(payload={"status": "Accepted"})
