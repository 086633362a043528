"""What stations tell in OCPP 2.x as values: read by the gateway before it stores, and by the back office afterwards.

Every reader takes the payload as its schema let it pass and raises `MalformedInput` for a moment or a number that no
calendar and no counter has; so what was stored can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MINYEAR, UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from emobility.domain.battery_swap import SwapBattery, SwapEvent
from emobility.domain.errors import MalformedInput
from emobility.protocols.station_control.device_model import NUMBER_MAX

STREAM_OFFSET_S_MAX: Final = 10**9
"""Seconds from a stream's base time; a station that says more has no clock."""
_TEXT: Final = msgspec.json.Encoder(order="sorted", decimal_format="number")
_PAYLOAD: Final = msgspec.json.Decoder(float_hook=Decimal)


def payload_text(payload: Any) -> str:
    """Write a payload as canonical JSON: keys sorted, every name and number as it is."""
    return _TEXT.encode(payload).decode()


def payload_of(text: str) -> Any:
    """Read a payload; numbers with a fraction are `Decimal`."""
    return _PAYLOAD.decode(text)


def moment_of(text: str) -> datetime:
    """Read an RFC 3339 date-time as UTC.

    A leap second is the second before it; what only its offset puts outside the calendar is the calendar's edge.
    Raises `MalformedInput`.
    """
    try:
        local = datetime.fromisoformat(text.upper().replace(":60", ":59"))
    except ValueError as error:
        raise MalformedInput("a timestamp is outside the calendar") from error
    try:
        return local.astimezone(UTC)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC) if local.year == MINYEAR else datetime.max.replace(tzinfo=UTC)


def whole_of(value: Any) -> int:
    """Read a JSON integer, which may be written 3.0. Raises `MalformedInput`."""
    if not -NUMBER_MAX <= value <= NUMBER_MAX:
        raise MalformedInput("a whole number is out of range")
    return int(value)


def _optional_whole(value: Any) -> int | None:
    return None if value is None else whole_of(value)


def decimal_of(value: Any) -> Decimal:
    """Read a JSON number, exact."""
    return value if isinstance(value, Decimal) else Decimal(value)


def _optional_decimal(value: Any) -> Decimal | None:
    return None if value is None else decimal_of(value)


def _optional_moment(text: str | None) -> datetime | None:
    return None if text is None else moment_of(text)


# Block S


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapTold:
    """A BatterySwap but for its token."""

    request_id: int
    swap_event: SwapEvent
    batteries: tuple[SwapBattery, ...]


def swap_of(payload: dict[str, Any]) -> SwapTold:
    """Read BatterySwap."""
    return SwapTold(
        request_id=whole_of(payload["requestId"]),
        swap_event=SwapEvent(payload["eventType"]),
        batteries=tuple(
            SwapBattery(
                battery_slot=whole_of(each["evseId"]),
                serial_number=each["serialNumber"],
                soc_percent=decimal_of(each["soC"]),
                soh_percent=decimal_of(each["soH"]),
                production_date=_optional_moment(each.get("productionDate")),
            )
            for each in payload["batteryData"]
        ),
    )


# Block R


@dataclass(frozen=True, slots=True, kw_only=True)
class DERControlTold:
    """One control of a ReportDERControl; `setting` is JSON in the words of the standard.

    EnterService and Gradients have no default and are never superseded: None.
    """

    control_id: str
    control_type: str
    is_default: bool | None
    is_superseded: bool | None
    setting: str


_CONTROLS: Final = {
    "curve": (None, "curve"),
    "enterService": ("EnterService", "enterService"),
    "fixedPFAbsorb": ("FixedPFAbsorb", "fixedPF"),
    "fixedPFInject": ("FixedPFInject", "fixedPF"),
    "fixedVar": ("FixedVar", "fixedVar"),
    "freqDroop": ("FreqDroop", "freqDroop"),
    "gradient": ("Gradients", "gradient"),
    "limitMaxDischarge": ("LimitMaxDischarge", "limitMaxDischarge"),
}
"""Property of ReportDERControl → control type (a curve names its own) and the property that holds the setting."""


def der_controls_of(payload: dict[str, Any]) -> Iterator[DERControlTold]:
    """Read ReportDERControl."""
    for name, (control_type, inner) in _CONTROLS.items():
        for each in payload.get(name, ()):
            yield DERControlTold(
                control_id=each["id"],
                control_type=control_type or each["curveType"],
                is_default=each.get("isDefault"),
                is_superseded=each.get("isSuperseded"),
                setting=payload_text(each[inner]),
            )


# Block I


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTold:
    """The totals of costDetails, in units of `currency`."""

    currency: str
    total_excl: Decimal | None
    total_incl: Decimal | None
    has_failed: bool


def cost_of(details: dict[str, Any]) -> CostTold:
    """Read CostDetailsType."""
    cost = details["totalCost"]
    return CostTold(
        currency=cost["currency"],
        total_excl=_optional_decimal(cost["total"].get("exclTax")),
        total_incl=_optional_decimal(cost["total"].get("inclTax")),
        has_failed=details.get("failureToCalculate", False),
    )


# Block N


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTold:
    """A periodic event stream: a value each `interval_s`, or as soon as there are `values`."""

    stream_id: int
    variable_monitoring_id: int
    interval_s: int | None
    values: int | None


def stream_of(constant: dict[str, Any]) -> StreamTold:
    """Read ConstantStreamDataType."""
    params = constant["params"]
    return StreamTold(
        stream_id=whole_of(constant["id"]),
        variable_monitoring_id=whole_of(constant["variableMonitoringId"]),
        interval_s=_optional_whole(params.get("interval")),
        values=_optional_whole(params.get("values")),
    )


def stream_values_of(payload: dict[str, Any]) -> tuple[tuple[datetime, str], ...]:
    """Read the values of a NotifyPeriodicEventStream with their times."""
    base = moment_of(payload["basetime"])
    return tuple((_after(base, decimal_of(each["t"])), each["v"]) for each in payload["data"])


def _after(base: datetime, offset_s: Decimal) -> datetime:
    if abs(offset_s) <= STREAM_OFFSET_S_MAX:
        try:
            return base + timedelta(microseconds=int(offset_s * 1_000_000))
        except OverflowError:
            pass
    raise MalformedInput("a value's time is outside the calendar")


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoredEvent:
    """An event of a NotifyEvent; EVSE 0 is the station itself. `severity` is only in 2.1."""

    event_id: int
    occurred_at: datetime
    component: str
    component_instance: str
    ocpp_evse_id: int
    connector_id: int
    variable: str
    variable_instance: str
    trigger: str
    notification_type: str
    value: str
    is_cleared: bool
    severity: int | None
    variable_monitoring_id: int | None
    cause_event_id: int | None
    transaction_id: str | None
    tech_code: str | None
    tech_info: str | None


def monitored_events_of(payload: dict[str, Any]) -> tuple[MonitoredEvent, ...]:
    """Read NotifyEvent."""
    return tuple(_monitored_event(each) for each in payload["eventData"])


def _monitored_event(told: dict[str, Any]) -> MonitoredEvent:
    component, variable = told["component"], told["variable"]
    evse = component.get("evse", {})
    return MonitoredEvent(
        event_id=whole_of(told["eventId"]),
        occurred_at=moment_of(told["timestamp"]),
        component=component["name"],
        component_instance=component.get("instance", ""),
        ocpp_evse_id=whole_of(evse.get("id", 0)),
        connector_id=whole_of(evse.get("connectorId", 0)),
        variable=variable["name"],
        variable_instance=variable.get("instance", ""),
        trigger=told["trigger"],
        notification_type=told["eventNotificationType"],
        value=told["actualValue"],
        is_cleared=told.get("cleared", False),
        severity=_optional_whole(told.get("severity")),
        variable_monitoring_id=_optional_whole(told.get("variableMonitoringId")),
        cause_event_id=_optional_whole(told.get("cause")),
        transaction_id=told.get("transactionId"),
        tech_code=told.get("techCode"),
        tech_info=told.get("techInfo"),
    )


# Block O


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayMessageTold:
    """One message of a NotifyDisplayMessages; `message` is its MessageInfoType as JSON."""

    message_id: int
    priority: str
    display_state: str | None
    message: str


def display_messages_of(payload: dict[str, Any]) -> tuple[DisplayMessageTold, ...]:
    """Read NotifyDisplayMessages."""
    return tuple(
        DisplayMessageTold(
            message_id=whole_of(each["id"]),
            priority=each["priority"],
            display_state=each.get("state"),
            message=payload_text(each),
        )
        for each in payload.get("messageInfo", ())
    )
