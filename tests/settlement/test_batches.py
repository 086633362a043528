"""From closed statements to finality, whatever the chain, a partner or a crash does in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch.calls import fund_call
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import BatchProposed, StatementFinal, StatementUnfunded
from emobility.ports.chain import ChainUnavailable, TransactionNotTaken
from services.settlement.closing import pair_statement
from services.settlement.crash_points import CrashPoint
from services.settlement.deployment import DeploymentGone
from services.settlement.finality import OtherGenesis
from services.settlement.records import (
    ACCOUNT,
    CHAIN,
    LEAF,
    STATEMENT,
    BatchState,
    StatementState,
    TransactionKind,
    TransactionState,
)
from tests.settlement.settling import Crashed, Settling, open_settling
from tests.settlement.world import CPO, MSP, a_cdr, a_credit, accepted, terms

OTHER_MSP = PartyId("NL-WIN")
COVER_E4 = 1_000_000


@pytest.fixture
async def here() -> AsyncIterator[Settling]:
    async with open_settling() as opened:
        yield opened


async def one_pair(here: Settling, *, cost_e4: int = 15_000, cover_e4: int = COVER_E4) -> None:
    """A pair with one CDR in a closed statement."""
    await here.sign(terms())
    here.numbers = await here.market.prepare(here.world.ports.units, cover_e4=cover_e4)
    await here.world.take(accepted(a_cdr("s1", cost_e4)))
    await here.world.closing.close_now()


async def cover(here: Settling, party_id: PartyId) -> int:
    return await here.market.collateral_of(here.numbers[party_id])


async def test_a_statement_of_hosted_parties_becomes_final_and_is_paid(here: Settling) -> None:
    await one_pair(here)

    await here.follow()

    (statement,), (batch,), (transaction,) = (
        await here.world.statements(),
        await here.batches(),
        await here.transactions(),
    )
    assert (statement.state, batch.state, transaction.state) == (
        StatementState.FINAL,
        BatchState.FINAL,
        TransactionState.FINAL,
    )
    assert (await cover(here, MSP), await cover(here, CPO)) == (COVER_E4 - 15_000, COVER_E4 + 15_000)
    (final,), (proposed,) = await here.world.told(StatementFinal), await here.world.told(BatchProposed)
    assert final.statement_hash == statement.statement_hash
    assert (final.transaction, final.batch_id) == (proposed.transaction, batch.batch_id)
    assert proposed.gas_used == transaction.gas_used


async def test_what_the_node_does_not_take_waits_with_its_reason_and_goes_on_when_it_does(
    here: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_pair(here)

    async def poor(_raw: bytes) -> bytes:
        raise TransactionNotTaken("insufficient funds for gas")

    with monkeypatch.context() as without_funds:
        without_funds.setattr(here.fake.fake, "send_raw", poor)
        await here.follow()
        (waiting,) = await here.transactions()

    await here.follow()

    assert (waiting.state, waiting.waiting) == (
        TransactionState.SENT,
        "the node did not take the transaction: insufficient funds for gas",
    )
    (final,) = await here.transactions()
    assert (final.state, final.waiting) == (TransactionState.FINAL, None)


async def test_pairs_hosted_here_go_together_in_one_transaction(here: Settling) -> None:
    others = terms(CPO, OTHER_MSP)
    await here.sign(terms(), others)
    await here.market.prepare(here.world.ports.units)
    await here.world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2"), agreement=others))
    await here.world.closing.close_now()

    await here.follow()

    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL] * 2
    assert len(await here.transactions()) == 1
    assert len((await here.batches())[0].statements) == 2


async def test_a_pair_without_cover_waits_alone_and_is_paid_when_there_is_some(here: Settling) -> None:
    others = terms(CPO, OTHER_MSP)
    await here.sign(terms(), others)
    here.numbers = await here.market.prepare(here.world.ports.units, without_cover=[MSP])
    await here.world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2"), agreement=others))
    await here.world.closing.close_now()
    await here.follow()
    states = {each.emsp_id: each.state for each in await here.world.statements()}
    await here.market.deposit(here.numbers[MSP], 15_000)

    await here.follow()

    assert states == {MSP: StatementState.UNFUNDED, OTHER_MSP: StatementState.FINAL}
    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL] * 2
    assert [each.kind for each in await here.transactions()] == [TransactionKind.PROPOSE, TransactionKind.FUND]
    assert len(await here.world.told(StatementUnfunded)) == 1
    assert len(await here.world.told(StatementFinal)) == 2
    assert await cover(here, MSP) == 0


async def test_what_somebody_else_funded_is_noted_though_its_cover_is_spent(here: Settling) -> None:
    await one_pair(here, cover_e4=10_000)
    await here.follow()
    (batch,), statements = await here.batches(), await here.world.statements()
    await here.market.deposit(here.numbers[MSP], 5_000)
    call = fund_call(batch.batch_id, [pair_statement(each) for each in statements])
    await here.chain.final(await here.chain.sent(batch.book, call))
    spent = await cover(here, MSP)

    await here.follow()

    assert (statements[0].state, spent) == (StatementState.UNFUNDED, 0)
    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL]
    assert len(await here.world.told(StatementFinal)) == 1


async def test_a_chain_that_lost_deposits_costs_no_calls_in_vain_and_tells_nobody_twice(here: Settling) -> None:
    await one_pair(here, cover_e4=0)
    await here.follow()
    unpaid = (await here.chain.chain.head()).number
    await here.market.deposit(here.numbers[MSP], 15_000)
    await here.follow()
    await here.world.take(accepted(a_cdr("s2", 3_000)))
    await here.world.closing.close_now()
    await here.follow()
    await here.market.deposit(here.numbers[MSP], 3_000)
    await here.follow()
    settled = [each.state for each in await here.world.statements()]
    here.fake.fake.reorganise((await here.chain.chain.head()).number - unpaid, keep_transactions=False)
    await here.follow()

    await here.market.deposit(here.numbers[MSP], 3_000)  # enough for the second statement, whose turn has not come
    await here.follow()
    calls = len(await here.transactions())
    await here.market.deposit(here.numbers[MSP], 15_000)
    await here.follow()

    assert settled == [StatementState.FINAL] * 2
    assert calls == 4
    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL] * 2
    assert await cover(here, MSP) == 0
    assert len(await here.world.told(StatementUnfunded)) == len(await here.world.told(StatementFinal)) == 2


async def test_a_credit_line_takes_no_more_than_its_limit(here: Settling) -> None:
    limited = replace(terms(), settlement_mode=SettlementMode.CREDIT_LINE, credit_limit_e4=20_000)
    await here.sign(limited)
    await here.market.prepare(here.world.ports.units)
    states = []
    for number in range(2):
        await here.world.take(accepted(a_cdr(f"s{number}"), agreement=limited))
        await here.world.closing.close_now()
        await here.follow()
        states.append([each.state for each in await here.world.statements()])

    assert states[0] == [StatementState.FINAL]
    assert states[1] == [StatementState.FINAL, StatementState.UNFUNDED]


async def test_the_next_statement_is_proposed_when_the_one_before_is_final(here: Settling) -> None:
    await one_pair(here, cover_e4=10_000)
    await here.follow()
    await here.world.take(accepted(a_credit(a_cdr("s1"))))
    await here.world.closing.close_now()

    await here.follow()
    first, second = await here.world.statements()
    waited = (first.state, second.state, second.waiting)
    await here.market.deposit(here.numbers[MSP], 5_000)
    await here.follow()

    assert waited == (StatementState.UNFUNDED, StatementState.CLOSED, "statement 1 is not final")
    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL] * 2
    assert (await cover(here, MSP), await cover(here, CPO)) == (15_000, 10_000)


async def test_what_waited_for_the_statement_before_it_counts_as_moving_once_that_is_final(here: Settling) -> None:
    """Whoever waits until nothing moves looks between two steps, when the reason that is stored holds no more."""
    await one_pair(here, cover_e4=10_000)
    await here.follow()
    await here.world.take(accepted(a_cdr("s2", 1_000)))
    await here.world.closing.close_now()
    await here.follow()
    held_up = await here.service().backlog()
    first, second = await here.world.statements()
    async with here.world.ports.units.begin() as unit:
        await unit.table(STATEMENT).put(replace(first, state=StatementState.FINAL, final_at=first.closed_at))
        await unit.commit()

    moving = await here.service().backlog()

    assert second.waiting == "statement 1 is not final"
    assert (held_up, moving) == (0, 1)


async def test_a_leaf_that_was_changed_is_not_signed(here: Settling) -> None:
    await one_pair(here)
    (leaf,) = await here.world.leaves()
    async with here.world.ports.units.begin() as unit:
        await unit.table(LEAF).put(replace(leaf, due_e4=1))
        await unit.commit()

    await here.follow()

    (statement,) = await here.world.statements()
    assert statement.state is StatementState.CLOSED
    assert "are not those that it binds" in (statement.waiting or "")
    assert await here.transactions() == []


@pytest.mark.parametrize("change", [{"credit_e4": 1}, {"due_e4": -1}, None])
async def test_rows_that_make_no_tree_or_are_gone_hold_up_no_other_batch(
    here: Settling, change: dict[str, Any] | None
) -> None:
    await one_pair(here)
    (leaf,) = await here.world.leaves()
    async with here.world.ports.units.begin() as unit:
        if change is None:
            await unit.table(LEAF).delete(leaf.cpo_id, leaf.cdr_id)
        else:
            await unit.table(LEAF).put(replace(leaf, **change))
        await unit.commit()
    await here.follow()
    others = terms(CPO, OTHER_MSP)
    await here.sign(others)
    await here.market.prepare(here.world.ports.units)
    await here.world.take(accepted(a_cdr("s2"), agreement=others))
    await here.world.closing.close_now()

    await here.follow()

    statements = {each.emsp_id: each for each in await here.world.statements()}
    assert "are not those that it binds" in (statements[MSP].waiting or "")
    assert (statements[MSP].state, statements[OTHER_MSP].state) == (StatementState.CLOSED, StatementState.FINAL)


@pytest.mark.parametrize("point", [each for each in CrashPoint if each is not CrashPoint.STATEMENT_CLOSED])
async def test_a_process_that_dies_anywhere_is_carried_on_and_each_statement_is_final_once(
    here: Settling, point: CrashPoint
) -> None:
    await one_pair(here)

    with pytest.raises(Crashed):
        await here.follow(here.follower(dies_at=point))
    await here.follow()

    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL]
    assert len(await here.proposed()) == 1
    assert len(await here.world.told(StatementFinal)) == 1
    assert len(await here.world.told(BatchProposed)) == 1
    assert await cover(here, CPO) == COVER_E4 + 15_000


async def test_bytes_whose_answer_was_lost_are_found_and_not_sent_anew(here: Settling) -> None:
    await one_pair(here)
    here.fake.fake.answers_lost = 1

    with pytest.raises(ChainUnavailable):
        await here.follow()
    await here.follow()

    assert len(await here.proposed()) == 1
    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL]


async def test_an_endpoint_that_is_down_holds_settlement_up_and_nothing_else(here: Settling) -> None:
    await one_pair(here)
    here.fake.fake.is_down = True

    with pytest.raises(ChainUnavailable):
        await here.follow()
    await here.world.take(accepted(a_cdr("s2")))
    assert await here.world.closing.close_now() == 1
    here.fake.fake.is_down = False
    await here.follow()

    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL] * 2


async def test_a_transaction_whose_block_is_undone_is_mined_again_with_the_same_bytes(here: Settling) -> None:
    await one_pair(here)
    fake = here.fake.fake
    fake.is_held = True
    await here.follow_steps(3)
    fake.mine()
    await here.follow_steps(1)
    (mined,) = await here.transactions()

    fake.reorganise(1, keep_transactions=False)
    fake.is_held = False
    await here.follow()

    (final,) = await here.transactions()
    assert mined.state is TransactionState.MINED
    assert (final.state, final.hash, final.nonce) == (TransactionState.FINAL, mined.hash, mined.nonce)
    assert final.block_hash != mined.block_hash
    assert len(await here.world.told(StatementFinal)) == 1


async def test_final_blocks_that_are_gone_are_seen_and_the_same_bytes_sent_again(here: Settling) -> None:
    await one_pair(here)
    await here.follow()
    (before,) = await here.transactions()
    here.fake.fake.reorganise(3, keep_transactions=False)
    assert await here.proposed() == []

    await here.follow()

    (after,) = await here.transactions()
    assert (after.state, after.hash) == (TransactionState.FINAL, before.hash)
    assert len(await here.proposed()) == 1
    assert len(await here.world.told(StatementFinal)) == 1
    assert await cover(here, CPO) == COVER_E4 + 15_000


async def test_a_proposal_that_is_signed_anew_after_blocks_were_lost_is_named_by_its_batch(here: Settling) -> None:
    """The nonce of the bytes that are gone was taken meanwhile, so the batch is proposed under another hash."""
    await one_pair(here)
    await here.follow()
    (before,) = await here.transactions()
    here.fake.fake.reorganise(3, keep_transactions=False)
    await here.use_nonce(before.nonce or 0)

    await here.follow()

    (after,), (batch,) = await here.transactions(), await here.batches()
    assert (after.state, batch.state) == (TransactionState.FINAL, BatchState.FINAL)
    assert batch.proposed_in == after.hash != before.hash
    assert len(await here.world.told(BatchProposed)) == 1
    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL]


async def test_another_genesis_stops_with_an_alarm_and_nothing_is_sent(here: Settling) -> None:
    await one_pair(here)
    await here.follow()
    await here.world.take(accepted(a_cdr("s2")))
    await here.world.closing.close_now()
    here.fake.fake.forget()

    with pytest.raises(OtherGenesis):
        await here.follow()

    async with here.world.ports.units.begin() as unit:
        (seen,) = await unit.table(CHAIN).select()
    assert "another genesis" in (seen.alarm or "")
    assert len(await here.transactions()) == 1
    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL, StatementState.CLOSED]


async def test_a_batch_that_we_forgot_having_proposed_is_found_on_chain(here: Settling) -> None:
    await one_pair(here)
    await here.follow()
    (known,) = await here.transactions()
    await forget_the_sending(here)

    await here.follow()

    (found,) = await here.transactions()
    assert (found.state, found.hash) == (TransactionState.FINAL, known.hash)
    assert len(await here.proposed()) == 1


async def test_a_nonce_that_something_else_used_is_given_up_and_another_taken(here: Settling) -> None:
    await one_pair(here)
    with pytest.raises(Crashed):
        await here.follow(here.follower(dies_at=CrashPoint.BYTES_STORED))
    (stored,) = await here.transactions()
    await here.use_nonce(stored.nonce or 0)

    await here.follow()

    (final,) = await here.transactions()
    assert (final.state, final.nonce) == (TransactionState.FINAL, (stored.nonce or 0) + 1)
    assert len(await here.proposed()) == 1


async def test_a_call_that_the_book_refuses_waits_with_its_rule_and_goes_on_when_it_may(here: Settling) -> None:
    await one_pair(here)
    await here.pause(is_paused=True)

    await here.follow()
    (waiting,) = await here.transactions()
    await here.pause(is_paused=False)
    await here.follow()

    assert (waiting.state, waiting.waiting) == (TransactionState.QUEUED, "the book refuses: EnforcedPause")
    assert [each.state for each in await here.transactions()] == [TransactionState.FINAL]


async def test_who_rests_looks_again_only_when_something_was_committed(
    here: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_pair(here)
    follower, looks = here.follower(), 0
    await here.follow(follower)
    advance = follower._funding.advance

    async def counted() -> int:
        nonlocal looks
        looks += 1
        return await advance()

    monkeypatch.setattr(follower._funding, "advance", counted)
    for _ in range(3):
        await follower.step()
    rested = looks
    await here.world.take(accepted(a_cdr("s2")))
    await follower.step()

    assert (rested, looks) == (0, 1)


async def test_a_nonce_that_a_restored_database_forgot_is_not_given_again(here: Settling) -> None:
    await one_pair(here)
    await here.follow()
    async with here.world.ports.units.begin() as unit:
        (account,) = await unit.table(ACCOUNT).select()
        await unit.table(ACCOUNT).put(replace(account, next_nonce=0))
        await unit.commit()
    await here.use_nonce(account.next_nonce)
    await here.world.take(accepted(a_cdr("s2")))
    await here.world.closing.close_now()

    with pytest.raises(Crashed):
        await here.follow(here.follower(dies_at=CrashPoint.BYTES_STORED))

    assert [each.nonce for each in await here.transactions()] == [0, 2]


@pytest.mark.parametrize("refusal", [ChainUnavailable("down"), DeploymentGone("other code"), OtherGenesis(1)])
async def test_whatever_the_chain_refuses_the_process_lives_on_and_tries_again(
    here: Settling, refusal: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, stop, tried = here.follower(), asyncio.Event(), 0

    async def step() -> bool:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise refusal
        stop.set()
        return False

    monkeypatch.setattr(follower, "step", step)
    await follower.run(stop)

    assert tried == 2


async def forget_the_sending(here: Settling) -> None:
    """Put rows back as a copy from before the sending has them."""
    await here.restore(
        lambda row: replace(
            row,
            state=TransactionState.QUEUED,
            nonce=None,
            raw=None,
            hash=None,
            block_number=None,
            block_hash=None,
            gas_used=None,
        )
    )
