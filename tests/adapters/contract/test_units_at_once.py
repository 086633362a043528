"""What is written in a unit of its own, in one message: as if a unit had been opened for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from emobility.domain.identifiers import PartyId
from emobility.ports.stores import RecordExists, TextWithNUL
from emobility.protocols.ocpi.signing import SEEN_SIGNATURE, SeenSignature

if TYPE_CHECKING:
    from tests.adapters.contract.conftest import World

WORLDS = ("memory", "postgres")
PARTY = PartyId("NL-TNM")


def _seen(world: World, nonce: str, *, minutes: int = 1) -> SeenSignature:
    expires_at = world.clock.now() + timedelta(minutes=minutes)
    return SeenSignature(own_party=PARTY, signer="NL-ZON/w0", nonce=nonce, expires_at=expires_at)


async def _stored(world: World, spec: Any) -> list[Any]:
    async with world.units.begin() as unit:
        found: list[Any] = await unit.table(spec).select()
    return found


@pytest.mark.parametrize("is_repeatable", [False, True])
async def test_records_of_several_tables_are_put_together(world: World, *, is_repeatable: bool) -> None:
    spec = replace(world.things, unique=())
    told: list[str] = []
    world.units.on_change(spec, lambda: told.append("things"))
    world.units.on_change(SEEN_SIGNATURE, lambda: told.append("seen"))
    before = world.units.commits
    await world.units.put_all([(SEEN_SIGNATURE, [_seen(world, "a"), _seen(world, "b")])], is_repeatable=is_repeatable)

    things, seen = [world.thing("t", number=1), world.thing("u", content=b"\0\xff")], [_seen(world, "b", minutes=2)]
    await world.units.put_all([(spec, things), (SEEN_SIGNATURE, seen)], is_repeatable=is_repeatable)

    assert await _stored(world, spec) == things
    assert await _stored(world, SEEN_SIGNATURE) == [_seen(world, "a"), *seen]
    assert told == ["seen", "things", "seen"]
    assert world.units.commits > before


async def test_of_records_that_can_not_be_put_none_is(world: World) -> None:
    await world.units.put_all([])
    await world.units.put_all([(world.things, [world.thing("t", serial="s")]), (SEEN_SIGNATURE, [])])

    with pytest.raises(RecordExists):
        await world.units.put_all(
            [(SEEN_SIGNATURE, [_seen(world, "a")]), (world.things, [world.thing("u", serial="s")])]
        )
    with pytest.raises(TextWithNUL):
        await world.units.put_all([(SEEN_SIGNATURE, [_seen(world, "b"), _seen(world, "\0")])])

    assert await _stored(world, SEEN_SIGNATURE) == []
    assert [each.thing_id for each in await _stored(world, world.things)] == ["t"]


@pytest.mark.parametrize("is_repeatable", [False, True])
async def test_of_records_that_are_added_it_is_told_which_were_there(world: World, *, is_repeatable: bool) -> None:
    told: list[str] = []
    world.units.on_change(SEEN_SIGNATURE, lambda: told.append("seen"))
    a, b, c = (_seen(world, nonce) for nonce in "abc")
    later = replace(a, expires_at=a.expires_at + timedelta(minutes=1))

    assert await world.units.insert_all(SEEN_SIGNATURE, [], is_repeatable=is_repeatable) == []
    assert await world.units.insert_all(SEEN_SIGNATURE, [a, b], is_repeatable=is_repeatable) == []
    assert await world.units.insert_all(SEEN_SIGNATURE, [c, later], is_repeatable=is_repeatable) == [later]
    assert await world.units.insert_all(SEEN_SIGNATURE, [a, b], is_repeatable=is_repeatable) == [a, b]

    assert await _stored(world, SEEN_SIGNATURE) == [a, b, c]
    assert told


async def test_what_follows_from_reference_rows_sees_them_added(world: World) -> None:
    spec = replace(world.things, is_reference=True)

    async def numbers(unit: Any) -> list[int]:
        return [each.number for each in await unit.table(spec).select({"party_id": PARTY})]

    for number in (1, 2):
        await world.units.put_all([(spec, [world.thing("t", number=number)])])
        assert await world.units.concluded("numbers", (spec,), numbers) == [number]
    assert await world.units.insert_all(spec, [world.thing("u", number=3)]) == []
    assert await world.units.concluded("numbers", (spec,), numbers) == [2, 3]
