"""Charging profiles of stations: installed, cleared and changed by operators, asked for, and put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from emobility.domain.charging_profile import (
    CSO,
    InstalledProfile,
    Kind,
    Purpose,
    RateUnit,
    refuse_broken,
)
from emobility.domain.composite_schedule import (
    CompositeSchedule,
    Difference,
    differences,
)
from emobility.domain.identifiers import PartyId
from emobility.ports.station_questions import ChargingAdvice, ChargingQuestion
from emobility.protocols.station_control.charging_profiles import (
    get_composite_schedule,
    read_composite,
    read_profile,
    read_schedule_update,
    set_charging_profile,
    written_schedule_update,
)
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.charging_commands import NOTED, ChargingCommandBook, ProfilesToClear, refuse_steered
from services.charging_operations.charging_state import forget_unreported, known_of_station
from services.charging_operations.load_records import LOAD_EVSE
from services.charging_operations.office import NotAllowedNow, NotFound, NotUnderstood, Office
from services.charging_operations.smart_charging_records import (
    CHARGING_PROFILE,
    PROFILE_REPORT,
    ExternalLimitRecord,
    ProfileReportRecord,
    ProfileState,
)
from services.charging_operations.station_calls import (
    COMMAND_TIMEOUT_S,
    OCPP_16,
    StationOffline,
    call_station,
    version_of,
)

REPORTS_KEPT_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileToInstall:
    """POST charging-profiles: EVSE 0 is the station; `profile` is a ChargingProfile in the words of OCPP 2.1.

    A station of 1.6 or 2.0.1 is told in its own words.
    """

    evse_id: int
    profile: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeComparison:
    """Our composite schedule beside the station's.

    `station` None: it gave none (`result` says why). `differences` None: there is nothing to compare.
    `limits_unknown`: external limits in force of which the station has not told how much.
    """

    ours: CompositeSchedule
    station: CompositeSchedule | None
    result: CommandResult
    detail: str | None
    differences: tuple[Difference, ...] | None
    limits_unknown: tuple[ExternalLimitRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRefresh:
    """What became of a question for all profiles; they come as ReportChargingProfiles under `request_id`."""

    result: CommandResult
    detail: str | None
    request_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingProfileDesk:
    """Sends and computes."""

    office: Office
    book: ChargingCommandBook

    # What operators ask

    async def install(
        self, party_id: PartyId, station_id: str, asked: ProfileToInstall, *, correlation_id: str
    ) -> CommandOutcome:
        """Install a profile; the station's answer is kept with it.

        Raises:
            ProfileBreaksRule, ProfileNotUnderstood, VersionCannotSay: it is not one that can be installed.
            NotAllowedNow: a load group steers the EVSE.
            StationOffline: it is not connected.
        """
        profile = read_profile(asked.profile, "2.1")
        refuse_broken(profile, evse_id=asked.evse_id)
        version = await version_of(self.office, party_id, station_id)
        payload = set_charging_profile(InstalledProfile(evse_id=asked.evse_id, profile=profile), version)
        return await self.call(party_id, station_id, "SetChargingProfile", payload, correlation_id=correlation_id)

    async def clear(
        self, party_id: PartyId, station_id: str, asked: ProfilesToClear, *, correlation_id: str
    ) -> CommandOutcome:
        """Clear profiles at a station. Raises `StationOffline`."""
        is_16 = await version_of(self.office, party_id, station_id) == OCPP_16
        payload = _clear_16(asked) if is_16 else _clear_2x(asked)
        return await self.call(party_id, station_id, "ClearChargingProfile", payload, correlation_id=correlation_id)

    async def update_dynamic(
        self, party_id: PartyId, station_id: str, profile_id: int, update: dict[str, Any], *, correlation_id: str
    ) -> CommandOutcome:
        """Give a dynamic profile new values (2.1, K28). Raises `NotFound`, `StationOffline`."""
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(CHARGING_PROFILE).get(party_id, station_id, CSO, profile_id)
        if row is None or row.profile.kind is not Kind.DYNAMIC:
            raise NotFound(f"no dynamic profile {profile_id}")
        read_schedule_update(update)
        payload = {"chargingProfileId": profile_id, "scheduleUpdate": update}
        return await self.call(party_id, station_id, "UpdateDynamicSchedule", payload, correlation_id=correlation_id)

    async def use_priority(
        self, party_id: PartyId, station_id: str, transaction_id: str, *, is_on: bool, correlation_id: str
    ) -> CommandOutcome:
        """Have a transaction charge by its priority profile, or no more (2.1, K21). Raises `StationOffline`."""
        payload = {"transactionId": transaction_id, "activate": is_on}
        return await self.call(party_id, station_id, "UsePriorityCharging", payload, correlation_id=correlation_id)

    async def command(
        self, party_id: PartyId, station_id: str, action: str, payload: dict[str, Any], **told: Any
    ) -> CommandOutcome:
        """Have a station called by whatever action an operator names. Raises as `call` does."""
        if action in NOTED:
            return await self.call(party_id, station_id, action, payload, **told)
        async with self.office.ports.units.begin() as unit:
            await refuse_steered(unit, party_id, station_id, action, payload)
        return await call_station(self.office, party_id, station_id, action, payload, **told)

    async def call(
        self,
        party_id: PartyId,
        station_id: str,
        action: str,
        payload: dict[str, Any],
        *,
        correlation_id: str,
        timeout_s: int = COMMAND_TIMEOUT_S,
    ) -> CommandOutcome:
        """Have a station called about charging, and keep its answer. Raises `NotAllowedNow`, and what a call does."""
        async with self.office.ports.units.begin() as unit:
            await refuse_steered(unit, party_id, station_id, action, payload)
        outcome = await call_station(
            self.office,
            party_id,
            station_id,
            action,
            payload,
            correlation_id=correlation_id,
            timeout_s=timeout_s,
        )
        await self.book.note(party_id, station_id, action, payload, outcome, correlation_id=correlation_id)
        return outcome

    async def refresh(self, party_id: PartyId, station_id: str, *, correlation_id: str) -> ProfileRefresh:
        """Ask a station for all its profiles (2.x, K09). Raises `NotAllowedNow` for 1.6, `StationOffline`."""
        if await version_of(self.office, party_id, station_id) == OCPP_16:
            raise NotAllowedNow("OCPP 1.6 has no way to ask for charging profiles")
        report = ProfileReportRecord(
            party_id=party_id,
            charging_station_id=station_id,
            request_id=1 + int.from_bytes(self.office.ports.randomness.token_bytes(4)) % (2**31 - 1),
            is_whole=True,
            asked_at=self.office.now(),
        )
        where = {"party_id": party_id, "charging_station_id": station_id}
        async with self.office.ports.units.begin() as unit:
            table = unit.table(PROFILE_REPORT)
            for old in (await table.select(where, order_by=("-asked_at",)))[REPORTS_KEPT_MAX - 1 :]:
                await table.remove(party_id, station_id, old.request_id)
            await table.insert(report)
            await unit.commit()
        payload = {"requestId": report.request_id, "chargingProfile": {}}
        outcome = await call_station(
            self.office, party_id, station_id, "GetChargingProfiles", payload, correlation_id=correlation_id
        )
        async with self.office.ports.units.begin() as unit:
            known = await unit.table(PROFILE_REPORT).get_for_update(party_id, station_id, report.request_id)
            if known is not None:
                known = replace(known, answer=outcome.station_status or outcome.result)
                if outcome.station_status == "NoProfiles":
                    known = replace(known, completed_at=self.office.now())
                    await forget_unreported(unit, known)
                await unit.table(PROFILE_REPORT).put(known)
                await unit.commit()
        return ProfileRefresh(result=outcome.result, detail=outcome.station_status, request_id=report.request_id)

    async def compare(
        self,
        party_id: PartyId,
        station_id: str,
        evse_id: int,
        *,
        duration_s: int,
        unit_asked: RateUnit,
        correlation_id: str,
    ) -> CompositeComparison:
        """Compute a composite schedule and ask the station for its own. Raises `NotFound`, `WindowTooLong`."""
        theirs, outcome = None, CommandOutcome(result=CommandResult.STATION_OFFLINE)
        try:
            version = await version_of(self.office, party_id, station_id)
            payload = get_composite_schedule(evse_id, duration_s=duration_s, unit=unit_asked, version=version)
            outcome = await call_station(
                self.office, party_id, station_id, "GetCompositeSchedule", payload, correlation_id=correlation_id
            )
            if outcome.answer is not None:
                theirs = read_composite(outcome.answer, version, evse_id=evse_id)
        except StationOffline:
            pass
        start_at = (theirs.start_at if theirs else self.office.now()).replace(microsecond=0)
        async with self.office.ports.units.begin() as unit:
            known = await known_of_station(unit, party_id, station_id)
        ours = known.composite(evse_id, start_at=start_at, duration_s=duration_s, unit=unit_asked)
        is_alike = theirs is not None and theirs.unit is unit_asked
        return CompositeComparison(
            ours=ours,
            station=theirs,
            result=outcome.result,
            detail=outcome.station_status,
            differences=differences(ours, replace(theirs, start_at=start_at)) if theirs and is_alike else None,
            limits_unknown=tuple(each for each in known.limits if not each.schedules),
        )

    # What the gateway asks

    async def advise(self, question: ChargingQuestion) -> ChargingAdvice:
        """Answer a station that told an EV's needs, or asks for the values of a dynamic profile."""
        station = (question.party_id, question.charging_station_id)
        async with self.office.ports.units.begin() as unit:
            if question.evse_with_needs is not None:
                steered = await unit.table(LOAD_EVSE).get(*station, question.evse_with_needs)
                return ChargingAdvice(is_accepted=steered is not None)
            row = await unit.table(CHARGING_PROFILE).get(*station, CSO, question.dynamic_profile_id)
        if row is None or row.profile.kind is not Kind.DYNAMIC or row.state is ProfileState.REFUSED:
            return ChargingAdvice()
        return ChargingAdvice(is_accepted=True, schedule_update=written_schedule_update(row.profile))


def _clear_16(asked: ProfilesToClear) -> dict[str, Any]:
    purpose = None if asked.purpose is None else str(asked.purpose)
    told = {
        "id": asked.profile_id,
        "connectorId": asked.evse_id,
        "chargingProfilePurpose": "ChargePointMaxProfile" if asked.purpose is Purpose.STATION_MAX else purpose,
        "stackLevel": asked.stack_level,
    }
    return {key: value for key, value in told.items() if value is not None}


def _clear_2x(asked: ProfilesToClear) -> dict[str, Any]:
    criteria = {
        "evseId": asked.evse_id,
        "chargingProfilePurpose": None if asked.purpose is None else str(asked.purpose),
        "stackLevel": asked.stack_level,
    }
    criteria = {key: value for key, value in criteria.items() if value is not None}
    if asked.profile_id is not None:
        # K10.FR.02: an id and criteria are not given together.
        if criteria:
            raise NotUnderstood("OCPP 2 clears by id, or by EVSE, purpose and level")
        return {"chargingProfileId": asked.profile_id}
    return {"chargingProfileCriteria": criteria} if criteria else {}
