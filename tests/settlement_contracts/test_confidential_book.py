"""The same random traffic into the confidential book's bytecode and into it in Python: same answers, events, errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from emobility.adapters.system import SystemTimer
from emobility.domain.batch import contracts
from emobility.domain.batch.confidential import (
    Amounts,
    ConfidentialBook,
    SealedStatement,
    filled_up,
    hashes_hash,
    hashes_tree,
    net_digest,
    posted_hash,
    signers_words,
    statement_digest,
)
from emobility.ports.chain import CallReverted, TransactionReceipt
from emobility.ports.chain_signer import ChainSigner
from services.settlement.deployment import Deployer
from tests.chains import T0, ChainWorld, FakeWorld, an_anvil
from tests.settling import COLLATERAL_E4, NUMBERS, PARTIES, SIGNERS, Settling, settling_on

STEPS: Final = 22
SALT: Final = b"s" * 32
AMOUNTS_SALT: Final = b"a" * 32
WORTH_SEEING: Final = (
    contracts.BATCH_SETTLED.topic,
    contracts.NET_CORRECTED.topic,
    *(
        each.selector
        for each in (
            contracts.HIDDEN_BATCH_EXISTS,
            contracts.HIDDEN_UNSUITABLE_COUNT,
            contracts.PARTIES_NOT_ASCENDING,
            contracts.HIDDEN_WRONG_SIGNER,
            contracts.VAULT_SHORT,
            contracts.NOT_ZERO_SUM,
            contracts.NOT_IN_ROLE,
        )
    ),
)
Traffic = tuple[ChainSigner, bytes]


class Poster:
    """Draws calls; most would be taken, many would not."""

    def __init__(self, settling: Settling, book: ConfidentialBook, seed: int) -> None:
        self.settling = settling
        self.book = book
        self.random = Random(seed)
        self.posted: list[bytes] = []

    def sometimes(self, probability: float = 0.08) -> bool:
        return self.random.random() < probability

    async def call(self) -> Traffic:
        by = self.settling.world.payer if self.sometimes() else self.settling.proposer
        if self.sometimes(0.15):
            amount = self.random.choice([0, 1, COLLATERAL_E4 * 4, 2**63])
            return self.settling.world.payer, contracts.CORRECT_NET.call(1, 2, amount)
        if self.sometimes(0.1):
            call = self.random.choice([contracts.PAUSE, contracts.UNPAUSE, contracts.UNPAUSE])
            return self.settling.world.payer, call.call()
        return by, await self.settle()

    async def settle(self) -> bytes:
        hashes = [self.random.randbytes(32) for _ in range(1 << self.random.randint(1, 3))]
        if self.sometimes():
            hashes = hashes[:-1]
        batch_id = self.random.choice(self.posted) if self.posted and self.sometimes() else self.random.randbytes(32)
        most = self.random.choice([0, 1, COLLATERAL_E4 // 9, COLLATERAL_E4 * 2])
        first, second = self.random.randint(-most, most), self.random.randint(-most, most)
        nets = [first, second, -first - second + self.sometimes()]
        parties = list(PARTIES) if not self.sometimes() else [PARTIES[1], PARTIES[0], PARTIES[2]]
        words = []
        for party_id, net_e4 in zip(parties, nets, strict=True):
            nonce = await nonce_of(self.settling.world, self.book, NUMBERS[party_id]) + self.sometimes(0.03)
            digest = self.net_digest(batch_id, hashes, NUMBERS[party_id], net_e4, nonce)
            signature = await SIGNERS[party_id].sign_digest(digest) if not self.sometimes(0.03) else bytes(64)
            words.append((NUMBERS[party_id], net_e4, (signature[:32], signature[32:])))
        self.posted = [*self.posted, batch_id][-4:]
        return contracts.SETTLE.call(batch_id, hashes, words if not self.sometimes(0.05) else words[:1])

    def net_digest(self, batch_id: bytes, hashes: Sequence[bytes], party: int, net_e4: int, nonce: int) -> bytes:
        try:
            shown = hashes_hash(hashes)
        except Exception:  # noqa: BLE001 - a number of hashes that the book refuses before it looks at signatures
            shown = bytes(32)
        return net_digest(self.book, batch_id=batch_id, hashes_hash=shown, party=party, net_e4=net_e4, nonce=nonce)


async def book_on(world: ChainWorld, settling: Settling) -> ConfidentialBook:
    deployer = Deployer(world.chain, world.payer, SystemTimer())
    proposer = settling.proposer.address
    address = await deployer.deploy_confidential(settling.deployment, "EUR", proposer=proposer)
    granted = contracts.GRANT_ROLE.call(contracts.RESOLVER_ROLE, world.payer.address)
    await world.final(await world.sent(address, granted))
    return ConfidentialBook(chain_id=settling.deployment.chain_id, address=address)


async def nonce_of(world: ChainWorld, book: ConfidentialBook, number: int) -> int:
    answer = await world.chain.call(book.address, contracts.NONCE_OF.call(number))
    return int(contracts.NONCE_OF.answer(answer)[0])


async def refusal_of(world: ChainWorld, book: ConfidentialBook, traffic: Traffic) -> bytes | None:
    try:
        await world.chain.estimate_gas(traffic[0].address, book.address, traffic[1])
    except CallReverted as refusal:
        return refusal.data
    return None


async def carried_out(world: ChainWorld, book: ConfidentialBook, traffic: Traffic) -> TransactionReceipt:
    return await world.final(await world.sent(book.address, traffic[1], by=traffic[0]))


async def answers(settling: Settling, book: ConfidentialBook, batches: Sequence[bytes]) -> list[bytes]:
    asked = [
        *((book.address, contracts.HIDDEN_BATCH.call(batch_id)) for batch_id in batches),
        *((book.address, contracts.NONCE_OF.call(number)) for number in (*NUMBERS.values(), 77)),
        *((settling.euro.vault, contracts.FREE_OF.call(number)) for number in NUMBERS.values()),
        (settling.euro.vault, contracts.TOTAL_COLLATERAL.call()),
    ]
    return [await settling.world.chain.call(to, calldata) for to, calldata in asked]


def a_statement() -> SealedStatement:
    amounts = Amounts(sum_root=b"r" * 32, due_e4=700, credit_e4=200)
    return SealedStatement(
        agreement=b"g" * 32,
        cpo=1,
        msp=2,
        count=9,
        sequence=3,
        period_end=T0 + timedelta(days=7),
        evidence_root=b"e" * 32,
        amounts=amounts.sealed(AMOUNTS_SALT),
    )


async def opened(settling: Settling, book: ConfidentialBook, statement: SealedStatement, batch_id: bytes) -> list[Any]:
    """Settle a batch that holds a statement; return what opens it."""
    noise = iter([bytes([place]) * 32 for place in range(9)])
    posted = posted_hash(statement.struct_hash, salt=SALT)
    hashes = filled_up([posted, b"\x77" * 32, b"\x99" * 32], noise)
    nets = dict(zip(PARTIES, (500, -500, 0), strict=True))
    words = []
    for party_id, net_e4 in nets.items():
        number, nonce = NUMBERS[party_id], await nonce_of(settling.world, book, NUMBERS[party_id])
        digest = net_digest(
            book, batch_id=batch_id, hashes_hash=hashes_hash(hashes), party=number, net_e4=net_e4, nonce=nonce
        )
        signature = await SIGNERS[party_id].sign_digest(digest)
        words.append((number, net_e4, (signature[:32], signature[32:])))
    call = contracts.SETTLE.call(batch_id, hashes, words)
    await settling.world.final(await settling.world.sent(book.address, call, by=settling.proposer))
    digest = statement_digest(book, statement)
    signatures = [await SIGNERS[each].sign_digest(digest) for each in PARTIES[:2]]
    proof = hashes_tree(hashes).proof(hashes.index(posted))
    signers = signers_words({NUMBERS[each]: SIGNERS[each].address for each in PARTIES})
    opening = (SALT, *((each[:32], each[32:]) for each in signatures))
    return [statement.words, opening, (batch_id, proof.index, proof.count, proof.siblings, signers)]


@pytest.mark.chain
async def test_the_book_in_python_does_what_the_bytecode_does(tmp_path: Path) -> None:
    async with an_anvil(tmp_path / "chain") as real:
        fake = FakeWorld(mnemonic=real.mnemonic, chain_id=await real.chain.chain_id())
        both = [await settling_on(world) for world in (real, fake)]
        books = [await book_on(settling.world, settling) for settling in both]
        assert books[0] == books[1]
        book, poster, seen = books[0], Poster(both[1], books[1], 12), set[bytes]()

        for step in range(STEPS):
            traffic = await poster.call()
            refusals = [await refusal_of(world, book, traffic) for world in (real, fake)]
            assert refusals[0] == refusals[1], (step, traffic)
            seen.add((refusals[0] or b"")[:4])
            if refusals[0] is None:
                receipts = [await carried_out(world, book, traffic) for world in (real, fake)]
                told = [[(log.topics, log.data) for log in receipt.logs] for receipt in receipts]
                assert told[0] == told[1], (step, traffic)
                seen.update(topics[0] for topics, _ in told[0])
            states = [await answers(settling, book, poster.posted) for settling in both]
            assert states[0] == states[1], step
        assert set(WORTH_SEEING) <= seen

        statement = a_statement()
        unpaused = contracts.UNPAUSE.call()
        for settling in both:
            if await refusal_of(settling.world, book, (settling.world.payer, unpaused)) is None:
                await carried_out(settling.world, book, (settling.world.payer, unpaused))
            opening = await opened(settling, book, statement, b"\x42" * 32)
            for place in range(len(opening[2])):
                assert await is_final(settling, book, opening)
                wrong = list(opening)
                changed = list(opening[2])
                changed[place] = (b"\x43" * 32, changed[1] ^ 1, 8, (b"\0" * 32,) * 2, changed[4][:2])[place]
                wrong[2] = tuple(changed)
                assert not await is_final(settling, book, wrong)
            asked = contracts.ARE_AMOUNTS.call(statement.words, AMOUNTS_SALT, b"r" * 32, 700, 200)
            assert contracts.ARE_AMOUNTS.answer(await settling.world.chain.call(book.address, asked)) == (1,)
            asked = contracts.ARE_AMOUNTS.call(statement.words, SALT, b"r" * 32, 700, 200)
            assert contracts.ARE_AMOUNTS.answer(await settling.world.chain.call(book.address, asked)) == (0,)


async def is_final(settling: Settling, book: ConfidentialBook, opening: Sequence[Any]) -> bool:
    asked = contracts.IS_SEALED_STATEMENT_FINAL.call(*opening)
    answer = await settling.world.chain.call(book.address, asked)
    return bool(contracts.IS_SEALED_STATEMENT_FINAL.answer(answer)[0])
