"""Somebody who raises disputes on the chain itself, past every settlement, as the other side of a pair may."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import pytest

from emobility.adapters.chain_signing import party_signer
from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import (
    Case,
    Contested,
    Resolver,
    Word,
    case_query,
    defence_digest,
    defend_call,
    demand_call,
    demand_digest,
    lapse_call,
    leaf_words,
    place_leaf,
    quarrel_call,
    quarrel_digest,
    read_case,
    read_open_opening,
    reveal_call,
)
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.identifiers import PartyId
from emobility.events.cdr import CDRAccepted
from emobility.ports.chain import CallReverted
from services.settlement.closing import leaf_in_tree, leaves_of
from services.settlement.dispute_openings import opened_statement
from services.settlement.dispute_records import DISPUTE, DisputeRecord
from services.settlement.records import PARTY, SigningPolicy, StatementRecord, TransactionKind, TransactionRecord
from services.settlement.resolving import DEMAND_BOND_E4, QUARREL_BOND_E4
from tests.chains import FakeWorld
from tests.settlement.market import MASTER_KEY
from tests.settlement.settling import Settling
from tests.settlement.world import CPO, MSP, a_cdr, accepted, terms

WORD_COUNTS_FOR: Final = timedelta(days=365)
NOBODY: Final = 99
"""A party number that no party has."""


@dataclass
class Accuser:
    """Speaks to a book's resolver; `resolver`: its address."""

    here: Settling
    resolver: bytes

    @classmethod
    async def over(cls, here: Settling, *events: CDRAccepted) -> Accuser:
        """Settle CDRs between a CPO that is hosted here and an MSP that is not, and make the book's resolver."""
        await here.sign(terms())
        here.numbers = await here.market.prepare(here.world.ports.units)
        await here.world.take(*(events or (accepted(a_cdr("c1")), accepted(a_cdr("c2", 15_000)))))
        await here.world.closing.close_now()
        await here.follow()
        await cls.let_go(here, MSP)
        deployed = here.market.contracts
        resolver = await here.market.deployer.deploy_resolver(
            "SettlementDisputes",
            book=deployed.book,
            vault=deployed.vault,
            demand_bond_e4=DEMAND_BOND_E4,
            quarrel_bond_e4=QUARREL_BOND_E4,
        )
        return cls(here, resolver)

    @staticmethod
    async def let_go(here: Settling, party_id: PartyId) -> None:
        """Have a party kept elsewhere from now on."""
        async with here.world.ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
            assert party is not None
            await unit.table(PARTY).put(replace(party, is_hosted=False, signs=SigningPolicy.BY_API))
            await unit.commit()

    async def contested(self, cdr_id: str, *, statement: StatementRecord | None = None) -> Contested:
        """What a CDR's case is about, as both parties can build it."""
        record = statement or (await self.here.world.statements())[0]
        async with self.here.world.ports.units.begin() as unit:
            leaves = await leaves_of(unit, record)
            opened = await opened_statement(unit, self.here.world.ports.vault, record)
        trees = StatementTrees([leaf_in_tree(each) for each in leaves])
        (leaf,) = [leaf_in_tree(each) for each in leaves if each.cdr_id == cdr_id]
        return Contested(
            statement=opened.struct_hash,
            opening=opened.opening,
            period_end=record.period_end,
            sequence=record.sequence,
            placed=place_leaf(trees, trees.leaves.index(leaf)),
        )

    async def demand(
        self,
        cdr_id: str = "c1",
        *,
        by: PartyId = MSP,
        statement: StatementRecord | None = None,
        its: Contested | None = None,
    ) -> bytes:
        """Demand a leaf; return the case. `its`: what it is about, if the rows don't say that any more."""
        its = its or await self.contested(cdr_id, statement=statement)
        number, until = self.here.numbers[by], self._until()
        word = await self.word(by, demand_digest(self._named(), case=its.case_id, party=number, deadline=until), until)
        await self.send(demand_call(its.opening, its.placed.hidden, word))
        return its.case_id

    async def reveal(self, cdr_id: str = "c1") -> None:
        """Show a leaf, as anybody may."""
        its = await self.contested(cdr_id)
        await self.send(reveal_call(its.statement, its.placed.leaf))

    async def quarrel(self, cdr_id: str = "c1", *, claimed_e4: int = 0) -> bytes:
        """Contest an amount; return the case."""
        its = await self.contested(cdr_id)
        number, until = self.here.numbers[MSP], self._until()
        digest = quarrel_digest(self._named(), case=its.case_id, party=number, claimed_e4=claimed_e4, deadline=until)
        await self.send(quarrel_call(its, claimed_e4=claimed_e4, word=await self.word(MSP, digest, until)))
        return its.case_id

    async def defend(self, case: bytes) -> None:
        """Defend an amount from elsewhere with the CPO's key."""
        number, until = self.here.numbers[CPO], self._until()
        digest = defence_digest(self._named(), case=case, party=number, deadline=until)
        await self.send(defend_call(case, await self.word(CPO, digest, until)))

    async def drain(self, party_id: PartyId) -> None:
        """Leave a party no collateral for a bond."""
        deployed, number = self.here.market.contracts, self.here.numbers[party_id]
        granted = contracts.GRANT_ROLE.call(contracts.BOOK_ROLE, self.here.chain.payer.address)
        await self.here.chain.final(await self.here.chain.sent(deployed.vault, granted))
        left_e4 = await self.here.market.collateral_of(number)
        moved = contracts.APPLY_NETS.call([number, NOBODY], [-left_e4, left_e4])
        await self.here.chain.final(await self.here.chain.sent(deployed.vault, moved))

    async def lapse(self, case: bytes) -> None:
        """End a case whose deadline is over."""
        await self.send(lapse_call(case))

    async def refusals(self) -> list[bytes]:
        """What the resolver says to calls that it must refuse, by the errors' selectors; nothing of it is sent."""
        its, other, until = await self.contested("c1"), await self.contested("c2"), self._until()
        number, placed = self.here.numbers[MSP], its.placed
        wrong = Word(party=number, deadline=until, signature=bytes(64))
        _, (batch_id, *_) = read_open_opening(its.opening)
        unknown = replace(its, opening=its.opening.replace(batch_id, bytes(32)))
        elsewhere = replace(its, placed=replace(placed, proof=replace(placed.proof, index=1 - placed.proof.index)))
        digest = quarrel_digest(self._named(), case=its.case_id, party=number, claimed_e4=0, deadline=until)
        word = await self.word(MSP, digest, until)
        calls = [
            demand_call(its.opening, placed.hidden, wrong),
            demand_call(unknown.opening, placed.hidden, wrong),
            demand_call(its.opening, elsewhere.placed.hidden, wrong),
            reveal_call(its.statement, placed.leaf),
            lapse_call(its.case_id),
            quarrel_call(its, claimed_e4=1, word=word),
            quarrel_call(its, claimed_e4=0, word=replace(word, party=self.here.numbers[CPO])),
            contracts.QUARREL.call(its.opening, placed.words, placed.leaf.net_e4, word.words),
            contracts.QUARREL.call(its.opening, placed.words, -1, word.words),
            defend_call(its.case_id, word),
            contracts.CONTEST_DUPLICATE.call(
                its.opening, placed.words, its.opening, leaf_words(other.placed.leaf), 0, ()
            ),
        ]
        return [await self._refusal(each) for each in calls]

    async def _refusal(self, calldata: bytes) -> bytes:
        chain = self.here.chain
        with pytest.raises(CallReverted) as refusal:
            await chain.chain.estimate_gas(chain.payer.address, self.resolver, calldata)
        return refusal.value.data[:4]

    async def send(self, calldata: bytes) -> None:
        """Have a call of the resolver made."""
        receipt = await self.here.chain.final(await self.here.chain.sent(self.resolver, calldata))
        assert receipt.has_succeeded, calldata[:4].hex()

    async def case(self, case: bytes) -> Case:
        """Where a case stands in the youngest block."""
        return read_case(await self.here.chain.chain.call(self.resolver, case_query(case)))

    async def corrected_e4(self) -> int:
        """What verdicts add to what the MSP owes, and the next statement moves."""
        (agreement,) = {each.book_agreement for each in await self.here.world.statements()}
        asked = contracts.AGREEMENT_STATE.call(int.from_bytes(agreement, "big"))
        ((*_, corrected, _, _),) = contracts.AGREEMENT_STATE.answer(
            await self.here.chain.chain.call(self.here.market.contracts.book, asked)
        )
        return int(corrected)

    async def rows(self) -> list[DisputeRecord]:
        """The disputes that are known here."""
        async with self.here.world.ports.units.begin() as unit:
            return await unit.table(DISPUTE).select(order_by=("raised_at", "kind"))

    async def calls(self) -> list[TransactionRecord]:
        """The calls that were queued for them."""
        return [each for each in await self.here.transactions() if each.kind is TransactionKind.DISPUTE]

    def later(self, by: timedelta) -> None:
        """Let time pass, here and on the chain; one in memory makes blocks of the new time."""
        self.here.world.clock.step_by(by)
        self.here.chain.clock.step_by(by)
        if isinstance(self.here.chain, FakeWorld):
            self.here.fake.fake.mine(1 + self.here.fake.fake.finality_blocks)

    def _named(self) -> Resolver:
        return Resolver(chain_id=self.here.market.deployment.chain_id, address=self.resolver)

    def _until(self) -> datetime:
        return (self.here.chain.clock.now() + WORD_COUNTS_FOR).replace(microsecond=0)

    async def word(self, party_id: PartyId, digest: bytes, until: datetime) -> Word:
        """Return a party's word, signed."""
        signature = await party_signer(MASTER_KEY, party_id).sign_digest(digest)
        return Word(party=self.here.numbers[party_id], deadline=until, signature=signature)
