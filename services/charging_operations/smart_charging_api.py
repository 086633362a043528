"""What operators see and set of how stations charge: profiles, limits, what EVs want, and load groups."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from emobility.domain.charging_profile import Purpose, RateUnit
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import SubjectErased
from emobility.runtime.access import TokenRole
from services.charging_operations.charging_commands import ProfilesToClear
from services.charging_operations.charging_profiles import (
    ChargingProfileDesk,
    CompositeComparison,
    ProfileRefresh,
    ProfileToInstall,
)
from services.charging_operations.load_groups import LoadGroupDesk, LoadGroupTerms, LoadGroupView
from services.charging_operations.load_records import LOAD_GROUP, LoadGroupRecord
from services.charging_operations.office import NotFound
from services.charging_operations.operator_api import COMMAND_STATUS, COMMAND_STATUS_WORDS, OperatorAPI, answered
from services.charging_operations.routes import (
    FROM_TO,
    NUMBER_DIGITS_MAX,
    PAGE,
    Query,
    Route,
    RouteTable,
    answer,
    asked,
    read_body,
)
from services.charging_operations.shown import CommandAnswer
from services.charging_operations.smart_charging_records import (
    CHARGING_COMMAND,
    CHARGING_NEEDS,
    CHARGING_PROFILE,
    EV_SCHEDULE,
    EXTERNAL_LIMIT,
    PRIORITY_CHARGING,
    ChargingCommandRecord,
    ChargingNeedsRecord,
    ChargingProfileRecord,
    EVScheduleRecord,
    ExternalLimitRecord,
    PriorityChargingRecord,
)

SCHEDULE_S: Final = 86_400
"""A composite schedule covers a day unless asked otherwise."""
EVSE: Final = Query("ocpp_evse_id", int, "only of the EVSE that the station calls by this number; 0 is the station")
PROFILES: Final = (*PAGE, EVSE, Query("purpose", Purpose, "only profiles for this purpose"))
CLEARING: Final = (
    Query("profile_id", int, "the profile with this id"),
    Query("evse_id", int, "profiles of this EVSE; 0 is the station"),
    Query("purpose", Purpose, "profiles for this purpose"),
    Query("stack_level", int, "profiles of this level"),
)
COMPOSITE: Final = (
    Query("evse_id", int, "whose schedule; 0, and when not given, the station's"),
    Query("duration_s", int, f"length of the window in s, {SCHEDULE_S} when not given, 31 days at most"),
    Query("unit", RateUnit, "A, and when not given, or W"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityUse:
    """PUT priority."""

    is_activated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingNeedsShown:
    """What an EV needs; `needs` is all of it as it came, None where whom it names was erased."""

    ocpp_evse_id: int
    energy_transfer: str
    energy_wh: int | None
    min_current_a: Decimal | None
    max_current_a: Decimal | None
    departure_at: datetime | None
    has_v2x: bool
    told_at: datetime
    needs: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGroupDropped:
    """A group that is no more; `not_told` are stations that still have its last limits, because they did not answer."""

    load_group_id: str
    not_told: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmartChargingAPI:
    """Routes about charging limits."""

    operator: OperatorAPI
    charging: ChargingProfileDesk
    groups: LoadGroupDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        station, refused, said = "/stations/{station_id}", COMMAND_STATUS_WORDS, CommandAnswer
        profiles, group = f"{station}/charging-profiles", "/load-groups/{load_group_id}"
        dynamic, priority = f"{profiles}/{{profile_id}}/values", f"{station}/transactions/{{transaction_id}}/priority"
        commands, limits = f"{station}/charging-commands", f"{station}/charging-limits"
        needs, schedules = f"{station}/charging-needs", f"{station}/ev-schedules"
        composite, in_priority = f"{station}/composite-schedule", f"{station}/priority-charging"
        routes.add(
            "Smart charging",
            [
                Route("POST", profiles, self.install_profile, ProfileToInstall, said, also=refused),
                Route("GET", profiles, self.list_profiles, None, list[ChargingProfileRecord], PROFILES),
                Route("DELETE", profiles, self.clear_profiles, None, said, CLEARING, also=refused),
                Route("POST", f"{profiles}/refresh", self.refresh_profiles, None, ProfileRefresh, also=refused),
                Route("PUT", dynamic, self.update_dynamic, dict[str, Any], said, also=refused),
                Route("PUT", priority, self.use_priority, PriorityUse, said, also=refused),
                Route("GET", in_priority, self.list_priority, None, list[PriorityChargingRecord], PAGE),
                Route("GET", composite, self.compare_schedules, None, CompositeComparison, COMPOSITE),
                Route("GET", limits, self.list_limits, None, list[ExternalLimitRecord], (*PAGE, EVSE)),
                Route("GET", needs, self.list_needs, None, list[ChargingNeedsShown], (*PAGE, EVSE)),
                Route("GET", schedules, self.list_schedules, None, list[EVScheduleRecord], (*PAGE, EVSE)),
                Route("GET", commands, self.list_commands, None, list[ChargingCommandRecord], (*PAGE, *FROM_TO)),
                Route("GET", "/load-groups", self.list_groups, None, list[LoadGroupRecord], PAGE),
                Route("PUT", group, self.put_group, LoadGroupTerms, LoadGroupRecord, needs=TokenRole.OWNER),
                Route("GET", group, self.show_group, None, LoadGroupView),
                Route("DELETE", group, self.drop_group, None, LoadGroupDropped, needs=TokenRole.OWNER),
            ],
            writes=TokenRole.OPERATOR,
        )

    # Profiles

    async def install_profile(self, request: Request, party_id: PartyId) -> Response:
        """Install a charging profile, told to the station in the words of its own version."""
        wanted = await read_body(request, ProfileToInstall)
        outcome = await self.charging.install(*await self._station(request, party_id), wanted, **self._told(request))
        return answered(outcome)

    async def list_profiles(self, request: Request, party_id: PartyId) -> Any:
        """List the profiles of a station: set from here, or reported by it."""
        return await self.operator.rows_of_station(request, party_id, CHARGING_PROFILE, "ocpp_evse_id", "purpose")

    async def clear_profiles(self, request: Request, party_id: PartyId) -> Response:
        """Clear the profiles that have every value of the query; with none, all."""
        wanted = ProfilesToClear(
            profile_id=asked(request, "profile_id", None),
            evse_id=asked(request, "evse_id", None),
            purpose=asked(request, "purpose", None),
            stack_level=asked(request, "stack_level", None),
        )
        outcome = await self.charging.clear(*await self._station(request, party_id), wanted, **self._told(request))
        return answered(outcome)

    async def refresh_profiles(self, request: Request, party_id: PartyId) -> Response:
        """Ask a station of OCPP 2 for all its profiles; they come within a minute, and what it has not is forgotten."""
        refresh = await self.charging.refresh(*await self._station(request, party_id), **self._told(request))
        return answer(refresh, COMMAND_STATUS.get(refresh.result, 200))

    async def update_dynamic(self, request: Request, party_id: PartyId) -> Response:
        """Give a dynamic profile of OCPP 2.1 new values: a ChargingScheduleUpdateType in its words."""
        values = await read_body(request, dict[str, Any])
        text = request.path_params["profile_id"]
        if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
            raise NotFound(f"no charging profile {text[:40]}")
        profile_id = int(text)
        outcome = await self.charging.update_dynamic(
            *await self._station(request, party_id), profile_id, values, **self._told(request)
        )
        return answered(outcome)

    async def use_priority(self, request: Request, party_id: PartyId) -> Response:
        """Have a transaction charge by its PriorityCharging profile, or no more (OCPP 2.1)."""
        wanted = await read_body(request, PriorityUse)
        where = await self._station(request, party_id)
        outcome = await self.charging.use_priority(
            *where, request.path_params["transaction_id"], is_on=wanted.is_activated, **self._told(request)
        )
        return answered(outcome)

    async def list_priority(self, request: Request, party_id: PartyId) -> Any:
        """List running transactions that were told to charge by priority, or told so, and whether they do."""
        return await self.operator.rows_of_station(request, party_id, PRIORITY_CHARGING)

    async def compare_schedules(self, request: Request, party_id: PartyId) -> Any:
        """Show the composite schedule as computed here beside the station's own, and where their limits differ."""
        return await self.charging.compare(
            *await self._station(request, party_id),
            asked(request, "evse_id", 0),
            duration_s=asked(request, "duration_s", SCHEDULE_S),
            unit_asked=asked(request, "unit", RateUnit.A),
            **self._told(request),
        )

    # What stations tell

    async def list_limits(self, request: Request, party_id: PartyId) -> Any:
        """List limits from outside, in force (`cleared_at` null) and past."""
        return await self.operator.rows_of_station(
            request, party_id, EXTERNAL_LIMIT, "ocpp_evse_id", order_by=("-notified_at",)
        )

    async def list_needs(self, request: Request, party_id: PartyId) -> Any:
        """List what the EV at each EVSE told last that it needs, V2X parameters included."""
        rows = await self.operator.rows_of_station(request, party_id, CHARGING_NEEDS, "ocpp_evse_id")
        return [await self._shown(row) for row in rows]

    async def list_schedules(self, request: Request, party_id: PartyId) -> Any:
        """List how the EV at each EVSE told last that it means to charge."""
        return await self.operator.rows_of_station(request, party_id, EV_SCHEDULE, "ocpp_evse_id")

    async def list_commands(self, request: Request, party_id: PartyId) -> Any:
        """List what a station was told about charging and what it said, the newest first."""
        return await self.operator.rows_of_station(
            request, party_id, CHARGING_COMMAND, at="answered_at", order_by=("-answered_at",)
        )

    # Load groups

    async def list_groups(self, request: Request, party_id: PartyId) -> Any:
        """List load groups."""
        return await self.operator.rows(request, party_id, LOAD_GROUP)

    async def put_group(self, request: Request, party_id: PartyId) -> Any:
        """Enter or change a load group: from now on its EVSEs share its limit."""
        terms = await read_body(request, LoadGroupTerms)
        return await self.groups.put(party_id, request.path_params["load_group_id"], terms)

    async def show_group(self, request: Request, party_id: PartyId) -> Any:
        """Show a load group, what its limits have left, and what each EVSE has and is to have."""
        return await self.groups.show(party_id, request.path_params["load_group_id"])

    async def drop_group(self, request: Request, party_id: PartyId) -> Any:
        """Drop a load group and clear its limits at the stations."""
        group_id = request.path_params["load_group_id"]
        not_told = await self.groups.drop(party_id, group_id)
        return LoadGroupDropped(load_group_id=group_id, not_told=not_told)

    async def _station(self, request: Request, party_id: PartyId) -> tuple[PartyId, str]:
        return party_id, await self.operator.station_of(request, party_id)

    def _told(self, request: Request) -> dict[str, Any]:
        return {"correlation_id": self.operator.correlation_of(request)}

    async def _shown(self, row: ChargingNeedsRecord) -> ChargingNeedsShown:
        try:
            needs = json.loads(await self.operator.office.ports.vault.open(row.needs))
        except SubjectErased:
            needs = None
        return ChargingNeedsShown(
            ocpp_evse_id=row.ocpp_evse_id,
            energy_transfer=row.energy_transfer,
            energy_wh=row.energy_wh,
            min_current_a=row.min_current_a,
            max_current_a=row.max_current_a,
            departure_at=row.departure_at,
            has_v2x=row.has_v2x,
            told_at=row.told_at,
            needs=needs,
        )
