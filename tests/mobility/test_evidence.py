"""What a receipt will show is kept once a CDR is accepted, and the settlement gets a commitment to it alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emobility.adapters.payments.test_provider import SandboxCard
from emobility.domain.agreement import SignedMeterPolicy
from emobility.domain.batch.hashing import commitment
from emobility.domain.cdr import CDR, SignedMeterData, credit_of
from emobility.domain.personal import SubjectErased
from emobility.domain.receipt.document import canonical
from emobility.events.cdr import CDRAccepted
from emobility.events.codec import encode
from services.driver_mobility.evidence import OpenedEvidence, opened
from services.driver_mobility.records import BILL, CDRS, EVIDENCE, EvidenceKept
from tests.mobility.conftest import CPO, MSP, World, agreement, sign


async def charged(world: World, signed: SignedMeterData | None = None) -> CDR:
    await world.enrol(card=SandboxCard.GOOD.value)
    info = await world.cpo.authorize()
    session, charge = await world.cpo.charge("S1", reference=info.authorization_reference)
    cdr: CDR = replace(charge, signed_data=signed)
    await world.cpo.begin(session)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()
    return cdr


async def kept(world: World, cdr_id: str) -> EvidenceKept:
    async with world.ports.units.begin() as unit:
        row = await unit.table(EVIDENCE).get(MSP, CPO, cdr_id)
    assert row is not None
    return row


async def accepted(world: World) -> dict[str, CDRAccepted]:
    events = [each.envelope.event async for each in world.ports.event_log.read(["cdrs"])]
    return {event.cdr.cdr_id: event for event in events if isinstance(event, CDRAccepted)}


def committed(evidence: OpenedEvidence) -> bytes:
    return commitment(canonical(evidence.record), salt=evidence.salt)


async def test_an_acceptance_commits_to_what_the_receipt_will_show(world: World) -> None:
    cdr = await charged(world)

    evidence = await opened(world.ports.vault, await kept(world, cdr.cdr_id))

    async with world.ports.units.begin() as unit:
        (bill,) = await unit.table(BILL).select()
    assert (await accepted(world))[cdr.cdr_id].commitment == committed(evidence)
    assert (evidence.record.bill_id, evidence.record.total_incl_e4) == (bill.bill_id, bill.total_incl_e4)
    assert evidence.record.import_wh == cdr.total_energy_import_wh
    assert evidence.salt != evidence.meter_salt


@pytest.mark.parametrize("policy", [SignedMeterPolicy.VERIFIED_IF_PRESENT, SignedMeterPolicy.NOT_REQUIRED])
async def test_of_signed_values_that_nobody_can_read_a_receipt_says_no_more_than_that_none_are_shown(
    memory_world: World, policy: SignedMeterPolicy
) -> None:
    await sign(memory_world, agreement(version=2, signed_meter_policy=policy))
    records = (await memory_world.ports.vault.seal("no record"),)
    signed = SignedMeterData(encoding_method="OCMF", public_key="00", records=records)
    cdr = await charged(memory_world, signed)
    if policy is SignedMeterPolicy.VERIFIED_IF_PRESENT:
        await memory_world.call("POST", f"/{MSP}/cdrs/{CPO}/S1/accept")

    evidence = await opened(memory_world.ports.vault, await kept(memory_world, cdr.cdr_id))

    assert evidence.record.meter is None
    assert evidence.record.notes[-1].startswith("No signed meter values are shown; ")


async def test_neither_event_nor_row_tells_the_record_and_the_record_tells_no_wholesale_amount(world: World) -> None:
    cdr = await charged(world)

    row = await kept(world, cdr.cdr_id)
    evidence = await opened(world.ports.vault, row)

    assert evidence.record.bill_id.encode() not in row.evidence.box
    assert b"lines" not in encode((await accepted(world))[cdr.cdr_id])
    assert str(cdr.total_cost.excl_e4).encode() not in canonical(evidence.record)


async def test_a_credit_has_evidence_of_its_own_under_the_bill_it_takes_back(world: World) -> None:
    cdr = await charged(world)
    credit = credit_of(cdr, cdr_id="S1-C1", issued_at=world.clock.now(), remark="wrong")
    await world.cpo.post_cdr(credit)
    await world.quiet()

    charge, taken_back = [await opened(world.ports.vault, await kept(world, each)) for each in ("S1", "S1-C1")]

    assert (await accepted(world))["S1-C1"].commitment == committed(taken_back)
    assert (taken_back.record.kind, taken_back.record.bill_id) == ("CREDIT", charge.record.bill_id)
    assert taken_back.record.total_incl_e4 == -charge.record.total_incl_e4


async def test_once_the_drivers_key_is_gone_the_commitment_means_nothing(world: World) -> None:
    cdr = await charged(world)
    row = await kept(world, cdr.cdr_id)

    await world.ports.vault.erase(row.evidence.subject)

    async with world.ports.units.begin() as unit:
        (record,) = await unit.table(CDRS).select()
    assert row.evidence.subject == record.cdr.token.contract_id.subject
    with pytest.raises(SubjectErased):
        await opened(world.ports.vault, row)
