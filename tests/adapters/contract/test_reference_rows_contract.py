"""Tables that change rarely: what this process changed is seen at once, what another changed soon."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from emobility.adapters.postgres.reference_rows import (
    FOLLOWED_AGE_S,
    QUESTIONS_MAX,
    UNFOLLOWED_AGE_S,
    ReferenceRows,
)

if TYPE_CHECKING:
    from tests.adapters.contract.conftest import World


async def _put(world: World, units: Any, spec: Any, thing: Any) -> None:
    async with units.begin() as unit:
        await unit.table(spec).put(thing)
        await unit.commit()


async def _numbers(world: World, spec: Any) -> tuple[int | None, list[int]]:
    async with world.units.begin() as unit:
        one = await unit.table(spec).get(world.thing("t").party_id, "t")
        every = await unit.table(spec).select({"party_id": world.thing("t").party_id})
    return (one.number if one else None), [each.number for each in every]


async def test_a_change_of_our_own_is_seen_by_the_next_read(world: World) -> None:
    spec = replace(world.things, is_reference=True)
    assert await _numbers(world, spec) == (None, [])
    for number in range(1, 5):
        await _put(world, world.units, spec, world.thing("t", number=number))
        assert await _numbers(world, spec) == (number, [number])
        assert await _numbers(world, spec) == (number, [number])
    async with world.units.begin() as unit:
        assert await unit.table(spec).delete(world.thing("t").party_id, "t")
        await unit.commit()
    assert await _numbers(world, spec) == (None, [])


async def test_a_unit_sees_its_own_change_and_what_is_rolled_back_never_was(world: World) -> None:
    spec = replace(world.things, is_reference=True)
    await _put(world, world.units, spec, world.thing("t", number=1))
    assert await _numbers(world, spec) == (1, [1])
    async with world.units.begin() as unit:
        await unit.table(spec).put(world.thing("t", number=2))
        changed = await unit.table(spec).get(world.thing("t").party_id, "t")
        assert changed is not None
        assert changed.number == 2
    assert await _numbers(world, spec) == (1, [1])


async def test_a_change_of_another_process_is_seen_soon(world: World) -> None:
    spec = replace(world.things, is_reference=True)
    await _put(world, world.units, spec, world.thing("t", number=1))
    assert await _numbers(world, spec) == (1, [1])
    async with world.opener() as other:
        await _put(world, other.units, spec, world.thing("t", number=2))
        async with asyncio.timeout(30):
            while await _numbers(world, spec) != (2, [2]):  # noqa: ASYNC110 - another process sends no event
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("is_over", [False, True])
async def test_an_answer_read_before_a_change_is_not_kept_after_it(*, is_over: bool) -> None:
    table = ReferenceRows().of("thing")
    generation = table.generation()
    table.begin_change()
    if is_over:
        table.end_change()
    table.keep(("q",), "old", generation=generation)
    assert table.find(("q",)) is None


async def test_nothing_is_served_while_a_change_is_open() -> None:
    rows = ReferenceRows()
    table = rows.of("thing")
    table.keep(("q",), "old", generation=table.generation())
    assert table.find(("q",)) == "old"
    assert rows.of("other").find(("q",)) is None
    table.begin_change()
    assert table.find(("q",)) is None
    table.keep(("q",), "half", generation=table.generation())
    assert table.find(("q",)) is None
    table.end_change()
    assert table.find(("q",)) is None


async def test_what_is_kept_is_bounded() -> None:
    table = ReferenceRows().of("thing")
    for number in range(QUESTIONS_MAX + 1):
        table.keep((number,), number, generation=table.generation())
    assert table.find((0,)) is None
    assert table.find((QUESTIONS_MAX,)) == QUESTIONS_MAX


async def test_what_others_changed_is_asked_again_and_a_lost_listener_keeps_nothing_long() -> None:
    rows = ReferenceRows()
    table, other = rows.of("thing"), rows.of("other")
    with rows.followed():
        assert rows.age_s == FOLLOWED_AGE_S
        generation = table.generation()
        table.keep(("q",), "old", generation=generation)
        other.keep(("q",), "kept", generation=other.generation())
        rows.changed_elsewhere(["thing", "never read here"])
        table.keep(("q",), "read before the notice", generation=generation)
        assert table.find(("q",)) is None
        assert other.find(("q",)) == "kept"
    assert rows.age_s == UNFOLLOWED_AGE_S
    with rows.followed():
        assert other.find(("q",)) is None


async def test_what_follows_from_rows_is_worked_out_again_after_each_change_of_theirs(world: World) -> None:
    spec = replace(world.things, is_reference=True)

    async def numbers(unit: Any) -> list[int]:
        return [each.number for each in await unit.table(spec).select({"party_id": world.thing("t").party_id})]

    for number in range(1, 5):
        await _put(world, world.units, spec, world.thing("t", number=number))
        for _ in range(2):
            assert await world.units.concluded("numbers", (spec,), numbers) == [number]
    async with world.units.begin() as unit:
        await unit.table(spec).put(world.thing("t", number=9))  # never committed
        assert await world.units.concluded("numbers", (spec,), numbers) == [4]
    assert await world.units.concluded("numbers", (spec,), numbers) == [4]


async def test_nothing_is_concluded_for_a_while_from_rows_that_change_often(world: World) -> None:
    async def nothing(_: Any) -> None:
        return

    with pytest.raises(AssertionError, match="nothing that follows"):
        await world.units.concluded("question", (world.things,), nothing)


async def test_a_conclusion_is_kept_while_its_tables_stay_the_same_and_no_longer_than_a_row() -> None:
    rows = ReferenceRows()
    both = ("thing", "other")

    before = rows.generations(both)
    rows.conclude("q", None, before=before, now=rows.generations(both))

    assert rows.concluded("q", rows.generations(both)) == (None,)  # that there is nothing is an answer too
    assert rows.concluded("another", rows.generations(both)) is None
    rows.of("a third").begin_change()
    assert rows.concluded("q", rows.generations(both)) == (None,)
    rows.changed_elsewhere(["other"])
    assert rows.concluded("q", rows.generations(both)) is None
    rows.conclude("q", "read before the notice", before=before, now=rows.generations(both))
    assert rows.concluded("q", rows.generations(both)) is None


async def test_nothing_is_concluded_while_a_change_is_open() -> None:
    rows = ReferenceRows()
    before = rows.generations(("thing",))
    rows.conclude("q", "old", before=before, now=before)

    rows.of("thing").begin_change()

    during = rows.generations(("thing",))
    assert rows.concluded("q", during) is None
    rows.conclude("q", "half", before=during, now=during)
    rows.of("thing").end_change()
    assert rows.concluded("q", rows.generations(("thing",))) is None


async def test_conclusions_are_bounded_in_number_and_in_age(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ReferenceRows()
    now = rows.generations(("thing",))
    for number in range(QUESTIONS_MAX + 1):
        rows.conclude(number, number, before=now, now=now)

    assert rows.concluded(0, now) is None
    assert rows.concluded(QUESTIONS_MAX, now) == (QUESTIONS_MAX,)
    loop = asyncio.get_running_loop()
    later_s = loop.time() + UNFOLLOWED_AGE_S + 0.1
    monkeypatch.setattr(loop, "time", lambda: later_s)
    assert rows.concluded(QUESTIONS_MAX, now) is None
