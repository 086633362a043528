"""Facts from charging stations, as the gateway heard them. Key: party and station, so a station's order is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading
from emobility.domain.personal import Sealed
from emobility.events.event import Event, catalogued

CHARGING: Final = "charging"


class IdTokenKind(StrEnum):
    """How the driver identified, merged from OCPP 1.6 (always RFID or remote) and 2.0.1 IdTokenEnumType."""

    RFID = "RFID"
    APP = "APP"
    PLUG_AND_CHARGE = "PLUG_AND_CHARGE"
    NONE = "NONE"


def station_key(party_id: PartyId, charging_station_id: str) -> str:
    """Return the key of all that happens at one station: its events keep their order and lie in one partition."""
    return f"{party_id.code}/{charging_station_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StationEvent(Event):
    """Base of facts about one charging station."""

    topic: ClassVar[str] = CHARGING
    party_id: PartyId
    charging_station_id: str

    @property
    def key(self) -> str:
        """Party and station."""
        return station_key(self.party_id, self.charging_station_id)


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class StationBooted(StationEvent):
    """A station announced itself (BootNotification)."""

    wire_name: ClassVar[str] = "charging.station_booted.v1"
    ocpp_version: str
    vendor: str
    model: str
    booted_at: datetime
    serial_number: str | None = None
    firmware_version: str | None = None
    reason: str | None = None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorStatusChanged(StationEvent):
    """A station reported the state of a connector (StatusNotification).

    `ocpp_evse_id` 0 is the station itself; 1.6 stations have one connector per EVSE, number 1.
    `status` is the OCPP word as it came; error code and what a vendor adds to it are of 1.6.
    """

    wire_name: ClassVar[str] = "charging.connector_status_changed.v1"
    ocpp_evse_id: int
    connector_id: int
    status: str
    changed_at: datetime
    error_code: str | None = None
    vendor_id: str | None = None
    vendor_error_code: str | None = None
    info: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionEvent(StationEvent):
    """Base of facts about one transaction.

    `transaction_id` is the station's own under 2.x, the decimal number the gateway gave under 1.6.
    `seq_no` decides the order under 2.x; 1.6 has none. `is_offline`: it happened while the station was not connected.
    `reservation_id`: the reservation that it uses up.
    """

    transaction_id: str
    occurred_at: datetime
    seq_no: int | None = None
    is_offline: bool = False
    readings: tuple[MeterReading, ...] = ()
    reservation_id: int | None = None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionStarted(TransactionEvent):
    """A station opened a transaction. 2.x may open one before a driver has identified: `id_token` is None then."""

    wire_name: ClassVar[str] = "charging.transaction_started.v1"
    ocpp_evse_id: int
    connector_id: int
    id_token: Sealed | None = None
    id_token_kind: IdTokenKind = IdTokenKind.NONE
    remote_start_id: int | None = None
    charging_state: str | None = None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionUpdated(TransactionEvent):
    """A station reported on a running transaction: meter values, an id token, a change of charging state."""

    wire_name: ClassVar[str] = "charging.transaction_updated.v1"
    trigger: str | None = None
    charging_state: str | None = None
    id_token: Sealed | None = None
    id_token_kind: IdTokenKind = IdTokenKind.NONE
    ocpp_evse_id: int | None = None
    connector_id: int | None = None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionEnded(TransactionEvent):
    """A station reported the end of a transaction; earlier events may still arrive."""

    wire_name: ClassVar[str] = "charging.transaction_ended.v1"
    stopped_reason: str | None = None
    id_token: Sealed | None = None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class EVSEMetered(StationEvent):
    """A station sent meter values outside any transaction."""

    wire_name: ClassVar[str] = "charging.evse_metered.v1"
    ocpp_evse_id: int
    occurred_at: datetime
    readings: tuple[MeterReading, ...]


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class DataTransferred(StationEvent):
    """A station sent vendor data (DataTransfer). The payload is sealed: nobody knows what it says."""

    wire_name: ClassVar[str] = "charging.data_transferred.v1"
    vendor_id: str
    message_id: str | None
    payload: Sealed | None
    occurred_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class StationNotified(StationEvent):
    """A station told something that has no event of its own; `action` is the standard's name for it.

    The payload is sealed: canonical JSON, every name and number as it came.
    """

    wire_name: ClassVar[str] = "charging.station_notified.v1"
    ocpp_version: str
    action: str
    payload: Sealed
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaged(StationEvent):
    """Base of facts that a station sent one page of a report, the first with `seq_no` 0.

    `request_id` names the report; `generated_at` is the station's time. The page is sealed: canonical JSON, every name
    and number as it came, without the values of secrets.
    """

    ocpp_version: str
    request_id: int
    seq_no: int
    is_last: bool
    generated_at: datetime
    page: Sealed


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModelReported(ReportPaged):
    """A station told variables of its components (NotifyReport)."""

    wire_name: ClassVar[str] = "charging.device_model_reported.v1"


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorsReported(ReportPaged):
    """A station told what it monitors (NotifyMonitoringReport)."""

    wire_name: ClassVar[str] = "charging.monitors_reported.v1"


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityEventReported(StationEvent):
    """A station reported a security event (SecurityEventNotification)."""

    wire_name: ClassVar[str] = "charging.security_event_reported.v1"
    security_event: str
    occurred_at: datetime
    tech_info: str | None = None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationDecided(StationEvent):
    """The CPO's back office answered an authorisation; the transaction it belongs to may come before or after.

    `authorization_id` is the CPO's; `authorization_reference` the eMSP's, which Session and CDR repeat.
    """

    wire_name: ClassVar[str] = "charging.authorization_decided.v1"
    authorization_id: str
    subject: str
    is_accepted: bool
    reason: str
    decided_at: datetime
    ocpp_evse_id: int | None = None
    authorization_reference: str | None = None
    transaction_id: str | None = None
    remote_start_id: int | None = None
    emsp_id: PartyId | None = None
