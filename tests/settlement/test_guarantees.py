"""A guarantee is called for what an MSP did not pay in time: once, whatever happens, and no payment is lost over it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.settlement.crash_points import CrashPoint
from services.settlement.guarantee_records import GUARANTEE_CALL, CallPolicy
from services.settlement.guarantees import KeyElsewhere, NoGuarantee, NothingToTake
from services.settlement.money_records import DISCHARGE, PAYABLE, PAYOUT, DischargeState
from services.settlement.payment_netting import plans
from services.settlement.payouts import NothingToPay
from services.settlement.records import PARTY, SigningPolicy, TransactionState
from tests.banking.bank_files import entry
from tests.chains import a_chain_world, an_anvil
from tests.settlement.bank_desk import DUE
from tests.settlement.guaranteed import GRACE_D, LIMIT_E4, Guaranteed
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


async def test_a_cpo_that_keeps_its_key_calls_by_itself(memory_desk: Guaranteed) -> None:
    desk = memory_desk
    async with desk.here.world.ports.units.begin() as unit:
        party = await unit.table(PARTY).get(CPO)
        assert party is not None
        await unit.table(PARTY).put(replace(party, signs=SigningPolicy.BY_API))
        await unit.commit()
    await desk.charge("s1", 1_000_000)

    with pytest.raises(KeyElsewhere):
        await desk.guarantees.call(CPO, desk.agreement.agreement_id)


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
    assert by_cpo.json()["amount_e4"] == 1_000_000
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
    last = (await desk.state()).last_sequence
    for sequence in range(last, 0, -1):
        if await desk.call_with_another_tool(sequence, much):
            return


async def assert_all_is_there(desk: Guaranteed) -> None:
    state, row = await desk.state(), await desk.row()
    charged = sum(each.exact_e4 for each in await desk.rows(PAYABLE))
    discharges = await desk.rows(DISCHARGE)
    done = sum(each.amount_e4 for each in discharges if each.state is DischargeState.FINAL)
    waits = sum(each.amount_e4 for each in discharges if each.state is not DischargeState.FINAL)
    payouts = await desk.rows(PAYOUT)
    called = sum(each.amount_e4 for each in await desk.rows(GUARANTEE_CALL))
    assert state.owed_e4 >= 0
    assert state.credit_limit_e4 >= 0
    assert state.credit_limit_e4 + called == LIMIT_E4 == row.limit_e4 + row.taken_e4
    assert charged == state.owed_e4 + called + done
    assert (await desk.exposure()).owed_e4 == state.owed_e4 - waits
    assert all(0 <= each.taken_cents <= each.net_cents for each in payouts)
    assert sum(each.taken_cents for each in payouts) * 100 <= called
