"""Transactions that are stuck, dropped, dear or behind a gap, and more than one process that would send them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from emobility.adapters.chain_signing import mnemonic_signer
from emobility.adapters.memory import LoopTimer
from emobility.adapters.memory.chain import BASE_FEE
from emobility.domain.batch import contracts
from emobility.domain.batch.hashing import keccak256
from emobility.events.settlement import StatementFinal
from emobility.ports.chain_signer import TransactionSigner
from emobility.protocols.eip1559 import read_raw_transaction
from services.settlement.dispute_records import RESOLVER, ResolverRecord
from services.settlement.lease import LEASE, Fenced, Lease
from services.settlement.records import (
    ACCOUNT,
    TRANSACTION,
    VARIANT,
    AccountRecord,
    StatementState,
    TransactionKind,
    TransactionRecord,
    TransactionState,
    VariantRecord,
)
from services.settlement.signing import Waits
from services.settlement.spending import GWEI, Caps
from tests.chains import MNEMONIC
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import T0, a_cdr, accepted, terms

HOUR: Final = timedelta(hours=1)


@pytest.fixture
async def here() -> AsyncIterator[Settling]:
    async with open_settling() as opened:
        opened.stuck_after_s = 0
        await opened.sign(terms())
        opened.numbers = await opened.market.prepare(opened.world.ports.units)
        yield opened


async def close(here: Settling, number: int = 1) -> None:
    """Have a statement closed that is to be settled."""
    await here.world.take(accepted(a_cdr(f"s{number}")))
    await here.world.closing.close_now()


async def variants(here: Settling) -> list[VariantRecord]:
    async with here.world.ports.units.begin() as unit:
        return await unit.table(VARIANT).select(order_by=("signed_at", "nonce"))


async def assert_settled_once(here: Settling, count: int = 1) -> None:
    assert [each.state for each in await here.world.statements()] == [StatementState.FINAL] * count
    assert len(await here.world.told(StatementFinal)) == len(await here.proposed()) == count


async def test_what_was_refused_in_a_block_is_waited_for_under_its_new_nonce(here: Settling) -> None:
    chain, book = here.chain.chain, here.market.contracts.book
    failed = await here.chain.signed(book, contracts.FUND_CORRECTION.call(1), by=here.proposer)
    await chain.send_raw(failed)
    anew = await here.chain.signed(book, contracts.FUND_CORRECTION.call(1), by=here.proposer)
    here.fake.fake.is_held = True
    await chain.send_raw(anew)
    row = TransactionRecord(
        transaction_id="discharge/1",
        kind=TransactionKind.DISCHARGE,
        batch_id=bytes(8),
        chain_id=await chain.chain_id(),
        account=here.proposer.address,
        receiver=book,
        calldata=contracts.FUND_CORRECTION.call(1),
        state=TransactionState.SENT,
        nonce=1,
        raw=anew,
        hash=keccak256(anew),
        queued_at=T0,
    )
    variant = VariantRecord(
        hash=keccak256(failed),
        transaction_id=row.transaction_id,
        chain_id=row.chain_id,
        account=row.account,
        nonce=0,
        raw=failed,
        fence=1,
        signed_at=T0,
    )
    async with here.world.ports.units.begin() as unit:
        await unit.table(TRANSACTION).put(row)
        await unit.table(VARIANT).put(variant)
        await unit.commit()

    await here.follow_steps(2)

    (found,) = await here.transactions()
    assert (found.state, found.hash, len(await variants(here))) == (TransactionState.SENT, row.hash, 1)


# Stuck


async def stuck(here: Settling) -> VariantRecord:
    """A proposal that waits for ever, for it offers less than the chain asks for by now."""
    await close(here)
    here.fake.fake.is_held = True
    await here.follow_steps(1)
    here.fake.fake.base_fee = 20 * BASE_FEE
    return (await variants(here))[0]


async def test_a_stuck_transaction_is_replaced_under_its_nonce_and_offers_an_eighth_more_at_least(
    here: Settling,
) -> None:
    first = await stuck(here)

    await here.follow_steps(1)
    here.fake.fake.is_held = False
    here.fake.fake.mine(3)
    await here.follow()

    (row,), signed = await here.transactions(), await variants(here)
    before, after = (read_raw_transaction(each.raw).transaction for each in (first, signed[-1]))
    assert len(signed) > 1
    assert {each.nonce for each in signed} == {row.nonce}
    assert after.fees.max_fee_per_gas * 8 >= before.fees.max_fee_per_gas * 9
    assert after.fees.max_priority_fee_per_gas * 8 >= before.fees.max_priority_fee_per_gas * 9
    assert after.calldata == before.calldata
    assert row.hash in {each.hash for each in signed[1:]}
    await assert_settled_once(here)


async def test_whichever_variant_is_mined_counts(here: Settling) -> None:
    first = await stuck(here)
    await here.follow_steps(1)
    fake = here.fake.fake
    fake.drop_waiting()
    fake.base_fee = BASE_FEE

    await fake.send_raw(first.raw)  # another node had kept it
    fake.is_held = False
    fake.mine(3)
    await here.follow()

    (row,) = await here.transactions()
    assert len(await variants(here)) > 1
    assert (row.state, row.hash, row.raw) == (TransactionState.FINAL, first.hash, first.raw)
    await assert_settled_once(here)


async def test_a_replacement_never_offers_more_than_the_cap(here: Settling) -> None:
    here.caps = Caps(fee_gwei_max=4)
    await stuck(here)

    for _ in range(5):
        await here.follow_steps(1)

    (row,), signed = await here.transactions(), await variants(here)
    assert row.waiting == "the chain asks for 41 gwei per gas, the cap is 4"
    assert len(signed) == 1


async def test_it_is_replaced_only_after_its_patience(here: Settling) -> None:
    here.stuck_after_s = 3_600
    await stuck(here)

    await here.follow_steps(3)

    assert len(await variants(here)) == 1


async def test_what_a_node_does_not_take_for_want_of_money_is_not_made_dearer(
    here: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stuck(here)
    here.fake.fake.drop_waiting()

    async def poor(raw: bytes) -> str:
        del raw
        return "insufficient funds for gas * price + value"

    follower = here.follower()
    monkeypatch.setattr(follower._sending, "_hand_over", poor)
    await follower.step()
    await follower.step()

    assert len(await variants(here)) == 1


# Dear


async def test_nothing_is_signed_while_fees_are_above_the_cap_and_it_goes_on_when_they_fall(here: Settling) -> None:
    await close(here)
    here.fake.fake.base_fee = 300 * GWEI
    await here.follow()
    (waiting,) = await here.transactions()

    here.fake.fake.base_fee = BASE_FEE
    await here.follow()

    assert (waiting.state, waiting.waiting) == (
        TransactionState.QUEUED,
        "the chain asks for 601 gwei per gas, the cap is 500",
    )
    await assert_settled_once(here)


async def test_a_day_s_money_once_spent_is_spent_for_every_process_until_the_next_day(here: Settling) -> None:
    await close(here)
    await here.follow()
    (spent,) = await accounts(here)
    here.caps = Caps(gwei_per_day=spent.spent_gwei + 1)
    await close(here, 2)

    await here.follow()
    held = [each.waiting for each in await here.transactions() if each.state is TransactionState.QUEUED]
    here.world.clock.step_by(24 * HOUR)
    await here.follow()

    assert held == [f"today's transactions may cost {2 * spent.spent_gwei} gwei, the cap is {spent.spent_gwei + 1}"]
    await assert_settled_once(here, 2)


async def test_so_many_signatures_are_given_in_an_hour_and_no_more(here: Settling) -> None:
    here.caps = Caps(transactions_per_hour=1)
    await close(here)
    await here.follow()
    await close(here, 2)

    await here.follow()
    held = [each.waiting for each in await here.transactions() if each.state is TransactionState.QUEUED]
    here.world.clock.step_by(HOUR)
    await here.follow()

    assert held == ["1 signatures were given in this hour"]
    await assert_settled_once(here, 2)


async def accounts(here: Settling) -> list[AccountRecord]:
    async with here.world.ports.units.begin() as unit:
        return await unit.table(ACCOUNT).select()


# Gaps


async def a_gap(here: Settling) -> int:
    """Have somebody else's transaction take a nonce and be dropped, with ours behind it; return the nonce."""
    fake = here.fake.fake
    fake.is_held = True
    nonce: int = await fake.nonce(here.proposer.address, with_waiting=True)
    await here.use_nonce(nonce)
    await close(here)
    await here.follow_steps(2)
    fake.drop_waiting()
    fake.is_held = False
    return nonce


async def test_a_gap_before_what_waits_is_filled(here: Settling) -> None:
    nonce = await a_gap(here)

    await here.follow()

    rows = {each.kind: each for each in await here.transactions()}
    assert (rows[TransactionKind.FILL].nonce, rows[TransactionKind.PROPOSE].nonce) == (nonce, nonce + 1)
    assert {each.state for each in rows.values()} == {TransactionState.FINAL}
    await assert_settled_once(here)


async def test_a_gap_of_the_old_key_is_filled_by_the_old_key(here: Settling) -> None:
    """Its transactions behind the gap are not final before, and the new key waits for them."""
    new = mnemonic_signer(MNEMONIC, 5)
    here.successors = alone(new)
    await a_gap(here)

    await here.follow()

    rows = {each.kind: each for each in await here.transactions()}
    assert rows[TransactionKind.FILL].account == here.proposer.address
    assert {each.state for each in rows.values()} == {TransactionState.FINAL}
    await assert_settled_once(here)


async def test_a_gap_that_something_else_closes_is_not_filled(here: Settling) -> None:
    fake = here.fake.fake
    fake.is_held = True
    nonce = await fake.nonce(here.proposer.address, with_waiting=True)
    await here.use_nonce(nonce)
    await close(here)
    await here.follow_steps(2)
    fake.drop_waiting()
    await here.follow_steps(1)
    queued = [each.kind for each in await here.transactions() if each.state is TransactionState.QUEUED]
    await here.use_nonce(nonce)
    fake.is_held = False

    await here.follow()
    fake.mine(3)
    await here.follow()

    assert queued == [TransactionKind.FILL]
    assert [each.kind for each in await here.transactions()] == [TransactionKind.PROPOSE]
    await assert_settled_once(here)


async def test_a_dropped_transaction_is_handed_over_again(here: Settling) -> None:
    here.stuck_after_s = 3_600
    fake = here.fake.fake
    fake.is_held = True
    await close(here)
    await here.follow_steps(2)
    fake.drop_waiting()
    fake.is_held = False

    await here.follow()

    assert len(await variants(here)) == 1
    await assert_settled_once(here)


# One process sends


class Watch(LoopTimer):
    """The time that both processes have, in seconds."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


async def test_a_second_process_waits_while_the_first_one_lives_and_takes_over_when_it_is_silent(
    here: Settling,
) -> None:
    watch = Watch()
    ports = replace(here.world.ports, timer=watch)
    first, second = Lease(ports, lease_s=6), Lease(ports, lease_s=6)

    async def held_at(now_s: float, *leases: Lease) -> list[bool]:
        watch.now_s = now_s
        return [await each.is_held() for each in leases]

    both = [await held_at(now_s, first, second) for now_s in (0.0, 1.0, 5.0, 9.0, 13.0)]
    only_second = [await held_at(now_s, second) for now_s in (18.9, 19.1)]

    assert both == [[True, False]] * 5
    assert only_second == [[False], [True]]
    assert (first.fence, second.fence) == (1, 2)
    assert not await first.is_held()


async def test_a_process_that_ends_orderly_is_followed_at_once(here: Settling) -> None:
    first, second = (Lease(here.world.ports, lease_s=3_600) for _ in range(2))
    assert await first.is_held()
    assert not await second.is_held()

    await first.give_up()

    assert await second.is_held()


async def test_a_process_that_slept_through_another_s_coming_signs_nothing_any_more(here: Settling) -> None:
    await close(here)
    zombie = here.follower()
    await zombie.lease.is_held()
    await zombie.batching.advance()
    await here.follower().lease.is_held()

    with pytest.raises(Fenced):
        await zombie._sending.advance()
    signed = await variants(here)
    await here.follow()

    assert signed == []
    assert [each.fence for each in await variants(here)] == [3]
    await assert_settled_once(here)


async def test_what_a_sleeper_signed_before_is_all_that_it_can_send(here: Settling) -> None:
    """Its successor knows the very bytes, so it is one transaction still."""
    await close(here)
    here.fake.fake.is_held = True
    sleeper = here.follower()
    await sleeper.step()
    before = await variants(here)
    await here.follow_steps(1)
    here.fake.fake.drop_waiting()

    await sleeper._sending._hand_over(before[0].raw)
    here.fake.fake.is_held = False
    here.fake.fake.mine(3)
    await here.follow()

    await assert_settled_once(here)
    async with here.world.ports.units.begin() as unit:
        (lease,) = await unit.table(LEASE).select()
    assert lease.fence > 1


# A key takes over


def alone(new: TransactionSigner) -> Callable[[], Awaitable[Sequence[TransactionSigner]]]:
    """Return what tells that this one takes over."""

    async def successors() -> Sequence[TransactionSigner]:
        return [new]

    return successors


async def test_a_new_key_does_nothing_at_all_before_the_book_knows_it(here: Settling) -> None:
    new = mnemonic_signer(MNEMONIC, 5)
    here.successors = alone(new)
    await close(here)
    await here.follow()
    (proposal,) = await here.transactions()
    book, resolver = here.market.contracts.book, b"\x05" * 20
    of_resolver = ResolverRecord(
        chain_id=proposal.chain_id, book=book, currency="EUR", is_confidential=False, resolver=resolver
    )
    async with here.world.ports.units.begin() as unit:
        await unit.table(RESOLVER).put(of_resolver)
        await unit.commit()
    signing = here.follower()._sending._signing

    async def senders() -> list[bytes]:
        rows = [
            replace(proposal, kind=kind, receiver=resolver if kind is TransactionKind.DISPUTE else book)
            for kind in TransactionKind
            if kind not in {TransactionKind.ANCHOR, TransactionKind.FILL, TransactionKind.GUARANTEE}
        ]
        found = [await signing.signer_of(each) for each in rows]
        return [each.address for each in found if not isinstance(each, Waits)]

    before = await senders()
    granted = contracts.GRANT_ROLE.call(contracts.PROPOSER_ROLE, new.address)
    await here.chain.final(await here.chain.sent(book, granted))

    assert before == [here.proposer.address] * 7
    assert await senders() == [new.address] * 7


async def test_a_new_key_takes_over_when_it_may_and_the_old_one_s_transactions_are_final(here: Settling) -> None:
    """The old key signs until the book knows the new one; then what is queued waits for what the old one sent."""
    old, new = here.proposer.address, mnemonic_signer(MNEMONIC, 5)

    here.successors = alone(new)
    await close(here)
    await here.follow()
    await here.chain.final(
        await here.chain.sent(
            here.market.contracts.book, contracts.GRANT_ROLE.call(contracts.PROPOSER_ROLE, new.address)
        )
    )
    fake = here.fake.fake
    fake.is_held = True
    await queue_for_the_old_key(here)
    await close(here, 2)
    await here.follow_steps(2)
    waiting = [each.waiting for each in await here.transactions() if each.state is TransactionState.QUEUED]
    fake.is_held = False
    fake.mine(3)
    await here.follow()

    accounts = [each.account for each in await here.transactions() if each.kind is TransactionKind.PROPOSE]
    assert waiting == [f"the transactions of 0x{old.hex()}, whose key is being replaced"]
    assert sorted(accounts) == sorted([old, new.address])
    await assert_settled_once(here, 2)


async def queue_for_the_old_key(here: Settling) -> None:
    """Have the old key send something once more, which stays on its way: the filler of its next nonce."""
    fake, old = here.fake.fake, here.proposer
    nonce = await fake.nonce(old.address, with_waiting=True)
    (row,) = await here.transactions()
    raw = await here.chain.signed(old.address, b"", by=old, nonce=nonce)
    await fake.send_raw(raw)
    async with here.world.ports.units.begin() as unit:
        await unit.table(TRANSACTION).put(
            replace(
                row,
                transaction_id=f"fill/{old.address.hex()}/{nonce}",
                kind=TransactionKind.FILL,
                batch_id=bytes(32),
                state=TransactionState.SENT,
                nonce=nonce,
                raw=raw,
                hash=keccak256(raw),
                block_hash=None,
                block_number=None,
                gas_used=None,
            )
        )
        await unit.commit()
