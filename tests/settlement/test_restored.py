"""A database that was restored to a time before the chain it settled on: it adopts what stands there."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from emobility.adapters.memory.units import MemoryState
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import StatementFinal
from services.settlement.adopting import LOOK_EVERY_S
from services.settlement.closing import ChainNotSeen, StandsBy
from services.settlement.lease import LEASE_S, Lease
from services.settlement.records import OPENING, TRANSACTION, StatementState, TransactionState
from services.settlement.service import Follower
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MSP, a_cdr, a_credit, accepted, terms

OTHER_MSP: Final = PartyId("NL-WIN")
OTHERS: Final = terms(CPO, OTHER_MSP)
COVER_E4: Final = 1_000_000


@pytest.fixture
async def here() -> AsyncIterator[Settling]:
    async with open_settling() as opened:
        await opened.sign(terms(), OTHERS)
        opened.numbers = await opened.market.prepare(opened.world.ports.units, cover_e4=COVER_E4)
        yield opened


def backed_up(here: Settling) -> Callable[[], None]:
    """Return what puts rows and log back to what they are now."""
    state: Any = here.world.ports.units
    kept: MemoryState = state._state
    tables, partitions = copy.deepcopy(kept.tables), copy.deepcopy(kept.partitions)

    def restore() -> None:
        kept.tables = copy.deepcopy(tables)
        kept.partitions = copy.deepcopy(partitions)

    return restore


async def settle(here: Settling, *numbers: int) -> None:
    """Have CDRs settled: even ones with one MSP, odd ones with the other."""
    await take(here, *numbers)
    await here.world.closing.close_now()
    await here.follow()


async def take(here: Settling, *numbers: int) -> None:
    await here.world.take(
        *[accepted(a_cdr(f"s{each}", 1_000 + each), agreement=OTHERS if each % 2 else terms()) for each in numbers]
    )


async def restarted(here: Settling) -> Follower:
    """Follow with a new process until nothing moves."""
    follower = here.follower(closing=here.world.closing)
    await here.follow(follower)
    return follower


async def assert_each_is_settled_once(here: Settling, *numbers: int) -> None:
    statements = await here.world.statements()
    assert {each.state for each in statements} == {StatementState.FINAL}
    assert sum(each.count for each in statements) == len(numbers)
    assert len(await here.world.told(StatementFinal)) == len(statements)
    paid_e4 = await here.market.collateral_of(here.numbers[CPO]) - COVER_E4
    assert paid_e4 == sum(1_000 + each for each in numbers)
    report = await here.audit()
    assert (report.differences, report.why_quick) == ((), None)


async def test_batches_that_were_proposed_after_the_copy_are_made_again_of_the_cdrs_and_adopted(
    here: Settling,
) -> None:
    await settle(here, 0, 1)
    restore = backed_up(here)
    await settle(here, 2, 3)
    await settle(here, 4)
    proposed = await here.proposed()

    restore()
    await take(here, 2, 3, 4)  # the log brings them again
    await restarted(here)
    await settle(here, 5)

    assert (await here.proposed())[: len(proposed)] == proposed
    assert len(await here.proposed()) == len(proposed) + 1
    await assert_each_is_settled_once(here, *range(6))


async def test_an_agreement_of_another_currency_s_book_is_not_taken_for_that_of_this_one(here: Settling) -> None:
    await settle(here, 0)
    async with here.world.ports.units.begin() as unit:  # each book counts from 0
        for each in await unit.table(OPENING).select():
            await unit.table(OPENING).put(replace(each, agreement_id=f"francs-{each.agreement_id}", currency="CHF"))
        await unit.commit()
    restore = backed_up(here)
    await settle(here, 1, 2)

    restore()
    await take(here, 1, 2)
    await restarted(here)

    assert {each.state for each in await here.world.statements()} == {StatementState.FINAL}
    assert len(await here.world.statements()) == 3


async def test_a_batch_that_was_on_its_way_is_followed_from_where_it_is(here: Settling) -> None:
    restore = backed_up(here)
    await take(here, 0)
    await here.world.closing.close_now()
    fake = here.fake.fake
    fake.is_held = True
    await here.follow_steps(2)
    fake.mine(1)

    restore()
    await take(here, 0)
    following = here.follower(closing=here.world.closing)
    await following.step()
    (row,) = await here.transactions()
    fake.is_held = False
    fake.mine(3)
    await here.follow(following)

    assert (row.state, row.raw) == (TransactionState.MINED, None)
    await assert_each_is_settled_once(here, 0)


async def test_a_pair_whose_cdrs_are_missing_is_held_until_they_have_come_and_no_other_is(here: Settling) -> None:
    restore = backed_up(here)
    await settle(here, 0)

    restore()
    held_up = here.follower(closing=here.world.closing)
    await here.follow(held_up)
    await take(here, 2, 3)
    await here.world.closing.close_now()
    await here.follow(held_up)
    closed = {each.emsp_id for each in await here.world.statements()}
    await take(here, 0)
    held_up._adopting._looks_at_s -= LOOK_EVERY_S
    await here.follow(held_up)
    await here.world.closing.close_now()
    await here.follow(held_up)

    assert closed == {OTHER_MSP}
    await assert_each_is_settled_once(here, 0, 2, 3)


async def test_a_cdr_that_came_late_stays_out_of_the_statement_that_never_had_it(here: Settling) -> None:
    restore = backed_up(here)
    await settle(here, 0)
    late = accepted(a_cdr("s2", 1_002))

    restore()
    await take(here, 0)
    await here.world.take(late)
    await restarted(here)
    await settle(here)

    assert [each.count for each in await here.world.statements()] == [1, 1]
    await assert_each_is_settled_once(here, 0, 2)


async def test_late_ones_are_left_out_though_there_are_many_ways(here: Settling) -> None:
    """17 wait, of which 12 make the statement: 6,188 choices."""
    numbers = range(0, 24, 2)
    restore = backed_up(here)
    await settle(here, *numbers)

    restore()
    await take(here, *numbers, *range(24, 34, 2))
    await restarted(here)

    (adopted,) = await here.world.statements()
    assert (adopted.state, adopted.count) == (StatementState.FINAL, 12)


async def test_no_more_is_hashed_than_may_be(here: Settling, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of CDRs that cost the same the sums tell nothing: only hashing shows which is the late one."""
    same = [accepted(a_cdr(f"s{number}", 1_000)) for number in range(4)]
    restore = backed_up(here)
    await here.world.take(*same[1:])
    await settle(here)
    monkeypatch.setattr("services.settlement.closing.HASHED_MAX", 9)

    restore()
    await here.world.take(*same)
    await restarted(here)
    given_up = await here.world.statements()
    monkeypatch.setattr("services.settlement.closing.HASHED_MAX", 12)
    await restarted(here)

    assert given_up == []
    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL]


async def test_a_credit_in_what_is_adopted_keeps_its_place(here: Settling) -> None:
    restore = backed_up(here)
    await take(here, 0, 2)
    await here.world.take(accepted(a_credit(a_cdr("s2", 1_002))))
    await settle(here)

    restore()
    await take(here, 0, 2)
    await here.world.take(accepted(a_credit(a_cdr("s2", 1_002))))
    await restarted(here)

    statements = await here.world.statements()
    assert [(each.state, each.count, each.credit_e4) for each in statements] == [(StatementState.FINAL, 3, 1_002)]


async def test_an_agreement_that_is_open_in_the_book_is_not_opened_again(here: Settling) -> None:
    """Opened anew it would count from 1, and what was settled would be settled again."""
    await here.store_deployment()
    async with here.world.ports.units.begin() as unit:
        before = await unit.table(OPENING).select()
        for each in before:
            await unit.table(OPENING).put(replace(each, book_agreement=None, deadline=None))
        await unit.commit()

    await here.follow(here.follower(closing=here.world.closing, opens=True))

    async with here.world.ports.units.begin() as unit:
        after = await unit.table(OPENING).select()
    assert {each.book_agreement for each in after} == {each.book_agreement for each in before}


async def test_a_nonce_that_the_rows_forgot_is_not_given_again(here: Settling) -> None:
    restore = backed_up(here)
    await settle(here, 0)
    await here.use_nonce(await here.fake.fake.nonce(here.proposer.address, with_waiting=True))

    restore()
    await take(here, 0)
    await restarted(here)
    await settle(here, 1)

    nonces = [each.nonce for each in await here.transactions() if each.raw is not None]
    assert nonces == [await here.fake.fake.nonce(here.proposer.address, with_waiting=False) - 1]
    await assert_each_is_settled_once(here, 0, 1)


async def test_nothing_is_closed_before_the_chain_was_seen(here: Settling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.settlement.closing.SEEN_WITHIN_S", 0.01)
    service = here.service()
    await take(here, 0)

    assert await service.closing.close_due() == 0
    with pytest.raises(ChainNotSeen):
        await service.closing.close_now()
    assert service.follower is not None
    await service.follower.step()
    assert await service.closing.close_now() == 1


async def test_a_process_that_stands_by_says_that_another_one_sends(
    here: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.settlement.closing.SEEN_WITHIN_S", 0.01)
    sender = Lease(here.world.ports)
    await sender.is_held()
    service = here.service(lease_s=LEASE_S)
    assert service.follower is not None
    await service.follower.step()

    with pytest.raises(StandsBy):
        await service.closing.close_now()


async def test_rows_of_the_proposal_are_kept_as_the_call_was(here: Settling) -> None:
    restore = backed_up(here)
    await settle(here, 0)
    (known,) = await here.transactions()

    restore()
    await take(here, 0)
    await restarted(here)

    async with here.world.ports.units.begin() as unit:
        (found,) = await unit.table(TRANSACTION).select()
    assert (found.hash, found.calldata, found.account) == (known.hash, known.calldata, known.account)
    assert found.state is TransactionState.FINAL
    assert MSP in here.numbers


async def test_what_the_copy_has_closed_and_the_chain_has_settled_is_not_proposed_again_and_holds_up_no_other(
    here: Settling,
) -> None:
    third = terms(CPO, PartyId("NL-TRD"))
    await here.sign(third)
    here.numbers = await here.market.prepare(here.world.ports.units, cover_e4=COVER_E4)
    await take(here, 0)
    await here.world.closing.close_now()
    restore = backed_up(here)
    await settle(here, 1)  # in one batch with what was closed

    restore()
    follower = await restarted(here)
    await here.world.take(accepted(a_cdr("s2", 1_002), agreement=third))
    await here.world.closing.close_now()
    await here.follow(follower)
    states = {each.emsp_id: each.state for each in await here.world.statements()}
    await take(here, 1)
    await restarted(here)

    assert states == {MSP: StatementState.CLOSED, third.emsp_id: StatementState.FINAL}
    await assert_each_is_settled_once(here, 0, 1, 2)
