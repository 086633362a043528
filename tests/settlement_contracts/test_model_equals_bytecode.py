"""The same random traffic into the bytecode and into the contracts in Python: same answers, events, errors, state.

Both chains have the same id and the same accounts, so the contracts have the same addresses and signatures fit both.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from emobility.adapters.system import SystemTimer
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import agreement_query, batch_query, key_number, open_agreement_call
from emobility.domain.batch.hashing import bound, keccak256
from emobility.domain.batch.statement import struct_hash_of
from emobility.domain.batch.trees import HashTree
from emobility.domain.batch.typed_data import (
    AgreementTerms,
    BookMode,
    Registry,
    acceptance_digest,
    agreement_digest,
    agreement_key,
    claims_digest,
    discharge_digest,
    message_key_digest,
    rotation_cancellation_digest,
    signer_acceptance_digest,
    signer_rotation_digest,
)
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import CallReverted, TransactionReceipt
from emobility.ports.chain_signer import ChainSigner
from services.settlement.deployment import Deployer
from tests.chains import T0, ChainWorld, FakeWorld, an_anvil
from tests.settling import COLLATERAL_E4, LIMIT_E4, NUMBERS, PARTIES, SIGNERS, Pair, Settling, settling_on

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
WORTH_SEEING_OF_A_GUARANTEE: Final = (
    contracts.COLLATERAL_RESERVED,
    contracts.COLLATERAL_RELEASED,
    contracts.RESERVED_TAKEN,
    contracts.GUARANTEE_CALLED,
    contracts.AGREEMENT_CORRECTED,
    contracts.CORRECTION_MET,
    contracts.PAIR_CHALLENGED,
    contracts.CHALLENGE_ENDED,
    contracts.NOTICE_GIVEN,
    contracts.AGREEMENT_ENDED,
    contracts.BOOK_CLOSED,
)
REFUSED_OF_A_GUARANTEE: Final = (
    contracts.CALL_EXCEEDS_OVERDUE,
    contracts.NOT_CORRECTED,
    contracts.NOT_COVERED,
    contracts.BOOK_NOT_PARTY,
    contracts.NOT_RIPENING,
    contracts.NOT_CHALLENGED,
    contracts.NOT_ENDING,
    contracts.HAS_ENDED,
    contracts.BOOK_IS_CLOSED,
)
GUARANTEE_E4: Final = 1_000
TERM_S: Final = 10 * 24 * 3600
OF_GUARANTEE: Final = (len(NUMBERS) + 1, len(NUMBERS) + 2)
LENDER: Final = PartyId("NL-LEN")
GUARANTOR: Final = PartyId("NL-GUA")
"""Their signers have money for gas, because callers, not signatures, count here."""
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
        pairs_hash = bound(HashTree([struct_hash_of(*each) for each in statements]).root, len(statements))
        words = []
        for party_id in self.random.sample(PARTIES, self.random.choice([0, 1, 2, 3, 3, 3])):
            pairs = self.random.choice([*[(1 << len(statements)) - 1] * 4, self.random.getrandbits(256), 0])
            number = 77 if self.sometimes(0.01) else NUMBERS[party_id]
            digest = acceptance_digest(
                self.settling.book, batch_id=batch_id, pairs_hash=pairs_hash, party=number, pairs=pairs
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
        dated = {contracts.TOO_EARLY.selector, contracts.NOT_ENDING.selector}  # by the chain's own clock
        return refusal.data[:4] if refusal.data[:4] in dated else refusal.data
    return None


async def carried_out(world: ChainWorld, traffic: Traffic) -> TransactionReceipt:
    signer, to, calldata = traffic
    return await world.final(await world.sent(to, calldata, by=signer))


async def answers(settling: Settling, batches: Sequence[tuple[bytes, Any]]) -> list[bytes]:
    """All that can be asked about what the traffic changes."""
    euro, registry = settling.euro, settling.deployment.registry
    asked = [
        *((euro.vault, contracts.COLLATERAL_OF.call(number)) for number in (*NUMBERS.values(), *OF_GUARANTEE)),
        *((euro.vault, contracts.RESERVED_BY.call(euro.book, number)) for number in OF_GUARANTEE),
        *((registry, contracts.PARTY.call(number)) for number in NUMBERS.values()),
        (euro.vault, contracts.TOTAL_COLLATERAL.call()),
        (euro.token, contracts.TOKENS_OF.call(euro.vault)),
        (euro.token, contracts.TOKENS_OF.call(settling.world.payer.address)),
    ]
    agreed = [await settling.world.chain.call(euro.book, agreement_query(each.agreement)) for each in settling.pairs]
    booked = [await settling.world.chain.call(euro.book, batch_query(batch_id)) for batch_id, _ in batches]
    entries = [
        await settling.world.chain.call(registry, contracts.ENTRY.call(*party.code.encode().split(b"-")))
        for party in NUMBERS
    ]
    # Word 6 and the last are moments by the chain's own clock (attested until, taking over), and these clocks differ.
    return [
        *[await settling.world.chain.call(to, calldata) for to, calldata in asked],
        *(answer[:-32] for answer in (*booked, *agreed)),  # … and so is when a batch's window ends, or an agreement
        *(entry[: 6 * 32] + entry[7 * 32 : -32] for entry in entries),
    ]


def told_by(receipt: TransactionReceipt) -> list[tuple[bytes, tuple[bytes, ...], bytes]]:
    """What was told, without when a successor takes over or an agreement ends: that follows the chain's own clock."""
    is_dated = {contracts.SIGNER_NAMED.topic, contracts.NOTICE_GIVEN.topic}
    return [(log.address, log.topics, b"" if log.topics[0] in is_dated else log.data) for log in receipt.logs]


class Twins:
    """Bytecode and Python, into which the same calls go; `seen`: selectors of refusals and topics of events."""

    def __init__(self, of_bytecode: Settling, in_python: Settling) -> None:
        self.both = (of_bytecode, in_python)
        self.batches: list[tuple[bytes, Any]] = []
        self.seen = set[bytes]()

    async def take(self, traffic: Traffic, *, proposed: tuple[bytes, Any] | None = None) -> bool:
        """Make a call on both chains, whatever comes of it; return whether it was taken."""
        refusals = [await refusal_of(settling.world, traffic) for settling in self.both]
        assert refusals[0] == refusals[1], traffic
        if refusals[0] is not None:
            self.seen.add(refusals[0][:4])
            return False
        if proposed is not None:
            self.batches = [*self.batches, proposed][-KEPT:]
        told = [told_by(await carried_out(settling.world, traffic)) for settling in self.both]
        assert told[0] == told[1], traffic
        self.seen.update(topics[0] for _, topics, _ in told[0])
        assert await answers(self.both[0], self.batches) == await answers(self.both[1], self.batches), traffic
        return True


class Guarantee:
    """An agreement under a guarantee, from its opening to its end."""

    def __init__(self, twins: Twins) -> None:
        self.twins = twins
        self.settling = twins.both[1]
        self.admin, self.book = self.settling.world.payer, self.settling.euro.book
        self.lender, self.guarantor = (self.settling.world.account(place) for place in (2, 3))

    async def open(self) -> None:
        for settling in self.twins.both:
            deployer = Deployer(settling.world.chain, settling.world.payer, SystemTimer())
            signers = {LENDER: self.lender, GUARANTOR: self.guarantor}
            numbers = await deployer.register_parties(settling.deployment, signers)
            await deployer.deposit(settling.euro, dict.fromkeys(numbers.values(), COLLATERAL_E4))
        assert tuple(numbers.values()) == OF_GUARANTEE
        terms = AgreementTerms(
            document=bytes(32),
            cpo=numbers[LENDER],
            msp=numbers[GUARANTOR],
            currency="EUR",
            mode=BookMode.GUARANTEE,
            credit_limit_e4=GUARANTEE_E4,
            payment_term_s=TERM_S,
            deadline=T0 + timedelta(days=30),
        )
        self.cpo, self.msp, self.agreement = terms.cpo, terms.msp, key_number(agreement_key(terms))
        digest = agreement_digest(self.settling.book, terms)
        by_cpo, by_msp = await self.lender.sign_digest(digest), await self.guarantor.sign_digest(digest)
        assert await self.call(self.admin, open_agreement_call(terms, by_cpo=by_cpo, by_msp=by_msp))
        opened = Pair(agreement=agreement_key(terms), cpo=LENDER, msp=GUARANTOR, mode=BookMode.GUARANTEE)
        for settling in self.twins.both:
            settling.pairs = (*settling.pairs, opened)

    async def call(self, by: ChainSigner, calldata: bytes) -> bool:
        return await self.twins.take((by, self.book, calldata))

    async def state(self, sequence: int, due: int, credit: int, *by: ChainSigner) -> tuple[bytes, tuple[Words, ...]]:
        """Propose a statement with the words of these signers."""
        figures = self.agreement << 192 | due << 136 | credit << 80 | 5 << 56 | sequence << 32 | FOREVER_S
        words = figures, bytes(32)
        batch_id = keccak256(b"%d %d" % (sequence, due))
        acceptances = []
        for signer in by:
            party = self.cpo if signer is self.lender else self.msp
            pairs_hash = bound(struct_hash_of(*words), 1)
            digest = acceptance_digest(
                self.settling.book, batch_id=batch_id, pairs_hash=pairs_hash, party=party, pairs=1
            )
            acceptances.append((party, 1, contracts.signature_words(await signer.sign_digest(digest))))
        call = contracts.PROPOSE.call(batch_id, (words,), acceptances)
        await self.twins.take((self.settling.proposer, self.book, call), proposed=(batch_id, (words,)))
        return batch_id, (words,)

    async def correct(self, *amounts_e4: int) -> None:
        """Correct, and have that met at once."""
        for amount_e4 in amounts_e4:
            assert await self.call(self.admin, contracts.CORRECT.call(self.agreement, amount_e4))
            await self.call(self.admin, contracts.FUND_CORRECTION.call(self.agreement))

    async def wait(self, days: int) -> None:
        """Let time pass on both chains, for calls about it see that of the last block."""
        for settling in self.twins.both:
            settling.world.clock.step_by(timedelta(days=days))
        payer = self.settling.world.payer
        assert await self.twins.take((payer, self.settling.euro.token, contracts.MINT.call(payer.address, 1)))

    async def contest(self, batch: tuple[bytes, tuple[Words, ...]], *, is_upheld: bool) -> None:
        batch_id, (words,) = batch
        place = (batch_id, 0, 1, ())
        for by in (self.lender, self.guarantor, self.guarantor):
            await self.call(by, contracts.CHALLENGE.call(words, place))
        for _ in range(2):
            await self.call(self.admin, contracts.DECIDE_CHALLENGE.call(words, place, is_upheld))
        await self.call(self.admin, contracts.FUND.call(*batch))

    async def live(self) -> None:
        for by, call in (
            (self.admin, contracts.GRANT_ROLE.call(contracts.RESOLVER_ROLE, self.admin.address)),
            (self.settling.proposer, contracts.UNPAUSE.call()),
            (self.admin, contracts.UNPAUSE.call()),
        ):
            await self.call(by, call)
        await self.state(1, 600, 0, self.lender, self.guarantor)
        await self.call(self.lender, contracts.CALL_GUARANTEE.call(self.agreement, 1, 100))
        await self.state(2, 0, 50, self.lender, self.guarantor)
        await self.correct(30, 10_000, -10_000, -5)
        await self.wait(11)
        for by, amount_e4 in ((self.guarantor, 200), (self.lender, GUARANTEE_E4), (self.lender, 200)):
            await self.call(by, contracts.CALL_GUARANTEE.call(self.agreement, 1, amount_e4))
        await self.contest(await self.state(3, 40, 0, self.lender), is_upheld=False)
        await self.contest(await self.state(4, 70, 0, self.lender), is_upheld=True)

    async def end(self) -> None:
        assert await self.call(self.admin, contracts.CORRECT.call(self.agreement, 20))
        for by in (self.admin, self.guarantor, self.lender):
            await self.call(by, contracts.GIVE_NOTICE.call(self.agreement))
        await self.call(self.admin, contracts.END_AFTER_NOTICE.call(self.agreement))
        await self.wait(41)
        for _ in range(2):
            await self.call(self.admin, contracts.END_AFTER_NOTICE.call(self.agreement))
        assert await self.call(self.admin, contracts.FUND_CORRECTION.call(self.agreement))
        await self.correct(-15)
        await self.call(self.admin, contracts.CLOSE.call())
        await self.state(5, 10, 0, self.lender, self.guarantor)


@pytest.mark.chain
@pytest.mark.parametrize("seed", [6])
async def test_contracts_in_python_do_what_the_bytecode_does(tmp_path: Path, seed: int) -> None:
    async with an_anvil(tmp_path / "chain") as real:
        fake = FakeWorld(mnemonic=real.mnemonic, chain_id=await real.chain.chain_id())
        of_bytecode, in_python = await settling_on(real), await settling_on(fake)
        assert of_bytecode.pairs == in_python.pairs
        traders, twins = Traders(in_python, seed), Twins(of_bytecode, in_python)

        for _ in range(STEPS):
            traffic = await traders.call()
            if await twins.take(traffic, proposed=traders.drawn):
                traders.was_taken()
        guarantee = Guarantee(twins)
        await guarantee.open()
        await guarantee.live()
        await guarantee.end()

        assert {event.topic for event in (*WORTH_SEEING, *WORTH_SEEING_OF_A_GUARANTEE)} <= twins.seen
        assert {error.selector for error in (contracts.REGISTRY_WRONG_SIGNER, *REFUSED_OF_A_GUARANTEE)} <= twins.seen
