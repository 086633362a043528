"""What every vault promises: only the subject's key opens, and once destroyed nothing does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from emobility.adapters.sealing import BoxTampered
from emobility.domain.personal import SubjectErased, SubjectRestricted
from emobility.ports.vault import ERASURE_SEEN_WITHIN_S

if TYPE_CHECKING:
    from tests.adapters.contract.conftest import World

WORLDS = ("memory", "postgres")
"""With Kafka, the vault is PostgreSQL's."""


async def test_what_was_sealed_is_opened_by_any_process_and_shows_nothing_itself(world: World) -> None:
    sealed = await world.vault.seal("04AABBCCDDEE80")

    async with world.opener() as other:
        opened = await other.vault.open(sealed)

    assert opened == "04AABBCCDDEE80"
    assert b"04AABB" not in sealed.box
    assert "04aabb" not in sealed.subject


async def test_the_same_identifier_is_found_by_the_same_subject_whatever_its_case(world: World) -> None:
    sealed = await world.vault.seal("aa-Bb")

    assert sealed.subject == world.vault.subject_of("AA-bB")
    assert sealed.subject != world.vault.subject_of("AA-bC")


async def test_sealing_the_same_text_again_gives_the_same_box_so_that_repetitions_are_known(world: World) -> None:
    assert await world.vault.seal("04AA") == await world.vault.seal("04AA")
    assert (await world.vault.seal("04AA")).box != (await world.vault.seal("04AB", identifier="04AA")).box


async def test_an_erased_subject_can_be_neither_opened_nor_sealed_again(world: World) -> None:
    sealed = await world.vault.seal("raw frame", identifier="04AA")
    other = await world.vault.seal("04BB")

    await world.vault.erase(sealed.subject)
    await world.vault.erase(sealed.subject)

    with pytest.raises(SubjectErased):
        await world.vault.open(sealed)
    with pytest.raises(SubjectErased):
        await world.vault.seal("raw frame", identifier="04aa")
    with pytest.raises(SubjectErased):
        await world.vault.seal_under("raw frame", subject=sealed.subject)
    assert await world.vault.open(other) == "04BB"


async def test_a_box_that_was_changed_or_moved_to_another_subject_does_not_open(world: World) -> None:
    sealed, other = await world.vault.seal("04AA"), await world.vault.seal("04BB")
    flipped = replace(sealed, box=sealed.box[:-1] + bytes([sealed.box[-1] ^ 1]))

    for forged in (flipped, replace(sealed, subject=other.subject), replace(sealed, box=b"short")):
        with pytest.raises(BoxTampered):
            await world.vault.open(forged)


async def test_what_is_restricted_opens_as_evidence_only_and_may_still_come_in(world: World) -> None:
    sealed = await world.vault.seal("04AA")
    until = world.clock.now() + timedelta(days=3_650)

    await world.vault.restrict(sealed.subject, until=until)
    await world.vault.restrict(sealed.subject, until=until - timedelta(days=1))

    with pytest.raises(SubjectRestricted) as refusal:
        await world.vault.open(sealed)
    assert refusal.value.until == until
    late = await world.vault.seal("a late CDR", identifier="04AA")
    assert await world.vault.evidence.open(late) == "a late CDR"
    assert await world.vault.evidence.open(sealed) == "04AA"


async def test_a_restriction_ends_with_the_destruction_of_the_key(world: World) -> None:
    sealed, other = await world.vault.seal("04AA"), await world.vault.seal("04BB")
    await world.vault.restrict(sealed.subject, until=world.clock.now() + timedelta(days=1))
    await world.vault.restrict(other.subject, until=world.clock.now() + timedelta(days=2))

    too_soon = await world.vault.erase_due()
    world.clock.step_by(timedelta(days=1))
    due = await world.vault.erase_due()

    assert (too_soon, due) == (0, 1)
    with pytest.raises(SubjectErased):
        await world.vault.evidence.open(sealed)
    assert await world.vault.evidence.open(other) == "04BB"
    await world.vault.restrict(sealed.subject, until=world.clock.now())
    with pytest.raises(SubjectErased):
        await world.vault.seal("04AA")


@pytest.mark.parametrize("how", ["erase", "restrict"])
async def test_another_process_that_remembers_the_key_stops_using_it_within_the_bound(world: World, how: str) -> None:
    sealed = await world.vault.seal("04AA")
    async with world.opener() as other:
        assert await other.vault.open(sealed) == "04AA"
        if how == "erase":
            await world.vault.erase(sealed.subject)
        else:
            await world.vault.restrict(sealed.subject, until=world.clock.now() + timedelta(days=1))
        began_s = asyncio.get_running_loop().time()

        while True:
            tried_s = asyncio.get_running_loop().time()
            try:
                await other.vault.open(sealed)
            except (SubjectErased, SubjectRestricted):
                break
            assert tried_s - began_s <= ERASURE_SEEN_WITHIN_S
            await asyncio.sleep(0.02)


async def test_what_is_bound_to_a_subject_shares_its_fate(world: World) -> None:
    driver, other = world.vault.subject_of("04AA"), world.vault.subject_of("04BB")
    await world.vault.seal("a", identifier="04AA")
    record = await world.vault.seal("OCMF", identifier="CS1/7")
    apart = await world.vault.seal("OCMF", identifier="CS1/8")
    until = world.clock.now() + timedelta(days=1)

    await world.vault.bind(record.subject, to=driver)
    await world.vault.bind(record.subject, to=driver)
    await world.vault.bind(apart.subject, to=other)
    await world.vault.restrict(driver, until=until)

    with pytest.raises(SubjectRestricted):
        await world.vault.open(record)
    assert await world.vault.evidence.open(record) == "OCMF"
    assert await world.vault.open(apart) == "OCMF"
    await world.vault.erase(driver)
    with pytest.raises(SubjectErased):
        await world.vault.evidence.open(record)


@pytest.mark.parametrize("how", ["erase", "restrict"])
async def test_what_is_bound_too_late_follows_at_once(world: World, how: str) -> None:
    driver = world.vault.subject_of("04AA")
    await world.vault.seal("a", identifier="04AA")
    record = await world.vault.seal("OCMF", identifier="CS1/7")
    if how == "erase":
        await world.vault.erase(driver)
    else:
        await world.vault.restrict(driver, until=world.clock.now() + timedelta(days=1))

    await world.vault.bind(record.subject, to=driver)

    with pytest.raises(SubjectErased if how == "erase" else SubjectRestricted):
        await world.vault.open(record)
