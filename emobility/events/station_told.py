"""Facts that stations told something with a meaning of its own: each carries its message whole, beside what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from emobility.domain.battery_swap import SwapBattery, SwapEvent
from emobility.domain.personal import Sealed
from emobility.events.charging import IdTokenKind, StationEvent
from emobility.events.event import catalogued


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTold(StationEvent):
    """Base of these facts.

    `payload` is sealed canonical JSON, every name and number as it came; None: whom it names was erased. It has no time
    but what the message says, so a repetition is the same fact; the envelope tells when it was heard.
    """

    ocpp_version: str
    payload: Sealed | None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class BatterySwapReported(StationTold):
    """Batteries went into or came out of a swap station, or one was not taken (BatterySwap, S03 and S04)."""

    wire_name: ClassVar[str] = "charging.battery_swap_reported.v1"
    request_id: int
    swap_event: SwapEvent
    batteries: tuple[SwapBattery, ...]
    id_token: Sealed | None
    id_token_kind: IdTokenKind


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class DERAlarmReported(StationTold):
    """A grid rule was broken, or holds again (NotifyDERAlarm, R02 and R03)."""

    wire_name: ClassVar[str] = "charging.der_alarm_reported.v1"
    control_type: str
    grid_event_fault: str | None
    is_ended: bool
    occurred_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class DERControlSwitched(StationTold):
    """A DER control began or ended to be followed (NotifyDERStartStop, R04)."""

    wire_name: ClassVar[str] = "charging.der_control_switched.v1"
    control_id: str
    is_started: bool
    superseded_ids: tuple[str, ...]
    occurred_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class DERControlsReported(StationTold):
    """A station told DER controls that it was asked for (ReportDERControl, R04)."""

    wire_name: ClassVar[str] = "charging.der_controls_reported.v1"
    request_id: int


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalPaymentReported(StationTold):
    """A payment terminal took money, or could not (NotifySettlement, C21 and C22).

    `psp_reference` is the payment's id token too; `amount` is as it came, in the currency of the station.
    """

    wire_name: ClassVar[str] = "charging.terminal_payment_reported.v1"
    psp_reference: Sealed | None
    status: str
    amount: Decimal
    settled_at: datetime
    transaction_id: str | None


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class WebPaymentStarted(StationTold):
    """A driver opened a station's payment page (NotifyWebPaymentStarted, C25); it is over after `timeout_s`."""

    wire_name: ClassVar[str] = "charging.web_payment_started.v1"
    ocpp_evse_id: int
    timeout_s: int


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class StationCostCalculated(StationTold):
    """A station told what a transaction costs by its own calculation (costDetails of TransactionEvent, I12).

    The totals are as they came, in units of `currency`; `payload` is the costDetails.
    """

    wire_name: ClassVar[str] = "charging.station_cost_calculated.v1"
    transaction_id: str
    seq_no: int
    occurred_at: datetime
    currency: str
    total_excl: Decimal | None
    total_incl: Decimal | None
    has_failed: bool


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class EventStreamOpened(StationTold):
    """A station will report a monitored variable in a stream (OpenPeriodicEventStream, N11)."""

    wire_name: ClassVar[str] = "charging.event_stream_opened.v1"
    stream_id: int


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class EventStreamClosed(StationTold):
    """A stream is over (ClosePeriodicEventStream, N14)."""

    wire_name: ClassVar[str] = "charging.event_stream_closed.v1"
    stream_id: int


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class EventStreamReported(StationTold):
    """Values of a stream came (NotifyPeriodicEventStream, N13)."""

    wire_name: ClassVar[str] = "charging.event_stream_reported.v1"
    stream_id: int


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoredEventsReported(StationTold):
    """Monitored variables changed (NotifyEvent, N07)."""

    wire_name: ClassVar[str] = "charging.monitored_events_reported.v1"


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerInformationReported(StationTold):
    """A station told what it keeps of a customer (NotifyCustomerInformation, N09)."""

    wire_name: ClassVar[str] = "charging.customer_information_reported.v1"
    request_id: int
    seq_no: int
    is_last: bool


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayMessagesReported(StationTold):
    """A station told what its displays show (NotifyDisplayMessages, O03)."""

    wire_name: ClassVar[str] = "charging.display_messages_reported.v1"
    request_id: int
