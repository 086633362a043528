"""What every vault promises: only the subject's key opens, and once destroyed nothing does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from emobility.adapters.sealing import BoxTampered
from emobility.domain.personal import SubjectErased

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
