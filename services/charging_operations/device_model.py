"""The device model of each station: asked for, put together from its pages, shown, and changed.

A page is taken in when it comes. What a station no longer has goes only when every page of a whole report that we asked
for is there: from a part nobody can tell what is missing and what is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import structlog

from emobility.domain.device_model import (
    StationVariable,
    VariableAddress,
    VariableMonitor,
    merged,
)
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import SubjectErased
from emobility.events.charging import DeviceModelReported, MonitorsReported
from emobility.events.event import Envelope
from emobility.ports.unit_of_work import Novelty, UnitOfWork
from emobility.protocols.station_control.device_model import (
    monitors_of,
    variables_of,
    variables_of_configuration,
)
from emobility.protocols.station_control.messages import (
    CommandResult,
)
from services.charging_operations.office import GROUP, NotAllowedNow, Office
from services.charging_operations.records import CPO
from services.charging_operations.station_calls import OCPP_16, call_station, version_of
from services.charging_operations.station_records import (
    STATION_MONITOR,
    STATION_REPORT,
    STATION_REPORT_PAGE,
    STATION_VARIABLE,
    ReportKind,
    ReportState,
    StationMonitorRecord,
    StationReportPageRecord,
    StationReportRecord,
    StationVariableRecord,
    variable_key,
)

VARIABLES_MAX: Final = 10_000
"""Variables kept of one station; a large one has 3,000. Not above `SELECT_ROWS_MAX`."""
MONITORS_MAX: Final = 2_000
REPORT_PAGES_MAX: Final = 10_000
REPORTS_KEPT_MAX: Final = 20
"""Reports of one kind whose course is kept of one station."""
_QUESTIONS: Final[dict[ReportKind, tuple[str, dict[str, Any]]]] = {
    ReportKind.DEVICE_MODEL: ("GetBaseReport", {"reportBase": "FullInventory"}),
    ReportKind.MONITORS: ("GetMonitoringReport", {}),
    ReportKind.DER_CONTROLS: ("GetDERControl", {}),
    ReportKind.DISPLAY_MESSAGES: ("GetDisplayMessages", {}),
}
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """What became of a question for everything: pages under `request_id` will come, or `variables` came already."""

    result: CommandResult
    action: str
    detail: str | None
    request_id: int | None = None
    expects: str | None = None
    variables: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModelDesk:
    """Keeps what stations are made of."""

    office: Office

    # What stations tell

    async def take(self, unit: UnitOfWork, envelope: Envelope, event: DeviceModelReported | MonitorsReported) -> None:
        """Take a page in, once; of a party that is not hosted here, or a report that a later one overtook, nothing."""
        if await unit.table(CPO).get(event.party_id) is None:
            return
        if await unit.novelty(GROUP, envelope) is not Novelty.NEW:  # its key is its content, so it is the same
            return
        kind = ReportKind.MONITORS if isinstance(event, MonitorsReported) else ReportKind.DEVICE_MODEL
        report = await unit.table(STATION_REPORT).get_for_update(
            event.party_id, event.charging_station_id, event.request_id
        )
        if report is not None and report.kind is not kind:
            report = None
        if report is not None and report.state is ReportState.SUPERSEDED:
            return
        try:
            page = json.loads(await self.office.ports.vault.open(event.page), parse_float=Decimal)
        except SubjectErased:
            return
        if isinstance(event, MonitorsReported):
            await self._put_monitors(unit, event, monitors_of(page))
        else:
            where = (event.party_id, event.charging_station_id)
            await self._put_variables(unit, where, variables_of(page), event.request_id, is_whole=report is not None)
        if report is not None and report.state is ReportState.ASKED:
            await self._count(unit, report, event)

    async def _put_variables(
        self,
        unit: UnitOfWork,
        where: tuple[PartyId, str],
        told: Sequence[StationVariable],
        request_id: int | None,
        *,
        is_whole: bool,
    ) -> None:
        """Store variables; a whole report replaces the values it has not named, any other leaves them."""
        table, station = unit.table(STATION_VARIABLE), _station(*where)
        components = tuple({each.address.component for each in told})
        rows = await table.select(station | {"component": components}) if components else []
        known = {row.address: row for row in rows}
        room = VARIABLES_MAX - await table.count(station)
        changed: dict[VariableAddress, StationVariableRecord] = {}
        for each in told:
            before = changed.get(each.address) or known.get(each.address)
            if before is None:
                room -= 1
                if room < 0:
                    _log.warning("too_many_variables", party_id=where[0].code, charging_station_id=where[1])
                    break
            elif is_whole and (request_id is None or before.request_id != request_id):
                before = None
            changed[each.address] = self._record(where, each, before, request_id)
        await table.put_all(list(changed.values()))

    def _record(
        self,
        where: tuple[PartyId, str],
        told: StationVariable,
        before: StationVariableRecord | None,
        request_id: int | None,
    ) -> StationVariableRecord:
        at = told.address
        return StationVariableRecord(
            party_id=where[0],
            charging_station_id=where[1],
            component=at.component,
            component_instance=at.component_instance,
            evse_id=at.evse_id,
            connector_id=at.connector_id,
            variable=at.variable,
            variable_instance=at.variable_instance,
            attributes=merged(before.attributes if before else (), told.attributes),
            characteristics=told.characteristics or (before.characteristics if before else None),
            configuration_key=told.configuration_key,
            request_id=request_id,
            seen_at=self.office.now(),
        )

    async def _put_monitors(self, unit: UnitOfWork, event: MonitorsReported, told: Iterable[VariableMonitor]) -> None:
        table, station = unit.table(STATION_MONITOR), _station(event.party_id, event.charging_station_id)
        known = {row.monitor_id for row in await table.select(station)}
        rows: dict[int, StationMonitorRecord] = {}
        for each in told:
            if len(known | {each.monitor_id}) > MONITORS_MAX:
                _log.warning("too_many_monitors", party_id=event.party_id.code, station=event.charging_station_id)
                break
            known.add(each.monitor_id)
            rows[each.monitor_id] = StationMonitorRecord(
                party_id=event.party_id,
                charging_station_id=event.charging_station_id,
                monitor_id=each.monitor_id,
                component=each.address.component,
                variable=each.address.variable,
                monitor=each,
                request_id=event.request_id,
                seen_at=self.office.now(),
            )
        await table.put_all(list(rows.values()))

    async def _count(
        self, unit: UnitOfWork, report: StationReportRecord, event: DeviceModelReported | MonitorsReported
    ) -> None:
        """Note that a page came; with the last one missing, what the report has not named is gone."""
        pages = unit.table(STATION_REPORT_PAGE)
        of_report = _station(report.party_id, report.charging_station_id) | {"request_id": report.request_id}
        if 0 <= event.seq_no < REPORT_PAGES_MAX:
            await pages.put(StationReportPageRecord(**of_report, seq_no=event.seq_no))
        last_seq_no = event.seq_no if event.is_last else report.last_seq_no
        report = replace(report, last_seq_no=last_seq_no, pages=await pages.count(of_report))
        if last_seq_no is not None and report.pages > last_seq_no:
            came = {row.seq_no for row in await pages.select(of_report)}
            if came.issuperset(range(last_seq_no + 1)):
                report = replace(report, state=ReportState.COMPLETE, completed_at=self.office.now())
        await unit.table(STATION_REPORT).put(report)
        if report.state is ReportState.COMPLETE:
            await self._forget_unnamed(unit, report)
            await self._supersede(unit, report)
            await _drop_pages(unit, report)

    async def _forget_unnamed(self, unit: UnitOfWork, report: StationReportRecord) -> None:
        """Remove what was not seen since the question; what came meanwhile, by another report, is as new."""
        station = _station(report.party_id, report.charging_station_id)
        before = ("seen_at", report.asked_at)
        if report.kind is ReportKind.MONITORS:
            for monitor in await unit.table(STATION_MONITOR).select(station, before=before):
                if monitor.request_id != report.request_id:
                    await unit.table(STATION_MONITOR).remove(*station.values(), monitor.monitor_id)
            return
        for variable in await unit.table(STATION_VARIABLE).select(station, before=before):
            if variable.request_id != report.request_id:
                await _remove_variable(unit, variable)

    async def _supersede(self, unit: UnitOfWork, report: StationReportRecord) -> None:
        for other in await self._reports(unit, report, ReportState.ASKED):
            if other.request_id != report.request_id and other.asked_at <= report.asked_at:
                await unit.table(STATION_REPORT).put(replace(other, state=ReportState.SUPERSEDED))
                await _drop_pages(unit, other)

    async def _reports(
        self, unit: UnitOfWork, like: StationReportRecord, *states: ReportState
    ) -> list[StationReportRecord]:
        """Return the station's reports of the same kind, the newest first."""
        where = _station(like.party_id, like.charging_station_id) | {"kind": like.kind}
        if states:
            where["state"] = states
        return await unit.table(STATION_REPORT).select(where, order_by=("-asked_at",))

    # What operators ask

    async def refresh(self, party_id: PartyId, station_id: str, kind: ReportKind, *, correlation_id: str) -> Refresh:
        """Ask a station for everything it has of a kind.

        Raises:
            StationOffline: it is not connected.
            NotAllowedNow: its version has no such question.
        """
        if await version_of(self.office, party_id, station_id) == OCPP_16:
            if kind is not ReportKind.DEVICE_MODEL:
                raise NotAllowedNow(f"OCPP 1.6 has no {_QUESTIONS[kind][0]}")
            return await self._read_configuration(party_id, station_id, correlation_id=correlation_id)
        report = StationReportRecord(
            party_id=party_id,
            charging_station_id=station_id,
            request_id=1 + int.from_bytes(self.office.ports.randomness.token_bytes(4)) % (2**31 - 1),
            kind=kind,
            state=ReportState.ASKED,
            asked_at=self.office.now(),
        )
        # Stored before it is asked for: the first page may come before the answer.
        async with self.office.ports.units.begin() as unit:
            for old in (await self._reports(unit, report))[REPORTS_KEPT_MAX - 1 :]:
                await unit.table(STATION_REPORT).remove(party_id, station_id, old.request_id)
                await _drop_pages(unit, old)
            await unit.table(STATION_REPORT).insert(report)
            await unit.commit()
        action, payload = _QUESTIONS[kind]
        payload = {"requestId": report.request_id, **payload}
        outcome = await call_station(self.office, party_id, station_id, action, payload, correlation_id=correlation_id)
        is_coming = outcome.result is CommandResult.ACCEPTED
        async with self.office.ports.units.begin() as unit:
            known = await unit.table(STATION_REPORT).get_for_update(party_id, station_id, report.request_id)
            if known is not None:
                is_refused = not is_coming and outcome.result is not CommandResult.TIMED_OUT
                state = ReportState.REFUSED if is_refused and known.state is ReportState.ASKED else known.state
                word = outcome.station_status or outcome.result
                await unit.table(STATION_REPORT).put(replace(known, state=state, answer=word))
                await unit.commit()
        return Refresh(
            result=outcome.result,
            action=action,
            detail=outcome.station_status,
            request_id=report.request_id,
            expects=kind.value if is_coming else None,
        )

    async def _read_configuration(self, party_id: PartyId, station_id: str, *, correlation_id: str) -> Refresh:
        """A 1.6 station answers with all its keys at once: they replace what was known."""
        action = "GetConfiguration"
        outcome = await call_station(self.office, party_id, station_id, action, {}, correlation_id=correlation_id)
        refresh = Refresh(result=outcome.result, action=action, detail=outcome.station_status)
        if outcome.result is not CommandResult.ACCEPTED or outcome.answer is None:
            return refresh
        told = variables_of_configuration(outcome.answer)
        async with self.office.ports.units.begin() as unit:
            named = {each.address for each in told}
            for row in await unit.table(STATION_VARIABLE).select(_station(party_id, station_id)):
                if row.address not in named:
                    await _remove_variable(unit, row)
            await self._put_variables(unit, (party_id, station_id), told, None, is_whole=True)
            await unit.commit()
        return replace(refresh, variables=len(named))


def _station(party_id: PartyId, charging_station_id: str) -> dict[str, Any]:
    return {"party_id": party_id, "charging_station_id": charging_station_id}


async def _remove_variable(unit: UnitOfWork, row: StationVariableRecord) -> None:
    await unit.table(STATION_VARIABLE).remove(*variable_key(row.party_id, row.charging_station_id, row.address))


async def _drop_pages(unit: UnitOfWork, report: StationReportRecord) -> None:
    where = _station(report.party_id, report.charging_station_id) | {"request_id": report.request_id}
    for page in await unit.table(STATION_REPORT_PAGE).select(where):
        await unit.table(STATION_REPORT_PAGE).remove(*where.values(), page.seq_no)
