"""Load groups as operators enter and see them. `load_management` steers by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from emobility.domain.charging_profile import STATION as WHOLE_STATION
from emobility.domain.charging_profile import Purpose
from emobility.domain.charging_station import EVSE, PowerType
from emobility.domain.identifiers import PartyId
from emobility.domain.load_sharing import GroupsBreakRule, descendants, refuse_unsafe
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.load_management import LoadDesk, is_own
from services.charging_operations.load_planning import evse_of, group_of
from services.charging_operations.load_records import (
    EVSE_USE,
    LOAD_EVSE,
    LOAD_GROUP,
    LOAD_LIMIT,
    EVSEUseRecord,
    LoadEVSERecord,
    LoadGroupRecord,
)
from services.charging_operations.office import NotAllowedNow, NotFound, NotUnderstood, Office, require_hosted
from services.charging_operations.records import STATION, TRANSACTION, TransactionState
from services.charging_operations.smart_charging_records import CHARGING_PROFILE, ProfileState

OF_TRANSACTIONS: Final = (Purpose.TX_DEFAULT, Purpose.TX, Purpose.PRIORITY)
"""Profiles of these purposes compete with a load group's; others only lower what it allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseLimits:
    """Limits of L1, L2 and L3, in A, with at most one decimal."""

    l1: Decimal
    l2: Decimal
    l3: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeredEVSE:
    """An EVSE in a load group; see `ManagedEVSE`.

    Attributes:
        phases: The phases of the site that its L1, L2, L3 are wired to.
        max_a: What it can do, per phase; None: as its connectors say.
        min_a: The least that an EV charges with.
        fallback_a: What whoever plugs in may draw before he has a limit, also while the station is offline.
        weight: An EVSE of weight 2 gets twice as much as one of 1, and charges twice as long in turns.
        is_in_watts: The station takes limits in W alone: DC, or AC of one phase.
    """

    charging_station_id: str
    evse_id: int
    phases: tuple[int, ...] = (1, 2, 3)
    max_a: Decimal | None = None
    min_a: Decimal = Decimal(6)
    fallback_a: Decimal = Decimal(0)
    weight: int = 1
    is_in_watts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGroupTerms:
    """PUT load-groups/{load_group_id}: limits of all EVSEs in it and in the groups below it."""

    evses: tuple[SteeredEVSE, ...] = ()
    parent_id: str | None = None
    limit_a: PhaseLimits | None = None
    limit_w: int | None = None
    voltage_v: int = 230


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """What is counted against one limit of a group, in its unit: A of a phase, or W."""

    name: str
    limit: Decimal
    committed: Decimal

    @property
    def is_exceeded(self) -> bool:
        """Whether more may be drawn than the limit allows: a station that can't be reached, a limit just lowered."""
        return self.committed > self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class EVSEShare:
    """What an EVSE has. `committed_a`: the most it may draw as far as we know; `target_a`: what it is to have."""

    charging_station_id: str
    evse_id: int
    load_group_id: str
    is_online: bool
    transaction_id: str | None
    charging_state: str | None
    power_w: int | None
    limit_a: Decimal | None
    committed_a: Decimal
    target_a: Decimal | None
    is_paused: bool
    waits_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGroupView:
    """A group with its present allocation."""

    group: LoadGroupRecord
    reserves: tuple[Reserve, ...]
    evses: tuple[EVSEShare, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGroupDesk:
    """Enters, shows and drops groups."""

    office: Office
    load: LoadDesk

    async def put(self, party_id: PartyId, group_id: str, terms: LoadGroupTerms) -> LoadGroupRecord:
        """Enter or change a group; EVSEs that leave it are steered no more.

        Raises:
            NotFound: an EVSE is not known.
            NotUnderstood: a current is no whole tenth of an ampere, or there is no limit.
            GroupsBreakRule: the groups are no trees, an EVSE is in another, or the fallbacks exceed a limit.
            NotAllowedNow: a new EVSE has a profile of somebody else's, which could stand above the group's limit.
        """
        if terms.limit_a is None and terms.limit_w is None and terms.parent_id is None:
            raise NotUnderstood("a group has a limit, or a parent that has one")
        if terms.voltage_v < 1 or (terms.limit_w or 0) < 0:
            raise NotUnderstood("a voltage is positive, a limit not negative")
        limit = terms.limit_a
        row = LoadGroupRecord(
            party_id=party_id,
            load_group_id=group_id,
            parent_id=terms.parent_id,
            limit_l1_da=None if limit is None else _tenths(limit.l1),
            limit_l2_da=None if limit is None else _tenths(limit.l2),
            limit_l3_da=None if limit is None else _tenths(limit.l3),
            limit_w=terms.limit_w,
            voltage_v=terms.voltage_v,
            changed_at=self.office.now(),
        )
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
            evses = [await self._evse(unit, party_id, group_id, each) for each in terms.evses]
            known = await unit.table(LOAD_EVSE).select({"party_id": party_id})
            others = [each for each in known if each.load_group_id != group_id]
            groups = await unit.table(LOAD_GROUP).select({"party_id": party_id})
            refuse_unsafe(
                [group_of(each) for each in (*(g for g in groups if g.load_group_id != group_id), row)],
                [evse_of(each) for each in (*others, *evses)],
            )
            await unit.table(LOAD_GROUP).put(row)
            kept = {(each.charging_station_id, each.ocpp_evse_id) for each in evses}
            left = [
                each
                for each in known
                if each.load_group_id == group_id and (each.charging_station_id, each.ocpp_evse_id) not in kept
            ]
            await _forget(unit, left)
            await unit.table(LOAD_EVSE).put_all(evses)
            steered = {(each.charging_station_id, each.ocpp_evse_id) for each in known}
            for each in evses:
                if (each.charging_station_id, each.ocpp_evse_id) not in steered:
                    await self._begin(unit, each)
            await unit.commit()
        await self.load.release(left)
        self.load.hear()
        return row

    async def drop(self, party_id: PartyId, group_id: str) -> list[str]:
        """Drop a group and take its limits away; return stations that could not be told.

        Raises `NotFound`, and `GroupsBreakRule` for one with groups below it.
        """
        async with self.office.ports.units.begin() as unit:
            if await unit.table(LOAD_GROUP).get(party_id, group_id) is None:
                raise NotFound(f"no load group {group_id}")
            if await unit.table(LOAD_GROUP).count({"party_id": party_id, "parent_id": group_id}):
                raise GroupsBreakRule(f"other groups are below {group_id}")
            evses = await unit.table(LOAD_EVSE).select({"party_id": party_id, "load_group_id": group_id})
            await _forget(unit, evses)
            await unit.table(LOAD_GROUP).remove(party_id, group_id)
            await unit.commit()
        return await self.load.release(evses)

    async def show(self, party_id: PartyId, group_id: str) -> LoadGroupView:
        """Return a group with what its EVSEs have. Raises `NotFound`, and what `LoadDesk.look` does."""
        state, decided = await self.load.look(party_id)
        group = next((each for each in state.groups if each.load_group_id == group_id), None)
        if group is None:
            raise NotFound(f"no load group {group_id}")
        below = descendants([group_of(each) for each in state.groups])[group_id]
        shares = []
        for each in state.evses:
            if each.load_group_id not in below:
                continue
            key = (each.charging_station_id, each.ocpp_evse_id)
            use, limit = state.uses.get(key), state.limits.get(key)
            running = use if use is not None and not use.has_ended else None
            target = decided.targets.get(key)
            presence = state.presences.get(each.charging_station_id)
            is_waiting = running is not None and limit is not None and not limit.is_active
            shares.append(
                EVSEShare(
                    charging_station_id=each.charging_station_id,
                    evse_id=each.ocpp_evse_id,
                    load_group_id=each.load_group_id,
                    is_online=presence is not None and presence.is_online,
                    transaction_id=running.transaction_id if running else None,
                    charging_state=running.charging_state if running else None,
                    power_w=running.power_w if running else None,
                    limit_a=_ampere(limit.limit_da) if running and limit else None,
                    committed_a=Decimal(decided.committed[key]) / 10,
                    target_a=_ampere(target),
                    is_paused=target == 0,
                    waits_since=limit.since if is_waiting and limit else None,
                )
            )
        reserves = [
            Reserve(
                name=each.name, limit=Decimal(each.bound) / 10, committed=Decimal(each.load(decided.committed)) / 10
            )
            for each in decided.constraints
            if each.name.rsplit(" ", 1)[0] == group_id
        ]
        return LoadGroupView(group=group, reserves=tuple(reserves), evses=tuple(shares))

    async def _begin(self, unit: UnitOfWork, evse: LoadEVSERecord) -> None:
        """Take an EVSE in: nothing is known of what its station was told, but who charges there."""
        where: dict[str, Any] = {"party_id": evse.party_id, "charging_station_id": evse.charging_station_id}
        for known in await unit.table(CHARGING_PROFILE).select(
            where | {"ocpp_evse_id": (WHOLE_STATION, evse.ocpp_evse_id), "purpose": OF_TRANSACTIONS}
        ):
            if known.state is not ProfileState.REFUSED and not is_own(known.profile_id, known.ocpp_evse_id):
                raise NotAllowedNow(
                    f"station {evse.charging_station_id} has {known.purpose} profile {known.profile_id} "
                    f"at EVSE {known.ocpp_evse_id}: clear it first"
                )
        await unit.table(LOAD_LIMIT).remove(*where.values(), evse.ocpp_evse_id)
        running = await unit.table(TRANSACTION).select(
            where | {"ocpp_evse_id": evse.ocpp_evse_id, "has_ended": False, "state": TransactionState.OPEN},
            order_by=("-first_at",),
            limit=1,
        )
        for row in running:
            use = EVSEUseRecord(
                **where,
                ocpp_evse_id=evse.ocpp_evse_id,
                transaction_id=row.transaction_id,
                started_at=row.first_at,
                has_ended=False,
                charging_state=None,
                power_w=None,
                metered_at=None,
            )
            await unit.table(EVSE_USE).put(use)

    async def _evse(self, unit: UnitOfWork, party_id: PartyId, group_id: str, asked: SteeredEVSE) -> LoadEVSERecord:
        station = await unit.table(STATION).get(party_id, asked.charging_station_id)
        evses = {each.ocpp_evse_id: each for each in station.station.evses} if station else {}
        if asked.evse_id not in evses:
            raise NotFound(f"no EVSE {asked.evse_id} of station {asked.charging_station_id}")
        is_ac = any(each.power_type is not PowerType.DC for each in evses[asked.evse_id].connectors)
        if asked.is_in_watts and is_ac and len(asked.phases) > 1:
            raise NotUnderstood(
                f"EVSE {asked.evse_id} of station {asked.charging_station_id} is AC: a limit in W would leave open "
                "on how many phases it is drawn"
            )
        max_da = _max_da(evses[asked.evse_id]) if asked.max_a is None else _tenths(asked.max_a)
        return LoadEVSERecord(
            party_id=party_id,
            charging_station_id=asked.charging_station_id,
            ocpp_evse_id=asked.evse_id,
            load_group_id=group_id,
            phases=asked.phases,
            min_da=_tenths(asked.min_a),
            max_da=max_da,
            fallback_da=_tenths(asked.fallback_a),
            weight=asked.weight,
            is_in_watts=asked.is_in_watts,
        )


async def _forget(unit: UnitOfWork, evses: Sequence[LoadEVSERecord]) -> None:
    for each in evses:
        key: tuple[Any, ...] = (each.party_id, each.charging_station_id, each.ocpp_evse_id)
        await unit.table(LOAD_EVSE).remove(*key)
        await unit.table(LOAD_LIMIT).remove(*key)
        await unit.table(EVSE_USE).remove(*key)


def _max_da(evse: EVSE) -> int:
    return 10 * max(each.current_a_max for each in evse.connectors)


def _tenths(ampere: Decimal) -> int:
    tenths = ampere * 10
    if not ampere.is_finite() or tenths != tenths.to_integral_value() or not 0 <= tenths < 10**7:
        raise NotUnderstood(f"{ampere} A is no whole tenth of an ampere")
    return int(tenths)


def _ampere(tenths: int | None) -> Decimal | None:
    return None if tenths is None else Decimal(tenths) / 10
