"""An acceptance tells the settlement what stands for the meter's signed records, apart from what the receipt shows."""

from __future__ import annotations

from typing import Any

from emobility.domain.batch.meter import meter_commitment
from emobility.events.cdr import CDRAccepted
from emobility.events.codec import encode
from emobility.protocols.ocmf.committing import meter_record
from tests.mobility.test_signed_records import METER, charged, signed_by_the_meter


async def told(world: Any) -> CDRAccepted:
    events = [each.envelope.event async for each in world.ports.event_log.read(["cdrs"])]
    (event,) = [event for event in events if isinstance(event, CDRAccepted)]
    return event


async def test_an_acceptance_commits_to_the_signed_records_and_seals_the_salt(memory_world: Any) -> None:
    await memory_world.enrol()
    signed = await signed_by_the_meter(memory_world)

    cdr = await charged(memory_world, "S1", signed)

    event, vault = await told(memory_world), memory_world.ports.vault
    assert event.meter is not None
    salt = bytes.fromhex(await vault.open(event.meter.salt))
    texts = [await vault.open(record) for record in signed.records]
    assert event.meter.commitment == meter_commitment(meter_record(texts, public_key=METER.public_key), salt=salt)
    assert event.meter.salt.subject == cdr.token.contract_id.subject
    assert salt.hex().encode() not in encode(event)


async def test_an_acceptance_of_unsigned_values_commits_to_no_meter(memory_world: Any) -> None:
    await memory_world.enrol()

    await charged(memory_world, "S1", None)

    assert (await told(memory_world)).meter is None
