"""Firmware and logs over HTTP: one station at a time, and campaigns for many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from emobility.domain.firmware_campaign import CampaignState, TargetState
from emobility.domain.identifiers import PartyId
from emobility.domain.station_task import TaskKind
from emobility.runtime.access import TokenRole
from services.charging_operations.firmware_campaigns import (
    FIRMWARE_CAMPAIGN,
    FIRMWARE_TARGET,
    CampaignDesk,
    CampaignShown,
    CampaignTerms,
    FirmwareTargetRecord,
    campaign_shown,
)
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.routes import PAGE, Query, Route, RouteTable, narrowed, page_of, read_body
from services.charging_operations.station_calls import version_of
from services.charging_operations.station_tasks import (
    STATION_TASK,
    FirmwareRequest,
    LogRequest,
    PublicationRequest,
    StationTaskRecord,
    TaskDesk,
    Wanted,
    firmware_wanted,
    log_wanted,
    publication_wanted,
)

CAMPAIGNS: Final = (*PAGE, Query("state", CampaignState, "only campaigns in this state"))
TARGETS: Final = (*PAGE, Query("state", TargetState, "only stations in this state"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpublished:
    """UnpublishFirmware: the station's own word."""

    checksum: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareAPI:
    """Routes about firmware and logs."""

    operator: OperatorAPI
    tasks: TaskDesk
    campaigns: CampaignDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        station, task, tasks = "/stations/{station_id}", StationTaskRecord, list[StationTaskRecord]
        campaign, shown = "/firmware-campaigns/{campaign_id}", CampaignShown
        updates, publications = f"{station}/firmware-updates", f"{station}/firmware-publications"
        targets = list[FirmwareTargetRecord]
        routes.add(
            "Firmware and logs",
            [
                Route("POST", updates, self.update_firmware, FirmwareRequest, task, status=201),
                Route("GET", updates, self.list_firmware_updates, None, tasks, PAGE),
                Route("POST", publications, self.publish_firmware, PublicationRequest, task, status=201),
                Route("GET", publications, self.list_firmware_publications, None, tasks, PAGE),
                Route("DELETE", f"{publications}/{{checksum}}", self.unpublish_firmware, None, Unpublished),
                Route("POST", f"{station}/logs", self.request_log, LogRequest, task, status=201),
                Route("GET", f"{station}/logs", self.list_logs, None, tasks, PAGE),
                Route("POST", "/firmware-campaigns", self.begin_campaign, CampaignTerms, shown, status=201),
                Route("GET", "/firmware-campaigns", self.list_campaigns, None, list[CampaignShown], CAMPAIGNS),
                Route("GET", campaign, self.show_campaign, None, shown),
                Route("GET", f"{campaign}/stations", self.list_campaign_stations, None, targets, TARGETS),
                Route("POST", f"{campaign}/pause", self.pause_campaign, None, shown),
                Route("POST", f"{campaign}/resume", self.resume_campaign, None, shown),
                Route("POST", f"{campaign}/cancel", self.cancel_campaign, None, shown),
                Route("POST", f"{campaign}/retry", self.retry_campaign, None, shown),
            ],
            writes=TokenRole.OWNER,
        )

    async def update_firmware(self, request: Request, party_id: PartyId) -> Any:
        """Have a connected station fetch and install firmware, signed or not; its answer is in `answer`.

        Raises `StationOffline`.
        """
        wanted = await read_body(request, FirmwareRequest)
        station_id = await self.operator.station_of(request, party_id)
        version = await version_of(self.operator.office, party_id, station_id)
        now = self.operator.office.now()
        return await self._begin(request, party_id, station_id, firmware_wanted(wanted, version, now=now))

    async def publish_firmware(self, request: Request, party_id: PartyId) -> Any:
        """Have a local controller (2.x) fetch firmware and offer it to the stations behind it."""
        wanted = await read_body(request, PublicationRequest)
        station_id = await self.operator.station_of(request, party_id)
        version = await version_of(self.operator.office, party_id, station_id)
        return await self._begin(request, party_id, station_id, publication_wanted(wanted, version))

    async def unpublish_firmware(self, request: Request, party_id: PartyId) -> Any:
        """Have a local controller offer firmware no more."""
        station_id, checksum = await self.operator.station_of(request, party_id), request.path_params["checksum"]
        correlation_id = self.operator.correlation_of(request)
        status = await self.tasks.unpublish(party_id, station_id, checksum, correlation_id=correlation_id)
        return Unpublished(checksum=checksum, status=status)

    async def request_log(self, request: Request, party_id: PartyId) -> Any:
        """Have a connected station upload a log: GetLog, or GetDiagnostics of 1.6."""
        wanted = await read_body(request, LogRequest)
        station_id = await self.operator.station_of(request, party_id)
        version = await version_of(self.operator.office, party_id, station_id)
        return await self._begin(request, party_id, station_id, log_wanted(wanted, version))

    async def _begin(self, request: Request, party_id: PartyId, station_id: str, wanted: Wanted) -> StationTaskRecord:
        correlation_id = self.operator.correlation_of(request)
        return await self.tasks.begin(party_id, station_id, wanted, correlation_id=correlation_id)

    async def list_firmware_updates(self, request: Request, party_id: PartyId) -> Any:
        """List firmware updates of a station, the newest first, with all that it reported."""
        return await self._tasks(request, party_id, TaskKind.FIRMWARE_UPDATE)

    async def list_firmware_publications(self, request: Request, party_id: PartyId) -> Any:
        """List firmware publications of a local controller, the newest first."""
        return await self._tasks(request, party_id, TaskKind.FIRMWARE_PUBLICATION)

    async def list_logs(self, request: Request, party_id: PartyId) -> Any:
        """List the logs that a station was asked for, the newest first."""
        return await self._tasks(request, party_id, TaskKind.LOG_UPLOAD)

    async def _tasks(self, request: Request, party_id: PartyId, kind: TaskKind) -> list[StationTaskRecord]:
        station_id = await self.operator.station_of(request, party_id)
        offset, limit = page_of(request)
        where = {"party_id": party_id, "charging_station_id": station_id, "kind": kind}
        async with self.operator.office.ports.units.begin() as unit:
            return await unit.table(STATION_TASK).select(where, order_by=("-asked_at",), offset=offset, limit=limit)

    async def begin_campaign(self, request: Request, party_id: PartyId) -> Any:
        """Begin a firmware campaign; its first batch is asked within seconds."""
        return await self.campaigns.create(party_id, await read_body(request, CampaignTerms))

    async def list_campaigns(self, request: Request, party_id: PartyId) -> Any:
        """List firmware campaigns, the newest first, without counting their stations."""
        offset, limit = page_of(request)
        where = {"party_id": party_id} | narrowed(request, "state")
        async with self.operator.office.ports.units.begin() as unit:
            rows = await unit.table(FIRMWARE_CAMPAIGN).select(
                where, order_by=("-created_at",), offset=offset, limit=limit
            )
        return [campaign_shown(row) for row in rows]

    async def show_campaign(self, request: Request, party_id: PartyId) -> Any:
        """Show a firmware campaign and count its stations by state."""
        return await self.campaigns.shown(party_id, request.path_params["campaign_id"])

    async def list_campaign_stations(self, request: Request, party_id: PartyId) -> Any:
        """List the stations of a campaign and how it went with each."""
        campaign_id = request.path_params["campaign_id"]
        await self.campaigns.shown(party_id, campaign_id)
        offset, limit = page_of(request)
        where = {"party_id": party_id, "campaign_id": campaign_id} | narrowed(request, "state")
        async with self.operator.office.ports.units.begin() as unit:
            return await unit.table(FIRMWARE_TARGET).select(where, offset=offset, limit=limit)

    async def pause_campaign(self, request: Request, party_id: PartyId) -> Any:
        """Ask no further station until it is resumed; what is under way goes on."""
        return await self.campaigns.pause(party_id, request.path_params["campaign_id"])

    async def resume_campaign(self, request: Request, party_id: PartyId) -> Any:
        """Go on after a pause, or after a stop in the knowledge of what failed so far."""
        return await self.campaigns.resume(party_id, request.path_params["campaign_id"])

    async def cancel_campaign(self, request: Request, party_id: PartyId) -> Any:
        """Ask no further station for good; what is under way goes on."""
        return await self.campaigns.cancel(party_id, request.path_params["campaign_id"])

    async def retry_campaign(self, request: Request, party_id: PartyId) -> Any:
        """Ask the stations that failed once more, after a stop or at the end."""
        return await self.campaigns.retry(party_id, request.path_params["campaign_id"])
