"""What stations told, for operators: swaps, grid rules, payments, streams, events, displays; nothing personal is shown
but where a person has asked for what a station keeps of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from emobility.domain.battery_swap import SwapState
from emobility.domain.identifiers import PartyId
from emobility.runtime.access import TokenRole
from services.charging_operations.battery_swaps import BATTERY_SWAP, SwapShown, shown_swap
from services.charging_operations.der_controls import (
    DER_ALARM,
    DER_CONTROL,
    DER_PERIOD,
    DERAlarmRecord,
    DERControlShown,
    DERPeriodRecord,
    shown_control,
)
from services.charging_operations.display_messages import DISPLAY_MESSAGE, DisplayMessageShown, shown_message
from services.charging_operations.event_streams import (
    EVENT_STREAM,
    STREAM_VALUE,
    EventStreamRecord,
    StreamValueRecord,
)
from services.charging_operations.office import NotFound
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.routes import FROM_TO, PAGE, Query, Route, RouteTable
from services.charging_operations.running_costs import STATION_COST, CostCompared
from services.charging_operations.security_events import SECURITY_EVENT, SecurityEventRecord
from services.charging_operations.station_messages import (
    CUSTOMER_INFORMATION,
    DATA_TRANSFER,
    MONITOR_EVENT,
    CustomerPageShown,
    CustomerText,
    MonitorEventRecord,
    TransferShown,
    shown_page,
    shown_transfer,
)
from services.charging_operations.station_tariffs import TARIFF_ASSIGNMENT, TariffAssignmentRecord
from services.charging_operations.station_told import ToldDesk
from services.charging_operations.terminal_payments import (
    TERMINAL_PAYMENT,
    WEB_PAYMENT,
    PaymentShown,
    WebPaymentRecord,
)
from services.charging_operations.vat_numbers import VAT_CHECK, VATCheckShown, shown_check
from services.charging_operations.wanted_settings import (
    WANTED_SETTING,
    SettingShown,
    WantedKind,
    WantedState,
    shown_setting,
)

NUMBER_DIGITS_MAX: Final = 10
"""Of a number in a path: OCPP's are 32 bits."""
SWAPS: Final = (*PAGE, *FROM_TO, Query("state", SwapState, "only in this state"))
CONTROL: Final = Query("control_id", str, "only of this control")
CONTROL_TYPE: Final = Query("control_type", str, "only of this DERControlEnumType")
EVENTS: Final = (
    *PAGE,
    *FROM_TO,
    Query("component", str, "only of this component"),
    Query("variable", str, "only of this variable"),
    Query("severity", int, "only of this severity, 0 (danger) to 9 (debug)"),
    Query("is_cleared", bool, "true: only what says that it is over"),
)
SECURITY_EVENTS: Final = (
    *PAGE,
    *FROM_TO,
    Query("security_event", str, "only of this type"),
    Query("is_critical", bool, "true: only those that the standard calls critical"),
)
SETTINGS: Final = (
    *PAGE,
    Query("kind", WantedKind, "only what this action sets"),
    Query("state", WantedState, "only in this state"),
    Query("object_id", str, "only of this control, EVSE, transaction or message"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldAPI:
    """Lists, the newest first."""

    operator: OperatorAPI
    told: ToldDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        station = "/stations/{station_id}"
        customer, timed = f"{station}/customer-information", (*PAGE, *FROM_TO)
        streams, values = f"{station}/event-streams", f"{station}/event-streams/{{stream_id}}/values"
        periods, alarms = list[DERPeriodRecord], list[DERAlarmRecord]
        payments, monitored = list[PaymentShown], list[MonitorEventRecord]
        routes.add(
            "What stations told",
            [
                Route("GET", f"{station}/swaps", self.list_swaps, None, list[SwapShown], SWAPS),
                Route("GET", f"{station}/settings", self.list_settings, None, list[SettingShown], SETTINGS),
                Route("GET", f"{station}/der-controls", self.list_der_controls, None, list[DERControlShown], PAGE),
                Route("GET", f"{station}/der-periods", self.list_der_periods, None, periods, (*timed, CONTROL)),
                Route("GET", f"{station}/der-alarms", self.list_der_alarms, None, alarms, (*timed, CONTROL_TYPE)),
                Route(
                    "GET",
                    f"{station}/tariff-assignments",
                    self.list_tariff_assignments,
                    None,
                    list[TariffAssignmentRecord],
                    PAGE,
                ),
                Route("GET", f"{station}/costs", self.list_station_costs, None, list[CostCompared], timed),
                Route("GET", f"{station}/terminal-payments", self.list_terminal_payments, None, payments, timed),
                Route("GET", f"{station}/web-payments", self.list_web_payments, None, list[WebPaymentRecord], timed),
                Route("GET", f"{station}/vat-checks", self.list_vat_checks, None, list[VATCheckShown], timed),
                Route("GET", streams, self.list_event_streams, None, list[EventStreamRecord], PAGE),
                Route("GET", values, self.list_stream_values, None, list[StreamValueRecord], timed),
                Route("GET", f"{station}/monitor-events", self.list_monitor_events, None, monitored, EVENTS),
                Route(
                    "GET",
                    f"{station}/security-events",
                    self.list_security_events,
                    None,
                    list[SecurityEventRecord],
                    SECURITY_EVENTS,
                ),
                Route("GET", f"{station}/data-transfers", self.list_data_transfers, None, list[TransferShown], timed),
                Route(
                    "GET",
                    f"{station}/display-messages",
                    self.list_display_messages,
                    None,
                    list[DisplayMessageShown],
                    PAGE,
                ),
                Route("GET", customer, self.list_customer_information, None, list[CustomerPageShown], PAGE),
                Route("GET", f"{customer}/{{request_id}}", self.show_customer_information, None, CustomerText),
            ],
            writes=TokenRole.OWNER,
        )

    async def list_swaps(self, request: Request, party_id: PartyId) -> Any:
        """List battery swaps by when they were first heard of."""
        rows = await self.operator.rows_of_station(
            request, party_id, BATTERY_SWAP, "state", at="opened_at", order_by=("-opened_at",)
        )
        return [shown_swap(row) for row in rows]

    async def list_settings(self, request: Request, party_id: PartyId) -> Any:
        """List what was set at a station and what became of it: DER controls, tariffs, display messages."""
        rows = await self.operator.rows_of_station(
            *(request, party_id, WANTED_SETTING, "kind", "state", "object_id"), order_by=("-asked_at",)
        )
        return [shown_setting(row) for row in rows]

    async def list_der_controls(self, request: Request, party_id: PartyId) -> Any:
        """List the DER controls that a station says it has."""
        return [shown_control(row) for row in await self.operator.rows_of_station(request, party_id, DER_CONTROL)]

    async def list_der_periods(self, request: Request, party_id: PartyId) -> Any:
        """List when which DER control was followed."""
        return await self.operator.rows_of_station(
            request, party_id, DER_PERIOD, "control_id", at="told_at", order_by=("-told_at",)
        )

    async def list_der_alarms(self, request: Request, party_id: PartyId) -> Any:
        """List when which grid rule was broken."""
        return await self.operator.rows_of_station(
            request, party_id, DER_ALARM, "control_type", at="told_at", order_by=("-told_at",)
        )

    async def list_tariff_assignments(self, request: Request, party_id: PartyId) -> Any:
        """List the tariffs that a station says it has, by its last answer."""
        return await self.operator.rows_of_station(request, party_id, TARIFF_ASSIGNMENT)

    async def list_station_costs(self, request: Request, party_id: PartyId) -> Any:
        """List what a station calculated by itself, beside what we calculate."""
        rows = await self.operator.rows_of_station(
            request, party_id, STATION_COST, at="occurred_at", order_by=("-occurred_at",)
        )
        async with self.operator.office.ports.units.begin() as unit:
            return [await self.told.costs.compared(unit, row) for row in rows]

    async def list_terminal_payments(self, request: Request, party_id: PartyId) -> Any:
        """List payments at a station, with the transactions they are for."""
        rows = await self.operator.rows_of_station(
            request, party_id, TERMINAL_PAYMENT, at="heard_at", order_by=("-heard_at",)
        )
        async with self.operator.office.ports.units.begin() as unit:
            return [await self.told.payments.shown(unit, row) for row in rows]

    async def list_web_payments(self, request: Request, party_id: PartyId) -> Any:
        """List when drivers opened a station's payment page."""
        return await self.operator.rows_of_station(
            request, party_id, WEB_PAYMENT, at="started_at", order_by=("-started_at",)
        )

    async def list_vat_checks(self, request: Request, party_id: PartyId) -> Any:
        """List the verdicts on VAT numbers that drivers gave at a station."""
        rows = await self.operator.rows_of_station(
            request, party_id, VAT_CHECK, at="checked_at", order_by=("-checked_at",)
        )
        return [shown_check(row) for row in rows]

    async def list_event_streams(self, request: Request, party_id: PartyId) -> Any:
        """List the event streams of a station; `closed_at` null: it runs."""
        return await self.operator.rows_of_station(request, party_id, EVENT_STREAM)

    async def list_stream_values(self, request: Request, party_id: PartyId) -> Any:
        """List the newest values of a stream, by the station's time."""
        station_id = await self.operator.station_of(request, party_id)
        where = {"charging_station_id": station_id, "stream_id": number_in_path(request, "stream_id")}
        return await self.operator.rows(
            request, party_id, STREAM_VALUE, where=where, at="at", order_by=("-at", "-number")
        )

    async def list_monitor_events(self, request: Request, party_id: PartyId) -> Any:
        """List what happened to monitored variables."""
        return await self.operator.rows_of_station(
            *(request, party_id, MONITOR_EVENT, "component", "variable", "severity", "is_cleared"),
            at="occurred_at",
            order_by=("-occurred_at",),
        )

    async def list_security_events(self, request: Request, party_id: PartyId) -> Any:
        """List security events."""
        return await self.operator.rows_of_station(
            *(request, party_id, SECURITY_EVENT, "security_event", "is_critical"),
            at="occurred_at",
            order_by=("-occurred_at",),
        )

    async def list_data_transfers(self, request: Request, party_id: PartyId) -> Any:
        """List vendor data that a station sent."""
        rows = await self.operator.rows_of_station(
            request, party_id, DATA_TRANSFER, at="occurred_at", order_by=("-occurred_at",)
        )
        return [await shown_transfer(self.operator.office.ports.vault, row) for row in rows]

    async def list_display_messages(self, request: Request, party_id: PartyId) -> Any:
        """List what a station says its displays show."""
        return [shown_message(row) for row in await self.operator.rows_of_station(request, party_id, DISPLAY_MESSAGE)]

    async def list_customer_information(self, request: Request, party_id: PartyId) -> Any:
        """List which pages of customer information came."""
        rows = await self.operator.rows_of_station(request, party_id, CUSTOMER_INFORMATION, order_by=("-heard_at",))
        return [shown_page(row) for row in rows]

    async def show_customer_information(self, request: Request, party_id: PartyId) -> Any:
        """Show what a station keeps of a customer, in answer to one CustomerInformation: for that customer's eyes."""
        station_id = await self.operator.station_of(request, party_id)
        return await self.told.messages.customer_text(party_id, station_id, number_in_path(request, "request_id"))


def number_in_path(request: Request, name: str) -> int:
    """Return a number that a path names. Raises `NotFound`: what is no number names nothing."""
    text: str = request.path_params[name]
    if not (text.isascii() and text.isdigit()) or len(text) > NUMBER_DIGITS_MAX:
        raise NotFound(f"{name} is no whole number")
    return int(text)
