"""What settlement relies on in a chain, asked of the fake one, of a real one, and of ledgers.

On a ledger nothing waits, costs or comes undone, so tests of that ask those alone which mine (`mined`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

import settlement_contracts
from emobility.domain.batch import contracts
from emobility.domain.batch.hashing import keccak256
from emobility.ports.chain import CallReverted, ChainUnavailable, TransactionNotTaken
from emobility.protocols.eip1559 import created_address
from tests.chains import EVERY_KIND, KINDS, LEDGERS, T0, ChainWorld, a_chain_world

HOLDER: Final = b"\x11" * 20


@pytest.fixture(params=EVERY_KIND)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dsn(request: pytest.FixtureRequest, kind: str) -> str | None:
    return str(request.getfixturevalue("postgres_dsn")) if kind == LEDGERS[1] else None


@pytest.fixture
async def world(kind: str, dsn: str | None, tmp_path: Path) -> AsyncIterator[ChainWorld]:
    async with a_chain_world(kind, tmp_path / "chain", dsn=dsn) as made:
        yield made


@pytest.fixture(params=KINDS)
async def mined(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChainWorld]:
    async with a_chain_world(request.param, tmp_path / "chain") as made:
        yield made


async def test_a_chain_has_an_id_and_a_beginning(world: ChainWorld) -> None:
    genesis = await world.chain.block(0)

    assert genesis is not None
    assert await world.chain.chain_id() > 0
    assert await world.chain.genesis_hash() == genesis.hash
    assert (genesis.number, genesis.parent_hash) == (0, bytes(32))


async def test_blocks_follow_each_other_and_carry_business_time(world: ChainWorld) -> None:
    await world.currency()

    head = await world.chain.head()
    blocks = [await world.chain.block(number) for number in range(head.number + 1)]
    hashes = [block.hash for block in blocks if block is not None]
    times = [block.timestamp_s for block in blocks if block is not None]
    assert [block.parent_hash for block in blocks[1:] if block is not None] == hashes[:-1]
    assert times == sorted(set(times))
    assert times[0] == int(T0.timestamp())
    assert await world.chain.block(head.number + 1) is None


async def test_a_block_is_final_when_two_follow_it(mined: ChainWorld) -> None:
    await mined.currency()

    assert (await mined.chain.finalized()).number == (await mined.chain.head()).number - 2


async def test_a_contract_is_made_where_its_maker_and_nonce_say(world: ChainWorld) -> None:
    currency = await world.currency()

    assert currency == created_address(world.payer.address, 0)
    assert await world.chain.code(currency)
    assert await world.chain.code(HOLDER) == b""


async def test_a_transaction_waits_then_is_mined_then_final(mined: ChainWorld) -> None:
    currency, calldata = await mined.currency(), contracts.MINT.call(HOLDER, 5)

    with mined.held():
        sent = await mined.sent(currency, calldata)
        waiting = await mined.chain.transaction(sent)
        no_receipt = await mined.chain.receipt(sent)
        nonces = [await mined.chain.nonce(mined.payer.address, with_waiting=each) for each in (False, True)]
    receipt = await mined.final(sent)
    in_block = await mined.chain.transaction(sent)

    assert waiting is not None
    assert in_block is not None
    assert (waiting.sender, waiting.to, waiting.nonce) == (mined.payer.address, currency, 1)
    assert (waiting.calldata, waiting.block_hash, no_receipt) == (calldata, None, None)
    assert nonces == [1, 2]
    assert in_block.block_hash == receipt.block_hash
    block = await mined.chain.block(receipt.block_number)
    assert block is not None
    assert block.hash == receipt.block_hash
    assert receipt.has_succeeded
    assert receipt.gas_used > 21_000
    assert receipt.contract_address is None
    assert await mined.chain.nonce(mined.payer.address, with_waiting=False) == 2


async def test_what_nobody_sent_is_unknown(world: ChainWorld) -> None:
    assert await world.chain.transaction(b"\5" * 32) is None
    assert await world.chain.receipt(b"\5" * 32) is None
    assert await world.chain.nonce(HOLDER, with_waiting=True) == 0


async def test_a_call_answers_from_the_head_or_an_older_block(world: ChainWorld) -> None:
    currency = await world.currency()
    first = await world.final(await world.sent(currency, contracts.MINT.call(HOLDER, 5)))
    await world.final(await world.sent(currency, contracts.MINT.call(HOLDER, 7)))

    asked = contracts.TOKENS_OF.call(HOLDER)

    answers = [
        contracts.TOKENS_OF.answer(await world.chain.call(currency, asked, at_block=number))[0]
        for number in (first.block_number - 1, first.block_number, None)
    ]
    assert answers == [0, 5, 12]


async def test_a_block_to_come_answers_no_call(world: ChainWorld) -> None:
    currency = await world.currency()

    with pytest.raises(ChainUnavailable):
        await world.chain.call(currency, contracts.TOKENS_OF.call(HOLDER), at_block=1_000)


async def test_where_there_is_no_contract_nothing_is_answered(world: ChainWorld) -> None:
    assert await world.chain.call(HOLDER, contracts.TOKENS_OF.call(HOLDER)) == b""


async def test_a_contract_that_refuses_says_why_with_its_facts(world: ChainWorld) -> None:
    currency, minted = await world.currency(), contracts.MINT.call(HOLDER, 5)

    with pytest.raises(CallReverted) as refused_call:
        await world.chain.call(currency, minted)  # by nobody
    with pytest.raises(CallReverted) as refused_estimate:
        await world.chain.estimate_gas(HOLDER, currency, minted)

    assert refused_call.value.data == contracts.NOT_IN_ROLE.call(bytes(20), contracts.MINTER_ROLE)
    assert refused_estimate.value.data == contracts.NOT_IN_ROLE.call(HOLDER, contracts.MINTER_ROLE)


async def test_a_function_that_is_not_there_refuses_without_a_word(world: ChainWorld) -> None:
    currency = await world.currency()

    with pytest.raises(CallReverted) as refusal:
        await world.chain.call(currency, b"\1\2\3\4")

    assert refusal.value.data == b""


async def test_a_refused_transaction_is_mined_and_changes_nothing(world: ChainWorld) -> None:
    currency = await world.currency()

    receipt = await world.final(await world.sent(currency, contracts.PAUSE.call()))

    assert not receipt.has_succeeded
    assert receipt.logs == ()
    assert await world.chain.nonce(world.payer.address, with_waiting=False) == 2


async def test_what_is_estimated_is_enough(world: ChainWorld) -> None:
    currency, minted = await world.currency(), contracts.MINT.call(HOLDER, 5)
    code = bytes.fromhex(settlement_contracts.bytecode("PartyRegistry")[2:]) + world.payer.address.rjust(32, b"\0")

    estimates = [
        await world.chain.estimate_gas(world.payer.address, currency, minted),
        await world.chain.estimate_gas(world.payer.address, None, code),
    ]
    receipts = [
        await world.final(await world.sent(currency, minted)),
        await world.final(await world.sent(None, code)),
    ]

    assert all(
        receipt.has_succeeded and receipt.gas_used <= estimate
        for receipt, estimate in zip(receipts, estimates, strict=True)
    )


async def test_events_come_in_order_by_block_and_by_topic(mined: ChainWorld) -> None:
    currency = await mined.currency()
    with mined.held():
        sent = [await mined.sent(currency, contracts.MINT.call(HOLDER, amount)) for amount in (1, 2)]
        sent.append(await mined.sent(currency, contracts.APPROVE.call(HOLDER, 3)))
    receipts = [await mined.final(each) for each in sent]
    receipts.append(await mined.final(await mined.sent(currency, contracts.MINT.call(HOLDER, 4))))

    head = await mined.chain.head()
    to_holder = (contracts.TRANSFER.topic, None, HOLDER.rjust(32, b"\0"))
    all_logs = await mined.chain.logs(currency, (), from_block=receipts[0].block_number, to_block=head.number)
    minted = await mined.chain.logs(currency, to_holder, from_block=0, to_block=head.number)
    last = await mined.chain.logs(currency, to_holder, from_block=receipts[3].block_number, to_block=head.number)

    assert [log.transaction_hash for log in all_logs] == [receipt.transaction_hash for receipt in receipts]
    assert list(all_logs) == [log for receipt in receipts for log in receipt.logs]
    assert [log.index for log in all_logs] == [0, 1, 2, 0]
    assert [int.from_bytes(log.data, "big") for log in minted] == [1, 2, 4]
    assert [int.from_bytes(log.data, "big") for log in last] == [4]
    assert await mined.chain.logs(HOLDER, (), from_block=0, to_block=head.number) == []


async def test_a_transaction_s_hash_is_that_of_its_bytes(world: ChainWorld) -> None:
    raw = await world.signed(HOLDER, b"")

    assert await world.chain.send_raw(raw) == keccak256(raw)


async def test_a_transaction_is_taken_once_while_it_waits_and_once_it_is_mined(mined: ChainWorld) -> None:
    currency = await mined.currency()
    raw = await mined.signed(currency, contracts.MINT.call(HOLDER, 5))

    with mined.held():
        sent = await mined.chain.send_raw(raw)
        with pytest.raises(TransactionNotTaken, match="already"):
            await mined.chain.send_raw(raw)
    await mined.final(sent)
    with pytest.raises(TransactionNotTaken, match="nonce too low"):
        await mined.chain.send_raw(raw)

    assert contracts.TOKENS_OF.answer(await mined.chain.call(currency, contracts.TOKENS_OF.call(HOLDER))) == (5,)


async def test_a_transaction_that_waits_is_replaced_by_one_that_offers_more(mined: ChainWorld) -> None:
    currency = await mined.currency()

    with mined.held():
        first = await mined.sent(currency, contracts.MINT.call(HOLDER, 5))
        with pytest.raises(TransactionNotTaken, match="underpriced"):
            await mined.chain.send_raw(await mined.signed(currency, contracts.MINT.call(HOLDER, 6), nonce=1))
        second = await mined.chain.send_raw(
            await mined.signed(currency, contracts.MINT.call(HOLDER, 7), nonce=1, bid=113)
        )
    await mined.final(second)

    assert await mined.chain.receipt(first) is None
    assert contracts.TOKENS_OF.answer(await mined.chain.call(currency, contracts.TOKENS_OF.call(HOLDER))) == (7,)


async def test_a_transaction_beyond_a_gap_waits_until_the_gap_is_filled(mined: ChainWorld) -> None:
    later = await mined.chain.send_raw(await mined.signed(HOLDER, b"", nonce=1))

    waits = await mined.chain.receipt(later)
    next_nonce = await mined.chain.nonce(mined.payer.address, with_waiting=True)
    await mined.final(await mined.chain.send_raw(await mined.signed(HOLDER, b"", nonce=0)))

    assert waits is None
    assert next_nonce == 0
    assert (await mined.final(later)).has_succeeded


async def test_a_transaction_for_another_chain_is_not_taken(world: ChainWorld) -> None:
    other = await world.chain.chain_id() + 1

    with pytest.raises(TransactionNotTaken):
        await world.chain.send_raw(await world.signed(HOLDER, b"", chain_id=other))


@pytest.mark.parametrize("raw", [b"", b"\2", b"\2abc", bytes(100)])
async def test_bytes_that_are_no_transaction_are_not_taken(world: ChainWorld, raw: bytes) -> None:
    with pytest.raises(TransactionNotTaken):
        await world.chain.send_raw(raw)


async def test_a_chain_that_is_down_answers_nothing(mined: ChainWorld) -> None:
    raw = await mined.signed(HOLDER, b"")
    await mined.stop()

    for asked in (
        mined.chain.chain_id(),
        mined.chain.genesis_hash(),
        mined.chain.head(),
        mined.chain.finalized(),
        mined.chain.block(0),
        mined.chain.code(HOLDER),
        mined.chain.call(HOLDER, b""),
        mined.chain.transaction(bytes(32)),
        mined.chain.receipt(bytes(32)),
        mined.chain.logs(HOLDER, (), from_block=0, to_block=0),
        mined.chain.nonce(HOLDER, with_waiting=True),
        mined.chain.estimate_gas(HOLDER, HOLDER, b""),
        mined.chain.fees(),
        mined.chain.send_raw(raw),
    ):
        with pytest.raises(ChainUnavailable):
            await asked


async def test_a_chain_that_lost_its_state_has_another_genesis_and_knows_nothing(mined: ChainWorld) -> None:
    genesis, currency = await mined.chain.genesis_hash(), await mined.currency()
    sent = await mined.sent(currency, contracts.MINT.call(HOLDER, 5))
    await mined.final(sent)

    await mined.restart_without_state()

    assert await mined.chain.genesis_hash() != genesis
    assert await mined.chain.code(currency) == b""
    assert await mined.chain.transaction(sent) is None
    assert await mined.chain.receipt(sent) is None
    assert await mined.chain.nonce(mined.payer.address, with_waiting=True) == 0
