"""What is known of how a station charges: its profiles, external limits, transactions, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from emobility.domain.charging_profile import (
    STATION,
    ChargingProfile,
    ChargingSchedule,
    InstalledProfile,
    Kind,
    Purpose,
    RateUnit,
)
from emobility.domain.charging_station import EVSE, PowerType
from emobility.domain.composite_schedule import CompositeSchedule, EVSEUse, Supply, composite_schedule
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.office import NotFound
from services.charging_operations.records import LOCATION, TRANSACTION, TransactionState
from services.charging_operations.records import STATION as STATION_TABLE
from services.charging_operations.smart_charging_records import (
    CHARGING_PROFILE,
    EXTERNAL_LIMIT,
    PRIORITY_CHARGING,
    ChargingProfileRecord,
    ExternalLimitRecord,
    ProfileReportRecord,
    ProfileState,
)

LINE_VOLTAGE_V: Final = 230
PHASE_VOLTAGE_V_MAX: Final = 260
"""A connector of more volts states those between phases, or of DC; a phase then has `LINE_VOLTAGE_V`."""
AT_THE_STATION: Final = (ProfileState.INSTALLED, ProfileState.REPORTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOfStation:
    """All that a composite schedule of a station follows from."""

    evses: tuple[EVSE, ...]
    profiles: tuple[ChargingProfileRecord, ...]
    limits: tuple[ExternalLimitRecord, ...]
    transactions: Mapping[int, tuple[str, datetime]]
    priority: frozenset[str]
    time_zone: str

    def composite(self, evse_id: int, *, start_at: datetime, duration_s: int, unit: RateUnit) -> CompositeSchedule:
        """Compute it; where nobody charges, as if somebody began then. Raises `NotFound`, `WindowTooLong`."""
        numbers = [each.ocpp_evse_id for each in self.evses]
        if evse_id not in (STATION, *numbers):
            raise NotFound(f"no EVSE {evse_id}")
        uses = []
        for number in numbers:
            transaction_id, started_at = self.transactions.get(number, (None, start_at))
            is_priority = transaction_id in self.priority
            use = EVSEUse(evse_id=number, started_at=started_at, transaction_id=transaction_id, is_priority=is_priority)
            uses.append(use)
        at_station = [row.installed for row in self.profiles if row.state in AT_THE_STATION]
        own = [each.ocpp_evse_id == evse_id for each in self.evses]
        evse = self.evses[own.index(True)] if any(own) else self.evses[0] if self.evses else None
        return composite_schedule(
            [*at_station, *external_profiles(self.profiles, self.limits)],
            evse_id=evse_id,
            start_at=start_at,
            duration_s=duration_s,
            unit=unit,
            supply=supply_of(evse),
            uses=uses,
            zone=_zone(self.time_zone),
        )


def external_profiles(
    profiles: Sequence[ChargingProfileRecord], limits: Sequence[ExternalLimitRecord]
) -> list[InstalledProfile]:
    """Return a station's external limits of which it told how much, as profiles.

    Where it reports the same limit among its profiles too, that one counts.
    """
    reported = {(row.ocpp_evse_id, row.source) for row in profiles if row.purpose is Purpose.EXTERNAL_CONSTRAINTS}
    return [
        InstalledProfile(evse_id=row.ocpp_evse_id, profile=_as_profile(schedule, number, row), source=row.source)
        for row in limits
        if (row.ocpp_evse_id, row.source) not in reported
        for number, schedule in enumerate(row.schedules)
    ]


async def known_of_station(unit: UnitOfWork, party_id: PartyId, station_id: str) -> KnownOfStation:
    """Read it. Raises `NotFound`."""
    where: dict[str, Any] = {"party_id": party_id, "charging_station_id": station_id}
    station = await unit.table(STATION_TABLE).get(party_id, station_id)
    if station is None:
        raise NotFound(f"no station {station_id}")
    location = await unit.table(LOCATION).get(party_id, station.location_id)
    running = await unit.table(TRANSACTION).select(
        where | {"has_ended": False, "state": TransactionState.OPEN}, order_by=("first_at",)
    )
    priority = await unit.table(PRIORITY_CHARGING).select(where | {"is_activated": True})
    return KnownOfStation(
        evses=station.station.evses,
        profiles=tuple(await profiles_of(unit, party_id, station_id)),
        limits=tuple(await unit.table(EXTERNAL_LIMIT).select(where | {"cleared_at": None})),
        transactions={
            row.ocpp_evse_id: (row.transaction_id, row.first_at) for row in running if row.ocpp_evse_id is not None
        },
        priority=frozenset(row.transaction_id for row in priority),
        time_zone=location.location.time_zone if location else "UTC",
    )


async def profiles_of(unit: UnitOfWork, party_id: PartyId, station_id: str) -> list[ChargingProfileRecord]:
    """Return all profiles known of a station."""
    return await unit.table(CHARGING_PROFILE).select({"party_id": party_id, "charging_station_id": station_id})


def supply_of(evse: EVSE | None) -> Supply:
    """Return voltage and phases of an EVSE by its connectors."""
    connectors = evse.connectors if evse else ()
    volts = [each.voltage_v_max for each in connectors if 0 < each.voltage_v_max <= PHASE_VOLTAGE_V_MAX]
    is_single = bool(connectors) and all(each.power_type is PowerType.AC_1_PHASE for each in connectors)
    return Supply(voltage_v=min(volts, default=LINE_VOLTAGE_V), phases=1 if is_single else 3)


def _as_profile(schedule: ChargingSchedule, number: int, row: ExternalLimitRecord) -> ChargingProfile:
    # 2.0.1, K12: a schedule without a start counts from when it was notified.
    schedule = replace(schedule, start_at=schedule.start_at or row.notified_at)
    return ChargingProfile(
        profile_id=-1 - number,
        stack_level=0,
        purpose=Purpose.EXTERNAL_CONSTRAINTS,
        kind=Kind.ABSOLUTE,
        schedules=(schedule,),
    )


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


async def forget_unreported(unit: UnitOfWork, report: ProfileReportRecord) -> None:
    """Remove what a complete report of everything has not named and what was there when it was asked for."""
    where = {"party_id": report.party_id, "charging_station_id": report.charging_station_id}
    for row in await unit.table(CHARGING_PROFILE).select(where, before=("changed_at", report.asked_at)):
        if row.request_id != report.request_id and row.state is not ProfileState.REFUSED:
            await unit.table(CHARGING_PROFILE).remove(*where.values(), row.source, row.profile_id)


async def end_transaction(unit: UnitOfWork, party_id: PartyId, station_id: str, transaction_id: str) -> None:
    """Forget what ends with a transaction: its TxProfiles (K01.FR.37 and 1.6, 3.13.1) and its priority."""
    where = {"party_id": party_id, "charging_station_id": station_id, "transaction_id": transaction_id}
    for row in await unit.table(CHARGING_PROFILE).select(where):
        await unit.table(CHARGING_PROFILE).remove(party_id, station_id, row.source, row.profile_id)
    await unit.table(PRIORITY_CHARGING).remove(party_id, station_id, transaction_id)
