"""DER controls of a 2.1 station (block R): what the grid's operator asks of an inverter, and what the station tells.

Of one type, a default control and one other may be in force; a control of a higher number of priority gives way, and
is remembered as superseded until the other is cleared. A station that can discharge obeys LimitMaxDischarge; the other
controls are state only, for no grid is simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station

NOT_SUPPORTED: Final = frozenset({"WattVar"})
"""So that a CSMS meets a station that can't do everything."""
CONTROLS_PER_REPORT: Final = 5
_SETTINGS: Final = {
    "EnterService": ("enterService", "enterService"),
    "FreqDroop": ("freqDroop", "freqDroop"),
    "FixedPFAbsorb": ("fixedPFAbsorb", "fixedPF"),
    "FixedPFInject": ("fixedPFInject", "fixedPF"),
    "FixedVar": ("fixedVar", "fixedVar"),
    "Gradients": ("gradient", "gradient"),
    "LimitMaxDischarge": ("limitMaxDischarge", "limitMaxDischarge"),
}
"""By type: the property of SetDERControl and ReportDERControl, and the one inside the latter's entry; others: curve."""
_WITHOUT_RANK: Final = ("enterService", "gradient")


@dataclass(slots=True, kw_only=True)
class DERControl:
    """One control. `is_running` is None for one without a start of its own: it is in force from the beginning."""

    control_id: str
    control_type: str
    is_default: bool
    settings: dict[str, Any]
    is_superseded: bool = False
    is_running: bool | None = None

    @property
    def section(self) -> tuple[str, str]:
        """Where its settings stand in OCPP's messages."""
        return _SETTINGS.get(self.control_type, ("curve", "curve"))

    @property
    def starts_at(self) -> datetime | None:
        """When it comes into force, if that is stated."""
        stated = self.settings.get("startTime")
        return None if stated is None else datetime.fromisoformat(stated)

    @property
    def ends_at(self) -> datetime | None:
        """When it is over."""
        start, duration_s = self.starts_at, self.settings.get("duration")
        return None if start is None or duration_s is None else start + timedelta(seconds=float(duration_s))

    @property
    def priority(self) -> int:
        """The lower, the more it counts."""
        return int(self.settings["priority"])


class DERControls(Concept):
    """By id."""

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.controls: dict[str, DERControl] = {}

    def commands(self) -> Commands:
        """The three of the block."""
        return {"SetDERControl": self._set, "GetDERControl": self._get, "ClearDERControl": self._clear}

    # What happens

    def tick(self) -> None:
        """Tell which scheduled controls started and stopped."""
        now = self.station.now()
        for control in list(self.controls.values()):
            if control.is_running is None or control.starts_at is None:
                continue
            is_over = control.ends_at is not None and control.ends_at <= now
            if not control.is_running and control.starts_at <= now and not is_over:
                control.is_running = True
                self._tell_start(control, superseded=self._rivals(control))
            elif is_over:
                del self.controls[control.control_id]
                if control.is_running:
                    self._tell_start(control, started=False)
                self._revive(control)

    def alarm(self, control_type: str, grid_event_fault: str, *, has_ended: bool = False) -> None:
        """The grid left the range of a control, or came back."""
        told = {
            "controlType": control_type,
            "gridEventFault": grid_event_fault,
            "alarmEnded": has_ended,
            "timestamp": self.station.timestamp(),
        }
        self.station.tell("NotifyDERAlarm", told)

    def discharge_percent(self) -> int:
        """Return how much of its power the station may discharge with, in percent."""
        shares = [
            int(each.settings.get("pctMaxDischargePower", 100))
            for each in self.controls.values()
            if each.control_type == "LimitMaxDischarge" and not each.is_superseded and each.is_running is not False
        ]
        return min(shares, default=100)

    def _tell_start(self, control: DERControl, *, started: bool = True, superseded: list[str] | None = None) -> None:
        told: Payload = {
            "controlId": control.control_id,
            "started": started,
            "timestamp": self.station.timestamp(),
        }
        if superseded:
            told["supersededIds"] = superseded
        self.station.tell("NotifyDERStartStop", told)

    def _rivals(self, control: DERControl) -> list[str]:
        return [each.control_id for each in self._like(control) if each.is_superseded]

    def _like(self, control: DERControl) -> list[DERControl]:
        return [
            each
            for each in self.controls.values()
            if (each.control_type, each.is_default) == (control.control_type, control.is_default)
            and each.control_id != control.control_id
        ]

    def _revive(self, gone: DERControl) -> None:
        """What a control superseded counts again, the best of it."""
        waiting = sorted(self._like(gone), key=lambda each: each.priority)
        if waiting and all(each.is_superseded for each in waiting):
            waiting[0].is_superseded = False

    # CALLs

    def _set(self, payload: Payload) -> Reply:
        control_type = payload["controlType"]
        section, _ = _SETTINGS.get(control_type, ("curve", "curve"))
        if control_type in NOT_SUPPORTED:
            return Reply(payload={"status": "NotSupported"})
        if section not in payload:
            return Reply(payload={"status": "Rejected"})
        control = DERControl(
            control_id=payload["controlId"],
            control_type=control_type,
            is_default=payload["isDefault"],
            settings=payload[section],
        )
        control.is_running = None if control.starts_at is None else False
        rivals = self._like(control)
        superseded = [each for each in rivals if not each.is_superseded and each.priority >= control.priority]
        control.is_superseded = any(not each.is_superseded and each.priority < control.priority for each in rivals)
        for each in superseded:
            each.is_superseded = True
        self.controls[control.control_id] = control
        answer: Payload = {"status": "Accepted"}
        if superseded:
            answer["supersededIds"] = [each.control_id for each in superseded]
        return Reply(payload=answer)

    def _found(self, payload: Payload) -> list[DERControl]:
        wanted: dict[str, Callable[[DERControl], Any]] = {
            "isDefault": lambda each: each.is_default,
            "controlType": lambda each: each.control_type,
            "controlId": lambda each: each.control_id,
        }
        return [
            each
            for each in self.controls.values()
            if all(read(each) == payload[name] for name, read in wanted.items() if name in payload)
        ]

    def _clear(self, payload: Payload) -> Reply:
        if payload.get("controlType") in NOT_SUPPORTED:
            return Reply(payload={"status": "NotSupported"})
        found = self._found(payload)
        if not found:
            return Reply(payload={"status": "NotFound"})
        for each in found:
            del self.controls[each.control_id]
        for each in found:
            self._revive(each)

        def tell() -> None:
            for each in found:
                if each.is_running:
                    self._tell_start(each, started=False)

        return Reply(payload={"status": "Accepted"}, then=tell)

    def _get(self, payload: Payload) -> Reply:
        if payload.get("controlType") in NOT_SUPPORTED:
            return Reply(payload={"status": "NotSupported"})
        found = self._found(payload)
        if not found:
            return Reply(payload={"status": "NotFound"})

        def report() -> None:
            for begin in range(0, len(found), CONTROLS_PER_REPORT):
                page: Payload = {"requestId": payload["requestId"], "tbc": begin + CONTROLS_PER_REPORT < len(found)}
                for each in found[begin : begin + CONTROLS_PER_REPORT]:
                    page.setdefault(each.section[0], []).append(_entry(each))
                self.station.tell("ReportDERControl", page)

        return Reply(payload={"status": "Accepted"}, then=report)


def _entry(control: DERControl) -> dict[str, Any]:
    section, name = control.section
    entry: dict[str, Any] = {"id": control.control_id, name: control.settings}
    if section not in _WITHOUT_RANK:
        entry |= {"isDefault": control.is_default, "isSuperseded": control.is_superseded}
    if section == "curve":
        entry["curveType"] = control.control_type
    return entry
