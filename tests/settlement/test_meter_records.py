"""A leaf commits to the meter's signed records, and the settlement keeps what opens the commitment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from emobility.domain.batch.leaf import NO_METER
from emobility.domain.batch.meter import MeterCommitted, meter_commitment
from emobility.domain.cdr import SignedMeterData
from emobility.domain.personal import SubjectErased
from emobility.events.cdr import CDRAccepted
from emobility.protocols.ocmf.committing import meter_record
from services.settlement.meter_records import METER_RECORD, MeterRecordKept, open_meter
from tests.ocmf.meter import Meter, value
from tests.settlement.world import World, a_cdr, accepted, open_world

SALT = bytes(range(32))
METER = Meter()
TEXTS = (METER.record(1, value("B", "1.000", 0), value("E", "6.000", 9), ID=""),)
DRIVER = "NL-ZON-C00000001"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as opened:
        yield opened


async def metered(world: World, cdr_id: str) -> CDRAccepted:
    """A CDR whose meter signs, as its MSP accepted it."""
    vault = world.ports.vault
    data = SignedMeterData(
        encoding_method="OCMF",
        public_key=METER.public_key,
        records=tuple([await vault.seal(text, identifier=DRIVER) for text in TEXTS]),
    )
    commitment = meter_commitment(meter_record(TEXTS, public_key=METER.public_key), salt=SALT)
    salt = await vault.seal(SALT.hex(), identifier=DRIVER)
    meter = MeterCommitted(commitment=commitment, public_key=METER.public_key, salt=salt)
    return replace(accepted(a_cdr(cdr_id, signed_data=data)), meter=meter)


async def kept(world: World) -> list[MeterRecordKept]:
    async with world.ports.units.begin() as unit:
        return await unit.table(METER_RECORD).select()


async def test_the_leaf_commits_to_what_is_kept_and_a_repetition_changes_nothing(world: World) -> None:
    event = await metered(world, "signed")
    await world.take(event, accepted(a_cdr("unsigned")))
    await world.take(event)

    leaves: dict[str, Any] = {leaf.cdr_id: leaf.meter for leaf in await world.leaves()}
    (row,) = await kept(world)
    opened = await open_meter(world.ports.vault, row)
    assert leaves == {"signed": meter_commitment(opened.record, salt=opened.salt), "unsigned": NO_METER}
    assert opened.texts == TEXTS


async def test_once_the_driver_is_erased_nobody_opens_the_commitment(world: World) -> None:
    await world.take(await metered(world, "signed"))
    (row,) = await kept(world)

    await world.ports.vault.erase(row.salt.subject)

    with pytest.raises(SubjectErased):
        await open_meter(world.ports.vault, row)
