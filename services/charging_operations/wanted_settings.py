"""What operators set at a station and the station keeps: DER controls, tariffs, display messages.

Each is a row before it is sent, so nothing is in force at a station that nobody knows of; the row says what the station
answered, and what took its place. A refused setting leaves the one before it in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from emobility.protocols.station_control.told import payload_text
from services.charging_operations.office import Office
from services.charging_operations.station_calls import call_station


class WantedKind(StrEnum):
    """What is set; its value is the action that sets it."""

    DER_CONTROL = "SetDERControl"
    DEFAULT_TARIFF = "SetDefaultTariff"
    TRANSACTION_TARIFF = "ChangeTransactionTariff"
    DISPLAY_MESSAGE = "SetDisplayMessage"


class WantedState(StrEnum):
    """Life of a setting."""

    ASKED = "ASKED"
    """Sent, or about to be; without an answer nobody knows whether it is in force."""
    IN_FORCE = "IN_FORCE"
    REFUSED = "REFUSED"
    REPLACED = "REPLACED"
    CLEARED = "CLEARED"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSettingRecord:
    """A setting. `object_id` names what is set: a control, an EVSE's tariff, a message; one is in force for each.

    `payload` is what was sent, as JSON in the words of the standard; `superseded_by`: the control followed instead.
    """

    party_id: PartyId
    charging_station_id: str
    setting_id: str
    kind: WantedKind
    object_id: str
    state: WantedState
    asked_at: datetime
    ended_at: datetime | None
    answer: str | None
    superseded_by: str | None
    payload: str


WANTED_SETTING: Final = TableSpec(
    name="cpo_wanted_setting", record=WantedSettingRecord, key=("party_id", "charging_station_id", "setting_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingShown:
    """A setting for the operator, its payload as it was sent."""

    setting_id: str
    kind: WantedKind
    object_id: str
    state: WantedState
    asked_at: datetime
    ended_at: datetime | None
    answer: str | None
    superseded_by: str | None
    payload: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedDesk:
    """Sends settings and keeps them."""

    office: Office

    async def set(
        self,
        party_id: PartyId,
        station_id: str,
        kind: WantedKind,
        object_id: str,
        payload: dict[str, Any],
        *,
        correlation_id: str,
    ) -> CommandOutcome:
        """Have a station keep a setting; return what it said. Raises what `call_station` does."""
        row = WantedSettingRecord(
            party_id=party_id,
            charging_station_id=station_id,
            setting_id=self.office.ports.randomness.uuid(),
            kind=kind,
            object_id=object_id,
            state=WantedState.ASKED,
            asked_at=self.office.now(),
            ended_at=None,
            answer=None,
            superseded_by=None,
            payload=payload_text(payload),
        )
        async with self.office.ports.units.begin() as unit:
            await unit.table(WANTED_SETTING).insert(row)
            await unit.commit()
        outcome = await call_station(
            self.office, party_id, station_id, kind.value, payload, correlation_id=correlation_id
        )
        answered = replace(row, answer=outcome.station_status or outcome.result.value)
        async with self.office.ports.units.begin() as unit:
            if outcome.result is CommandResult.ACCEPTED:
                await self.end(unit, party_id, station_id, kind, WantedState.REPLACED, object_ids=(object_id,))
                answered = replace(answered, state=WantedState.IN_FORCE)
            elif outcome.result is not CommandResult.TIMED_OUT:
                answered = replace(answered, state=WantedState.REFUSED, ended_at=self.office.now())
            await unit.table(WANTED_SETTING).put(answered)
            await unit.commit()
        return outcome

    async def in_force(
        self, unit: UnitOfWork, party_id: PartyId, station_id: str, kind: WantedKind, object_ids: Sequence[str] = ()
    ) -> list[WantedSettingRecord]:
        """Return what is in force of a kind, or of these objects."""
        where: dict[str, Any] = {"party_id": party_id, "charging_station_id": station_id}
        where |= {"kind": kind, "state": WantedState.IN_FORCE}
        if object_ids:
            where["object_id"] = tuple(object_ids)
        return await unit.table(WANTED_SETTING).select(where)

    async def end(
        self,
        unit: UnitOfWork,
        party_id: PartyId,
        station_id: str,
        kind: WantedKind,
        state: WantedState,
        *,
        object_ids: Sequence[str] = (),
    ) -> None:
        """Note that what was in force is no more: all of a kind, or these objects."""
        for row in await self.in_force(unit, party_id, station_id, kind, object_ids):
            await unit.table(WANTED_SETTING).put(replace(row, state=state, ended_at=self.office.now()))


def shown_setting(row: WantedSettingRecord) -> SettingShown:
    """Return a setting for the operator."""
    return SettingShown(
        setting_id=row.setting_id,
        kind=row.kind,
        object_id=row.object_id,
        state=row.state,
        asked_at=row.asked_at,
        ended_at=row.ended_at,
        answer=row.answer,
        superseded_by=row.superseded_by,
        payload=as_json(row.payload),
    )


def as_json(text: str) -> msgspec.Raw:
    """Return kept JSON so that it is written as it is, each number with the digits it came with."""
    return msgspec.Raw(text.encode())
