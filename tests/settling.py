"""A deployment with three parties and four agreements, and batches proposed into it by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from emobility.adapters.chain_signing import LocalChainSigner, party_signer
from emobility.adapters.system import SystemTimer
from emobility.domain.batch.calls import (
    Acceptance,
    AgreementState,
    BatchState,
    accept_call,
    agreement_query,
    batch_query,
    propose_call,
    read_agreement,
    read_batch,
)
from emobility.domain.batch.leaf import Leaf
from emobility.domain.batch.statement import PairStatement, pairs_hash, statement_of
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.batch.typed_data import AgreementTerms, Book, BookMode, acceptance_digest, batch_id_of
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import TransactionReceipt
from services.settlement.deployment import CurrencyContracts, Deployer, Deployment
from tests.chains import T0, ChainWorld

MASTER_KEY: Final = bytes(range(32))
CPO: Final = PartyId("NL-TNM")
MSP: Final = PartyId("NL-ZON")
BOTH: Final = PartyId("BE-ROL")
"""A CPO and an MSP at once."""
PARTIES: Final = (CPO, MSP, BOTH)
NUMBERS: Final = {party_id: place for place, party_id in enumerate(PARTIES, start=1)}
SIGNERS: Final[dict[PartyId, LocalChainSigner]] = {each: party_signer(MASTER_KEY, each) for each in PARTIES}
COLLATERAL_E4: Final = 10_000_000_000
LIMIT_E4: Final = 5_000_000_000


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An open agreement."""

    agreement: bytes
    cpo: PartyId
    msp: PartyId
    mode: BookMode


class Settling:
    """Made by `settling_on`."""

    def __init__(self, world: ChainWorld, deployment: Deployment, pairs: Sequence[Pair]) -> None:
        self.world = world
        self.deployment = deployment
        self.pairs = tuple(sorted(pairs, key=lambda pair: pair.agreement))
        self.proposer = world.account(1)

    @property
    def euro(self) -> CurrencyContracts:
        found = self.deployment.of("EUR")
        assert found is not None
        return found

    @property
    def book(self) -> Book:
        return Book(chain_id=self.deployment.chain_id, address=self.euro.book)

    def pair(self, mode: BookMode) -> Pair:
        """The agreement of CPO and MSP."""
        return next(each for each in self.pairs if (each.cpo, each.msp, each.mode) == (CPO, MSP, mode))

    @staticmethod
    def statement(pair: Pair, leaves: Sequence[Leaf], *, sequence: int = 1) -> PairStatement:
        return statement_of(
            StatementTrees(leaves), agreement=pair.agreement, sequence=sequence, period_end=T0 + timedelta(days=7)
        )

    async def acceptance(
        self, statements: Sequence[PairStatement], party_id: PartyId, *, pairs: int | None = None
    ) -> Acceptance:
        """The party's word on all statements, or on those whose bits are set."""
        bits = (1 << len(statements)) - 1 if pairs is None else pairs
        bound = pairs_hash(statements)
        digest = acceptance_digest(
            self.book,
            batch_id=batch_id_of(self.book, bound),
            pairs_hash=bound,
            party=NUMBERS[party_id],
            pairs=bits,
        )
        return Acceptance(party=NUMBERS[party_id], pairs=bits, signature=await SIGNERS[party_id].sign_digest(digest))

    async def sent_proposal(self, statements: Sequence[PairStatement], *, by: Sequence[PartyId] = PARTIES) -> bytes:
        """Propose statements with the acceptances of these parties; return the transaction's hash."""
        return await self._sent(propose_call, statements, by)

    async def proposed(
        self, statements: Sequence[PairStatement], *, by: Sequence[PartyId] = PARTIES
    ) -> TransactionReceipt:
        """Propose statements; return once that is final."""
        return await self.world.final(await self._sent(propose_call, statements, by))

    async def accepted(self, statements: Sequence[PairStatement], *, by: Sequence[PartyId]) -> TransactionReceipt:
        """Add acceptances to a batch; return once that is final."""
        return await self.world.final(await self._sent(accept_call, statements, by))

    async def _sent(
        self,
        call: Callable[[bytes, Sequence[PairStatement], Sequence[Acceptance]], bytes],
        statements: Sequence[PairStatement],
        by: Sequence[PartyId],
    ) -> bytes:
        batch_id = batch_id_of(self.book, pairs_hash(statements))
        calldata = call(batch_id, statements, [await self.acceptance(statements, each) for each in by])
        return await self.world.sent(self.euro.book, calldata, by=self.proposer)

    async def batch(self, statements: Sequence[PairStatement]) -> BatchState:
        batch_id = batch_id_of(self.book, pairs_hash(statements))
        return read_batch(await self.world.chain.call(self.euro.book, batch_query(batch_id)))

    async def state(self, pair: Pair) -> AgreementState:
        return read_agreement(await self.world.chain.call(self.euro.book, agreement_query(pair.agreement)))


async def settling_on(world: ChainWorld) -> Settling:
    """Deploy, register, fund and open."""
    deployer = Deployer(world.chain, world.payer, SystemTimer())
    deployment = await deployer.deploy(["EUR"], proposer=world.account(1).address)
    assert await deployer.register_parties(deployment, SIGNERS) == NUMBERS
    euro = deployment.of("EUR")
    assert euro is not None
    await deployer.deposit(euro, dict.fromkeys(NUMBERS.values(), COLLATERAL_E4))
    agreements = [
        (cpo, msp, mode)
        for cpo, msp, mode in (
            (CPO, MSP, BookMode.PREFUNDED),
            (CPO, MSP, BookMode.CREDIT_LINE),
            (CPO, BOTH, BookMode.PREFUNDED),
            (BOTH, MSP, BookMode.CREDIT_LINE),
        )
    ]
    terms = [
        AgreementTerms(
            document=bytes(32),
            cpo=NUMBERS[cpo],
            msp=NUMBERS[msp],
            currency="EUR",
            number=int(mode),
            mode=mode,
            credit_limit_e4=LIMIT_E4 if mode is BookMode.CREDIT_LINE else 0,
            deadline=T0 + timedelta(days=30),
        )
        for cpo, msp, mode in agreements
    ]
    signed = [(each, SIGNERS[cpo], SIGNERS[msp]) for each, (cpo, msp, _) in zip(terms, agreements, strict=True)]
    ids = await deployer.open_agreements(deployment, signed)
    return Settling(
        world,
        deployment,
        [
            Pair(agreement=agreement, cpo=cpo, msp=msp, mode=mode)
            for agreement, (cpo, msp, mode) in zip(ids, agreements, strict=True)
        ],
    )
