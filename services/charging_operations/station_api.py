"""What operators see and set of a station's own model, its history and its messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.messages import MessageLogging
from emobility.runtime.access import TokenRole
from services.charging_operations.device_model import DeviceModelDesk, Refresh
from services.charging_operations.office import NotFound, require_hosted
from services.charging_operations.operator_api import COMMAND_STATUS, COMMAND_STATUS_WORDS, OperatorAPI
from services.charging_operations.routes import FROM_TO, PAGE, Query, Route, RouteTable, answer, number_in, read_body
from services.charging_operations.shown import StationNamed
from services.charging_operations.station_records import (
    OUTAGE_EXCLUSION,
    STATION_MONITOR,
    STATION_REPORT,
    STATION_STATUS,
    STATION_VARIABLE,
    OutageExclusionRecord,
    ReportKind,
    StationMonitorRecord,
    StationReportRecord,
    StationStatusRecord,
    StationVariableRecord,
)
from services.charging_operations.uptime import OutageExclusion, UptimeDesk, UptimeReport
from services.charging_operations.variable_settings import SettingDesk, SettingResult, VariablesChange

MESSAGES_SHOWN: Final = 500
"""As many as a gateway keeps of one station."""
MODEL: Final = (
    Query("component", str, "only variables of this component"),
    Query("variable", str, "only variables of this name"),
)
STATUSES: Final = (
    *(*PAGE, *FROM_TO),
    Query("ocpp_evse_id", int, "only of the EVSE that the station calls by this number; 0 is the station itself"),
    Query("connector_id", int, "only of this connector; 0 is the EVSE whole"),
)
PERIOD: Final = (
    Query("from", datetime, "begin of the period", is_required=True),
    Query("to", datetime, "end of the period", is_required=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageShown:
    """A CALL or SEND, redacted, and what became of it; `payload` and `answer` are None where there was none kept."""

    at: datetime
    is_from_station: bool
    ocpp_version: str
    action: str
    message_id: str
    payload: Any
    answer: Any
    error_code: str | None
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExclusionNamed:
    """The exclusion that was dropped."""

    exclusion_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StationAPI:
    """Routes about what stations are made of."""

    operator: OperatorAPI
    device_model: DeviceModelDesk
    settings: SettingDesk
    uptime: UptimeDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        station = "/stations/{station_id}"
        exclusion, refused = f"{station}/exclusions/{{exclusion_id}}", COMMAND_STATUS_WORDS
        variables, monitors = list[StationVariableRecord], list[StationMonitorRecord]
        routes.add(
            "Stations",
            [
                Route("GET", f"{station}/variables", self.list_variables, None, variables, (*PAGE, *MODEL)),
                Route("PUT", f"{station}/variables", self.set_variables, VariablesChange, list[SettingResult]),
                Route("POST", f"{station}/variables/refresh", self.refresh_variables, None, Refresh, also=refused),
                Route("GET", f"{station}/monitors", self.list_monitors, None, monitors, (*PAGE, *MODEL)),
                Route("POST", f"{station}/monitors/refresh", self.refresh_monitors, None, Refresh, also=refused),
                Route("GET", f"{station}/reports", self.list_reports, None, list[StationReportRecord], PAGE),
                Route("GET", f"{station}/statuses", self.list_statuses, None, list[StationStatusRecord], STATUSES),
                Route("GET", f"{station}/exclusions", self.list_exclusions, None, list[OutageExclusionRecord], PAGE),
                Route("PUT", exclusion, self.put_exclusion, OutageExclusion, OutageExclusionRecord),
                Route("DELETE", exclusion, self.drop_exclusion, None, ExclusionNamed),
                Route("PUT", f"{station}/messages", self.keep_messages, MessageLogging, MessageLogging),
                Route("GET", f"{station}/messages", self.list_messages, None, list[MessageShown], PAGE),
                Route("DELETE", f"{station}/messages", self.drop_messages, None, StationNamed),
                Route("GET", "/uptime", self.show_uptime, None, UptimeReport, PERIOD),
            ],
            writes=TokenRole.OPERATOR,
        )

    async def list_variables(self, request: Request, party_id: PartyId) -> Any:
        """List the variables of a station."""
        return await self.operator.rows_of_station(request, party_id, STATION_VARIABLE, "component", "variable")

    async def set_variables(self, request: Request, party_id: PartyId) -> Any:
        """Set values; 200 with the station's word to each, whatever that is, and 409 when it is offline."""
        change = await read_body(request, VariablesChange)
        station_id = await self.operator.station_of(request, party_id)
        correlation_id = self.operator.correlation_of(request)
        return await self.settings.set_variables(party_id, station_id, change, correlation_id=correlation_id)

    async def refresh_variables(self, request: Request, party_id: PartyId) -> Response:
        """Ask for all variables; what comes later is named by `expects` and `request_id`."""
        return await self._refresh(request, party_id, ReportKind.DEVICE_MODEL)

    async def list_monitors(self, request: Request, party_id: PartyId) -> Any:
        """List what a station monitors."""
        return await self.operator.rows_of_station(request, party_id, STATION_MONITOR, "component", "variable")

    async def refresh_monitors(self, request: Request, party_id: PartyId) -> Response:
        """Ask for all monitors."""
        return await self._refresh(request, party_id, ReportKind.MONITORS)

    async def list_reports(self, request: Request, party_id: PartyId) -> Any:
        """List the reports that were asked for, the newest first."""
        return await self.operator.rows_of_station(request, party_id, STATION_REPORT, order_by=("-asked_at",))

    async def list_statuses(self, request: Request, party_id: PartyId) -> Any:
        """List what connectors were reported to be, the newest first."""
        return await self.operator.rows_of_station(
            *(request, party_id, STATION_STATUS, "ocpp_evse_id", "connector_id"), at="began_at", order_by=("-began_at",)
        )

    async def list_exclusions(self, request: Request, party_id: PartyId) -> Any:
        """List excluded outages, the newest first."""
        return await self.operator.rows_of_station(request, party_id, OUTAGE_EXCLUSION, order_by=("-since",))

    async def put_exclusion(self, request: Request, party_id: PartyId) -> Any:
        """Exclude an outage."""
        wanted = await read_body(request, OutageExclusion)
        station_id = await self.operator.station_of(request, party_id)
        async with self.operator.office.ports.units.begin() as unit:
            row = await self.uptime.exclude(unit, party_id, station_id, request.path_params["exclusion_id"], wanted)
            await unit.commit()
        return row

    async def drop_exclusion(self, request: Request, party_id: PartyId) -> Any:
        """Count an outage again. Raises `NotFound`."""
        station_id = await self.operator.station_of(request, party_id)
        exclusion_id = request.path_params["exclusion_id"]
        async with self.operator.office.ports.units.begin() as unit:
            if not await unit.table(OUTAGE_EXCLUSION).delete(party_id, station_id, exclusion_id):
                raise NotFound(f"no exclusion {exclusion_id}")
            await unit.commit()
        return ExclusionNamed(exclusion_id=exclusion_id)

    async def keep_messages(self, request: Request, party_id: PartyId) -> Any:
        """Have the gateways keep what is said with a station; they begin within seconds."""
        wanted = await read_body(request, MessageLogging)
        station_id = await self.operator.station_of(request, party_id)
        await self.operator.office.stations.keep_messages(party_id, station_id, wanted)
        return wanted

    async def list_messages(self, request: Request, party_id: PartyId) -> Any:
        """List what was said with a station while it was kept."""
        station_id = await self.operator.station_of(request, party_id)
        offset, limit = number_in(request, "offset", 0), number_in(request, "limit", MESSAGES_SHOWN)
        kept = await self.operator.office.stations.messages(
            party_id, station_id, offset=min(offset, MESSAGES_SHOWN), limit=min(limit, MESSAGES_SHOWN)
        )
        return [
            MessageShown(
                at=message.at,
                is_from_station=message.is_from_station,
                ocpp_version=message.ocpp_version,
                action=message.action,
                message_id=message.message_id,
                payload=_json(message.payload),
                answer=_json(message.answer),
                error_code=message.error_code,
                latency_ms=message.latency_ms,
            )
            for message in kept
        ]

    async def drop_messages(self, request: Request, party_id: PartyId) -> Any:
        """Keep no more messages of a station, and drop those kept."""
        station_id = await self.operator.station_of(request, party_id)
        await self.operator.office.stations.drop_messages(party_id, station_id)
        return StationNamed(charging_station_id=station_id)

    async def show_uptime(self, request: Request, party_id: PartyId) -> Any:
        """Count uptime."""
        async with self.operator.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        return await self.uptime.report(party_id, request.state.query["from"], request.state.query["to"])

    async def _refresh(self, request: Request, party_id: PartyId, kind: ReportKind) -> Response:
        station_id = await self.operator.station_of(request, party_id)
        correlation_id = self.operator.correlation_of(request)
        refresh = await self.device_model.refresh(party_id, station_id, kind, correlation_id=correlation_id)
        return answer(refresh, COMMAND_STATUS.get(refresh.result, 200))


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
