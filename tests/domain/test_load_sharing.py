"""Sharing out a site's current: no limit exceeded, fair by weight, turns for those who wait, and calm."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobility.domain.load_sharing import (
    MINIMUM_DA,
    NEAR_DA,
    ROTATION,
    Constraint,
    Demand,
    EVSEKey,
    GroupsBreakRule,
    LoadGroup,
    ManagedEVSE,
    allocate,
    ceiling_da,
    constraints_of,
    current_da,
    descendants,
    refuse_unsafe,
    steps,
)

NOW: Final = datetime(2022, 3, 28, 8, 0, tzinfo=UTC)
WIRINGS: Final = ((1, 2, 3), (2, 3, 1), (3, 1, 2), (1,), (2,), (3,), (1, 2))


def key(number: int) -> EVSEKey:
    return (f"CS{number}", 1)


def demand(
    number: int, *, minutes: int = 0, is_active: bool = True, phases: tuple[int, ...] = (1, 2, 3), **fields: Any
) -> Demand:
    since = NOW - timedelta(minutes=minutes)
    fields.setdefault("ceiling_da", 320)
    return Demand(key=key(number), phases=phases, since=since, is_active=is_active, **fields)


def site(bound_da: int, *demands: Demand) -> list[Constraint]:
    evses = [ManagedEVSE(key=each.key, group_id="site", max_da=320, phases=each.phases) for each in demands]
    return list(constraints_of([LoadGroup(group_id="site", limit_da=(bound_da,) * 3)], evses, {}))


def test_what_is_there_is_shared_evenly_and_by_weight() -> None:
    even = (demand(1), demand(2))
    weighted = (demand(1, weight=3), demand(2))

    assert allocate(site(320, *even), {}, even, now=NOW) == {key(1): 160, key(2): 160}
    assert allocate(site(320, *weighted), {}, weighted, now=NOW) == {key(1): 240, key(2): 80}


def test_what_one_can_t_use_goes_to_the_other() -> None:
    demands = (demand(1, ceiling_da=80), demand(2))

    assert allocate(site(320, *demands), {}, demands, now=NOW) == {key(1): 80, key(2): 240}


def test_a_single_phase_ev_leaves_the_other_phases_to_others() -> None:
    demands = (demand(1, phases=(2,)), demand(2, phases=(1,)))

    assert allocate(site(160, *demands), {}, demands, now=NOW) == {key(1): 160, key(2): 160}


def test_who_can_t_get_its_minimum_is_paused_and_the_longest_waiting_goes_next() -> None:
    charging, newcomer, waiting = (
        demand(1, minutes=10),
        demand(2, minutes=1, is_active=False),
        demand(3, minutes=5, is_active=False),
    )
    demands = (charging, newcomer, waiting)

    shares = allocate(site(2 * MINIMUM_DA, *demands), {}, demands, now=NOW)

    assert shares == {key(1): MINIMUM_DA, key(2): 0, key(3): MINIMUM_DA}


def test_who_has_charged_long_enough_makes_place_and_one_of_more_weight_later() -> None:
    for weight, shares in ((1, {key(1): 0, key(2): MINIMUM_DA}), (2, {key(1): MINIMUM_DA, key(2): 0})):
        demands = (demand(1, minutes=16, weight=weight), demand(2, is_active=False))

        assert allocate(site(MINIMUM_DA, *demands), {}, demands, now=NOW) == shares


def test_a_car_that_does_not_want_to_charge_makes_place() -> None:
    idle = Demand(key=key(1), phases=(1,), ceiling_da=320, since=NOW, is_active=True, is_suspended=True)
    demands = (idle, demand(2, is_active=False, phases=(1,)))

    assert allocate(site(MINIMUM_DA, *demands), {}, demands, now=NOW) == {key(1): 0, key(2): MINIMUM_DA}


def test_an_increase_waits_for_the_decrease_that_makes_room() -> None:
    constraints = site(320, demand(1), demand(2))

    first = steps(constraints, {key(1): 320, key(2): 0}, {key(1): 160, key(2): 160}, {key(2): MINIMUM_DA})
    later = steps(constraints, {key(1): 160, key(2): 0}, {key(1): 160, key(2): 160}, {key(2): MINIMUM_DA})

    assert (first.decreases, first.increases) == ({key(1): 160}, {})
    assert (later.decreases, later.increases) == ({}, {key(2): 160})


def test_an_increase_goes_as_far_as_there_is_room_but_not_below_what_an_ev_can_use() -> None:
    constraints = site(320, demand(1), demand(2))
    targets, minimums = {key(2): 160}, {key(2): MINIMUM_DA}

    assert steps(constraints, {key(1): 240, key(2): 0}, targets, minimums).increases == {key(2): 80}
    assert steps(constraints, {key(1): 270, key(2): 0}, targets, minimums).increases == {}
    assert steps(constraints, {key(1): 170, key(2): 145}, targets, minimums).increases == {}


def test_fallbacks_that_exceed_a_limit_are_refused() -> None:
    groups = [LoadGroup(group_id="site", limit_da=(100, 100, 100))]
    evses = [ManagedEVSE(key=key(each), group_id="site", max_da=160, fallback_da=60) for each in (1, 2)]

    refuse_unsafe(groups, evses[:1])
    with pytest.raises(GroupsBreakRule, match="site L1"):
        refuse_unsafe(groups, evses)
    with pytest.raises(GroupsBreakRule, match="one load group"):
        refuse_unsafe(groups, [evses[0], evses[0]])
    with pytest.raises(GroupsBreakRule, match="phases"):
        refuse_unsafe(groups, [ManagedEVSE(key=key(1), group_id="site", max_da=160, phases=(1, 1))])


@pytest.mark.parametrize("parent_id", ["a", "b", "elsewhere"])
def test_groups_that_are_no_trees_are_refused(parent_id: str) -> None:
    with pytest.raises(GroupsBreakRule):
        descendants([LoadGroup(group_id="a", parent_id=parent_id), LoadGroup(group_id="b", parent_id="a")])


def test_power_is_a_current_rounded_up() -> None:
    assert current_da(11_040, voltage_v=230, phases=3) == 160
    assert current_da(11_041, voltage_v=230, phases=3) == 161


# -- for any site -----------------------------------------------------------------------------------------------------


@st.composite
def sites(draw: st.DrawFn) -> tuple[list[Constraint], dict[EVSEKey, int], list[Demand]]:
    """A site with two feeders, some EVSEs that can't be steered and some EVs that can."""
    bounds = st.integers(0, 1_000)
    groups = [
        LoadGroup(group_id="site", limit_da=(draw(bounds), draw(bounds), draw(bounds))),
        LoadGroup(group_id="f1", parent_id="site", limit_w=draw(st.integers(0, 60_000))),
        LoadGroup(group_id="f2", parent_id="site", limit_da=draw(st.none() | st.tuples(bounds, bounds, bounds))),
    ]
    evses, fixed, demands = [], {}, []
    for number in range(draw(st.integers(1, 8))):
        phases = draw(st.sampled_from(WIRINGS))
        group_id = draw(st.sampled_from(["site", "f1", "f2"]))
        evses.append(ManagedEVSE(key=key(number), group_id=group_id, max_da=320, phases=phases))
        if draw(st.integers(0, 3)) == 0:
            fixed[key(number)] = draw(st.integers(0, 160))
        else:
            demands.append(
                demand(
                    number,
                    minutes=draw(st.integers(0, 40)),
                    is_active=draw(st.booleans()),
                    phases=phases,
                    ceiling_da=draw(st.integers(0, 320)),
                    weight=draw(st.integers(1, 3)),
                )
            )
    return list(constraints_of(groups, evses, {})), fixed, demands


@settings(max_examples=200, deadline=None)
@given(sites())
def test_no_limit_is_exceeded_and_nobody_gets_less_than_is_of_use(
    drawn: tuple[list[Constraint], dict[EVSEKey, int], list[Demand]],
) -> None:
    constraints, fixed, demands = drawn

    shares = allocate(constraints, fixed, demands, now=NOW)

    for each in constraints:
        # What can't be steered may exceed a limit by itself; then nobody adds to it.
        assert each.load(fixed | shares) <= max(each.bound, each.load(fixed))
    for each_demand in demands:
        share = shares[each_demand.key]
        assert share == 0 or each_demand.min_da <= share <= each_demand.ceiling_da


@settings(max_examples=200, deadline=None)
@given(sites())
def test_who_has_less_than_possible_meets_a_full_limit_whose_others_have_no_more_by_weight(
    drawn: tuple[list[Constraint], dict[EVSEKey, int], list[Demand]],
) -> None:
    constraints, fixed, demands = drawn
    shares = allocate(constraints, fixed, demands, now=NOW)
    by_key = {each.key: each for each in demands}

    for each in demands:
        share = shares[each.key]
        if share in (0, each.ceiling_da):
            continue

        def left_by_the_richer(one: Constraint, each: Demand = each, share: int = share) -> int:
            """What a limit has left, with all that others have above this one's level, by weight, given back."""
            left = one.bound - one.load(fixed | shares)
            for other in one.weights.keys() & shares.keys() - {each.key}:
                level = max(by_key[other].min_da, (share + 1) * by_key[other].weight // each.weight)
                left += one.weights[other] * max(0, shares[other] - level)
            return left

        # Currents are whole tenths, so what is less than the next tenth of this one may be another's.
        bottlenecks = [one for one in constraints if left_by_the_richer(one) < one.weights.get(each.key, 0)]
        assert bottlenecks, (share, each)


@settings(max_examples=200, deadline=None)
@given(sites(), st.data())
def test_no_order_of_confirmations_ever_exceeds_a_limit(
    drawn: tuple[list[Constraint], dict[EVSEKey, int], list[Demand]], data: st.DataObject
) -> None:
    """Stations confirm, refuse or fall silent at will; what is sent meanwhile keeps within the limits all the same."""
    constraints, fixed, demands = drawn
    minimums = {each.key: each.min_da for each in demands}
    committed = fixed | allocate(constraints, fixed, demands, now=NOW)
    start = {one.name: max(one.bound, one.load(committed)) for one in constraints}
    for _ in range(3):
        wanted = [
            replace(each, ceiling_da=data.draw(st.integers(0, 320)), weight=data.draw(st.integers(1, 3)))
            for each in demands
        ]
        targets = allocate(constraints, fixed, wanted, now=NOW)
        sent = steps(constraints, committed, targets, minimums)
        for number, limit in sent.increases.items():
            committed[number] = limit  # from when it is sent it may be drawn, whatever the station answers
        for number, limit in sent.decreases.items():
            if data.draw(st.booleans()):
                committed[number] = limit
        for one in constraints:
            assert one.load(committed) <= start[one.name]


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 6), room=st.integers(1, 3))
def test_everybody_gets_a_turn_and_nobody_more_than_one_slot_above_another(count: int, room: int) -> None:
    """A day of a site with room for fewer EVs than are there, looked at each five minutes."""
    state = dict.fromkeys(range(count), (NOW, False))
    charged = dict.fromkeys(range(count), timedelta(0))
    tick = timedelta(minutes=5)
    for step in range(288):
        now = NOW + tick * step
        demands = [
            Demand(
                key=key(number), phases=(1,), ceiling_da=320, since=since, is_active=is_active, charged=charged[number]
            )
            for number, (since, is_active) in state.items()
        ]
        shares = allocate(site(room * MINIMUM_DA, *demands), {}, demands, now=now)
        for number, (_, is_active) in list(state.items()):
            has_turn = shares[key(number)] > 0
            charged[number] += tick if has_turn else timedelta(0)
            if has_turn != is_active:
                state[number] = (now, has_turn)

    assert max(charged.values()) - min(charged.values()) <= ROTATION
    assert sum(charged.values(), timedelta(0)) == tick * 288 * min(room, count)


@given(draw=st.integers(60, 250), wobble=st.lists(st.integers(-7, 7), min_size=1, max_size=30))
def test_a_draw_that_wobbles_moves_its_ceiling_once(draw: int, wobble: list[int]) -> None:
    ceiling = ceiling_da(before_da=None, limit_da=320, drawn_da=draw, max_da=320, min_da=60)
    for each in wobble:
        assert ceiling_da(before_da=ceiling, limit_da=ceiling, drawn_da=draw + each, max_da=320, min_da=60) == ceiling


def test_an_ev_that_takes_all_it_may_is_given_a_chance_at_everything() -> None:
    def of(drawn_da: int) -> int:
        return ceiling_da(before_da=100, limit_da=100, drawn_da=drawn_da, max_da=320, min_da=60)

    assert (of(100 - NEAR_DA), of(100 - NEAR_DA - 1), of(30)) == (320, 100, 60)
