"""DER control (OCPP 2.1, R): the grid rules of each station - set by us, told by it, followed when, broken when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import structlog

from emobility.domain.identifiers import PartyId
from emobility.events.event import Envelope
from emobility.events.station_told import DERAlarmReported, DERControlsReported, DERControlSwitched
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from emobility.protocols.station_control.told import der_controls_of, payload_of
from services.charging_operations.office import Office
from services.charging_operations.report_pages import take_page
from services.charging_operations.station_calls import call_station
from services.charging_operations.station_records import ReportKind
from services.charging_operations.wanted_settings import WANTED_SETTING, WantedDesk, WantedKind, WantedState, as_json

CONTROLS_MAX: Final = 1_000
"""Controls kept of one station; the standard lets a report page name 24 of each type."""
LOOKED_AT_MAX: Final = 100
"""Newest periods of a control, and alarms of a type, among which a start finds its end."""
_NOT_THERE: Final = "NotFound"
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DERControlRecord:
    """A control as its station last told it; `setting` is JSON in the words of the standard.

    EnterService and Gradients have no default and are not superseded: None.
    """

    party_id: PartyId
    charging_station_id: str
    control_id: str
    control_type: str
    is_default: bool | None
    is_superseded: bool | None
    setting: str
    request_id: int
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DERPeriodRecord:
    """A control was followed. `started_at` or `ended_at` None: the station has not told it."""

    party_id: PartyId
    charging_station_id: str
    period_id: str
    control_id: str
    started_at: datetime | None
    ended_at: datetime | None
    superseded_ids: tuple[str, ...]
    told_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DERAlarmRecord:
    """A grid rule was broken. `began_at` or `ended_at` None: the station has not told it."""

    party_id: PartyId
    charging_station_id: str
    alarm_id: str
    control_type: str
    grid_event_fault: str | None
    began_at: datetime | None
    ended_at: datetime | None
    told_at: datetime


DER_CONTROL: Final = TableSpec(
    name="cpo_der_control", record=DERControlRecord, key=("party_id", "charging_station_id", "control_id")
)
DER_PERIOD: Final = TableSpec(
    name="cpo_der_period", record=DERPeriodRecord, key=("party_id", "charging_station_id", "period_id")
)
DER_ALARM: Final = TableSpec(
    name="cpo_der_alarm", record=DERAlarmRecord, key=("party_id", "charging_station_id", "alarm_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DERControlShown:
    """A control for the operator, its setting in the words of the standard."""

    control_id: str
    control_type: str
    is_default: bool | None
    is_superseded: bool | None
    request_id: int
    seen_at: datetime
    setting: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlsCleared:
    """POST der-controls/clear: all default controls, or all scheduled ones, perhaps of one type."""

    is_default: bool
    control_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DERDesk:
    """Sets controls and keeps what stations tell of them."""

    office: Office
    wanted: WantedDesk

    # What operators ask

    async def set_control(
        self, party_id: PartyId, station_id: str, control_id: str, control: dict[str, Any], *, correlation_id: str
    ) -> CommandOutcome:
        """Set a control (SetDERControl); `control` is its payload but for the id. Raises what `call_station` does."""
        payload = control | {"controlId": control_id}
        kind = WantedKind.DER_CONTROL
        outcome = await self.wanted.set(party_id, station_id, kind, control_id, payload, correlation_id=correlation_id)
        superseded = (outcome.answer or {}).get("supersededIds", ())
        if outcome.result is CommandResult.ACCEPTED and superseded:
            async with self.office.ports.units.begin() as unit:
                await self._supersede(unit, party_id, station_id, tuple(superseded), control_id)
                await unit.commit()
        return outcome

    async def clear_control(
        self, party_id: PartyId, station_id: str, control_id: str, *, is_default: bool, correlation_id: str
    ) -> CommandOutcome:
        """Clear one control. Raises what `call_station` does."""
        payload = {"isDefault": is_default, "controlId": control_id}
        return await self._clear(party_id, station_id, payload, correlation_id=correlation_id)

    async def clear_controls(
        self, party_id: PartyId, station_id: str, cleared: ControlsCleared, *, correlation_id: str
    ) -> CommandOutcome:
        """Clear many controls. Raises what `call_station` does."""
        payload: dict[str, Any] = {"isDefault": cleared.is_default}
        if cleared.control_type is not None:
            payload["controlType"] = cleared.control_type
        return await self._clear(party_id, station_id, payload, correlation_id=correlation_id)

    async def _clear(
        self, party_id: PartyId, station_id: str, payload: dict[str, Any], *, correlation_id: str
    ) -> CommandOutcome:
        outcome = await call_station(
            self.office, party_id, station_id, "ClearDERControl", payload, correlation_id=correlation_id
        )
        # What the station does not have is not in force either.
        if outcome.result is CommandResult.ACCEPTED or outcome.station_status == _NOT_THERE:
            async with self.office.ports.units.begin() as unit:
                for row in await self.wanted.in_force(unit, party_id, station_id, WantedKind.DER_CONTROL):
                    told = payload_of(row.payload)
                    if all(told.get(name) == value for name, value in payload.items()):
                        cleared = replace(row, state=WantedState.CLEARED, ended_at=self.office.now())
                        await unit.table(WANTED_SETTING).put(cleared)
                await unit.commit()
        return outcome

    # What stations tell

    async def take_controls(
        self, unit: UnitOfWork, envelope: Envelope, event: DERControlsReported, payload: dict[str, Any]
    ) -> None:
        """Take a page of controls in; after the last page of all that was asked for, the rest is gone."""
        table, where = unit.table(DER_CONTROL), _station(event)
        known = {row.control_id for row in await table.select(where)}
        for told in der_controls_of(payload):
            if told.control_id not in known and len(known) >= CONTROLS_MAX:
                _log.warning("too_many_der_controls", station=event.key)
                break
            known.add(told.control_id)
            await table.put(
                DERControlRecord(
                    **where,
                    control_id=told.control_id,
                    control_type=told.control_type,
                    is_default=told.is_default,
                    is_superseded=told.is_superseded,
                    setting=told.setting,
                    request_id=event.request_id,
                    seen_at=envelope.recorded_at,
                )
            )
        is_last = not payload.get("tbc", False)
        if await take_page(unit, envelope, event, event.request_id, ReportKind.DER_CONTROLS, is_last=is_last):
            for row in await table.select(where):
                if row.request_id != event.request_id:
                    await table.remove(*where.values(), row.control_id)

    async def take_switch(self, unit: UnitOfWork, envelope: Envelope, event: DERControlSwitched) -> None:
        """Note that a control started or ended to be followed; the two may come in any order."""
        table, where = unit.table(DER_PERIOD), _station(event)
        rows = await table.select(where | {"control_id": event.control_id}, order_by=("-told_at",), limit=LOOKED_AT_MAX)
        at = event.occurred_at
        if event.is_started:
            fitting = [row for row in rows if row.started_at is None and row.ended_at and row.ended_at >= at]
            row = min(fitting, key=lambda each: each.ended_at or at, default=None)
        else:
            fitting = [row for row in rows if row.ended_at is None and row.started_at and row.started_at <= at]
            row = max(fitting, key=lambda each: each.started_at or at, default=None)
        row = row or DERPeriodRecord(
            **where,
            period_id=envelope.event_id,
            control_id=event.control_id,
            started_at=None,
            ended_at=None,
            superseded_ids=(),
            told_at=envelope.recorded_at,
        )
        if not event.is_started:
            await table.put(replace(row, ended_at=at))
            await self._resume(unit, event)
            return
        await table.put(replace(row, started_at=at, superseded_ids=event.superseded_ids))
        # A period that ended before its start was heard of holds nothing back any more.
        if event.superseded_ids and row.ended_at is None:
            await self._supersede(
                unit, event.party_id, event.charging_station_id, event.superseded_ids, event.control_id
            )

    async def take_alarm(self, unit: UnitOfWork, envelope: Envelope, event: DERAlarmReported) -> None:
        """Note that an alarm began or ended; an end that names no fault ends all of its control type."""
        table, where = unit.table(DER_ALARM), _station(event) | {"control_type": event.control_type}
        at, fault = event.occurred_at, event.grid_event_fault
        rows = [
            row
            for row in await table.select(where, order_by=("-told_at",), limit=LOOKED_AT_MAX)
            if fault is None or row.grid_event_fault is None or row.grid_event_fault == fault
        ]
        if event.is_ended:
            fitting = [row for row in rows if row.ended_at is None and row.began_at and row.began_at <= at]
            changed = [replace(row, ended_at=at) for row in fitting]
        else:
            late = [row for row in rows if row.began_at is None and row.ended_at and row.ended_at >= at]
            changed = [replace(row, began_at=at, grid_event_fault=fault) for row in late[:1]]
        told = DERAlarmRecord(
            **where,
            alarm_id=envelope.event_id,
            grid_event_fault=fault,
            began_at=None if event.is_ended else at,
            ended_at=at if event.is_ended else None,
            told_at=envelope.recorded_at,
        )
        await table.put_all(changed or [told])

    async def _supersede(
        self, unit: UnitOfWork, party_id: PartyId, station_id: str, control_ids: tuple[str, ...], by: str
    ) -> None:
        for row in await self.wanted.in_force(unit, party_id, station_id, WantedKind.DER_CONTROL, control_ids):
            await unit.table(WANTED_SETTING).put(replace(row, superseded_by=by))

    async def _resume(self, unit: UnitOfWork, event: DERControlSwitched) -> None:
        where = _station(event) | {"kind": WantedKind.DER_CONTROL, "superseded_by": event.control_id}
        for row in await unit.table(WANTED_SETTING).select(where):
            await unit.table(WANTED_SETTING).put(replace(row, superseded_by=None))


def shown_control(row: DERControlRecord) -> DERControlShown:
    """Return a control for the operator."""
    return DERControlShown(
        control_id=row.control_id,
        control_type=row.control_type,
        is_default=row.is_default,
        is_superseded=row.is_superseded,
        request_id=row.request_id,
        seen_at=row.seen_at,
        setting=as_json(row.setting),
    )


def _station(event: Any) -> dict[str, Any]:
    return {"party_id": event.party_id, "charging_station_id": event.charging_station_id}
