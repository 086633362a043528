"""How the current of a site is shared out among the EVs that charge there: never above a limit, fair, and calm.

A site is a tree of load groups - the site, its feeders - each with a limit per phase in ampere, in watts, or both; the
leaves are EVSEs. The policy:

1. No limit of the tree is exceeded on any phase. What can't be steered now - a station that is offline or has not
   confirmed, an EVSE at which anybody may plug in, an EV that draws more than it may - counts with the most that it may
   draw, or does.
2. An EV gets nothing, or at least its minimum (6 A: IEC 61851-1 knows no less). Who can't get it is paused. The one
   that has waited longest goes next; who charges is left alone for `ROTATION` times its weight, then it makes place.
3. What is left is shared max-min fair by weight: nobody can get more but from someone who has, by weight, no more.
4. What an EV demonstrably does not use goes to others: its ceiling is what it draws and `MARGIN_DA`. One that draws
   nearly all it may is given a chance at everything again. Both wait for `SETTLING` after its limit changed.
5. A decrease is confirmed before another's increase that needs it is sent (`steps`).

Currents are whole tenths of an ampere per phase (`_da`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import lcm
from typing import Final

from emobility.domain.errors import RuleBroken

MINIMUM_DA: Final = 60
"""6 A: the least that an EV charges with by IEC 61851-1."""
MARGIN_DA: Final = 30
"""3 A that an EV may have above what it draws."""
NEAR_DA: Final = 15
"""An EV within 1.5 A of its limit would take more."""
SETTLING: Final = timedelta(seconds=60)
"""How long an EV may take to follow a new limit; before that its draw says nothing about its wishes."""
ROTATION: Final = timedelta(minutes=15)
"""How long an EV of weight 1 charges before it makes place for one that waits."""
INCREASE_MIN_DA: Final = 10
"""An increase of less than 1 A is not worth a message, unless it is all that is missing."""
PHASES: Final = (1, 2, 3)
EVSES_MAX: Final = 500
"""EVSEs of one tree."""

EVSEKey = tuple[str, int]
"""Charging station and its number for the EVSE."""


class GroupsBreakRule(RuleBroken):
    """Load groups do not form trees, or their limits leave no room for what every EVSE may draw by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGroup:
    """A part of a site. `limit_da`: of L1, L2 and L3; `limit_w`: of all phases together."""

    group_id: str
    parent_id: str | None = None
    limit_da: tuple[int, int, int] | None = None
    limit_w: int | None = None
    voltage_v: int = 230


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedEVSE:
    """A leaf.

    Attributes:
        phases: The phases of the site that its L1, L2, L3 are wired to: (2, 3, 1) is rotated by one.
        fallback_da: What whoever plugs in may draw before a limit of his own, also at a station that is offline.
    """

    key: EVSEKey
    group_id: str
    max_da: int
    phases: tuple[int, ...] = PHASES
    min_da: int = MINIMUM_DA
    fallback_da: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """An EV that can be steered now.

    Attributes:
        phases: Of the site, that it draws from.
        ceiling_da: The most it is given: of the EVSE, of the EV, of what it uses.
        since: When it began to charge, or to wait.
        charged: How long it has charged before; of two that have waited as long, the one with less goes first.
        is_active: It charges now; else it waits.
        is_suspended: It is connected and does not want to charge (SuspendedEV), so others go before it.
    """

    key: EVSEKey
    phases: tuple[int, ...]
    ceiling_da: int
    since: datetime
    is_active: bool
    min_da: int = MINIMUM_DA
    weight: int = 1
    is_suspended: bool = False
    charged: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """The sum of `weights[evse] * current_da` must not exceed `bound`; in ampere all weights are 1."""

    name: str
    bound: int
    weights: Mapping[EVSEKey, int]

    def load(self, currents: Mapping[EVSEKey, int]) -> int:
        """Return what currents add up to."""
        return sum(weight * currents.get(key, 0) for key, weight in self.weights.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Limits to send: decreases at once, increases only as far as nobody's confirmation is needed for them."""

    decreases: Mapping[EVSEKey, int]
    increases: Mapping[EVSEKey, int]


def descendants(groups: Iterable[LoadGroup]) -> dict[str, frozenset[str]]:
    """Return each group with all groups below it, itself included. Raises `GroupsBreakRule` for a loop or a gap."""
    known = {group.group_id: group for group in groups}
    below: dict[str, set[str]] = {group_id: {group_id} for group_id in known}
    for group in known.values():
        parent_id, passed = group.parent_id, {group.group_id}
        while parent_id is not None:
            if parent_id in passed or parent_id not in known:
                raise GroupsBreakRule(f"load group {group.group_id} is not in a tree")
            below[parent_id].add(group.group_id)
            passed.add(parent_id)
            parent_id = known[parent_id].parent_id
    return {group_id: frozenset(members) for group_id, members in below.items()}


def constraints_of(
    groups: Sequence[LoadGroup], evses: Sequence[ManagedEVSE], drawn_from: Mapping[EVSEKey, tuple[int, ...]]
) -> tuple[Constraint, ...]:
    """Return what the limits of all groups ask of the currents.

    Args:
        groups: Trees.
        evses: Their leaves.
        drawn_from: The phases an EV uses, where it is known that these are not all of the EVSE's.

    Raises:
        GroupsBreakRule: the groups are no trees.
    """
    made: list[Constraint] = []
    below = descendants(groups)
    for group in groups:
        phases = {e.key: drawn_from.get(e.key, e.phases) for e in evses if e.group_id in below[group.group_id]}
        if group.limit_da is not None:
            for phase, bound in zip(PHASES, group.limit_da, strict=True):
                on_phase = {key: 1 for key, used in phases.items() if phase in used}
                made.append(Constraint(name=f"{group.group_id} L{phase}", bound=bound, weights=on_phase))
        if group.limit_w is not None:
            watts = {key: group.voltage_v * len(used) for key, used in phases.items()}
            made.append(Constraint(name=f"{group.group_id} W", bound=group.limit_w * 10, weights=watts))
    return tuple(made)


def refuse_unsafe(groups: Sequence[LoadGroup], evses: Sequence[ManagedEVSE]) -> None:
    """Refuse a tree whose EVSEs could exceed a limit on their own. Raises `GroupsBreakRule`."""
    if len(evses) > EVSES_MAX:
        raise GroupsBreakRule(f"a site has at most {EVSES_MAX} EVSEs")
    if len({evse.key for evse in evses}) != len(evses):
        raise GroupsBreakRule("an EVSE is in one load group")
    for evse in evses:
        is_wired = len(set(evse.phases)) == len(evse.phases) and evse.phases and set(evse.phases) <= set(PHASES)
        if not is_wired or not 0 < evse.min_da <= evse.max_da or not 0 <= evse.fallback_da <= evse.max_da:
            raise GroupsBreakRule(
                f"EVSE {evse.key[1]} of {evse.key[0]}: phases are of 1 to 3, 0 < min <= max >= fallback"
            )
        if evse.weight < 1:
            raise GroupsBreakRule("a weight is 1 or more")
    fallbacks = {evse.key: evse.fallback_da for evse in evses}
    for constraint in constraints_of(groups, evses, {}):
        if constraint.load(fallbacks) > constraint.bound:
            raise GroupsBreakRule(f"the fallback limits of all EVSEs together exceed the limit of {constraint.name}")


def allocate(
    constraints: Sequence[Constraint], fixed: Mapping[EVSEKey, int], demands: Sequence[Demand], *, now: datetime
) -> dict[EVSEKey, int]:
    """Share the current out; 0 is a pause.

    Args:
        constraints: Of the whole tree.
        fixed: What is drawn, or may be, whatever is decided here; per phase. A share of one who can be steered
            begins there.
        demands: Who can be steered.
        now: The present moment, for whose turn it is.
    """
    given = dict(fixed)
    of_evse: dict[EVSEKey, list[tuple[Constraint, int]]] = {demand.key: [] for demand in demands}
    loads = {id(each): each.load(given) for each in constraints}
    for each in constraints:
        for key, weight in each.weights.items():
            if key in of_evse:
                of_evse[key].append((each, weight))

    def raised(key: EVSEKey, by_da: int) -> bool:
        if any(loads[id(each)] + weight * by_da > each.bound for each, weight in of_evse[key]):
            return False
        for each, weight in of_evse[key]:
            loads[id(each)] += weight * by_da
        given[key] = given.get(key, 0) + by_da
        return True

    admitted = [
        demand
        for demand in sorted(demands, key=lambda demand: _turn(demand, now))
        if demand.ceiling_da >= demand.min_da and raised(demand.key, max(0, demand.min_da - given.get(demand.key, 0)))
    ]
    # One tenth of an ampere at a time to whoever has least for his weight: whole numbers, and fair to the last tenth.
    scale = lcm(*(demand.weight for demand in admitted))
    heap = [((given[each.key] + 1) * scale // each.weight, each.key, each) for each in admitted]
    heapq.heapify(heap)
    while heap:
        _, key, demand = heapq.heappop(heap)
        if given[key] < demand.ceiling_da and raised(key, 1):
            heapq.heappush(heap, ((given[key] + 1) * scale // demand.weight, key, demand))
    shares = dict.fromkeys((demand.key for demand in demands), 0)
    return shares | {demand.key: min(given[demand.key], demand.ceiling_da) for demand in admitted}


def steps(
    constraints: Sequence[Constraint],
    committed: Mapping[EVSEKey, int],
    targets: Mapping[EVSEKey, int],
    minimums: Mapping[EVSEKey, int],
) -> Steps:
    """Return which limits to send now.

    Args:
        constraints: Of the whole tree.
        committed: The most that each EVSE may draw by what is known now, whether it is steered or not.
        targets: What each EVSE that can be steered should have.
        minimums: Less than this is of no use to an EV, so an increase waits until there is room for it.
    """
    decreases = {key: target for key, target in targets.items() if target < committed[key]}
    reserved = dict(committed)
    increases: dict[EVSEKey, int] = {}
    for key, target in sorted(targets.items()):
        if target <= committed[key]:
            continue
        room = target
        for each in constraints:
            weight = each.weights.get(key, 0)
            if weight:
                left = each.bound - each.load(reserved) + weight * reserved[key]
                room = min(room, left // weight)
        if room == target or room >= max(minimums.get(key, 0), committed[key] + INCREASE_MIN_DA):
            reserved[key] = increases[key] = room
    return Steps(decreases=decreases, increases=increases)


def ceiling_da(*, before_da: int | None, limit_da: int, drawn_da: int, max_da: int, min_da: int) -> int:
    """Return the most that an EV is given, by what it draws under a limit it has had time to follow.

    Args:
        before_da: Its ceiling so far; None: it had none.
        limit_da: Its limit.
        drawn_da: What it draws, per phase.
        max_da: The most that the EVSE and the EV can do.
        min_da: The least that the EV charges with.
    """
    before = max_da if before_da is None else min(before_da, max_da)
    if drawn_da + NEAR_DA >= limit_da:
        return max_da
    used = max(min_da, drawn_da + MARGIN_DA)
    # Only a ceiling that is clearly too high is lowered, so a draw that wobbles moves nothing.
    return used if used <= min(before, limit_da) - NEAR_DA else before


def current_da(power_w: int, *, voltage_v: int, phases: int) -> int:
    """Return the current per phase of a power, rounded up to a tenth of an ampere."""
    return -(-power_w * 10 // (voltage_v * phases))


def _turn(demand: Demand, now: datetime) -> tuple[int, timedelta, timedelta, EVSEKey]:
    """Return the place in the line: who charges and is not done, who waits longest, who has charged enough."""
    lasting = now - demand.since
    if demand.is_suspended:
        rank = 3
    elif not demand.is_active:
        rank = 1
    else:
        rank = 0 if lasting < ROTATION * demand.weight else 2
    return (rank, lasting if rank == 2 else -lasting, demand.charged, demand.key)
