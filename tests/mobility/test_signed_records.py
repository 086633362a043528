"""A signed meter record proves one session for ever, whoever brings it again and whatever the agreement asks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from emobility.domain.agreement import SignedMeterPolicy
from emobility.domain.cdr import CDR, SignedMeterData, credit_of
from emobility.domain.identifiers import PartyId
from emobility.protocols.ocmf import VerifiedCharge, verify_charge_alone
from services.driver_mobility.records import METER_KEY, USED_RECORD, UsedSignedRecord
from tests.mobility.conftest import agreement, sign
from tests.ocmf.meter import Meter, value

MSP = PartyId("NL-EMA")
CPO = PartyId("NL-TNM")
METER = Meter()


async def signed_by_the_meter(world: Any, meter: Meter = METER) -> SignedMeterData:
    """The records of a charge of 10 kWh."""
    records = meter.record(1, value("B", "100.000", 0)), meter.record(2, value("E", "110.000", 59))
    return SignedMeterData(
        encoding_method="OCMF",
        public_key=meter.public_key,
        records=tuple([await world.ports.vault.seal(record) for record in records]),
    )


async def charged(world: Any, session_id: str, signed: SignedMeterData | None, *, parking_s: int = 0) -> CDR:
    """A charge from now on, billed with these records once it ended; returns its CDR."""
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge(
        session_id,
        reference=info.authorization_reference,
        started_at=world.clock.now(),
        parking_s=parking_s,
    )
    proven: CDR = replace(cdr, signed_data=signed)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(proven)
    await world.quiet()
    return proven


@pytest.mark.parametrize("policy", [SignedMeterPolicy.VERIFIED_IF_PRESENT, SignedMeterPolicy.NOT_REQUIRED])
async def test_records_that_proved_a_charge_prove_no_other(world: Any, policy: SignedMeterPolicy) -> None:
    driver_id = await world.enrol()
    await sign(world, agreement(version=2, signed_meter_policy=policy))
    signed = await signed_by_the_meter(world)

    await charged(world, "S1", signed)
    await charged(world, "S2", signed)

    assert await world.cdr_states() == {"S1": "ACCEPTED", "S2": "DISPUTED"}
    assert [(dispute.cdr_id, dispute.reason) for dispute in world.cpo.disputes] == [("S2", "METER_RECORD_REUSED")]
    assert (await world.account(driver_id))["billed_e4"] == 54_450


async def test_an_operator_cannot_accept_what_was_proven_by_used_records(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    signed = await signed_by_the_meter(memory_world)
    await charged(memory_world, "S1", signed)
    await charged(memory_world, "S2", signed)

    await memory_world.call("POST", f"/{MSP}/cdrs/{CPO}/S2/accept", expect=409)

    assert (await memory_world.account(driver_id))["billed_e4"] == 54_450


async def test_one_used_page_is_enough_and_another_cpo_may_have_used_it(memory_world: Any) -> None:
    await memory_world.enrol()
    signed = await signed_by_the_meter(memory_world)
    await charged(memory_world, "S1", signed)
    async with memory_world.ports.units.begin() as unit:
        first, second = await unit.table(USED_RECORD).select({"party_id": MSP})
        await unit.table(USED_RECORD).delete(MSP, first.payload_sha256)
        stolen: UsedSignedRecord = replace(second, cpo_id=PartyId("NL-XXX"))
        await unit.table(USED_RECORD).put(stolen)
        await unit.commit()

    await charged(memory_world, "S2", signed)

    assert [dispute.reason for dispute in memory_world.cpo.disputes] == ["METER_RECORD_REUSED"]


async def test_a_credit_and_a_replacement_of_the_session_bring_its_records_again(world: Any) -> None:
    driver_id = await world.enrol()
    cdr = await charged(world, "S1", await signed_by_the_meter(world))
    later = cdr.issued_at + timedelta(minutes=1)

    await world.cpo.post_cdr(credit_of(cdr, cdr_id="S1-C", issued_at=later, remark="wrong address"))
    await world.cpo.post_cdr(replace(cdr, cdr_id="S1-R", issued_at=later))
    await world.quiet()

    assert await world.cdr_states() == {"S1": "CREDITED", "S1-C": "ACCEPTED", "S1-R": "ACCEPTED"}
    assert (await world.account(driver_id))["billed_e4"] == 54_450


async def test_a_cdr_that_is_accepted_has_its_signatures_verified_once(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(records: list[str], *, public_key_hex: str) -> VerifiedCharge:
        asked.append(len(records))
        return verify_charge_alone(records, public_key_hex=public_key_hex)

    monkeypatch.setattr("services.driver_mobility.metering.verify_charge_alone", counted)
    await memory_world.enrol()

    await charged(memory_world, "S1", await signed_by_the_meter(memory_world))

    async with memory_world.ports.units.begin() as unit:
        used = await unit.table(USED_RECORD).select({"party_id": MSP})
    assert (asked, len(used)) == ([2], 2)


async def test_a_disputed_cdr_uses_no_record_up(memory_world: Any) -> None:
    await memory_world.enrol()
    signed = await signed_by_the_meter(memory_world)
    info = await memory_world.cpo.authorize()
    _, wrong = await memory_world.cpo.charge("S0", reference=info.authorization_reference)
    await memory_world.cpo.post_cdr(replace(wrong, signed_data=signed, total_charging_s=1))
    await memory_world.quiet()

    await charged(memory_world, "S1", signed)

    assert await memory_world.cdr_states() == {"S0": "DISPUTED", "S1": "ACCEPTED"}


@pytest.mark.parametrize(("parking_s", "is_disputed"), [(1_200, True), (0, False)])
async def test_time_is_not_owed_where_the_meters_clock_was_not_synchronised(
    memory_world: Any, parking_s: int, is_disputed: object
) -> None:
    await memory_world.enrol()
    await sign(memory_world, agreement(version=2, signed_meter_policy=SignedMeterPolicy.VERIFIED_IF_PRESENT))
    stamp = "2022-03-27T10:00:00,000+0200"
    records = (
        METER.record(1, value("B", "100.000", 0, TM=f"{stamp} I")),
        METER.record(2, value("E", "110.000", 0, TM=f"{stamp} I")),
    )
    signed = SignedMeterData(
        encoding_method="OCMF",
        public_key=METER.public_key,
        records=tuple([await memory_world.ports.vault.seal(record) for record in records]),
    )

    await charged(memory_world, "S1", signed, parking_s=parking_s)

    found = [(each.cdr_id, each.reason) for each in memory_world.cpo.disputes]
    assert found == ([("S1", "METER_TIME_NOT_MEASURED")] if is_disputed else [])


@pytest.mark.parametrize(("moment", "state"), [(timedelta(hours=-1), "ACCEPTED"), (timedelta(hours=1), "DISPUTED")])
async def test_a_key_proves_what_was_charged_from_its_moment_on(
    memory_world: Any, moment: timedelta, state: str
) -> None:
    await memory_world.enrol()
    await sign(memory_world, agreement(version=2, signed_meter_policy=SignedMeterPolicy.REQUIRED))
    path = f"/{MSP}/meter-keys/{CPO}/E1"
    old = {"public_key": Meter().public_key, "why": "printed on the meter"}
    await memory_world.call("PUT", path, old)
    at = memory_world.clock.now() + moment
    await memory_world.call("PUT", path, {"public_key": METER.public_key, "valid_from": at, "why": "replaced"})

    await charged(memory_world, "S1", await signed_by_the_meter(memory_world))

    assert await memory_world.cdr_states() == {"S1": state}


@pytest.mark.parametrize("is_by_operator", [False, True])
async def test_the_key_known_before_the_first_dated_one_still_holds_for_what_was_charged_before(
    memory_world: Any, is_by_operator: object
) -> None:
    await memory_world.enrol()
    await sign(memory_world, agreement(version=2, signed_meter_policy=SignedMeterPolicy.VERIFIED_IF_PRESENT))
    await charged(memory_world, "S0", await signed_by_the_meter(memory_world))
    if is_by_operator:
        async with memory_world.ports.units.begin() as unit:
            (known,) = await unit.table(METER_KEY).select({"party_id": MSP})
            await unit.table(METER_KEY).put(replace(known, is_by_operator=True))
            await unit.commit()
    other, at = Meter(serial="EM2"), memory_world.clock.now() + timedelta(hours=1)
    body = {"public_key": Meter().public_key, "valid_from": at, "why": "replaced"}
    await memory_world.call("PUT", f"/{MSP}/meter-keys/{CPO}/E1", body)

    await charged(memory_world, "S1", await signed_by_the_meter(memory_world, other))

    reasons = [(each.cdr_id, each.reason) for each in memory_world.cpo.disputes]
    assert reasons == [("S1", "METER_SIGNATURE_INVALID")]


async def test_what_is_no_key_is_not_pinned(memory_world: Any) -> None:
    await memory_world.call("PUT", f"/{MSP}/meter-keys/{CPO}/E1", {"public_key": "42"}, expect=422)


async def test_a_key_is_not_pinned_from_a_moment_that_nobody_can_tell(memory_world: Any) -> None:
    body = {"public_key": METER.public_key, "valid_from": "2022-03-27T10:00:00", "why": "replaced"}

    await memory_world.call("PUT", f"/{MSP}/meter-keys/{CPO}/E1", body, expect=422)
