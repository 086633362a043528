"""What stations were told about charging, and what they said to it.

Whatever was said - by an operator's operation, the load manager or a raw command - ends in `note`: a row and an event
with the station's answer, and the rows of profiles as they are at the station from then on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from emobility.domain.charging_profile import CSO, ChargingProfile, Purpose
from emobility.domain.identifiers import PartyId
from emobility.events.smart_charging import ChargingCommandAnswered
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.charging_profiles import as_whole, read_profile, read_schedule_update
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from emobility.protocols.station_control.told import payload_text
from services.charging_operations.charging_state import AT_THE_STATION, profiles_of
from services.charging_operations.load_records import LOAD_EVSE
from services.charging_operations.office import NotAllowedNow, Office
from services.charging_operations.smart_charging_records import (
    CHARGING_COMMAND,
    CHARGING_PROFILE,
    PRIORITY_CHARGING,
    ChargingCommandRecord,
    ChargingProfileRecord,
    PriorityChargingRecord,
    ProfileState,
)

NOTED: Final = frozenset(
    {"SetChargingProfile", "ClearChargingProfile", "UpdateDynamicSchedule", "UsePriorityCharging", "AFRRSignal"}
)
"""CALLs whose answer is kept, whoever had them sent."""
STARTS: Final = frozenset({"RequestStartTransaction", "RemoteStartTransaction"})
"""CALLs that may bring a TxProfile along: it would stand above a load group's limit."""
COMMANDS_KEPT_MAX: Final = 500
"""Commands about charging that are kept of one station, the newest."""


_Station = tuple[PartyId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilesToClear:
    """Which profiles: all that have every value given."""

    profile_id: int | None = None
    evse_id: int | None = None
    purpose: Purpose | None = None
    stack_level: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingCommandBook:
    """Keeps commands about charging with their answers."""

    office: Office

    async def note(
        self,
        party_id: PartyId,
        station_id: str,
        action: str,
        payload: dict[str, Any],
        outcome: CommandOutcome,
        *,
        correlation_id: str,
    ) -> None:
        """Keep a command of `NOTED` with its answer, and what it changed."""
        station: dict[str, Any] = {"party_id": party_id, "charging_station_id": station_id}
        command_id, now = self.office.ports.randomness.uuid(), self.office.now()
        named = {} if outcome.result is CommandResult.MALFORMED else _named_in(payload)
        async with self.office.ports.units.begin() as unit:
            await self._apply(unit, (party_id, station_id), action, payload, outcome=outcome)
            table = unit.table(CHARGING_COMMAND)
            for old in await table.select(station, order_by=("-answered_at",), offset=COMMANDS_KEPT_MAX - 1):
                await table.remove(party_id, station_id, old.command_id)
            row = ChargingCommandRecord(
                **station,
                command_id=command_id,
                action=action,
                payload=json.loads(payload_text(payload)),  # a row is JSON, whose decimals would be texts
                result=outcome.result,
                station_status=outcome.station_status,
                answered_at=now,
            )
            await table.insert(row)
            event = ChargingCommandAnswered(
                **station,
                action=action,
                result=outcome.result,
                station_status=outcome.station_status,
                answered_at=now,
                **named,
            )
            event_id = f"{party_id.code}/{station_id}/charging-command/{command_id}"
            unit.emit(self.office.fact(event, event_id=event_id, correlation_id=correlation_id))
            await unit.commit()

    async def _apply(
        self, unit: UnitOfWork, where: _Station, action: str, payload: dict[str, Any], *, outcome: CommandOutcome
    ) -> None:
        is_accepted = outcome.result is CommandResult.ACCEPTED
        if action == "SetChargingProfile":
            await self._apply_set(unit, where, payload, outcome=outcome)
        elif action == "ClearChargingProfile" and (is_accepted or outcome.station_status == "Unknown"):
            wanted = _cleared_by(payload)
            for row in await profiles_of(unit, *where):
                if row.source == CSO and _is_meant(row, wanted):
                    await unit.table(CHARGING_PROFILE).remove(*where, row.source, row.profile_id)
        elif action == "UpdateDynamicSchedule" and is_accepted:
            known = await unit.table(CHARGING_PROFILE).get_for_update(*where, CSO, payload["chargingProfileId"])
            if known is not None:
                profile = _with_values(known.profile, payload["scheduleUpdate"], self.office.now())
                await unit.table(CHARGING_PROFILE).put(replace(known, profile=profile, changed_at=self.office.now()))
        elif action == "UsePriorityCharging" and is_accepted:
            await unit.table(PRIORITY_CHARGING).put(
                PriorityChargingRecord(
                    party_id=where[0],
                    charging_station_id=where[1],
                    transaction_id=payload["transactionId"],
                    is_activated=payload["activate"],
                    is_told_by_station=False,
                    changed_at=self.office.now(),
                )
            )

    async def _apply_set(
        self, unit: UnitOfWork, where: _Station, payload: dict[str, Any], *, outcome: CommandOutcome
    ) -> None:
        state = {
            CommandResult.ACCEPTED: ProfileState.INSTALLED,
            CommandResult.REJECTED: ProfileState.REFUSED,
            CommandResult.TIMED_OUT: ProfileState.UNKNOWN,
        }.get(outcome.result)
        if state is None:  # nothing was sent, or the station has no smart charging
            return
        is_16 = "csChargingProfiles" in payload
        profile = read_profile(payload["csChargingProfiles" if is_16 else "chargingProfile"], "1.6" if is_16 else "2.1")
        row = ChargingProfileRecord(
            party_id=where[0],
            charging_station_id=where[1],
            source=CSO,
            profile_id=profile.profile_id,
            ocpp_evse_id=payload["connectorId" if is_16 else "evseId"],
            purpose=profile.purpose,
            stack_level=profile.stack_level,
            transaction_id=profile.transaction_id,
            profile=profile,
            state=state,
            answer=outcome.station_status,
            changed_at=self.office.now(),
        )
        table = unit.table(CHARGING_PROFILE)
        known = await table.get_for_update(*where, CSO, profile.profile_id)
        if state is ProfileState.REFUSED and known is not None and known.state in AT_THE_STATION:
            return  # the one before it stays in force
        if state is ProfileState.INSTALLED:
            # 1.6, 3.13.2 and 2.0.1, K01.FR.05: one of the same place, purpose and level is replaced.
            for other in await profiles_of(unit, *where):
                if other.source == CSO and other.profile_id != row.profile_id and _place_of(other) == _place_of(row):
                    await table.remove(*where, other.source, other.profile_id)
        await table.put(row)


async def refuse_steered(
    unit: UnitOfWork, party_id: PartyId, station_id: str, action: str, payload: dict[str, Any]
) -> None:
    """Refuse what would take an EVSE out of its load group's hands. Raises `NotAllowedNow`."""
    profile = _part(payload, "chargingProfile", "csChargingProfiles")
    is_of_evse = str(profile.get("chargingProfilePurpose")).startswith(("Tx", Purpose.PRIORITY))
    is_set = (action == "SetChargingProfile" and is_of_evse) or (action in STARTS and bool(profile))
    if action != "ClearChargingProfile" and not is_set:
        return
    place = payload | _part(payload, "chargingProfileCriteria")
    evse_id = place.get("evseId", place.get("connectorId"))
    where: dict[str, Any] = {"party_id": party_id, "charging_station_id": station_id}
    if isinstance(evse_id, int) and evse_id:
        where["ocpp_evse_id"] = evse_id
    if steered := await unit.table(LOAD_EVSE).select(where, limit=1):
        raise NotAllowedNow(
            f"load group {steered[0].load_group_id} steers EVSE {steered[0].ocpp_evse_id}: change it there"
        )


def _place_of(row: ChargingProfileRecord) -> tuple[Any, ...]:
    return (row.ocpp_evse_id, row.purpose, row.stack_level, row.transaction_id)


def _named_in(payload: dict[str, Any]) -> dict[str, Any]:
    """Return what a payload of `NOTED`, which its schema has let pass, names."""
    profile = _part(payload, "chargingProfile", "csChargingProfiles")
    place = payload | _part(payload, "chargingProfileCriteria")
    ids = (payload.get("chargingProfileId"), payload.get("id"), profile.get("id"), profile.get("chargingProfileId"))
    transaction_id = payload.get("transactionId", profile.get("transactionId"))
    return {
        "ocpp_evse_id": as_whole(place.get("evseId", place.get("connectorId"))),
        "profile_id": as_whole(next((each for each in ids if each is not None), None)),
        "transaction_id": None if transaction_id is None else str(transaction_id),
    }


def _part(payload: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the first object of these names. What an operator sends may be anything until a gateway has checked it."""
    return next((payload[name] for name in names if isinstance(payload.get(name), dict)), {})


def _cleared_by(payload: dict[str, Any]) -> ProfilesToClear:
    criteria = payload.get("chargingProfileCriteria", payload)
    purpose = criteria.get("chargingProfilePurpose")
    if purpose is not None:
        purpose = Purpose.STATION_MAX if purpose == "ChargePointMaxProfile" else Purpose(purpose)
    return ProfilesToClear(
        profile_id=payload.get("chargingProfileId", payload.get("id")),
        evse_id=criteria.get("evseId", criteria.get("connectorId")),
        purpose=purpose,
        stack_level=criteria.get("stackLevel"),
    )


def _is_meant(row: ChargingProfileRecord, wanted: ProfilesToClear) -> bool:
    pairs = (
        (wanted.profile_id, row.profile_id),
        (wanted.evse_id, row.ocpp_evse_id),
        (wanted.purpose, row.purpose),
        (wanted.stack_level, row.stack_level),
    )
    return all(want is None or want == have for want, have in pairs)


def _with_values(profile: ChargingProfile, update: dict[str, Any], at: datetime) -> ChargingProfile:
    """Return a dynamic profile with new values; what an update does not name stays."""
    values: dict[str, Any] = {**read_schedule_update(update)}
    period = replace(profile.schedule.periods[0], **values)
    schedule = replace(profile.schedule, periods=(period,))
    return replace(profile, schedules=(schedule,), dynamic_update_at=at)
