"""What a station is made of, in the words of OCPP 2.x block B: components, variables, and reports of them in pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.ocpp201 import Station201

PAGE_VARIABLES: Final = 4
"""Variables in one NotifyReport: few, so that reports of a small station have pages too."""
Name = tuple[str, int | None, str]
"""Component, EVSE (None: the station's own) and variable."""


@dataclass(slots=True, kw_only=True)
class Variable:
    """One variable. `bounds`: least and greatest value of an integer that may be set."""

    value: str
    kind: str = "integer"
    unit: str | None = None
    is_writable: bool = False
    is_configuration: bool = False
    bounds: tuple[int, int] | None = None


class DeviceModel(Concept):
    """Variables by name. `on_set` lets others act on a new value."""

    station: Station201

    def __init__(self, station: Station201) -> None:
        super().__init__(station)
        self.variables: dict[Name, Variable] = {}
        profile = station.profile
        for (component, variable), (value, unit) in _SETTINGS.items():
            self.variables[component, None, variable] = Variable(
                value=value, unit=unit, is_writable=True, is_configuration=True, bounds=(0, 86_400)
            )
        identity = {"VendorName": profile.vendor, "Model": profile.model, "FirmwareVersion": profile.firmware_version}
        for name, text in identity.items():
            self.variables["ChargingStation", None, name] = Variable(value=text, kind="string")
        for number, evse in station.evses.items():
            self.variables["EVSE", number, "Power"] = Variable(value=str(evse.profile.power_w_max), unit="W")
            self.variables["EVSE", number, "AvailabilityState"] = Variable(value="Available", kind="OptionList")
            self.variables["Connector", number, "ConnectorType"] = Variable(
                value="cCCS2" if evse.profile.is_dc else "sType2", kind="OptionList"
            )

    def commands(self) -> Commands:
        """The four of the block."""
        return {
            "SetVariables": lambda payload: Reply(
                payload={"setVariableResult": [self._set(each) for each in payload["setVariableData"]]}
            ),
            "GetVariables": lambda payload: Reply(
                payload={"getVariableResult": [self._get(each) for each in payload["getVariableData"]]}
            ),
            "GetBaseReport": self._base_report,
            "GetReport": self._report,
        }

    def value(self, component: str, variable: str) -> str:
        """Return a value of the station itself."""
        return self.variables[component, None, variable].value

    def tick(self) -> None:
        """Values that follow what happens."""
        for number, evse in self.station.evses.items():
            self.variables["EVSE", number, "AvailabilityState"].value = self.station.status_word(evse)

    def find(self, wanted: dict[str, Any]) -> tuple[Name, Variable | None, str]:
        """Return name and variable that `component` and `variable` name, and OCPP's word for what is unknown."""
        component, variable = wanted["component"], wanted["variable"]
        name = (component["name"], component.get("evse", {}).get("id"), variable["name"])
        found = self.variables.get(name)
        is_component = any(each[:2] == name[:2] for each in self.variables)
        return name, found, "UnknownVariable" if is_component else "UnknownComponent"

    def _set(self, wanted: dict[str, Any]) -> dict[str, Any]:
        name, variable, unknown = self.find(wanted)
        value, status = wanted["attributeValue"], "Accepted"
        if variable is None:
            status = unknown
        elif wanted.get("attributeType", "Actual") != "Actual":
            status = "NotSupportedAttributeType"
        elif not variable.is_writable or not _fits(variable, value):
            status = "Rejected"
        else:
            variable.value = value
            self.station.variable_was_set(name[2], value)
        return {"attributeStatus": status, "component": wanted["component"], "variable": wanted["variable"]}

    def _get(self, wanted: dict[str, Any]) -> dict[str, Any]:
        _, variable, unknown = self.find(wanted)
        answer = {"component": wanted["component"], "variable": wanted["variable"]}
        if variable is None:
            return answer | {"attributeStatus": unknown}
        if wanted.get("attributeType", "Actual") != "Actual":
            return answer | {"attributeStatus": "NotSupportedAttributeType"}
        return answer | {"attributeStatus": "Accepted", "attributeValue": variable.value}

    def _base_report(self, payload: Payload) -> Reply:
        is_whole = payload["reportBase"] == "FullInventory"
        names = [name for name, each in self.variables.items() if is_whole or each.is_configuration]
        if payload["reportBase"] == "SummaryInventory":
            names = [name for name in self.variables if name[2] == "AvailabilityState"]
        return self._told(payload["requestId"], names)

    def _report(self, payload: Payload) -> Reply:
        wanted = payload.get("componentVariable", [])
        criteria = payload.get("componentCriteria", ["Available"])
        names = [
            name
            for name in self.variables
            if not wanted or any(_is_meant(name, each) for each in wanted)
            if set(criteria) & {"Available", "Active", "Enabled"}
        ]
        return self._told(payload["requestId"], names)

    def _told(self, request_id: int, names: list[Name]) -> Reply:
        if not names:
            return Reply(payload={"status": "EmptyResultSet"})

        def send() -> None:
            entries = [self._entry(name) for name in names]
            for seq_no, page in enumerate(pages_of(entries)):
                told = {
                    "requestId": request_id,
                    "generatedAt": self.station.timestamp(),
                    "seqNo": seq_no,
                    "reportData": page,
                    "tbc": (seq_no + 1) * PAGE_VARIABLES < len(entries),
                }
                self.station.tell("NotifyReport", told)

        return Reply(payload={"status": "Accepted"}, then=send)

    def _entry(self, name: Name) -> dict[str, Any]:
        variable = self.variables[name]
        characteristics: dict[str, Any] = {"dataType": variable.kind, "supportsMonitoring": variable.kind == "integer"}
        if variable.unit is not None:
            characteristics["unit"] = variable.unit
        if variable.bounds is not None:
            characteristics |= {"minLimit": variable.bounds[0], "maxLimit": variable.bounds[1]}
        mutability = "ReadWrite" if variable.is_writable else "ReadOnly"
        return {
            "component": component_of(name),
            "variable": {"name": name[2]},
            "variableAttribute": [{"type": "Actual", "value": variable.value, "mutability": mutability}],
            "variableCharacteristics": characteristics,
        }


_SETTINGS: Final = {
    ("OCPPCommCtrlr", "HeartbeatInterval"): ("300", "s"),
    ("OCPPCommCtrlr", "MessageTimeout"): ("30", "s"),
    ("AlignedDataCtrlr", "Interval"): ("900", "s"),
    ("SampledDataCtrlr", "TxUpdatedInterval"): ("0", "s"),
    ("TxCtrlr", "EVConnectionTimeOut"): ("60", "s"),
}


def component_of(name: Name) -> dict[str, Any]:
    """Write a component as OCPP does."""
    return {"name": name[0]} | ({} if name[1] is None else {"evse": {"id": name[1]}})


def pages_of(entries: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    """Cut a report into pages."""
    return (entries[begin : begin + PAGE_VARIABLES] for begin in range(0, len(entries), PAGE_VARIABLES))


def _is_meant(name: Name, wanted: dict[str, Any]) -> bool:
    component, variable = wanted["component"], wanted.get("variable")
    evse_id = component.get("evse", {}).get("id", name[1])
    return (component["name"], evse_id) == name[:2] and (variable is None or variable["name"] == name[2])


def _fits(variable: Variable, value: str) -> bool:
    if variable.kind != "integer":
        return True
    least, most = variable.bounds or (0, 2**31)
    return value.isascii() and value.isdecimal() and least <= int(value) <= most
