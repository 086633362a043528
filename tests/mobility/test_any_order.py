"""An original, its credit, its replacement and the session arrive in any order, and twice: the books end the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from emobility.adapters.memory import run_virtual
from emobility.adapters.payments.test_provider import PAYMENT
from emobility.domain.cdr import CDR, credit_of
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.session import Session
from emobility.events.cdr import CDRAccepted, CDRWithdrawn
from services.driver_mobility.checking import LAST_LOOK
from services.driver_mobility.records import ACCOUNT, BILL, CDRS, CDRRecord, CDRState
from tests.mobility.conftest import agreement, sign

MSP = PartyId("NL-EMA")
CPO = PartyId("NL-TNM")
LATER = timedelta(hours=1)
CENT_E4 = 100
BILLED_E4 = 43_560
"""8 kWh at 0.45 and 21 % VAT."""
OWED_E4 = 24_000
"""8 kWh at 0.30, net."""


@dataclass(frozen=True)
class Correction:
    """A session of 10 kWh that was billed, taken back and billed as 8 kWh."""

    session: Session
    original: CDR
    credit: CDR
    replacement: CDR
    corrected_session: Session

    async def arrive(self, world: Any, name: str) -> None:
        document = getattr(self, name)
        await (world.cpo.push_session(document) if isinstance(document, Session) else world.cpo.post_cdr(document))


NAMES = ("session", "original", "credit", "replacement", "corrected_session")


async def corrected(world: Any) -> Correction:
    info = await world.cpo.authorize()
    session, original = await world.cpo.charge("S1", reference=info.authorization_reference)
    less_session, less = await world.cpo.charge("S1", reference=info.authorization_reference, energy_wh=8_000)
    later = original.issued_at + LATER
    return Correction(
        session=session,
        original=original,
        credit=credit_of(original, cdr_id="S1-C", issued_at=later, remark="the meter was read wrong"),
        replacement=replace(less, cdr_id="S1-R", issued_at=later),
        corrected_session=replace(less_session, last_updated=later),
    )


async def refuse_other_books(world: Any, driver_id: str) -> None:
    assert await world.cdr_states() == {"S1": "CREDITED", "S1-C": "ACCEPTED", "S1-R": "ACCEPTED"}
    account = await world.account(driver_id)
    assert account["billed_e4"] == BILLED_E4 == account["paid_e4"] + account["outstanding_e4"]
    assert abs(account["outstanding_e4"]) < CENT_E4
    async with world.ports.units.begin() as unit:
        bills = await unit.table(BILL).select()
        payments = await unit.table(PAYMENT).select()
    assert [(bill.cdr_id, bill.total_incl_e4) for bill in bills if not bill.credited_incl_e4] == [("S1-R", BILLED_E4)]
    assert sum(payment.captured_e4 - payment.refunded_e4 for payment in payments) == account["paid_e4"]
    assert all(payment.held_e4 == 0 for payment in payments)
    disputes = await world.call("GET", f"/{MSP}/disputes")
    assert all(dispute["resolution"] for dispute in disputes)
    assert await accepted_e4(world) == OWED_E4


async def accepted_e4(world: Any) -> int:
    """What the facts of acceptance add up to; who settles adds up nothing else."""
    events = [each.envelope.event async for each in world.ports.event_log.read(["cdrs"])]
    return sum(event.cdr.total_cost.excl_e4 for event in events if isinstance(event, CDRAccepted))


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(order=st.permutations(NAMES), again=st.sets(st.sampled_from(NAMES)), is_slow=st.booleans())
def test_any_order_of_arrival_gives_the_same_books(
    open_world: Any, *, order: list[str], again: set[str], is_slow: bool
) -> None:
    async def history() -> None:
        async with open_world() as world:
            driver_id = await world.enrol()
            documents = await corrected(world)
            for name in order:
                for _ in range(2 if name in again else 1):
                    await documents.arrive(world, name)
                    if is_slow:
                        await world.quiet()
            await world.quiet()
            await refuse_other_books(world, driver_id)

            logged = [each async for each in world.ports.event_log.read(["cdrs"])]
            async with world.ports.units.begin() as unit:
                before = await unit.table(ACCOUNT).select(), await unit.table(BILL).select()
                await world.service.checking.handle(unit, logged)
                await unit.commit()
            async with world.ports.units.begin() as unit:
                assert (await unit.table(ACCOUNT).select(), await unit.table(BILL).select()) == before
            assert len([each async for each in world.ports.event_log.read(["cdrs"])]) == len(logged)

    run_virtual(history())


@pytest.mark.parametrize(
    "order",
    [
        ("session", "credit", "original", "corrected_session", "replacement"),
        ("session", "original", "replacement", "credit", "corrected_session"),
        ("corrected_session", "replacement", "original", "credit", "session"),
    ],
)
async def test_the_books_are_the_same_on_a_database(world: Any, order: tuple[str, ...]) -> None:
    driver_id = await world.enrol()
    documents = await corrected(world)

    for name in order:
        await documents.arrive(world, name)
        await world.quiet()

    await refuse_other_books(world, driver_id)


async def test_a_disputed_cdr_that_is_credited_was_never_owed_and_its_credit_is_not_either(memory_world: Any) -> None:
    await memory_world.enrol()
    documents = await corrected(memory_world)
    dearer = replace(documents.original, total_cost=Price(excl_e4=990_000), total_energy_cost=Price(excl_e4=990_000))
    await documents.arrive(memory_world, "session")

    await memory_world.cpo.post_cdr(dearer)
    await memory_world.quiet()
    credit = credit_of(dearer, cdr_id="S1-C", issued_at=dearer.issued_at + LATER, remark="taken back")
    await memory_world.cpo.post_cdr(credit)
    await memory_world.quiet()

    assert await accepted_e4(memory_world) == 0
    events = [each.envelope.event async for each in memory_world.ports.event_log.read(["cdrs"])]
    withdrawn = [(event.cdr_id, event.credit_id) for event in events if isinstance(event, CDRWithdrawn)]
    assert withdrawn == [("S1", "S1-C")]


async def test_a_credit_that_came_first_ends_its_original_before_it_is_billed(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    documents = await corrected(memory_world)
    await documents.arrive(memory_world, "credit")
    await memory_world.quiet()
    waiting = await memory_world.cdr_states()

    await documents.arrive(memory_world, "original")
    await memory_world.quiet()

    assert waiting == {"S1-C": "WAITING"}
    assert await memory_world.cdr_states() == {"S1": "CREDITED", "S1-C": "ACCEPTED"}
    assert await memory_world.account(driver_id) == {}
    assert memory_world.cpo.disputes == []


async def test_a_credit_is_disputed_before_its_dispute_period_ends_and_matched_when_its_original_comes_after_all(
    memory_world: Any,
) -> None:
    await memory_world.enrol()
    documents = await corrected(memory_world)
    await documents.arrive(memory_world, "credit")
    await memory_world.quiet()

    memory_world.clock.step_by(timedelta(hours=72) - LAST_LOOK - timedelta(minutes=1))
    await memory_world.service.sweep()
    in_time = await memory_world.cdr_states()
    memory_world.clock.step_by(timedelta(minutes=2))
    await memory_world.service.sweep()
    await memory_world.quiet()

    assert in_time == {"S1-C": "WAITING"}
    assert await memory_world.cdr_states() == {"S1-C": "DISPUTED"}
    (dispute,) = await memory_world.call("GET", f"/{MSP}/disputes")
    (credit,) = await memory_world.call("GET", f"/{MSP}/cdrs")
    assert [each.reason for each in memory_world.cpo.disputes] == ["CREDIT_WITHOUT_ORIGINAL"]
    assert dispute["disputed_at"] < credit["decide_by"]

    await documents.arrive(memory_world, "original")
    await memory_world.quiet()

    assert await memory_world.cdr_states() == {"S1": "CREDITED", "S1-C": "ACCEPTED"}
    (dispute,) = [each for each in await memory_world.call("GET", f"/{MSP}/disputes") if each["cdr_id"] == "S1-C"]
    assert dispute["resolution"] == "what it had overtaken arrived"


async def test_a_replacement_without_its_credit_is_disputed_in_time_and_never_deemed_accepted(world: Any) -> None:
    driver_id = await world.enrol()
    documents = await corrected(world)
    for name in ("session", "original", "corrected_session", "replacement"):
        await documents.arrive(world, name)
        await world.quiet()
    waiting = await world.cdr_states()

    world.clock.step_by(timedelta(hours=72) - LAST_LOOK + timedelta(minutes=1))
    await world.service.sweep()
    world.clock.step_by(timedelta(hours=2))
    await world.service.sweep()
    await world.quiet()

    assert waiting == {"S1": "ACCEPTED", "S1-R": "WAITING"}
    assert await world.cdr_states() == {"S1": "ACCEPTED", "S1-R": "DISPUTED"}
    assert [dispute.reason for dispute in world.cpo.disputes] == ["SESSION_CHARGED_TWICE"]
    assert (await world.account(driver_id))["billed_e4"] == 54_450


async def test_where_the_dispute_period_is_too_short_nothing_waits(memory_world: Any) -> None:
    await memory_world.enrol()
    await sign(memory_world, agreement(version=2, dispute_period_h=1))
    documents = await corrected(memory_world)

    await documents.arrive(memory_world, "credit")
    await memory_world.quiet()

    assert await memory_world.cdr_states() == {"S1-C": "DISPUTED"}


async def test_a_replacement_that_overtook_its_session_waits_for_it(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    documents = await corrected(memory_world)
    for name in ("session", "original", "credit", "replacement"):
        await documents.arrive(memory_world, name)
        await memory_world.quiet()
    waiting = await memory_world.cdr_states()

    await documents.arrive(memory_world, "corrected_session")
    await memory_world.quiet()

    assert waiting["S1-R"] == "WAITING"
    assert memory_world.cpo.disputes == []
    await refuse_other_books(memory_world, driver_id)


async def test_silence_does_not_make_a_second_cdr_of_a_session_owed(world: Any) -> None:
    driver_id = await world.enrol()
    documents = await corrected(world)
    await documents.arrive(world, "session")
    await documents.arrive(world, "original")
    await world.quiet()
    async with world.ports.units.begin() as unit:
        first = await unit.table(CDRS).get(MSP, CPO, "S1")
        second = replace(documents.original, cdr_id="S1-again")
        unseen: CDRRecord = replace(
            first,
            cdr_id="S1-again",
            cdr=second,
            received_at=first.received_at + timedelta(seconds=1),
            state=CDRState.RECEIVED,
        )
        await unit.table(CDRS).insert(unseen)
        await unit.commit()

    world.clock.step_by(timedelta(hours=73))
    await world.service.sweep()
    await world.quiet()

    assert await world.cdr_states() == {"S1": "ACCEPTED", "S1-again": "DISPUTED"}
    assert [dispute.reason for dispute in world.cpo.disputes] == ["SESSION_CHARGED_TWICE"]
    assert (await world.account(driver_id))["billed_e4"] == 54_450


async def test_a_charge_that_is_taken_back_before_it_was_billed_frees_the_drivers_card_and_credit(world: Any) -> None:
    driver_id = await world.enrol(plan_id="plus", credit_limit_e4=60_000)
    documents = await corrected(world)
    await documents.arrive(world, "session")
    wrong = replace(documents.original, total_parking_s=1)
    await world.cpo.post_cdr(wrong)
    await world.quiet()
    while_disputed = await world.cpo.authorize()

    await world.cpo.post_cdr(credit_of(wrong, cdr_id="S1-C", issued_at=wrong.issued_at, remark="never charged"))
    await world.quiet()

    async with world.ports.units.begin() as unit:
        payments = await unit.table(PAYMENT).select()
    assert [payment.held_e4 for payment in payments] == [0]
    assert while_disputed.allowed == "NO_CREDIT"
    assert (await world.cpo.authorize()).allowed == "ALLOWED"
    assert await world.account(driver_id) == {}


async def test_a_cdr_that_waits_keeps_no_other_session_of_its_token_from_being_accepted(memory_world: Any) -> None:
    await memory_world.enrol()
    documents = await corrected(memory_world)
    for name in ("session", "original", "corrected_session"):
        await documents.arrive(memory_world, name)
    longer = replace(documents.replacement, ended_at=documents.replacement.ended_at + timedelta(hours=2))
    waiting = replace(longer, total_energy_import_wh=documents.original.total_energy_import_wh)
    await memory_world.quiet()
    async with memory_world.ports.units.begin() as unit:
        first = await unit.table(CDRS).get(MSP, CPO, "S1")
        overlapping: CDRRecord = replace(
            first, cdr_id="S1-R", cdr=waiting, ended_at=waiting.ended_at, state=CDRState.WAITING
        )
        await unit.table(CDRS).insert(overlapping)
        await unit.commit()

    info = await memory_world.cpo.authorize()
    session, cdr = await memory_world.cpo.charge(
        "S2", reference=info.authorization_reference, started_at=documents.original.ended_at
    )
    await memory_world.cpo.push_session(session)
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()

    assert (await memory_world.cdr_states())["S2"] == "ACCEPTED"
