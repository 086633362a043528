"""A guarantee is called for what an MSP did not pay in time: once, whatever happens, and no payment is lost over it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobility.adapters.chain_signing import party_signer
from emobility.adapters.memory.tables import MemoryTable
from emobility.domain.batch import contracts
from emobility.ports.chain import STRETCH_BLOCKS, Log
from services.settlement.crash_points import CrashPoint
from services.settlement.guarantee_money import standing
from services.settlement.guarantee_records import GUARANTEE, GUARANTEE_CALL, CallPolicy
from services.settlement.guarantees import KeyElsewhere, NoGuarantee, NothingToTake
from services.settlement.money_records import DISCHARGE, PAYABLE, PAYOUT, DischargeState
from services.settlement.payment_netting import plans
from services.settlement.payouts import NothingToPay
from services.settlement.records import OPENING, PARTY, TransactionState
from services.settlement.sending import REFUSES, lost
from tests.banking.bank_files import entry
from tests.chains import a_chain_world, an_anvil
from tests.settlement.bank_desk import DUE
from tests.settlement.guaranteed import GRACE_D, LIMIT_E4, Guaranteed
from tests.settlement.market import MASTER_KEY
from tests.settlement.settling import Crashed, open_settling
from tests.settlement.test_restored import backed_up
from tests.settlement.world import CPO, MSP

EXAMPLES = int(os.environ.get("WATTROAM_FUZZ_EXAMPLES", "8"))
LATE_D = 14 + GRACE_D + 1
"""After so many days what became final on the first may be taken."""
POINTS = (
    CrashPoint.BYTES_SIGNED,
    CrashPoint.BYTES_STORED,
    CrashPoint.BYTES_SENT,
    CrashPoint.SENDING_NOTED,
    CrashPoint.BLOCK_SEEN,
)


@pytest.fixture
async def desk(dsn: str | None) -> AsyncIterator[Guaranteed]:
    async with open_settling(dsn) as here:
        yield await Guaranteed.over(here)


@pytest.fixture
async def memory_desk() -> AsyncIterator[Guaranteed]:
    async with open_settling() as here:
        yield await Guaranteed.over(here)


async def assert_taken_once(desk: Guaranteed, amount_e4: int) -> None:
    """See that book, rows and what was told agree on one call."""
    state, row = await desk.state(), await desk.row()
    assert (row.taken_e4, row.limit_e4, state.credit_limit_e4) == (amount_e4, *[LIMIT_E4 - amount_e4] * 2)
    assert await desk.told_of() == [amount_e4]
    report = await desk.here.audit()
    assert (report.differences, report.why_quick) == ((), None)


async def test_what_is_not_paid_within_term_and_grace_is_taken_and_a_bank_moves_the_tax_alone(desk: Guaranteed) -> None:
    await desk.owes("s1", 277_849)
    before = await desk.here.market.collateral_of(1) + await desk.here.market.collateral_of(2)
    await desk.days_pass(LATE_D - 1)
    in_time = await desk.state()

    await desk.days_pass(1)

    state = await desk.state()
    assert (in_time.owed_e4, state.owed_e4) == (277_849, 49)
    assert await desk.here.market.collateral_of(1) + await desk.here.market.collateral_of(2) == before
    assert (await desk.payout()).taken_cents == 2_778
    exposure = await desk.exposure()
    assert (exposure.owed_e4, exposure.limit_e4) == (49, LIMIT_E4 - 277_800)
    assert (await desk.export()).cents == 583
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "5.83", reference="B-1", on=DUE))
    assert await desk.rows(DISCHARGE) == []
    await assert_taken_once(desk, 277_800)


async def test_the_operator_decides_unless_it_said_otherwise() -> None:
    async with open_settling() as here:
        desk = await Guaranteed.over(here, calls=CallPolicy.BY_OPERATOR)
        await desk.owes("s1", 1_000_000)
        with pytest.raises(NothingToTake):
            await desk.guarantees.call(CPO, desk.agreement.agreement_id)
        await desk.days_pass(LATE_D)
        shown = await desk.standing()
        nothing_yet = await desk.calls()

        await desk.guarantees.call(CPO, desk.agreement.agreement_id)
        with pytest.raises(NothingToTake):
            await desk.guarantees.call(CPO, desk.agreement.agreement_id)
        await desk.follow()

        assert shown.overdue is not None
        assert (shown.overdue.amount_e4, shown.overdue.due_on, nothing_yet) == (1_000_000, DUE, [])
        assert shown.callable_from == DUE + timedelta(days=GRACE_D + 1)
        await assert_taken_once(desk, 1_000_000)
        with pytest.raises(NothingToTake):
            await desk.guarantees.call(CPO, desk.agreement.agreement_id)
        with pytest.raises(NoGuarantee):
            await desk.guarantees.call(MSP, desk.agreement.agreement_id)


async def test_what_was_paid_in_time_is_not_taken(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.export()
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "121.00", reference="B-1", on=DUE))

    await desk.days_pass(LATE_D)

    assert await desk.calls() == []
    assert (await desk.state()).owed_e4 == 0


async def test_a_payment_that_crosses_with_the_call_lowers_the_next_one(desk: Guaranteed) -> None:
    await desk.owes("s1", 1_000_000)
    await desk.export()
    name = (await desk.payout()).end_to_end_id
    with desk.here.chain.held():
        desk.pass_days(LATE_D)
        desk.here.fake.fake.mine()  # time passes on a chain with its blocks
        await desk.here.follow_steps(3)
        (call,) = await desk.calls()
        outcomes = await desk.arrives(entry(name, "121.00", reference="B-1", on=DUE))
        await desk.here.follow_steps(3)
    await desk.here.follow()
    waiting = (await desk.exposure()).owed_e4
    await desk.owes("s2", 400_000)
    after_s2 = await desk.state()
    await desk.owes("s3", 1_100_000)
    await desk.here.follow()

    export = await desk.export()

    assert after_s2.owed_e4 == 0
    assert (call.state, outcomes) == (TransactionState.SENT, {"MATCHED": 1})
    assert waiting == -1_000_000
    assert export.cents == 5_000 + 3_150  # 150.00 less 100.00, and the tax on 150.00
    assert (await desk.exposure()).owed_e4 == 500_000 == (await desk.state()).owed_e4
    assert {row.state for row in await desk.rows(DISCHARGE)} == {DischargeState.FINAL}
    await assert_taken_once(desk, 1_000_000)


async def test_a_payment_after_the_call_counts_for_its_statement_and_what_was_taken_for_the_next(
    memory_desk: Guaranteed,
) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.owes("s2", 1_500_000)
    await desk.charge("s3", 300_000)
    await desk.export()
    (name,) = [row.end_to_end_id for row in await desk.rows(PAYOUT)]
    await desk.days_pass(LATE_D)
    taken = await desk.row()

    outcomes = await desk.arrives(entry(name, "302.50", reference="B-1", on=DUE))
    await desk.settle()
    await desk.here.follow()

    async with desk.here.world.ports.units.begin() as unit:
        (netting,) = await plans(unit)
    assert taken.taken_e4 == 2_500_000
    assert [each.amount_e4 for each in netting.debts] == [63_000]
    assert outcomes == {"MATCHED": 1}
    assert (await desk.exposure()).owed_e4 == 300_000 - 2_500_000
    assert (await desk.export()).cents == 6_30  # the tax on 30.00 alone
    assert (await desk.state()).owed_e4 == 0
    await assert_taken_once(desk, 2_500_000)


async def test_a_call_that_the_book_refuses_is_taken_back(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    desk.pass_days(LATE_D)
    follower = desk.follower()
    await follower._guarantees.advance()  # queued, and not sent
    await desk.call_with_another_tool(1, 990_000)

    await desk.here.follow(follower)
    refused = await desk.calls()
    await desk.days_pass(1)

    calls = await desk.calls()
    assert refused == []
    assert [each.state for each in calls] == [TransactionState.FINAL]
    assert await desk.told_of() == [990_000, 10_000]
    assert ((await desk.state()).owed_e4, (await desk.row()).taken_e4) == (0, 1_000_000)


async def test_what_was_paid_before_a_call_is_signed_is_not_taken(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.export()
    desk.pass_days(LATE_D)
    follower = desk.follower()
    await follower._guarantees.advance()  # queued, and not sent
    await desk.sign_by_themselves(MSP)  # so that the book does not hear of what it pays
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "121.00", reference="B-1", on=DUE))

    await desk.here.follow(follower)

    assert (await desk.calls(), await desk.told_of()) == ([], [])
    assert (await desk.state()).owed_e4 == 1_000_000


async def test_a_call_that_the_book_refuses_for_whatever_is_asked_anew_under_another_name() -> None:
    async with open_settling() as here:
        desk = await Guaranteed.over(here, calls=CallPolicy.BY_OPERATOR)
        await desk.owes("s1", 1_000_000)
        await desk.days_pass(LATE_D)
        _, first = await desk.guarantees.call(CPO, desk.agreement.agreement_id)
        await here.restore(lambda row: replace(row, waiting=f"{REFUSES}Paused") if row == first else row)

        await desk.guarantees.advance()
        shown = await desk.standing()
        _, again = await desk.guarantees.call(CPO, desk.agreement.agreement_id)

        assert (shown.row.waiting, shown.on_its_way) == (f"{REFUSES}Paused", None)
        assert again.transaction_id != first.transaction_id


async def test_of_a_debt_that_a_call_not_heard_yet_took_nothing_is_taken_again(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 500_000)
    await desk.export()
    await desk.owes("s2", 500_000)
    await desk.sign_by_themselves(MSP)  # so that the discharge of what it pays waits, and the book says 100.00
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "60.50", reference="B-1", on=DUE))
    await desk.here.follow()
    desk.pass_days(LATE_D)
    await desk.call_with_another_tool(2, 500_000)

    with pytest.raises(NothingToTake):
        await desk.guarantees.call(CPO, desk.agreement.agreement_id)

    await desk.follow()
    assert await desk.told_of() == [500_000]


async def test_while_a_call_that_rows_forgot_still_waits_none_is_made(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    restore = backed_up(desk.here)
    with desk.here.chain.held():
        desk.pass_days(LATE_D)
        desk.here.fake.fake.mine()
        await desk.here.follow_steps(3)
        (call,) = await desk.calls()
        restore()
        await desk.here.follow_steps(3)
        calls, row = await desk.calls(), await desk.row()
    await desk.follow()

    assert (call.state, calls) == (TransactionState.SENT, [])
    assert row.waiting == "a transaction of the CPO's account that did not go out from here"
    await assert_taken_once(desk, 1_000_000)


async def test_what_was_paid_twice_lowers_what_is_owed_under_newer_terms(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.export()
    name = (await desk.payout()).end_to_end_id
    await desk.days_pass(LATE_D)
    await desk.arrives(entry(name, "121.00", reference="B-1", on=DUE))
    await desk.follow()
    waiting = {row.state for row in await desk.rows(DISCHARGE)}
    await desk.renew(2 * LIMIT_E4)
    await desk.owes("s2", 1_500_000)
    async with desk.here.world.ports.units.begin() as unit:
        (netting,) = await plans(unit)
    desk.pass_days(15)
    await desk.sign_by_themselves(CPO)
    newer = (await desk.guarantees.of_party(CPO))[-1]
    await desk.sign_by_themselves(CPO, is_so=False)

    export = await desk.export()
    payouts = await desk.rows(PAYOUT)
    owed_e4 = (await desk.exposure()).owed_e4
    await desk.follow()

    assert waiting == {DischargeState.OPEN}
    assert [each.amount_e4 for each in netting.debts] == [815_000]
    assert newer.overdue is not None
    assert (newer.row.version, newer.overdue.amount_e4) == (2, 500_000)
    assert export.cents == 5_000 + 3_150  # 150.00 less 100.00, and the tax on 150.00
    assert sorted((each.version, each.taken_cents) for each in payouts) == [(1, 0), (2, 10_000)]
    assert owed_e4 == 500_000
    assert {row.state for row in await desk.rows(DISCHARGE)} == {DischargeState.FINAL}
    assert [each.owed_e4 for each in await desk.states()] == [0, 500_000]
    assert (await desk.here.audit()).differences == ()


async def test_payments_that_nothing_is_open_of_are_not_locked_for_what_was_taken(
    memory_desk: Guaranteed, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.days_pass(LATE_D)
    first = (await desk.payout()).end_to_end_id
    await desk.owes("s2", 400_000)
    locks: list[str] = []
    get_for_update = MemoryTable.get_for_update

    async def spied(table: MemoryTable[Any], *key: Any) -> Any:
        if table.rows.spec.name == PAYOUT.name:
            locks.append(key[1])
        return await get_for_update(table, *key)

    monkeypatch.setattr(MemoryTable, "get_for_update", spied)
    await desk.days_pass(LATE_D)

    second = next(row for row in await desk.rows(PAYOUT) if row.end_to_end_id != first)
    assert second.taken_cents == 4_000
    assert set(locks) == {second.end_to_end_id}


async def test_what_was_taken_is_put_against_payments_of_newer_terms_that_are_made_already(
    memory_desk: Guaranteed,
) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.export()
    name = (await desk.payout()).end_to_end_id
    await desk.days_pass(LATE_D)
    await desk.renew(2 * LIMIT_E4)
    await desk.owes("s2", 1_500_000)
    await desk.export()

    await desk.arrives(entry(name, "121.00", reference="B-1", on=DUE))

    payouts = await desk.rows(PAYOUT)
    assert sorted((each.version, each.taken_cents) for each in payouts) == [(1, 0), (2, 10_000)]


async def test_what_was_taken_pays_older_debts_before_those_of_newer_terms(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.export()
    name = (await desk.payout()).end_to_end_id
    await desk.days_pass(LATE_D)
    await desk.owes("s2", 400_000)
    await desk.arrives(entry(name, "121.00", reference="B-1", on=DUE))
    await desk.renew(2 * LIMIT_E4)
    await desk.owes("s3", 1_500_000)

    async with desk.here.world.ports.units.begin() as unit:
        paid = [(await standing(unit, (CPO, desk.agreement.agreement_id, version)))[1] for version in (1, 2)]
    export = await desk.export()

    assert paid == [2_000_000, 600_000]
    assert export.cents == 840 + 9_000 + 3_150  # the tax on 40.00, and 150.00 less 60.00 with the tax on all


async def test_a_payment_that_no_guarantee_paid_too_lowers_nothing_under_newer_terms(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.export()
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "121.00", reference="B-1", on=DUE))
    await desk.here.follow()
    (done,) = await desk.rows(DISCHARGE)
    more = replace(done, discharge_id=f"{done.discharge_id}-2", state=DischargeState.OPEN, number=None)
    async with desk.here.world.ports.units.begin() as unit:  # as where a verdict took some of the debt away
        await unit.table(DISCHARGE).insert(more)
        await unit.commit()
    await desk.renew(2 * LIMIT_E4)

    await desk.owes("s2", 1_500_000)

    assert [each.owed_e4 for each in await desk.states()] == [0, 1_500_000]
    assert [(each.version, each.state) for each in await desk.rows(DISCHARGE)][1:] == [(1, DischargeState.OPEN)]


async def test_what_its_cpo_took_with_another_tool_is_heard(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    desk.pass_days(15)
    await desk.call_with_another_tool(1, 400_000)

    await desk.here.follow()

    await assert_taken_once(desk, 400_000)
    assert (await desk.payout()).taken_cents == 4_000


@pytest.mark.parametrize("point", POINTS)
async def test_a_process_that_dies_calls_once(point: CrashPoint) -> None:
    async with open_settling() as here:
        desk = await Guaranteed.over(here)
        await desk.owes("s1", 1_000_000)
        desk.pass_days(LATE_D)
        with pytest.raises(Crashed):
            await here.follow(desk.follower(dies_at=point))

        await here.follow()

        assert len(await desk.calls()) == 1
        await assert_taken_once(desk, 1_000_000)


async def test_a_restored_database_calls_nothing_twice_and_hears_what_it_forgot(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    restore = backed_up(desk.here)
    await desk.days_pass(LATE_D)
    restore()

    await desk.days_pass(1)

    assert await desk.calls() == []
    await assert_taken_once(desk, 1_000_000)


async def test_a_call_whose_final_block_is_lost_is_sent_again_and_counts_once(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.days_pass(LATE_D)
    desk.here.fake.fake.reorganise(3, keep_transactions=False)
    lost = await desk.state()

    await desk.here.follow()

    assert lost.credit_limit_e4 == LIMIT_E4
    assert len(await desk.calls()) == 1
    await assert_taken_once(desk, 1_000_000)


async def test_a_call_that_is_signed_anew_after_its_final_block_was_lost_counts_once(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.days_pass(LATE_D)
    (before,) = await desk.rows(GUARANTEE_CALL)
    desk.here.fake.fake.reorganise(3, keep_transactions=False)
    chain, token = desk.here.chain, desk.here.market.contracts.token
    await chain.sent(token, contracts.APPROVE.call(token, 1), by=party_signer(MASTER_KEY, CPO))  # takes its nonce

    await desk.here.follow()

    (after,) = await desk.rows(GUARANTEE_CALL)
    assert after.transaction != before.transaction
    await assert_taken_once(desk, 1_000_000)
    assert (await desk.exposure()).owed_e4 == 0


async def test_a_call_that_counts_while_it_is_to_be_signed_anew_is_not_dropped(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.days_pass(LATE_D)
    (call,) = await desk.calls()
    desk.here.fake.fake.reorganise(3, keep_transactions=False)
    queued = replace(lost(call), state=TransactionState.QUEUED, nonce=None, raw=None, hash=None)
    await desk.here.restore(lambda row: queued if row == call else row)

    await desk.guarantees.advance()
    still = await desk.calls()
    await desk.here.follow()

    assert still == [queued]
    await assert_taken_once(desk, 1_000_000)


async def test_a_call_whose_receipt_a_node_forgot_is_another_one_than_the_next(
    memory_desk: Guaranteed, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    desk.pass_days(15)
    await desk.call_with_another_tool(1, 400_000)
    await desk.here.follow()
    await desk.call_with_another_tool(1, 400_000)

    async def receipt(_: bytes) -> None:
        return None

    follower = desk.here.follower()
    monkeypatch.setattr(follower._guarantees._chain, "receipt", receipt)
    await follower._guarantees.advance()

    assert (await desk.row()).taken_e4 == 800_000
    assert await desk.told_of() == [400_000, 400_000]


async def test_a_long_way_is_heard_in_stretches_that_are_kept(
    memory_desk: Guaranteed, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, fake = memory_desk, memory_desk.here.fake.fake
    asked: list[tuple[int, int]] = []
    logs = fake.logs

    async def spied(address: bytes, topics: Sequence[bytes | None], *, from_block: int, to_block: int) -> Sequence[Log]:
        if topics[0] == contracts.GUARANTEE_CALLED.topic:
            asked.append((from_block, to_block))
        return await logs(address, topics, from_block=from_block, to_block=to_block)

    monkeypatch.setattr(fake, "logs", spied)
    fake.mine(2 * STRETCH_BLOCKS)
    await desk.owes("s1", 1_000_000)
    at_first = list(asked)
    fake.mine(2 * STRETCH_BLOCKS)
    await desk.follow()
    moved_on, asked_when_nothing_was_taken = await desk.row(), asked[len(at_first) :]
    desk.pass_days(15)
    await desk.call_with_another_tool(1, 400_000)
    fake.mine(2 * STRETCH_BLOCKS)
    guarantees = desk.here.follower()._guarantees

    await guarantees.advance()
    first_stretch = await desk.row()
    await guarantees.advance()
    await guarantees.advance()

    assert {last - first for first, last in (*at_first, *asked_when_nothing_was_taken)} == {0}
    assert moved_on.heard_number > 4 * STRETCH_BLOCKS
    assert first_stretch.heard_number == moved_on.heard_number + STRETCH_BLOCKS
    assert (first_stretch.taken_e4, first_stretch.limit_e4) == (400_000, LIMIT_E4)
    await assert_taken_once(desk, 400_000)


async def test_what_came_into_a_block_that_was_heard_before_it_was_lost_is_heard(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    desk.pass_days(15)
    await desk.call_with_another_tool(1, 400_000)
    await desk.here.follow()
    desk.here.fake.fake.reorganise(3)
    await desk.call_with_another_tool(1, 100_000)

    await desk.here.follow()

    assert await desk.told_of() == [400_000, 100_000]
    assert (await desk.row()).taken_e4 == 500_000 == LIMIT_E4 - (await desk.state()).credit_limit_e4


async def test_what_rows_forgot_that_it_was_paid_is_not_taken(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.export()
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "40.00", reference="B-1", on=DUE))
    await desk.here.follow()
    async with desk.here.world.ports.units.begin() as unit:
        await unit.table(PAYOUT).put(replace(await desk.payout(), arrived_cents=0, discharged_e4=0))
        await unit.commit()

    await desk.days_pass(LATE_D)

    assert await desk.told_of() == [600_000]
    assert (await desk.state()).owed_e4 == 0


async def test_of_a_pair_whose_rows_may_lack_something_nothing_is_taken_by_itself(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    desk.pass_days(LATE_D)
    follower = desk.follower()
    follower._closing.held.add((CPO, desk.agreement.agreement_id))

    await follower._guarantees.advance()

    assert await desk.calls() == []


async def test_no_more_is_taken_than_is_left_of_the_guarantee(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 6_000_000)
    await desk.days_pass(LATE_D)
    await desk.owes("s2", 4_000_000)
    await desk.days_pass(LATE_D)
    await desk.owes("s3", 100)  # no room is left for it

    state, row = await desk.state(), await desk.row()
    assert (state.owed_e4, state.credit_limit_e4, row.taken_e4) == (0, 0, LIMIT_E4)
    assert len(await desk.rows(PAYABLE)) == 2


async def test_of_a_debt_above_the_guarantee_what_is_left_of_it_is_taken(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    (opening,) = await desk.rows(OPENING)
    key = desk.here.market.contracts.book, "standing", int.from_bytes(opening.book_agreement, "big")
    state: dict[Any, Any] = desk.here.fake.fake._state
    state[key] = replace(state[key], credit_limit_e4=400_000)  # as where a verdict raised the debt

    await desk.days_pass(LATE_D)

    assert await desk.told_of() == [400_000]
    assert (await desk.exposure()).owed_e4 == 600_000


async def test_a_cpo_that_keeps_its_key_calls_by_itself(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    await desk.sign_by_themselves(CPO)
    desk.pass_days(14)

    with pytest.raises(KeyElsewhere):
        await desk.guarantees.call(CPO, desk.agreement.agreement_id)
    shown, follower = await desk.standing(), desk.follower()
    await follower._guarantees.advance()

    assert shown.callable_from == DUE  # of its grace we know nothing
    assert follower._metrics._guarantee_due._value.get() == -timedelta(hours=8).total_seconds()
    assert shown.overdue is not None
    assert shown.overdue.amount_e4 == 1_000_000


async def test_an_msp_whose_cpo_keeps_its_books_elsewhere_pays_what_was_not_taken(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    async with desk.here.world.ports.units.begin() as unit:
        party = await unit.table(PARTY).get(CPO)
        assert party is not None
        await unit.table(PARTY).put(replace(party, is_hosted=False))
        await unit.commit()
    desk.pass_days(LATE_D)
    await desk.call_with_another_tool(1, 900_000)

    await desk.follow()

    assert (await desk.export()).cents == 1_000 + 2_100
    assert (await desk.exposure()).owed_e4 == 100_000
    assert await desk.calls() == []


async def test_an_msp_is_warned_before(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    follower = desk.follower()
    gauge = follower._metrics._guarantee_due
    await desk.here.follow(follower)
    nothing = gauge._value.get()
    await desk.owes("s1", 1_000_000)
    desk.pass_days(20)
    await follower._guarantees.advance()

    assert nothing == float("inf")
    assert gauge._value.get() == timedelta(hours=16 + 24).total_seconds()  # it is 08:00, and not taken tomorrow


async def test_over_http_each_side_sees_it_and_the_cpo_alone_calls(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    await desk.owes("s1", 1_000_000)
    transport = httpx.ASGITransport(app=desk.here.service().app)
    token = {"Authorization": f"Bearer {'i' * 40}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://settlement", headers=token) as http:
        policy = await http.put(f"/{CPO}/guarantee-policy", json={"calls": "BY_OPERATOR", "grace_d": 0})
        refused = await http.put(f"/{CPO}/guarantee-policy", json={"grace_d": -1})
        await desk.days_pass(15)
        by_msp = await http.post(f"/{MSP}/guarantees/TUL-ZON-1/call")
        by_cpo = await http.post(f"/{CPO}/guarantees/TUL-ZON-1/call")
        again = await http.post(f"/{CPO}/guarantees/TUL-ZON-1/call")
        await desk.follow()
        (seen,) = (await http.get(f"/{MSP}/guarantees")).json()
        others = await http.get("/NL-WIN/guarantees")
        nobody = await http.get(f"/{MSP}/guarantees", headers={"Authorization": "Bearer x"})

    assert (policy.json(), refused.status_code) == ({"calls": "BY_OPERATOR", "grace_d": 0}, 422)
    assert [each.status_code for each in (by_msp, by_cpo, again)] == [404, 202, 409]
    assert (by_cpo.json()["amount_e4"], by_cpo.json()["version"]) == (1_000_000, 1)
    assert (seen["taken_e4"], seen["limit_e4"], seen["overdue_e4"]) == (1_000_000, LIMIT_E4 - 1_000_000, 0)
    assert [each["amount_e4"] for each in seen["taken"]] == [1_000_000]
    assert (others.json(), nobody.status_code) == ([], 401)


async def test_on_a_ledger_it_is_called_likewise(tmp_path: Path) -> None:
    async with a_chain_world("ledger", tmp_path) as ledger, open_settling(chain=ledger) as here:
        desk = await Guaranteed.over(here)
        await desk.owes("s1", 1_000_000)
        await desk.days_pass(LATE_D)

        await assert_taken_once(desk, 1_000_000)


@pytest.mark.chain
async def test_on_a_real_chain_the_cpos_account_gets_what_it_pays_for_gas_with(tmp_path: Path) -> None:
    async with an_anvil(tmp_path) as anvil, open_settling(chain=anvil) as here:
        desk = await Guaranteed.over(here)
        await desk.owes("s1", 1_000_000)
        desk.pass_days(LATE_D)
        await anvil.server._mine(1)  # so that it needs no waking, which gives coins, too
        follower = here.follower()
        follower._guarantees._deployer = here.market.deployer
        await here.follow(follower)

        await assert_taken_once(desk, 1_000_000)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    moves=st.lists(
        st.one_of(
            st.tuples(st.just("charge"), st.integers(min_value=1, max_value=4_000_000)),
            st.tuples(st.just("days"), st.integers(min_value=1, max_value=30)),
            st.tuples(st.just("pay"), st.integers(min_value=1, max_value=60_000)),
            st.tuples(st.just("call"), st.integers(min_value=1, max_value=4_000_000)),
            st.tuples(st.just("renew"), st.integers(min_value=LIMIT_E4 // 2, max_value=2 * LIMIT_E4)),
        ),
        min_size=3,
        max_size=8,
    )
)
async def test_whatever_is_paid_and_called_in_any_order_nothing_is_lost(moves: list[tuple[str, int]]) -> None:
    async with open_settling() as here:
        desk = await Guaranteed.over(here)
        for at, (move, much) in enumerate(moves):
            if move == "charge":
                await desk.owes(f"s{at}", much)
            elif move == "days":
                await desk.days_pass(much)
            elif move == "pay":
                await pays(desk, much, f"B-{at}")
            elif move == "renew":
                await desk.renew(much)
            else:
                await calls_by_hand(desk, much)
            await here.follow()
            await assert_all_is_there(desk)
        assert (await here.audit()).differences == ()


async def pays(desk: Guaranteed, cents: int, reference: str) -> None:
    """Have the MSP pay so much of its youngest payment, or of its oldest statement."""
    with suppress(NothingToPay):
        await desk.export()
    names = [row.end_to_end_id for row in sorted(await desk.rows(PAYOUT), key=lambda row: row.made_at)]
    if names:
        amount = f"{cents // 100}.{cents % 100:02}"
        await desk.arrives(entry(names[cents % len(names)], amount, reference=reference, on=date(2022, 4, 1)))


async def calls_by_hand(desk: Guaranteed, much: int) -> None:
    """Have the CPO call with another tool, for as much as the book gives of what it wants."""
    last = (await desk.states())[-1].last_sequence
    for sequence in range(last, 0, -1):
        if await desk.call_with_another_tool(sequence, much):
            return


async def assert_all_is_there(desk: Guaranteed) -> None:
    states, openings = await desk.states(), await desk.rows(OPENING)
    owed = sum(each.owed_e4 for each in states)
    charged = sum(each.exact_e4 for each in await desk.rows(PAYABLE))
    discharges = await desk.rows(DISCHARGE)
    done = sum(each.amount_e4 for each in discharges if each.state is DischargeState.FINAL)
    waits = sum(each.amount_e4 for each in discharges if each.state is not DischargeState.FINAL)
    payouts = await desk.rows(PAYOUT)
    called = sum(each.amount_e4 for each in await desk.rows(GUARANTEE_CALL))
    assert all(each.owed_e4 >= 0 and each.credit_limit_e4 >= 0 for each in states)
    assert sum(each.credit_limit_e4 for each in states) + called == sum(each.credit_limit_e4 for each in openings)
    assert [each.limit_e4 + each.taken_e4 for each in await desk.rows(GUARANTEE)] == [
        each.credit_limit_e4 for each in openings
    ]
    assert charged == owed + called + done
    assert (await desk.exposure()).owed_e4 == owed - waits
    assert all(0 <= each.taken_cents <= each.net_cents for each in payouts)
    assert sum(each.taken_cents for each in payouts) * 100 <= called
