"""The mishaps that a test or a simulation can have the chain in memory suffer."""

from __future__ import annotations

import pytest

from emobility.domain.batch import contracts
from emobility.ports.chain import ChainUnavailable, TransactionNotTaken
from tests.chains import FakeWorld
from tests.domain.receipt.world import neighbour
from tests.settling import settling_on

HOLDER = b"\x11" * 20


async def tokens_of(world: FakeWorld, currency: bytes, holder: bytes = HOLDER) -> int:
    (tokens,) = contracts.TOKENS_OF.answer(await world.chain.call(currency, contracts.TOKENS_OF.call(holder)))
    return int(tokens)


async def test_two_chains_of_one_seed_are_the_same_to_the_byte() -> None:
    worlds = [FakeWorld(), FakeWorld()]

    settlings = [await settling_on(world) for world in worlds]

    assert settlings[0].deployment == settlings[1].deployment
    assert await worlds[0].chain.head() == await worlds[1].chain.head()


async def test_a_reorganisation_takes_back_what_its_blocks_did_and_mines_it_again_elsewhere() -> None:
    world = FakeWorld()
    currency = await world.currency()
    receipt = await world.final(await world.sent(currency, contracts.MINT.call(HOLDER, 5)))

    world.fake.reorganise(3)
    between = await tokens_of(world, currency), await world.chain.receipt(receipt.transaction_hash)
    waiting = await world.chain.transaction(receipt.transaction_hash)
    world.fake.mine(3)

    again = await world.final(receipt.transaction_hash)
    assert between == (0, None)
    assert waiting is not None
    assert waiting.block_hash is None
    assert again.block_number == receipt.block_number
    assert again.block_hash != receipt.block_hash
    assert await tokens_of(world, currency) == 5


async def test_a_fallback_of_the_node_loses_transactions_and_takes_the_same_bytes_again() -> None:
    world = FakeWorld()
    currency = await world.currency()
    raw = await world.signed(currency, contracts.MINT.call(HOLDER, 5))
    sent = await world.chain.send_raw(raw)

    world.fake.reorganise(3, keep_transactions=False)
    lost = await world.chain.transaction(sent)
    await world.chain.send_raw(raw)

    assert lost is None
    assert (await world.final(sent)).has_succeeded
    assert await tokens_of(world, currency) == 5


async def test_a_call_at_an_older_block_is_right_after_a_reorganisation() -> None:
    world = FakeWorld()
    currency = await world.currency()
    first = await world.final(await world.sent(currency, contracts.MINT.call(HOLDER, 5)))
    await world.final(await world.sent(currency, contracts.MINT.call(HOLDER, 7)))

    world.fake.reorganise(3, keep_transactions=False)
    await world.final(await world.sent(currency, contracts.MINT.call(HOLDER, 1)))

    asked = contracts.TOKENS_OF.call(HOLDER)
    at_first = contracts.TOKENS_OF.answer(await world.chain.call(currency, asked, at_block=first.block_number))
    assert at_first == (5,)
    assert await tokens_of(world, currency) == 6


async def test_the_first_block_is_never_undone() -> None:
    world = FakeWorld()

    with pytest.raises(ValueError, match="can't be undone"):
        world.fake.reorganise(1)


async def test_a_transaction_that_was_dropped_is_unknown_and_can_be_sent_again() -> None:
    world = FakeWorld()
    world.fake.is_held = True
    raw = await world.signed(HOLDER, b"")
    sent = await world.chain.send_raw(raw)

    world.fake.drop_waiting()

    assert await world.chain.transaction(sent) is None
    assert await world.chain.nonce(world.payer.address, with_waiting=True) == 0
    assert await world.chain.send_raw(raw) == sent


async def test_a_lost_answer_leaves_the_transaction_on_its_way() -> None:
    world = FakeWorld()
    currency = await world.currency()
    raw = await world.signed(currency, contracts.MINT.call(HOLDER, 5))
    world.fake.answers_lost = 1

    with pytest.raises(ChainUnavailable):
        await world.chain.send_raw(raw)

    with pytest.raises(TransactionNotTaken, match="nonce too low"):
        await world.chain.send_raw(raw)
    assert await tokens_of(world, currency) == 5


async def test_settled_money_is_back_where_it_was_when_the_block_is_gone() -> None:
    world = FakeWorld()
    settling = await settling_on(world)
    pair = settling.pairs[0]

    await settling.proposed([settling.statement(pair, [neighbour(1)])])
    settled = await settling.state(pair)
    world.fake.reorganise(3, keep_transactions=False)

    assert settled.last_sequence == 1
    assert (await settling.state(pair)).last_sequence == 0
