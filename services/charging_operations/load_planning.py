"""From rows to decisions: what each steered EVSE may draw now, what it should, and what its station is told next.

Nothing here asks or changes anything. `emobility/domain/load_sharing.py` says by which policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.charging_profile import STATION, InstalledProfile, RateUnit
from emobility.domain.composite_schedule import EVSEUse, Supply, composite_schedule
from emobility.domain.load_sharing import (
    NEAR_DA,
    PHASES,
    SETTLING,
    Constraint,
    Demand,
    EVSEKey,
    LoadGroup,
    ManagedEVSE,
    allocate,
    ceiling_da,
    constraints_of,
    current_da,
    steps,
)
from emobility.protocols.station_control.messages import StationPresence
from services.charging_operations.load_records import EVSEUseRecord, LoadEVSERecord, LoadGroupRecord, LoadLimitRecord
from services.charging_operations.smart_charging_records import ChargingNeedsRecord
from services.charging_operations.station_calls import OCPP_16

METERED_MAX: Final = timedelta(minutes=20)
"""A power that was metered longer ago says nothing about now; stations send values each 15 minutes at least."""
REFUSED_WAIT: Final = timedelta(minutes=1)
"""How long a station that refused a limit is left alone; doubled with each refusal, up to `REFUSALS_COUNTED` times."""
REFUSALS_COUNTED: Final = 6
_PHASES_OF_TRANSFER: Final = {"AC_single_phase": 1, "AC_two_phase": 2}
_NOT_CHARGING: Final = frozenset({"SuspendedEV", "Finishing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteState:
    """All rows of a party's load groups, and which of their stations are connected."""

    groups: Sequence[LoadGroupRecord]
    evses: Sequence[LoadEVSERecord]
    uses: Mapping[EVSEKey, EVSEUseRecord]
    limits: Mapping[EVSEKey, LoadLimitRecord]
    needs: Mapping[EVSEKey, ChargingNeedsRecord]
    caps: Mapping[str, Sequence[InstalledProfile]]
    """Station → what limits it beside us: its maximum and external constraints."""
    presences: Mapping[str, StationPresence]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to tell a station. `limit_da` None: clear the limit (1.6), so that the fallback holds again.

    `phases`: on how many the limit was counted; None: on all that the EVSE has.
    """

    key: EVSEKey
    is_fallback: bool
    limit_da: int | None
    transaction_id: str | None = None
    phases: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was decided. `rows`: limits as they are to be kept now, where they differ from before."""

    constraints: Sequence[Constraint]
    committed: Mapping[EVSEKey, int]
    targets: Mapping[EVSEKey, int]
    orders: Sequence[Order]
    rows: Sequence[LoadLimitRecord] = field(default=())


def group_of(row: LoadGroupRecord) -> LoadGroup:
    """Return the group of a row."""
    limit_da = None
    if row.limit_l1_da is not None and row.limit_l2_da is not None and row.limit_l3_da is not None:
        limit_da = (row.limit_l1_da, row.limit_l2_da, row.limit_l3_da)
    return LoadGroup(
        group_id=row.load_group_id,
        parent_id=row.parent_id,
        limit_da=limit_da,
        limit_w=row.limit_w,
        voltage_v=row.voltage_v,
    )


def evse_of(row: LoadEVSERecord) -> ManagedEVSE:
    """Return the leaf of a row."""
    return ManagedEVSE(
        key=(row.charging_station_id, row.ocpp_evse_id),
        group_id=row.load_group_id,
        max_da=row.max_da,
        phases=row.phases,
        min_da=row.min_da,
        fallback_da=row.fallback_da,
        weight=row.weight,
    )


def plan(state: SiteState) -> Plan:
    """Decide."""
    leaves = [_Leaf(row=row, evse=evse_of(row), state=state) for row in state.evses]
    drawn_from = {leaf.evse.key: leaf.phases for leaf in leaves}
    constraints = [
        *constraints_of([group_of(row) for row in state.groups], [leaf.evse for leaf in leaves], drawn_from),
        *_station_constraints(state, drawn_from),
    ]
    committed = {leaf.evse.key: leaf.committed_da for leaf in leaves}
    fixed = {leaf.evse.key: leaf.floor_da if leaf.is_steered else leaf.committed_da for leaf in leaves}
    targets = allocate(constraints, fixed, [leaf.demand() for leaf in leaves if leaf.is_steered], now=state.now)
    orders = _fallback_orders(leaves, constraints, committed)
    minimums = {leaf.evse.key: leaf.evse.min_da for leaf in leaves}
    # Fallbacks that are raised take room, so what is left for limits is counted with them.
    reserved = dict(committed)
    for order in orders:
        reserved[order.key] = max(reserved[order.key], order.limit_da or 0)
    sent = steps(constraints, reserved, targets, minimums)
    for leaf in leaves:
        key = leaf.evse.key
        if leaf.is_steered:
            wanted = sent.increases.get(key, targets[key] if targets[key] <= committed[key] else None)
            if wanted is not None and leaf.has_to_be_told(wanted):
                orders.append(
                    Order(
                        key=key,
                        is_fallback=False,
                        limit_da=wanted,
                        transaction_id=leaf.transaction_id,
                        phases=len(leaf.phases),
                    )
                )
        elif leaf.is_left_over:
            orders.append(Order(key=key, is_fallback=False, limit_da=None))
    rows = [leaf.row_after(targets.get(leaf.evse.key)) for leaf in leaves]
    changed = [row for leaf, row in zip(leaves, rows, strict=True) if row != leaf.limit]
    return Plan(constraints=constraints, committed=committed, targets=targets, orders=orders, rows=changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    """An EVSE with all that is known of it."""

    row: LoadEVSERecord
    evse: ManagedEVSE
    state: SiteState

    @property
    def limit(self) -> LoadLimitRecord:
        """What it may draw, by the row, or as nothing was ever told."""
        known = self.state.limits.get(self.evse.key)
        if known is not None:
            return known
        station, evse_id = self.evse.key
        return LoadLimitRecord(party_id=self.row.party_id, charging_station_id=station, ocpp_evse_id=evse_id)

    @property
    def use(self) -> EVSEUseRecord | None:
        """Who charges."""
        use = self.state.uses.get(self.evse.key)
        return None if use is None or use.has_ended else use

    @property
    def transaction_id(self) -> str | None:
        """Whose limit it is: in 1.6 it is anybody's."""
        return None if self.use is None or self.is_16 else self.use.transaction_id

    @property
    def presence(self) -> StationPresence | None:
        """Its station's connection."""
        return self.state.presences.get(self.evse.key[0])

    @property
    def is_16(self) -> bool:
        """Whether its station speaks OCPP 1.6, where a limit outlives its transaction."""
        return self.presence is not None and self.presence.ocpp_version == OCPP_16

    @property
    def can_be_told(self) -> bool:
        """Whether its station is connected and did not refuse just now."""
        limit = self.limit
        is_online = self.presence is not None and self.presence.is_online
        wait = REFUSED_WAIT * 2 ** min(limit.refusals, REFUSALS_COUNTED)
        return is_online and (limit.refused_at is None or self.state.now >= limit.refused_at + wait)

    @property
    def has_own_limit(self) -> bool:
        """Whether the limit in the row is of who charges there now."""
        limit, use = self.limit, self.use
        if self.is_16 or limit.transaction_id is None:
            return True
        return use is not None and limit.transaction_id == use.transaction_id

    @property
    def floor_da(self) -> int:
        """What anybody may draw who plugs in before we know, or while the station is offline."""
        limit = self.limit
        confirmed = self.evse.max_da if limit.fallback_da is None else limit.fallback_da
        return max(confirmed, limit.fallback_asked_da or 0, self.evse.fallback_da)

    @property
    def allowed_da(self) -> int:
        """The most that may be drawn by what was confirmed, or sent and not answered."""
        limit = self.limit
        own = (limit.limit_da or 0, limit.limit_asked_da or 0) if self.has_own_limit else ()
        confirmed = self.evse.max_da if limit.fallback_da is None else limit.fallback_da
        return max(confirmed, limit.fallback_asked_da or 0, *own)

    @property
    def is_obeyed(self) -> bool:
        """Whether what is drawn is, as far as we know, what may be drawn."""
        return self.drawn_da is None or self.drawn_da <= self.allowed_da + NEAR_DA

    @property
    def committed_da(self) -> int:
        """The most that may be drawn, or what is drawn against the limit."""
        return self.allowed_da if self.is_obeyed or self.drawn_da is None else self.drawn_da

    @property
    def is_steered(self) -> bool:
        """Whether somebody charges there whose limit can be changed, and who keeps to the one he has."""
        return self.use is not None and self.can_be_told and self.is_obeyed

    @property
    def is_left_over(self) -> bool:
        """Whether a limit of 1.6 has outlived its transaction."""
        limit = self.limit
        is_there = limit.limit_da is not None or limit.limit_asked_da is not None
        return self.use is None and self.is_16 and is_there and self.can_be_told

    @property
    def drawn_da(self) -> int | None:
        """What is drawn per phase under the present limit; None: nobody told since it could be followed."""
        use, limit, now = self.use, self.limit, self.state.now
        if use is None or use.power_w is None or use.metered_at is None or now - use.metered_at > METERED_MAX:
            return None
        if self.has_own_limit and limit.changed_at is not None and use.metered_at < limit.changed_at + SETTLING:
            return None
        return current_da(use.power_w, voltage_v=self.voltage_v, phases=len(self.phases))

    @property
    def voltage_v(self) -> int:
        """Of a phase."""
        voltages = {row.load_group_id: row.voltage_v for row in self.state.groups}
        return voltages[self.row.load_group_id]

    @property
    def phases(self) -> tuple[int, ...]:
        """The phases of the site that the EV draws from: fewer than the EVSE's where it told so."""
        needs = self._needs
        count = None if needs is None else _PHASES_OF_TRANSFER.get(needs.energy_transfer)
        if self.evse.fallback_da:  # the next car may be there, on all phases, before we hear that this one left
            count = None
        return self.evse.phases if count is None else self.evse.phases[:count]

    @property
    def _needs(self) -> ChargingNeedsRecord | None:
        """What the EV told, if it is the one that charges."""
        needs, use = self.state.needs.get(self.evse.key), self.use
        # An EV tells its needs once it is plugged in, which may be just before the transaction begins.
        is_his = needs is not None and use is not None and needs.told_at >= use.started_at - timedelta(minutes=5)
        return needs if is_his else None

    @property
    def max_da(self) -> int:
        """The most that EVSE, EV and limits from outside allow."""
        station, evse_id = self.evse.key
        needs = self._needs
        of_ev = [int(needs.max_current_a * 10)] if needs is not None and needs.max_current_a else []
        own = [each for each in self.state.caps.get(station, ()) if each.evse_id == evse_id]
        outside = _limit_da(own, evse_id, len(self.phases), self.voltage_v, self.state.now)
        return min([self.evse.max_da, *of_ev, *([] if outside is None else [outside])])

    def demand(self) -> Demand:
        """Return what it wants."""
        use, row = self.use, self.row_after(None)
        assert use is not None
        return Demand(
            key=self.evse.key,
            phases=self.phases,
            ceiling_da=self.max_da if row.ceiling_da is None else min(row.ceiling_da, self.max_da),
            since=row.since or use.started_at,
            is_active=row.is_active,
            min_da=self.evse.min_da,
            weight=self.evse.weight,
            is_suspended=use.charging_state in _NOT_CHARGING,
            charged=timedelta(seconds=row.charged_s),
        )

    def has_to_be_told(self, wanted_da: int) -> bool:
        """Whether its station does not follow this limit yet, or its EV waits for a profile after it told its needs."""
        limit, needs = self.limit, self._needs
        if needs is not None and (limit.changed_at is None or limit.changed_at < needs.told_at):
            return True
        if not self.has_own_limit or limit.limit_asked_da is not None:
            return True
        if limit.limit_da is None and self.is_16:  # it follows the fallback
            return wanted_da != limit.fallback_da
        return wanted_da != limit.limit_da

    def row_after(self, target_da: int | None) -> LoadLimitRecord:
        """Return the row with this transaction's ceiling and turn; `target_da` None leaves the turn as it is."""
        limit, use, now = self.limit, self.use, self.state.now
        if use is None:
            return replace(limit, is_active=False, since=None, charged_s=0, ceiling_da=None)
        if not self.has_own_limit or limit.since is None:
            kept = limit.limit_da if self.is_16 else None
            asked = limit.limit_asked_da if self.is_16 else None
            limit = replace(limit, transaction_id=self.transaction_id, limit_da=kept, limit_asked_da=asked)
            limit = replace(limit, is_active=False, since=use.started_at, charged_s=0, ceiling_da=None)
        drawn = self.drawn_da
        if drawn is not None and limit.limit_da is not None and self.has_own_limit:
            ceiling = ceiling_da(
                before_da=limit.ceiling_da,
                limit_da=limit.limit_da,
                drawn_da=drawn,
                max_da=self.evse.max_da,
                min_da=self.evse.min_da,
            )
            limit = replace(limit, ceiling_da=ceiling)
        if target_da is None or (target_da > 0) == limit.is_active:
            return limit
        ended = int((now - limit.since).total_seconds()) if limit.is_active and limit.since else 0
        return replace(limit, is_active=target_da > 0, since=now, charged_s=limit.charged_s + max(0, ended))


def _fallback_orders(
    leaves: Sequence[_Leaf], constraints: Sequence[Constraint], committed: Mapping[EVSEKey, int]
) -> list[Order]:
    """Return fallbacks that stations do not have yet; one that is raised waits until there is room."""
    orders, reserved = [], dict(committed)
    for leaf in leaves:
        key, wanted, limit = leaf.evse.key, leaf.evse.fallback_da, leaf.limit
        if not leaf.can_be_told or (limit.fallback_da == wanted and limit.fallback_asked_da is None):
            continue
        raised = reserved | {key: max(reserved[key], wanted)}
        if raised[key] > reserved[key] and any(each.load(raised) > each.bound for each in constraints):
            continue
        reserved = raised
        orders.append(Order(key=key, is_fallback=True, limit_da=wanted))
    return orders


def _station_constraints(state: SiteState, drawn_from: Mapping[EVSEKey, tuple[int, ...]]) -> list[Constraint]:
    """A limit of a whole station, from outside or by its maximum, holds for its steered EVSEs together."""
    made = []
    voltages = {row.load_group_id: row.voltage_v for row in state.groups}
    volts = {row.charging_station_id: voltages[row.load_group_id] for row in state.evses}
    for station, voltage_v in volts.items():
        own = [each for each in state.caps.get(station, ()) if each.evse_id == STATION]
        bound = _limit_da(own, STATION, len(PHASES), voltage_v, state.now)
        if bound is not None:
            for phase in PHASES:
                members = {key: 1 for key, used in drawn_from.items() if key[0] == station and phase in used}
                made.append(Constraint(name=f"station {station} L{phase}", bound=bound, weights=members))
    return made


def _limit_da(caps: Sequence[InstalledProfile], evse_id: int, phases: int, voltage_v: int, now: datetime) -> int | None:
    """Return what profiles allow per phase now; None: they say nothing."""
    if not caps:
        return None
    schedule = composite_schedule(
        caps,
        evse_id=evse_id,
        start_at=now.replace(microsecond=0),
        duration_s=1,
        unit=RateUnit.A,
        supply=Supply(voltage_v=voltage_v, phases=phases),
        uses=[EVSEUse(evse_id=evse_id)] if evse_id != STATION else [],
    )
    limit = schedule.periods[0].limit
    values = [] if limit is None else [each for each in (limit.l1, limit.l2, limit.l3) if each is not None]
    return int(min(values) * 10) if values else None
