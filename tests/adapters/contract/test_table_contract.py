"""What every table promises: each method, each kind of field, and any history of changes equals a dict."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.ports.stores import SELECT_ROWS_MAX, RecordExists, TextWithNUL

if TYPE_CHECKING:
    from tests.adapters.contract.conftest import World

PARTY = PartyId("NL-TNM")

WORLDS = ("memory", "postgres")
"""With Kafka, tables are PostgreSQL's."""


async def _stored(world: World, *things: Any) -> None:
    async with world.units.begin() as unit:
        for thing in things:
            await unit.table(world.things).insert(thing)
        await unit.commit()


async def test_every_kind_of_field_comes_back_as_it_was(world: World) -> None:
    at = world.clock.now() + timedelta(microseconds=1)
    part_type = world.part_type
    full = world.thing(
        "full",
        serial="ø-1",
        number=-(2**62),
        is_open=True,
        colour=world.colours.GREEN,
        made_at=at,
        price=Decimal("-0.1234567890123456789"),
        content=bytes(range(256)),
        person=Sealed(subject="ab" * 32, box=b"\0\xff"),
        parts=(part_type(weight=Decimal("1.50"), at=at),),
        words=("one", "two ' \" \\ ☃"),
    )
    empty = world.thing("empty")

    await _stored(world, full, empty)

    async with world.units.begin() as unit:
        things = unit.table(world.things)
        assert await things.get(PARTY, "full") == full
        assert await things.get(PARTY, "empty") == empty
        assert await things.get(PARTY, "absent") is None
        assert await things.get_for_update(PARTY, "full") == full
        assert await things.get_for_update(PARTY, "absent") is None


async def test_many_are_put_at_once_each_as_if_alone(world: World) -> None:
    part = world.part_type(weight=Decimal("1.50"), at=world.clock.now())
    many = [
        world.thing(
            f"{number:04}",
            number=-(2**62) + number,
            is_open=bool(number % 2),
            colour=world.colours.GREEN if number % 3 else None,
            made_at=world.clock.now() + timedelta(microseconds=number) if number % 5 else None,
            price=Decimal("-0.1234567890123456789") if number % 7 else None,
            content=bytes(range(256))[: number % 257],
            person=Sealed(subject="ab" * 32, box=b"\0\xff") if number % 2 else None,
            parts=(part,) * (number % 3),
            words=("one", "two ' \" \\ ☃ \\u0000") if number % 2 else None,
        )
        for number in range(600)
    ]
    await _stored(world, world.thing("0001", number=1), world.thing("other"))

    async with world.process.units.begin() as unit:
        things = unit.table(world.things)
        await things.put_all([])
        await things.put_all(many)
        await things.put_all(many[:2])
        with pytest.raises(TextWithNUL):
            await things.put_all([world.thing("fine"), world.thing("bad", words=("a\0b",))])
        with pytest.raises(RecordExists):
            await things.put_all([world.thing("fine", serial="s1"), world.thing("bad", serial="s1")])
        await unit.commit()

    assert await world.rows() == [*many, world.thing("other")]


async def test_many_are_added_at_once_and_what_was_there_is_returned(world: World) -> None:
    old = [world.thing("0001", number=1), world.thing("other", serial="s1")]
    await _stored(world, *old)
    many = [world.thing(f"{number:04}", number=-number, serial="s1" if number == 9 else None) for number in range(600)]

    async with world.process.units.begin() as unit:
        things = unit.table(world.things)
        assert await things.insert_all([]) == []
        assert await things.insert_all(many) == [many[1], many[9]]
        with pytest.raises(TextWithNUL):
            await things.insert_all([world.thing("fine"), world.thing("bad", words=("a\0b",))])
        assert await things.insert_all([world.thing("last")]) == []
        await unit.commit()

    assert await world.rows() == [many[0], old[0], *many[2:9], *many[10:], world.thing("last"), old[1]]


async def test_some_fields_of_many_are_written_and_the_others_stay(world: World) -> None:
    person = Sealed(subject="ab" * 32, box=b"\0\xff")
    many = [world.thing(f"{number:04}", number=number, serial=f"s{number}") for number in range(600)]
    await _stored(world, *many)
    at = world.clock.now() + timedelta(microseconds=1)

    async with world.process.units.begin() as unit:
        things = unit.table(world.things)
        await things.set_all(("number", "made_at", "content", "person"), [])
        rows = [(thing.party_id, thing.thing_id, -1, at, b"\xfe", person) for thing in many[100:]]
        await things.set_all(("number", "made_at", "content", "person"), [*rows, (PARTY, "absent", 2, at, b"", None)])
        await things.set_all(("person", "colour"), [(PARTY, "0599", None, world.colours.GREEN)])
        with pytest.raises(TextWithNUL):
            await things.set_all(("words",), [(PARTY, "0000", ("a\0b",))])
        await unit.commit()

    written = [replace(thing, number=-1, made_at=at, content=b"\xfe", person=person) for thing in many[100:]]
    assert await world.rows() == [
        *many[:100],
        *written[:-1],
        replace(written[-1], person=None, colour=world.colours.GREEN),
    ]


async def test_units_that_write_the_same_rows_the_other_way_round_do_not_wait_for_each_other(world: World) -> None:
    many = [world.thing(f"{number:04}") for number in range(600)]

    async def written(things: list[Any]) -> None:
        async with world.units.begin() as unit:
            await unit.table(world.things).put_all(things)
            await unit.commit()

    for _ in range(5):
        await asyncio.gather(written(many), written(many[::-1]))

    assert await world.rows() == many


@pytest.mark.parametrize("fields", [{"serial": "a\0b"}, {"words": ("fine", "a\0b")}])
async def test_a_nul_in_a_text_is_refused_by_name_and_the_unit_stays_usable(
    world: World, fields: dict[str, Any]
) -> None:
    async with world.units.begin() as unit:
        things = unit.table(world.things)
        for write in (things.insert, things.put):
            with pytest.raises(TextWithNUL):
                await write(world.thing("bad", **fields))
        await things.insert(world.thing("good", words=("\\u0000",)))
        await unit.commit()

    assert [row.thing_id for row in await world.rows()] == ["good"]


async def test_a_nul_in_a_question_is_refused_by_name(world: World) -> None:
    async with world.units.begin() as unit:
        things = unit.table(world.things)
        for ask in (things.get, things.get_for_update, things.delete):
            with pytest.raises(TextWithNUL):
                await ask(PARTY, "a\0b")
        for find in (things.select, things.count):
            for asked in ("a\0b", ("a\0b", "c")):
                with pytest.raises(TextWithNUL):
                    await find({"serial": asked})
        assert await things.get(PARTY, "absent") is None


async def test_inserting_a_key_twice_is_refused_and_the_unit_stays_usable(world: World) -> None:
    await _stored(world, world.thing("one", serial="s1"))

    async with world.units.begin() as unit:
        things = unit.table(world.things)
        with pytest.raises(RecordExists):
            await things.insert(world.thing("one"))
        with pytest.raises(RecordExists):
            await things.insert(world.thing("two", serial="s1"))
        await things.insert(world.thing("three", serial="s3"))
        await unit.commit()

    assert [row.thing_id for row in await world.rows()] == ["one", "three"]


async def test_a_put_replaces_its_own_record_but_never_takes_anothers_unique_value(world: World) -> None:
    await _stored(world, world.thing("one", serial="s1"), world.thing("two", serial="s2"))

    async with world.units.begin() as unit:
        things = unit.table(world.things)
        await things.put(world.thing("one", serial="s1", number=7))
        with pytest.raises(RecordExists):
            await things.put(world.thing("two", serial="s1"))
        await things.put(world.thing("three", number=3))
        await unit.commit()

    assert [(row.thing_id, row.serial, row.number) for row in await world.rows()] == [
        ("one", "s1", 7),
        ("three", None, 3),
        ("two", "s2", 0),
    ]


async def test_a_put_is_rolled_back_with_its_unit_even_as_its_first_statement(world: World) -> None:
    async with world.units.begin() as unit:
        await unit.table(world.things).put(world.thing("dropped", serial="s1"))

    assert await world.rows() == []


async def test_absent_values_never_collide(world: World) -> None:
    await _stored(world, world.thing("one"), world.thing("two"))

    assert len(await world.rows()) == 2


async def test_a_freed_unique_value_can_be_taken_in_the_same_unit(world: World) -> None:
    await _stored(world, world.thing("one", serial="s1"))

    async with world.units.begin() as unit:
        things = unit.table(world.things)
        assert await things.delete(PARTY, "one") is True
        assert await things.delete(PARTY, "one") is False
        await things.insert(world.thing("two", serial="s1"))
        await unit.commit()

    assert [row.thing_id for row in await world.rows()] == ["two"]


async def test_a_record_is_deleted_only_while_its_fields_are_as_asked(world: World) -> None:
    async with world.units.begin() as unit:
        await unit.table(world.things).put(world.thing("one", number=2))
        await unit.commit(is_repeatable=True)

    async with world.units.begin() as unit:
        things = unit.table(world.things)
        assert await things.delete(PARTY, "one", where={"number": 1}) is False
        assert await things.delete(PARTY, "one", where={"number": 2}) is True
        await unit.commit(is_repeatable=True)

    async with world.units.begin() as unit:
        assert await unit.table(world.things).get(PARTY, "one") is None


async def test_a_unit_sees_its_own_changes_and_others_do_not_before_the_commit(world: World) -> None:
    async with world.units.begin() as writer:
        await writer.table(world.things).insert(world.thing("one"))
        seen_by_writer = await writer.table(world.things).count()
        async with world.units.begin() as reader:
            seen_by_reader = await reader.table(world.things).count()

    assert (seen_by_writer, seen_by_reader) == (1, 0)


async def test_select_filters_orders_and_pages(world: World) -> None:
    start, day = world.clock.now(), timedelta(days=1)
    subject = Sealed(subject="cd" * 32, box=b"x")
    await _stored(
        world,
        world.thing("a", number=2, colour=world.colours.RED, made_at=start, person=subject),
        world.thing("B", number=1, colour=world.colours.GREEN, made_at=start + day),
        world.thing("c", number=2, made_at=start + 2 * day),
        world.thing("d", number=3, colour=world.colours.RED),
    )

    async with world.units.begin() as unit:
        things = unit.table(world.things)

        async def names(*args: Any, **kwargs: Any) -> list[str]:
            return [row.thing_id for row in await things.select(*args, **kwargs)]

        assert await names() == ["B", "a", "c", "d"]
        assert await names({"party_id": PARTY, "number": 2}) == ["a", "c"]
        assert await names({"colour": None}) == ["c"]
        assert await names({"colour": (world.colours.GREEN, None)}) == ["B", "c"]
        assert await names({"number": (1, 3)}) == ["B", "d"]
        assert await names({"number": ()}) == []
        assert await names({"person_subject": subject.subject}) == ["a"]
        assert await names(since=("made_at", start + day)) == ["B", "c"]
        assert await names(before=("made_at", start + day)) == ["a"]
        assert await names(order_by=("-number",)) == ["d", "a", "c", "B"]
        assert await names(order_by=("made_at",)) == ["a", "B", "c", "d"]
        assert await names(order_by=("-made_at",)) == ["d", "c", "B", "a"]
        assert await names(order_by=("colour", "-number")) == ["B", "d", "a", "c"]
        assert await names(offset=1, limit=2) == ["a", "c"]
        assert await things.count({"number": 2}, since=("made_at", start), before=("made_at", start + day)) == 1


async def test_distinct_gives_each_combination_of_values_once_and_in_order(world: World) -> None:
    red, green = world.colours.RED, world.colours.GREEN
    subject = Sealed(subject="cd" * 32, box=b"x")
    await _stored(
        world,
        world.thing("a", number=2, colour=red, made_at=world.clock.now(), person=subject),
        world.thing("b", number=2, colour=red),
        world.thing("c", number=1, colour=red),
        world.thing("d", number=2),
        world.thing("e", number=3, colour=green),
    )

    async with world.units.begin() as unit:
        things = unit.table(world.things)
        await things.delete(PARTY, "e")
        await things.insert(world.thing("f", number=0, colour=green))

        assert await things.distinct(("party_id",)) == [(PARTY,)]
        assert await things.distinct(("colour", "number")) == [(green, 0), (red, 1), (red, 2), (None, 2)]
        assert await things.distinct(("colour",), {"number": (2, 3)}) == [(red,), (None,)]
        assert await things.distinct(("made_at",)) == [(world.clock.now(),), (None,)]
        assert await things.distinct(("person_subject",)) == [(subject.subject,), (None,)]
        assert await things.distinct(("number",), {"number": 7}) == []
        with pytest.raises(AssertionError):
            await things.distinct(("colour_of_the_day",))


async def test_questions_that_no_column_answers_are_refused(world: World) -> None:
    async with world.units.begin() as unit:
        things = unit.table(world.things)
        with pytest.raises(AssertionError):
            await things.select({"colour_of_the_day": 1})
        with pytest.raises(AssertionError):
            await things.select(limit=SELECT_ROWS_MAX + 1)


async def test_a_value_is_never_read_as_sql(world: World) -> None:
    name = "x'; DROP TABLE contract_thing; --%s%(a)s"
    await _stored(world, world.thing(name))

    async with world.units.begin() as unit:
        assert (await unit.table(world.things).get(PARTY, name)).thing_id == name
        assert await unit.table(world.things).count({"thing_id": name}) == 1


async def test_when_two_units_insert_the_same_key_at_once_one_is_refused(world: World) -> None:
    async def insert() -> str:
        async with world.units.begin() as unit:
            try:
                await unit.table(world.things).insert(world.thing("one"))
            except RecordExists:
                return "refused"
            await asyncio.sleep(0)
            await unit.commit()
            return "inserted"

    assert sorted(await asyncio.gather(insert(), insert(), insert())) == ["inserted", "refused", "refused"]


CHANGE = st.tuples(
    st.sampled_from(["insert", "put", "delete"]),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from([None, "s1", "s2"]),
)
UNIT = st.tuples(st.lists(CHANGE, max_size=6), st.booleans())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(UNIT, max_size=6))
def test_any_history_of_units_leaves_what_a_dict_would_hold(history: Any, memory_world: Any) -> None:
    world = memory_world()

    async def play() -> dict[str, str | None]:
        for changes, is_committed in history:
            async with world.units.begin() as unit:
                for change in changes:
                    await _apply(unit.table(world.things), world, *change)
                if is_committed:
                    await unit.commit()
        return {row.thing_id: row.serial for row in await world.rows()}

    assert asyncio.run(play()) == _model(history)


async def test_one_long_history_leaves_what_a_dict_would_hold(world: World) -> None:
    changes = [
        (what, name, serial)
        for serial in ("s1", None, "s2", "s1")
        for name in ("a", "b", "c")
        for what in ("insert", "put", "delete", "insert")
    ]
    history = [(changes[start : start + 5], start % 3 != 1) for start in range(0, len(changes), 5)]
    for part, is_committed in history:
        async with world.units.begin() as unit:
            for change in part:
                await _apply(unit.table(world.things), world, *change)
            if is_committed:
                await unit.commit()

    assert {row.thing_id: row.serial for row in await world.rows()} == _model(history)


async def _apply(table: Any, world: World, what: str, name: str, serial: str | None) -> None:
    try:
        if what == "delete":
            await table.delete(PARTY, name)
        elif what == "insert":
            await table.insert(world.thing(name, serial=serial))
        else:
            await table.put(world.thing(name, serial=serial))
    except RecordExists:
        return


def _model(history: Any) -> dict[str, str | None]:
    committed: dict[str, str | None] = {}
    for changes, is_committed in history:
        state = dict(committed)
        for what, name, serial in changes:
            taken = serial is not None and any(key != name and held == serial for key, held in state.items())
            if what == "delete":
                state.pop(name, None)
            elif not taken and (what == "put" or name not in state):
                state[name] = serial
        if is_committed:
            committed = state
    return committed
