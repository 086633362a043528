"""What every unit of work, inbox and retention promises."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from emobility.events.charging import CHARGING
from emobility.ports.event_log import CursorOutsideLog
from emobility.ports.unit_of_work import Novelty, UnitConflict

if TYPE_CHECKING:
    from tests.adapters.contract.conftest import World


async def test_the_inbox_tells_new_repeated_and_conflicting_apart(world: World) -> None:
    first, other_content = world.booted("S1", 1), world.booted("S1", 1, vendor="Other")
    seen = []
    for envelope in (first, first, other_content, world.booted("S1", 2)):
        async with world.units.begin() as unit:
            seen.append(await unit.novelty("readers", envelope))
            await unit.commit()

    assert seen == [Novelty.NEW, Novelty.REPEATED, Novelty.CONFLICTING, Novelty.NEW]


async def test_each_group_has_an_inbox_of_its_own_and_a_rollback_forgets(world: World) -> None:
    async with world.units.begin() as unit:
        await unit.novelty("readers", world.booted("S1", 1))
    async with world.units.begin() as unit:
        after_rollback = await unit.novelty("readers", world.booted("S1", 1))
        other_group = await unit.novelty("others", world.booted("S1", 1))
        await unit.commit()

    assert (after_rollback, other_group) == (Novelty.NEW, Novelty.NEW)


async def test_the_inbox_forgets_after_its_age_but_never_before_thirty_days(world: World) -> None:
    async def is_new() -> Novelty:
        async with world.units.begin() as unit:
            novelty: Novelty = await unit.novelty("readers", world.booted("S1", 1))
            return novelty

    async with world.units.begin() as unit:
        await unit.novelty("readers", world.booted("S1", 1))
        await unit.commit()
    world.clock.step_by(timedelta(days=29))
    too_young = await world.units.forget_old_inbox(age=timedelta(days=1))
    remembered = await is_new()
    world.clock.step_by(timedelta(days=2))
    old = await world.units.forget_old_inbox(age=timedelta(days=1))

    assert (too_young, remembered, old, await is_new()) == (0, Novelty.REPEATED, 1, Novelty.NEW)


async def test_a_row_taken_for_update_makes_others_wait_for_the_end_of_the_unit(world: World) -> None:
    async with world.units.begin() as unit:
        await unit.table(world.things).insert(world.thing("counter", number=0))
        await unit.commit()

    async def increment() -> None:
        async with world.units.begin() as unit:
            things = unit.table(world.things)
            thing = await things.get_for_update(world.thing("x").party_id, "counter")
            await asyncio.sleep(0.001)
            await things.put(world.thing("counter", number=thing.number + 1))
            await unit.commit()

    await asyncio.gather(*(increment() for _ in range(20)))

    assert [row.number for row in await world.rows()] == [20]


async def test_two_units_that_wait_for_each_other_are_told_so(world: World) -> None:
    async with world.units.begin() as unit:
        for name in ("one", "two"):
            await unit.table(world.things).insert(world.thing(name))
        await unit.commit()
    both_hold_one = asyncio.Barrier(2)

    async def take(first: str, second: str) -> str:
        async with world.units.begin() as unit:
            things = unit.table(world.things)
            party = world.thing("x").party_id
            await things.get_for_update(party, first)
            await both_hold_one.wait()
            try:
                await things.get_for_update(party, second)
            except UnitConflict:
                return "gave way"
            await unit.commit()
            return "done"

    outcomes = await asyncio.gather(take("one", "two"), take("two", "one"))

    assert sorted(outcomes) == ["done", "gave way"]


async def test_units_on_different_rows_do_not_wait_for_each_other(world: World) -> None:
    async with world.units.begin() as outer:
        await outer.table(world.things).insert(world.thing("outer"))
        async with world.units.begin() as inner:
            await inner.table(world.things).insert(world.thing("inner"))
            await inner.commit()
        await outer.commit()

    assert [row.thing_id for row in await world.rows()] == ["inner", "outer"]


async def test_who_follows_a_table_is_told_of_commits_that_wrote_it_and_of_nothing_else(world: World) -> None:
    told: list[str] = []
    world.units.on_change(world.things, lambda: told.append("told"))

    async with world.units.begin() as unit:
        await unit.table(world.things).insert(world.thing("rolled back"))
    async with world.units.begin() as unit:
        await unit.table(world.things).select()
        await unit.commit()
    before = len(told)
    async with world.units.begin() as unit:
        await unit.table(world.things).insert(world.thing("one"))
        await unit.table(world.things).put(world.thing("two"))
        still = len(told)
        await unit.commit()

    assert (before, still, told) == (0, 0, ["told"])


async def test_a_unit_is_over_after_its_commit(world: World) -> None:
    async with world.units.begin() as unit:
        await unit.commit()
        with pytest.raises(AssertionError, match="over"):
            await unit.table(world.things).get(world.thing("x").party_id, "x")
        with pytest.raises(AssertionError, match="over"):
            unit.emit(world.booted("S1", 1))


async def test_old_events_go_only_when_every_group_has_passed_and_their_age_is_over(world: World) -> None:
    if world.kind == "kafka":
        pytest.skip("the broker keeps its own retention; see tests/adapters/kafka")
    station = world.stations_of(0, 1)[0]
    everywhere = [world.stations_of(partition, 1)[0] for partition in world.partitions()]
    for number in range(25):
        await world.event_log.append([world.booted(name, number) for name in everywhere])

    async def ignore(_unit: object, _events: object) -> None:
        return

    async with world.consuming("fast", ignore), world.consuming("slow", ignore):
        await _until_caught_up(world, ["fast", "slow"])
    young = await world.event_log.prune()
    await world.event_log.append([world.booted(name, 25) for name in everywhere])
    world.clock.step_by(timedelta(days=91))
    before_all_passed = await _prune_with_a_group_behind(world)
    async with world.consuming("behind", ignore):
        await _until_caught_up(world, ["behind"])
    old = await world.event_log.prune()

    assert (young, before_all_passed) == (0, 0)
    assert old > 0
    left = [logged for logged in await world.all_logged() if logged.envelope.event.charging_station_id == station]
    assert [logged.offset for logged in left] == list(range(26 - len(left), 26))


async def _prune_with_a_group_behind(world: World) -> int:
    """Enter a group at the start of the log and prune before it has read anything."""
    held = asyncio.Event()

    async def hold(_unit: object, _events: object) -> None:
        await held.wait()
        raise ValueError("never handled")

    stop = asyncio.Event()
    task = asyncio.create_task(world.event_log.consume("behind", [CHARGING], hold, stop=stop))
    async with asyncio.timeout(60):
        while "behind" not in await world.event_log.lag():  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return await world.event_log.prune()


async def test_a_cursor_outside_the_log_stops_the_consumer(world: World) -> None:
    if world.kind == "kafka":
        pytest.skip("see tests/adapters/kafka: the broker's own topics")

    async def ignore(_unit: object, _events: object) -> None:
        return

    await world.event_log.append([world.booted(world.stations_of(4, 1)[0], 1)])
    async with world.consuming("readers", ignore):
        await _until_caught_up(world, ["readers"])
    async with world.units.begin() as unit:
        place = _place("readers", 4)
        await unit.move_cursor(place, expected=1, to=1_000)
        await unit.commit()

    with pytest.raises(CursorOutsideLog):
        await asyncio.wait_for(world.event_log.consume("readers", [CHARGING], ignore, stop=asyncio.Event()), 60)


def _place(group: str, partition: int) -> object:
    from emobility.adapters.consuming import Place  # noqa: PLC0415 - only this white-box test needs it

    return Place(group=group, topic=CHARGING, partition=partition)


async def _until_caught_up(world: World, groups: list[str]) -> None:
    async with asyncio.timeout(60):
        while [(await world.event_log.lag()).get(group) for group in groups] != [0] * len(groups):  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.01)


async def test_who_asked_is_told_of_the_commit_and_of_nothing_else(world: World) -> None:
    told: list[str] = []
    commits = world.units.commits
    async with world.units.begin() as unit:
        unit.on_commit(lambda: told.append("never"))
        await unit.table(world.things).put(world.thing("rolled-back"))
    assert world.units.commits == commits
    async with world.units.begin() as unit:
        unit.on_commit(lambda: told.append("rows"))
        await unit.table(world.things).put(world.thing("t"))
        assert told == []
        await unit.commit()
        assert told == ["rows"]
    async with world.units.begin() as unit:
        unit.on_commit(lambda: told.append("events"))
        unit.emit(world.booted("S1", 1))
        await unit.commit()
    assert told == ["rows", "events"]
    assert world.units.commits > commits
