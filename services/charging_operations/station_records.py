"""Rows of what stations tell about themselves; party and station begin every key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from emobility.domain.device_model import (
    Addressed,
    VariableAddress,
    VariableAttribute,
    VariableCharacteristics,
    VariableMonitor,
)
from emobility.domain.identifiers import PartyId
from emobility.domain.uptime import ExclusionReason
from emobility.ports.stores import TableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StationVariableRecord(Addressed):
    """A variable as its station last told it; the address is flat, see `VariableAddress`.

    `request_id`: the report that named it last; None: 1.6 has no reports. `seen_at`: when it came, by our clock.
    """

    party_id: PartyId
    charging_station_id: str
    component: str
    component_instance: str
    evse_id: int
    connector_id: int
    variable: str
    variable_instance: str
    attributes: tuple[VariableAttribute, ...]
    characteristics: VariableCharacteristics | None
    configuration_key: str | None
    request_id: int | None
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StationMonitorRecord:
    """A monitor as its station last told it."""

    party_id: PartyId
    charging_station_id: str
    monitor_id: int
    component: str
    variable: str
    monitor: VariableMonitor
    request_id: int | None
    seen_at: datetime


class ReportKind(StrEnum):
    """What a whole report is about; its value is the action that its pages come by."""

    DEVICE_MODEL = "NotifyReport"
    MONITORS = "NotifyMonitoringReport"
    DER_CONTROLS = "ReportDERControl"
    DISPLAY_MESSAGES = "NotifyDisplayMessages"


class ReportState(StrEnum):
    """Life of a report that was asked for."""

    ASKED = "ASKED"
    COMPLETE = "COMPLETE"
    REFUSED = "REFUSED"
    SUPERSEDED = "SUPERSEDED"
    """A later one was complete first; what still comes of this one is old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationReportRecord:
    """A whole report that was asked for. `pages` counts those that came, `last_seq_no` is known once the last did.

    `answer` is the station's own word to the question, None as long as it has not answered.
    """

    party_id: PartyId
    charging_station_id: str
    request_id: int
    kind: ReportKind
    state: ReportState
    asked_at: datetime
    last_seq_no: int | None = None
    pages: int = 0
    answer: str | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationReportPageRecord:
    """A page came of a report that is not complete."""

    party_id: PartyId
    charging_station_id: str
    request_id: int
    seq_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StationStatusRecord:
    """A StatusNotification; EVSE 0 is the station itself, connector 0 an EVSE whole.

    `changed_at` is the station's time, `heard_at` ours, `began_at` the one of them that counts (`began_at`).
    """

    party_id: PartyId
    charging_station_id: str
    status_id: str
    ocpp_evse_id: int
    connector_id: int
    status: str
    error_code: str | None
    vendor_id: str | None
    vendor_error_code: str | None
    info: str | None
    changed_at: datetime
    heard_at: datetime
    began_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StationConnectionRecord:
    """A station's connection began or ended; seen once a minute, so a shorter gap may be missing."""

    party_id: PartyId
    charging_station_id: str
    began_at: datetime
    is_online: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageExclusionRecord:
    """Outage that an operator says was beyond their control; no EVSE named: all of the station's."""

    party_id: PartyId
    charging_station_id: str
    exclusion_id: str
    ocpp_evse_id: int | None
    reason: ExclusionReason
    since: datetime
    until: datetime
    note: str
    entered_at: datetime


STATION_STATUS: Final = TableSpec(
    name="cpo_station_status", record=StationStatusRecord, key=("party_id", "charging_station_id", "status_id")
)
STATION_CONNECTION: Final = TableSpec(
    name="cpo_station_connection",
    record=StationConnectionRecord,
    key=("party_id", "charging_station_id", "began_at"),
)
OUTAGE_EXCLUSION: Final = TableSpec(
    name="cpo_outage_exclusion",
    record=OutageExclusionRecord,
    key=("party_id", "charging_station_id", "exclusion_id"),
)
STATION_VARIABLE: Final = TableSpec(
    name="cpo_station_variable",
    record=StationVariableRecord,
    key=(
        *("party_id", "charging_station_id"),
        *("component", "component_instance", "evse_id", "connector_id", "variable", "variable_instance"),
    ),
)
STATION_MONITOR: Final = TableSpec(
    name="cpo_station_monitor", record=StationMonitorRecord, key=("party_id", "charging_station_id", "monitor_id")
)
STATION_REPORT: Final = TableSpec(
    name="cpo_station_report", record=StationReportRecord, key=("party_id", "charging_station_id", "request_id")
)
STATION_REPORT_PAGE: Final = TableSpec(
    name="cpo_station_report_page",
    record=StationReportPageRecord,
    key=("party_id", "charging_station_id", "request_id", "seq_no"),
)


def variable_key(party_id: PartyId, charging_station_id: str, at: VariableAddress) -> tuple[Any, ...]:
    """Return the key of a variable's row."""
    return (
        *(party_id, charging_station_id),
        *(at.component, at.component_instance, at.evse_id, at.connector_id, at.variable, at.variable_instance),
    )
