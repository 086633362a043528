"""What operators see and set of a station's own model; paths below /{party}, guards and lists as in `operator_api`.

GET  /{party}/stations/{station_id}/variables           what it is made of; `component` and `variable` narrow it
POST /{party}/stations/{station_id}/variables/refresh   ask for all: GetBaseReport, in 1.6 GetConfiguration
PUT  /{party}/stations/{station_id}/variables           VariablesChange: one result per variable
GET  /{party}/stations/{station_id}/monitors            what it watches
POST /{party}/stations/{station_id}/monitors/refresh    ask for all: GetMonitoringReport
GET  /{party}/stations/{station_id}/reports             what was asked for and how much of it came
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.messages import MessageLogging
from services.charging_operations.device_model import DeviceModelDesk
from services.charging_operations.office import NotFound, NotUnderstood, require_hosted
from services.charging_operations.operator_api import COMMAND_STATUS, Handler, OperatorAPI, answer, number_in, read_body
from services.charging_operations.station_records import (
    OUTAGE_EXCLUSION,
    STATION_MONITOR,
    STATION_REPORT,
    STATION_STATUS,
    STATION_VARIABLE,
    ReportKind,
)
from services.charging_operations.uptime import OutageExclusion, UptimeDesk
from services.charging_operations.variable_settings import SettingDesk, VariablesChange

MESSAGES_SHOWN: Final = 500
"""As many as a gateway keeps of one station."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationAPI:
    """Routes about what stations are made of."""

    operator: OperatorAPI
    device_model: DeviceModelDesk
    settings: SettingDesk
    uptime: UptimeDesk

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, handler in self._routes():
            app.add_api_route(f"/{{party}}{path}", self.operator.guarded(handler), methods=[method])

    def _routes(self) -> list[tuple[str, str, Handler]]:
        station = "/stations/{station_id}"
        return [
            ("GET", f"{station}/variables", self.list_variables),
            ("PUT", f"{station}/variables", self.set_variables),
            ("POST", f"{station}/variables/refresh", self.refresh_variables),
            ("GET", f"{station}/monitors", self.list_monitors),
            ("POST", f"{station}/monitors/refresh", self.refresh_monitors),
            ("GET", f"{station}/reports", self.list_reports),
            ("GET", f"{station}/statuses", self.list_statuses),
            ("GET", f"{station}/exclusions", self.list_exclusions),
            ("PUT", f"{station}/exclusions/{{exclusion_id}}", self.put_exclusion),
            ("DELETE", f"{station}/exclusions/{{exclusion_id}}", self.drop_exclusion),
            ("PUT", f"{station}/messages", self.keep_messages),
            ("GET", f"{station}/messages", self.list_messages),
            ("DELETE", f"{station}/messages", self.drop_messages),
            ("GET", "/uptime", self.show_uptime),
        ]

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
        numbers = ("ocpp_evse_id", "connector_id")
        return await self.operator.rows_of_station(
            request, party_id, STATION_STATUS, numbers=numbers, order_by=("-began_at",)
        )

    async def list_exclusions(self, request: Request, party_id: PartyId) -> Any:
        """List excluded outages, the newest first."""
        return await self.operator.rows_of_station(request, party_id, OUTAGE_EXCLUSION, order_by=("-since",))

    async def put_exclusion(self, request: Request, party_id: PartyId) -> Any:
        """Exclude an outage."""
        asked = await read_body(request, OutageExclusion)
        station_id = await self.operator.station_of(request, party_id)
        async with self.operator.office.ports.units.begin() as unit:
            row = await self.uptime.exclude(unit, party_id, station_id, request.path_params["exclusion_id"], asked)
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
        return {"exclusion_id": exclusion_id}

    async def keep_messages(self, request: Request, party_id: PartyId) -> Any:
        """Have the gateways keep what is said with a station; they begin within seconds."""
        asked = await read_body(request, MessageLogging)
        station_id = await self.operator.station_of(request, party_id)
        await self.operator.office.stations.keep_messages(party_id, station_id, asked)
        return asked

    async def list_messages(self, request: Request, party_id: PartyId) -> Any:
        """List what was said with a station while it was kept."""
        station_id = await self.operator.station_of(request, party_id)
        offset, limit = number_in(request, "offset", 0), number_in(request, "limit", MESSAGES_SHOWN)
        kept = await self.operator.office.stations.messages(
            party_id, station_id, offset=min(offset, MESSAGES_SHOWN), limit=min(limit, MESSAGES_SHOWN)
        )
        return [
            {each.name: getattr(message, each.name) for each in fields(message)}
            | {"payload": _json(message.payload), "answer": _json(message.answer)}
            for message in kept
        ]

    async def drop_messages(self, request: Request, party_id: PartyId) -> Any:
        """Keep no more messages of a station, and drop those kept."""
        station_id = await self.operator.station_of(request, party_id)
        await self.operator.office.stations.drop_messages(party_id, station_id)
        return {"charging_station_id": station_id}

    async def show_uptime(self, request: Request, party_id: PartyId) -> Any:
        """Count uptime."""
        async with self.operator.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        return await self.uptime.report(party_id, _moment(request, "from"), _moment(request, "to"))

    async def _refresh(self, request: Request, party_id: PartyId, kind: ReportKind) -> Response:
        station_id = await self.operator.station_of(request, party_id)
        correlation_id = self.operator.correlation_of(request)
        refresh = await self.device_model.refresh(party_id, station_id, kind, correlation_id=correlation_id)
        return answer(refresh, COMMAND_STATUS.get(refresh.result, 200))


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _moment(request: Request, name: str) -> datetime:
    try:
        at = datetime.fromisoformat(request.query_params[name])
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        pass
    raise NotUnderstood(f"{name} is an RFC 3339 date-time with its offset")
