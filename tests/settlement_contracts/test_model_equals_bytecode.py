"""The same random traffic into the bytecode and into the contracts in Python: same answers, events, errors, state.

Both chains have the same id and the same accounts, so the contracts have the same addresses and signatures fit both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from emobility.domain.batch import contracts
from emobility.domain.batch.calls import agreement_query, batch_query, key_number
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.statement import struct_hash_of
from emobility.domain.batch.trees import HashTree
from emobility.domain.batch.typed_data import (
    BookMode,
    Registry,
    acceptance_digest,
    claims_digest,
    discharge_digest,
    message_key_digest,
    rotation_cancellation_digest,
    signer_acceptance_digest,
    signer_rotation_digest,
)
from emobility.ports.chain import CallReverted, TransactionReceipt
from emobility.ports.chain_signer import ChainSigner
from tests.chains import T0, ChainWorld, FakeWorld, an_anvil
from tests.settling import COLLATERAL_E4, LIMIT_E4, NUMBERS, PARTIES, SIGNERS, Settling, settling_on

STEPS: Final = 80
KEPT: Final = 4
"""Batches that later steps may come back to."""
WORTH_SEEING: Final = (
    contracts.BATCH_PROPOSED,
    contracts.PAIRS_FINAL,
    contracts.PAIRS_UNFUNDED,
    contracts.OBLIGATION_DISCHARGED,
    contracts.CLAIMS_SET,
    contracts.PARTY_ATTESTED,
    contracts.SIGNER_NAMED,
)
FOREVER_S: Final = int(T0.timestamp()) + 10**6
Words = tuple[int, bytes]
Traffic = tuple[ChainSigner, bytes, bytes]


class Traders:
    """Draws calls; most would be taken, many would not."""

    def __init__(self, settling: Settling, seed: int) -> None:
        self.settling = settling
        self.random = Random(seed)
        self.batches: list[tuple[bytes, tuple[Words, ...]]] = []
        self.drawn: tuple[bytes, tuple[Words, ...]] | None = None

    def was_taken(self) -> None:
        """Remember a batch that was proposed."""
        if self.drawn is not None:
            self.batches = [*self.batches, self.drawn][-KEPT:]

    async def call(self) -> Traffic:
        """Return who calls which contract, and how."""
        self.drawn = None
        drawn = self.random.choices(
            [
                self.propose,
                self.accept,
                self.fund,
                self.discharge,
                self.pause,
                self.rotate,
                self.speak,
                self.attest,
                self.deposit,
                self.register,
            ],
            weights=[12, 10, 3, 4, 1, 3, 5, 3, 2, 1],
        )[0]
        return await drawn()

    def sometimes(self, probability: float = 0.1) -> bool:
        return self.random.random() < probability

    def by(self) -> ChainSigner:
        return self.settling.world.payer if self.sometimes(0.05) else self.settling.proposer

    async def propose(self) -> Traffic:
        chosen = self.random.sample(self.settling.pairs, self.random.randint(1, len(self.settling.pairs)))
        in_order = chosen if self.sometimes() else sorted(chosen, key=lambda pair: pair.agreement)
        statements = tuple([await self.statement(pair.agreement) for pair in in_order])
        if self.sometimes(0.03):
            statements = ()
        batch_id = self.random.randbytes(32)
        if self.batches and self.sometimes():
            batch_id = self.random.choice(self.batches)[0]
        self.drawn = batch_id, statements
        acceptances = await self.acceptances(batch_id, statements)
        return self.by(), self.settling.euro.book, contracts.PROPOSE.call(batch_id, statements, acceptances)

    async def statement(self, agreement: bytes) -> Words:
        pair = next(each for each in self.settling.pairs if each.agreement == agreement)
        sequence = (await self.settling.state(pair)).last_sequence + self.random.choices([0, 1, 2], weights=[1, 20, 1])[
            0
        ]
        amount = self.random.choice([0, 1, LIMIT_E4 // 3, LIMIT_E4 // 3, LIMIT_E4, COLLATERAL_E4, 2**55, 2**56 - 1])
        due, credit = (amount, 0) if self.random.random() < 0.6 else (0, amount)
        count = 0 if self.sometimes(0.03) else 5
        if self.sometimes(0.03):
            agreement = self.random.randbytes(8)
        figures = key_number(agreement) << 192 | due << 136 | credit << 80 | count << 56 | sequence << 32
        return figures | FOREVER_S, self.random.randbytes(32)

    async def acceptances(self, batch_id: bytes, statements: Sequence[Words]) -> tuple[Any, ...]:
        if not statements:
            return ()
        bound = keccak256(
            HashTree([struct_hash_of(*each) for each in statements]).root + len(statements).to_bytes(32, "big")
        )
        words = []
        for party_id in self.random.sample(PARTIES, self.random.choice([0, 1, 2, 3, 3, 3])):
            pairs = self.random.choice([*[(1 << len(statements)) - 1] * 4, self.random.getrandbits(256), 0])
            number = 77 if self.sometimes(0.01) else NUMBERS[party_id]
            digest = acceptance_digest(
                self.settling.book, batch_id=batch_id, pairs_hash=bound, party=number, pairs=pairs
            )
            signer = SIGNERS[self.random.choice(PARTIES)] if self.sometimes(0.03) else SIGNERS[party_id]
            signature = bytes(64) if self.sometimes(0.02) else await signer.sign_digest(digest)
            words.append((number, pairs, (signature[:32], signature[32:])))
        return tuple(words)

    async def accept(self) -> Traffic:
        batch_id, statements = self.a_batch()
        acceptances = await self.acceptances(batch_id, statements)
        return self.by(), self.settling.euro.book, contracts.ACCEPT.call(batch_id, statements, acceptances)

    async def fund(self) -> Traffic:
        return self.by(), self.settling.euro.book, contracts.FUND.call(*self.a_batch())

    def a_batch(self) -> tuple[bytes, tuple[Words, ...]]:
        """One that was proposed, or one that was not."""
        if not self.batches or self.sometimes(0.05):
            return self.random.randbytes(32), ()
        batch_id, statements = self.random.choice(self.batches)
        return batch_id, statements[:-1] if self.sometimes(0.05) else statements

    async def discharge(self) -> Traffic:
        pair = self.random.choice([each for each in self.settling.pairs if each.mode is BookMode.CREDIT_LINE])
        state = await self.settling.state(pair)
        amount = self.random.choice([*[state.owed_e4 // 2] * 4, state.owed_e4, state.owed_e4 + 1, -1])
        digest = discharge_digest(
            self.settling.book,
            agreement=pair.agreement,
            number=state.discharges + self.sometimes(),
            amount_e4=amount,
        )
        signatures = [await SIGNERS[each].sign_digest(digest) for each in (pair.cpo, pair.msp)]
        words = [(each[:32], each[32:]) for each in signatures]
        return self.by(), self.settling.euro.book, contracts.DISCHARGE.call(key_number(pair.agreement), amount, *words)

    async def pause(self) -> Traffic:
        call = self.random.choice([contracts.PAUSE, contracts.UNPAUSE, contracts.UNPAUSE, contracts.UNPAUSE]).call()
        return self.settling.proposer if self.sometimes() else self.settling.world.payer, self.settling.euro.book, call

    async def rotate(self) -> Traffic:
        """To the same signer, so that later signatures still count."""
        signer, own = SIGNERS[PARTIES[0]], NUMBERS[PARTIES[0]]
        number = self.random.choice([*NUMBERS.values(), own, own, own, 77])
        to = bytes(20) if self.sometimes() else signer.address
        registry = Registry(chain_id=self.settling.deployment.chain_id, address=self.settling.deployment.registry)
        digest = signer_rotation_digest(
            registry, number=number, signer=to, nonce=await self.nonce(), deadline=T0.replace(year=2030)
        )
        word = await signer.sign_digest(digest)
        deadline = int(T0.replace(year=2020 if self.sometimes() else 2030).timestamp())
        call = contracts.ROTATE_SIGNER.call(number, to, deadline, (word[:32], word[32:]))
        return self.by(), self.settling.deployment.registry, call

    async def nonce(self) -> int:
        asked = contracts.PARTY.call(NUMBERS[PARTIES[0]])
        answer = await self.settling.world.chain.call(self.settling.deployment.registry, asked)
        return int(contracts.PARTY.answer(answer)[0][2])

    async def speak(self) -> Traffic:
        """A party claims, names a key, or goes back on its successor, or the successor comes too early."""
        registry = Registry(chain_id=self.settling.deployment.chain_id, address=self.settling.deployment.registry)
        number, nonce = NUMBERS[PARTIES[0]], await self.nonce()
        deadline = T0.replace(year=2020 if self.sometimes() else 2030)
        said, roles, word = nonce - 1 if self.sometimes() and nonce else nonce, self.random.choice([0, 3]), bytes(32)
        about: dict[str, Any] = {"number": number, "nonce": said, "deadline": deadline}
        signer, until = SIGNERS[PARTIES[0]], int(deadline.timestamp())
        digest, function, arguments = self.random.choice(
            [
                (
                    claims_digest(registry, roles=roles, modules=9, platform=word, **about),
                    "SET_CLAIMS",
                    (roles, 9, word),
                ),
                (message_key_digest(registry, key=word, **about), "SET_MESSAGE_KEY", (word,)),
                (rotation_cancellation_digest(registry, signer=signer.address, **about), "CANCEL_ROTATION", ()),
                (signer_acceptance_digest(registry, signer=signer.address, **about), "COMPLETE_ROTATION", ()),
            ]
        )
        consent = await signer.sign_digest(digest)
        call = getattr(contracts, function).call(number, *arguments, until, (consent[:32], consent[32:]))
        return self.by(), registry.address, call

    async def attest(self) -> Traffic:
        number = self.random.choice([*NUMBERS.values(), 77])
        until = int(T0.replace(year=self.random.choice([2020, 2030])).timestamp())
        vouches = self.random.random() < 0.7
        call = contracts.ATTEST.call(number, until) if vouches else contracts.REVOKE_ATTESTATION.call(number)
        by = self.settling.proposer if self.sometimes(0.2) else self.settling.world.payer
        return by, self.settling.deployment.registry, call

    async def deposit(self) -> Traffic:
        payer, euro = self.settling.world.payer, self.settling.euro
        amount = self.random.choice([0, 1, 10**6])
        drawn = [
            (payer, euro.token, contracts.MINT.call(payer.address, amount)),
            (payer, euro.token, contracts.APPROVE.call(euro.vault, self.random.choice([0, amount, 2**256 - 1]))),
            (payer, euro.vault, contracts.DEPOSIT.call(self.random.choice([1, 2, 77]), amount)),
            (self.settling.proposer, euro.token, contracts.MINT.call(payer.address, amount)),
        ]
        return self.random.choice(drawn)

    async def register(self) -> Traffic:
        names = [(b"NL", b"TNM"), (b"nl", b"TNM"), (b"N1", b"ABC"), (b"DE", b"A-B"), (b"DE", b"AB1")]
        country, party = self.random.choice(names)
        signer = bytes(20) if self.sometimes() else SIGNERS[PARTIES[0]].address
        deadline = int(T0.replace(year=self.random.choice([2020, 2030])).timestamp())
        word = (self.random.randbytes(32), self.random.randbytes(32))
        call = contracts.REGISTER.call(country, party, signer, signer, 2**48 - 1, deadline, word)
        by = self.settling.proposer if self.sometimes(0.2) else self.settling.world.payer
        return by, self.settling.deployment.registry, call


async def refusal_of(world: ChainWorld, traffic: Traffic) -> bytes | None:
    signer, to, calldata = traffic
    try:
        await world.chain.estimate_gas(signer.address, to, calldata)
    except CallReverted as refusal:
        is_dated = refusal.data.startswith(contracts.TOO_EARLY.selector)  # by the chain's own clock
        return contracts.TOO_EARLY.selector if is_dated else refusal.data
    return None


async def carried_out(world: ChainWorld, traffic: Traffic) -> TransactionReceipt:
    signer, to, calldata = traffic
    return await world.final(await world.sent(to, calldata, by=signer))


async def answers(settling: Settling, batches: Sequence[tuple[bytes, Any]]) -> list[bytes]:
    """All that can be asked about what the traffic changes."""
    euro, registry = settling.euro, settling.deployment.registry
    asked = [
        *((euro.book, agreement_query(pair.agreement)) for pair in settling.pairs),
        *((euro.vault, contracts.COLLATERAL_OF.call(number)) for number in NUMBERS.values()),
        *((registry, contracts.PARTY.call(number)) for number in NUMBERS.values()),
        (euro.vault, contracts.TOTAL_COLLATERAL.call()),
        (euro.token, contracts.TOKENS_OF.call(euro.vault)),
        (euro.token, contracts.TOKENS_OF.call(settling.world.payer.address)),
    ]
    booked = [await settling.world.chain.call(euro.book, batch_query(batch_id)) for batch_id, _ in batches]
    entries = [
        await settling.world.chain.call(registry, contracts.ENTRY.call(*party.code.encode().split(b"-")))
        for party in NUMBERS
    ]
    # Word 6 and the last are moments by the chain's own clock (attested until, taking over), and these clocks differ.
    return [
        *[await settling.world.chain.call(to, calldata) for to, calldata in asked],
        *(answer[:-32] for answer in booked),  # … and so is when a batch's window ends
        *(entry[: 6 * 32] + entry[7 * 32 : -32] for entry in entries),
    ]


def told_by(receipt: TransactionReceipt) -> list[tuple[bytes, tuple[bytes, ...], bytes]]:
    """What was told, without when a successor takes over: that follows the chain's own clock."""
    is_dated = {contracts.SIGNER_NAMED.topic}
    return [(log.address, log.topics, b"" if log.topics[0] in is_dated else log.data) for log in receipt.logs]


@pytest.mark.chain
@pytest.mark.parametrize("seed", [6])
async def test_contracts_in_python_do_what_the_bytecode_does(tmp_path: Path, seed: int) -> None:
    async with an_anvil(tmp_path / "chain") as real:
        fake = FakeWorld(mnemonic=real.mnemonic, chain_id=await real.chain.chain_id())
        of_bytecode, in_python = await settling_on(real), await settling_on(fake)
        assert of_bytecode.pairs == in_python.pairs
        traders, seen = Traders(in_python, seed), set[bytes]()

        for step in range(STEPS):
            traffic = await traders.call()
            refusals = [await refusal_of(world, traffic) for world in (real, fake)]
            assert refusals[0] == refusals[1], (step, traffic)
            seen.add((refusals[0] or b"")[:4])
            if refusals[0] is None:
                traders.was_taken()
                receipts = [await carried_out(world, traffic) for world in (real, fake)]
                told = [told_by(receipt) for receipt in receipts]
                assert told[0] == told[1], (step, traffic)
                seen.update(topics[0] for _, topics, _ in told[0])
                assert await answers(of_bytecode, traders.batches) == await answers(in_python, traders.batches), step

        assert {event.topic for event in WORTH_SEEING} <= seen
        assert contracts.REGISTRY_WRONG_SIGNER.selector in seen
