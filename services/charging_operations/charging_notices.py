"""What stations tell about charging by themselves: profiles they have, limits from outside, what EVs need and plan.

Each is kept whole as a notice (`station_notices`); here it gets its meaning. One that says nothing that can be read - a
number out of range, a moment that no calendar has - stays a notice.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import structlog

from emobility.domain.charging_profile import STATION
from emobility.domain.errors import MalformedInput
from emobility.domain.personal import SubjectErased
from emobility.events.charging import StationNotified
from emobility.events.event import Envelope
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import Novelty, UnitOfWork
from emobility.protocols.station_control.charging_profiles import (
    as_moment,
    as_number,
    as_whole,
    read_schedule,
    reported_profiles,
)
from services.charging_operations.charging_state import forget_unreported
from services.charging_operations.office import GROUP, Office
from services.charging_operations.records import CPO
from services.charging_operations.smart_charging_records import (
    CHARGING_NEEDS,
    CHARGING_PROFILE,
    EV_SCHEDULE,
    EXTERNAL_LIMIT,
    PRIORITY_CHARGING,
    PROFILE_REPORT,
    ChargingNeedsRecord,
    ChargingProfileRecord,
    EVScheduleRecord,
    ExternalLimitRecord,
    PriorityChargingRecord,
    ProfileState,
)

ROWS_MAX: Final = 200
"""Rows of each kind kept of one station - profiles, limits, needs; a large one has some dozens, a broken one no end."""
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingNoticeDesk:
    """Gives notices about charging their meaning."""

    office: Office

    async def take(self, unit: UnitOfWork, envelope: Envelope, event: StationNotified) -> bool:
        """Take a notice in, once; tell whether it changed anything. Of a party that is not hosted here, nothing."""
        take = self._takers().get(event.action)
        if take is None or await unit.table(CPO).get(event.party_id) is None:
            return False
        if await unit.novelty(GROUP, envelope) is not Novelty.NEW:
            return False
        try:
            payload = json.loads(await self.office.ports.vault.open(event.payload))
        except SubjectErased:
            return False
        try:
            await take(unit, event, payload)
        except (MalformedInput, ValueError, ArithmeticError) as error:
            _log.warning(
                "charging_notice_not_understood", action=event.action, station=event.key, reason=str(error)[:200]
            )
            return False
        return True

    def _takers(self) -> dict[str, Callable[[UnitOfWork, StationNotified, dict[str, Any]], Awaitable[None]]]:
        return {
            "ReportChargingProfiles": self._take_profiles,
            "NotifyChargingLimit": self._take_limit,
            "ClearedChargingLimit": self._take_cleared,
            "NotifyEVChargingNeeds": self._take_needs,
            "NotifyEVChargingSchedule": self._take_schedule,
            "NotifyPriorityCharging": self._take_priority,
        }

    async def _take_profiles(self, unit: UnitOfWork, event: StationNotified, payload: dict[str, Any]) -> None:
        """Store a page; with the last one of a whole report, what it has not named is gone (K09)."""
        station = (event.party_id, event.charging_station_id)
        request_id = as_whole(payload["requestId"])
        table = unit.table(CHARGING_PROFILE)
        for installed in reported_profiles(payload, event.ocpp_version):
            profile = installed.profile
            row = ChargingProfileRecord(
                party_id=station[0],
                charging_station_id=station[1],
                source=installed.source,
                profile_id=profile.profile_id,
                ocpp_evse_id=installed.evse_id,
                purpose=profile.purpose,
                stack_level=profile.stack_level,
                transaction_id=profile.transaction_id,
                profile=profile,
                state=ProfileState.REPORTED,
                answer=None,
                changed_at=self.office.now(),
                request_id=request_id,
            )
            known = await table.get_for_update(*station, row.source, row.profile_id)
            if known is not None and known.state is ProfileState.INSTALLED:
                row = replace(row, state=ProfileState.INSTALLED, answer=known.answer)
            await _put(unit, CHARGING_PROFILE, row)
        report = await unit.table(PROFILE_REPORT).get_for_update(*station, request_id)
        if report is None or report.completed_at is not None:
            return
        is_last = not payload.get("tbc", False)
        report = replace(report, pages=report.pages + 1, completed_at=self.office.now() if is_last else None)
        await unit.table(PROFILE_REPORT).put(report)
        if is_last and report.is_whole:
            await forget_unreported(unit, report)

    async def _take_limit(self, unit: UnitOfWork, event: StationNotified, payload: dict[str, Any]) -> None:
        """A limit from outside applies (K12)."""
        limit = payload["chargingLimit"]
        row = ExternalLimitRecord(
            party_id=event.party_id,
            charging_station_id=event.charging_station_id,
            ocpp_evse_id=as_whole(payload.get("evseId", STATION)),
            source=limit["chargingLimitSource"],
            schedules=tuple(read_schedule(each) for each in payload.get("chargingSchedule", ())),
            is_grid_critical=limit.get("isGridCritical"),
            notified_at=event.occurred_at,
        )
        known = await unit.table(EXTERNAL_LIMIT).get_for_update(*_key(row), row.source)
        if known is None or known.notified_at <= row.notified_at:
            await _put(unit, EXTERNAL_LIMIT, row)

    async def _take_cleared(self, unit: UnitOfWork, event: StationNotified, payload: dict[str, Any]) -> None:
        """A limit from outside is gone (K13)."""
        where = (event.party_id, event.charging_station_id, as_whole(payload.get("evseId", STATION)))
        known = await unit.table(EXTERNAL_LIMIT).get_for_update(*where, payload["chargingLimitSource"])
        if known is not None and known.notified_at <= event.occurred_at:
            await unit.table(EXTERNAL_LIMIT).put(replace(known, cleared_at=event.occurred_at))

    async def _take_needs(self, unit: UnitOfWork, event: StationNotified, payload: dict[str, Any]) -> None:
        """An EV told what it needs (K15, Q01)."""
        needs = payload["chargingNeeds"]
        alternating, v2x = needs.get("acChargingParameters", {}), needs.get("v2xChargingParameters", {})
        direct = needs.get("dcChargingParameters", {})
        energy = alternating.get("energyAmount", direct.get("energyAmount", v2x.get("evTargetEnergyRequest")))
        row = ChargingNeedsRecord(
            party_id=event.party_id,
            charging_station_id=event.charging_station_id,
            ocpp_evse_id=as_whole(payload["evseId"]),
            energy_transfer=needs["requestedEnergyTransfer"],
            energy_wh=None if energy is None else round(as_number(energy) or Decimal(0)),
            min_current_a=as_number(alternating.get("evMinCurrent", v2x.get("minChargeCurrent"))),
            max_current_a=as_number(alternating.get("evMaxCurrent", v2x.get("maxChargeCurrent"))),
            departure_at=as_moment(needs.get("departureTime")),
            has_v2x="v2xChargingParameters" in needs or "BPT" in needs["requestedEnergyTransfer"],
            needs=event.payload,
            told_at=event.occurred_at,
        )
        await _put(unit, CHARGING_NEEDS, row)

    async def _take_schedule(self, unit: UnitOfWork, event: StationNotified, payload: dict[str, Any]) -> None:
        """An EV told how it means to charge (K15, K17)."""
        base_at = as_moment(payload["timeBase"])
        assert base_at is not None
        row = EVScheduleRecord(
            party_id=event.party_id,
            charging_station_id=event.charging_station_id,
            ocpp_evse_id=as_whole(payload["evseId"]),
            base_at=base_at,
            schedule=read_schedule(payload["chargingSchedule"]),
            selected_schedule_id=payload.get("selectedChargingScheduleId"),
            told_at=event.occurred_at,
        )
        await _put(unit, EV_SCHEDULE, row)
        if row.selected_schedule_id is None:
            return
        where = {"party_id": row.party_id, "charging_station_id": row.charging_station_id}
        for known in await unit.table(CHARGING_PROFILE).select(where | {"ocpp_evse_id": row.ocpp_evse_id}):
            if row.selected_schedule_id in [each.schedule_id for each in known.profile.schedules]:
                chosen = replace(known.profile, selected_schedule_id=row.selected_schedule_id)
                await unit.table(CHARGING_PROFILE).put(replace(known, profile=chosen))

    async def _take_priority(self, unit: UnitOfWork, event: StationNotified, payload: dict[str, Any]) -> None:
        """A transaction charges by its priority profile, or no more (K21, K22)."""
        await _put(
            unit,
            PRIORITY_CHARGING,
            PriorityChargingRecord(
                party_id=event.party_id,
                charging_station_id=event.charging_station_id,
                transaction_id=payload["transactionId"],
                is_activated=payload["activated"],
                is_told_by_station=True,
                changed_at=event.occurred_at,
            ),
        )


async def _put(unit: UnitOfWork, spec: TableSpec[Any], row: Any) -> None:
    """Put a row of a station, unless it would be one too many."""
    table = unit.table(spec)
    if await table.get(*(getattr(row, name) for name in spec.key)) is None:
        station = {"party_id": row.party_id, "charging_station_id": row.charging_station_id}
        if await table.count(station) >= ROWS_MAX:
            _log.warning("too_many_rows", table=spec.name, party_id=row.party_id.code, station=row.charging_station_id)
            return
    await table.put(row)


def _key(row: ExternalLimitRecord) -> tuple[Any, ...]:
    return (row.party_id, row.charging_station_id, row.ocpp_evse_id)
