"""An MSP that keeps its own key, signs nothing by itself, and contests statements in the book's window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import Contested, signature_call
from emobility.domain.batch.meter import MeterCurve, MeterRecord, SignedPayload, meter_commitment
from emobility.domain.batch.statement import batch_tree
from emobility.domain.cdr import CDR
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import ChainUnavailable
from emobility.ports.chain_signer import ChainSigner
from emobility.protocols.ocmf.judged import is_signed
from services.settlement.batching import statements_of
from services.settlement.closing import pair_statement
from services.settlement.deployment import ACCEPTANCE_WINDOW_S, CHALLENGE_BOND_E4
from services.settlement.records import BATCH, LEAF, StatementRecord, StatementState
from services.settlement.resolving import DEMAND_BOND_E4, QUARREL_BOND_E4
from services.settlement.windows import CLOCK_SKEW
from tests.chains import FakeWorld, LedgerWorld
from tests.settlement.accuser import Accuser
from tests.settlement.settling import Settling
from tests.settlement.world import CPO, T0, accepted, terms

HOSTILE: Final = PartyId("NL-HOS")
OWN: Final = 4
"""Which of the chain's accounts is its own."""
TERMS: Final = terms(CPO, HOSTILE)
TIME_TO_SIGN: Final = timedelta(hours=TERMS.dispute_period_h)
WINDOW: Final = timedelta(seconds=ACCEPTANCE_WINDOW_S)
SALT: Final = b"\x05" * 32
UNSIGNED: Final = MeterRecord(
    curve=MeterCurve.SECP256R1,
    public_key=bytes(64),
    signed=(SignedPayload(payload=b"OCMF", signature=bytes(64)),),
)
"""A meter's record that no key signed."""
BLOCKS: Final = 20
"""Of a slow chain that are made while what is decided there is followed."""
COVER_E4: Final = 10**9


@dataclass
class Challenger:
    """Contests what one CPO states.

    Attributes:
        accuser: Speaks to the book's resolver.
        is_hasty: It does not wait until its calls are final, in memory.
    """

    here: Settling
    accuser: Accuser
    is_hasty: bool = False

    @classmethod
    async def of(cls, here: Settling, *others: RoamingAgreement, without_cover: Iterable[PartyId] = ()) -> Challenger:
        """Open the pair's agreement, and others between parties that sign by themselves; make the book's resolver."""
        here.chain.clock.step_by(here.world.clock.now() - here.chain.clock.now())
        await here.sign(TERMS, outside=HOSTILE)
        await here.sign(*others)
        keys: dict[PartyId, ChainSigner] = {HOSTILE: here.chain.account(OWN)}
        here.numbers = await here.market.prepare(
            here.world.ports.units, keys=keys, cover_e4=COVER_E4, without_cover=without_cover
        )
        deployed = here.market.contracts
        resolver = b""
        if not isinstance(here.chain, LedgerWorld):
            resolver = await here.market.deployer.deploy_resolver(
                "SettlementDisputes",
                book=deployed.book,
                vault=deployed.vault,
                demand_bond_e4=DEMAND_BOND_E4,
                quarrel_bond_e4=QUARREL_BOND_E4,
            )
        return cls(here, Accuser(here, resolver))

    async def take(self, *cdrs: CDR, unsigned: Iterable[str] = ()) -> None:
        """Have CDRs accepted; of some, the meter signed nothing of what it is said to."""
        await self.here.world.take(
            *(accepted(cdr, agreement=TERMS, at=max(T0, self.here.world.clock.now())) for cdr in cdrs)
        )
        async with self.here.world.ports.units.begin() as unit:
            for cdr_id in unsigned:
                leaf = await unit.table(LEAF).get(CPO, cdr_id)
                assert leaf is not None
                await unit.table(LEAF).put(replace(leaf, meter=meter_commitment(UNSIGNED, salt=SALT)))
            await unit.commit()

    async def state(self, *cdrs: CDR, unsigned: Iterable[str] = ()) -> StatementRecord:
        """Have CDRs accepted and closed; return their statement."""
        await self.take(*cdrs, unsigned=unsigned)
        await self.here.world.closing.close_now()
        return max(await self.here.world.statements(), key=lambda each: each.sequence)

    async def follow(self) -> None:
        """Have what was decided noted, and then what follows from it done."""
        if self.is_hasty:
            for _ in range(BLOCKS):
                await self.here.follow_steps(4)
                self.here.fake.fake.mine(1)
        else:
            await self.here.follow()
            await self.here.follow()

    async def wait(self, time: timedelta) -> None:
        """Let time pass, at the chain, too."""
        self.accuser.later(time)
        await self.follow()

    async def until_final(self) -> None:
        """Be silent until all that is closed is final."""
        await self.follow()
        for _ in range(len(await self.here.world.statements())):
            await self.wait(TIME_TO_SIGN)
            await self.wait(WINDOW + 10 * CLOCK_SKEW)

    async def statement(self, sequence: int = 1) -> StatementRecord:
        (found,) = [each for each in await self.here.world.statements() if each.sequence == sequence]
        return found

    async def challenge(self, sequence: int = 1) -> StatementRecord:
        """Contest what ripens under a number."""
        await self.here.follow()
        await self.wait(TIME_TO_SIGN)
        found = await self.statement(sequence)
        assert found.state is StatementState.RIPENING
        await self.object_to(found)
        return found

    async def object_to(self, statement: StatementRecord) -> None:
        """Contest a statement that ripens."""
        words, place = await self.placed(statement)
        await self.send(
            self.here.market.contracts.book, contracts.CHALLENGE.call(words, place), by=self.here.chain.account(OWN)
        )

    async def placed(self, statement: StatementRecord) -> tuple[Any, Any]:
        """Return a statement and its place as they stand in a call."""
        assert statement.batch_id is not None
        assert statement.position is not None
        async with self.here.world.ports.units.begin() as unit:
            batch = await unit.table(BATCH).get(statement.batch_id)
            assert batch is not None
            pairs = [pair_statement(each) for each in await statements_of(unit, batch)]
        proof = batch_tree(pairs).proof(statement.position)
        pair = pair_statement(statement)
        return (pair.figures, pair.roots), (statement.batch_id, proof.index, proof.count, proof.siblings)

    async def prove(self, cdr_id: str, statement: StatementRecord) -> Contested:
        """Have a challenged statement taken out by proof that the meter of one of its CDRs signed nothing."""
        its = await self.accuser.contested(cdr_id, statement=statement)
        await self.send(self.accuser.resolver, signature_call(its, UNSIGNED, salt=SALT, is_signed=is_signed))
        return its

    async def rule(self, statement: StatementRecord, *, is_upheld: bool = True) -> None:
        """Have a challenge decided by somebody who names no CDR."""
        book = self.here.market.contracts.book
        await self.send(book, contracts.GRANT_ROLE.call(contracts.RESOLVER_ROLE, self.here.chain.payer.address))
        words, place = await self.placed(statement)
        await self.send(book, contracts.DECIDE_CHALLENGE.call(words, place, is_upheld))

    async def send(self, to: bytes, calldata: bytes, *, by: ChainSigner | None = None) -> None:
        sent = await self.here.chain.sent(to, calldata, by=by)
        if isinstance(self.here.chain, FakeWorld):
            fake = self.here.chain.fake
            fake.mine(1 if self.is_hasty else 1 + fake.finality_blocks)
            receipt = await self.here.chain.chain.receipt(sent)
        else:
            receipt = await self.here.chain.final(sent)
        if receipt is None or not receipt.has_succeeded:
            raise ChainUnavailable("the call waits, or was refused")

    async def paid_e4(self) -> int:
        """What the CPO got of statements, and of bonds that the MSP lost."""
        return await self.here.market.collateral_of(self.here.numbers[CPO]) - COVER_E4

    async def bonds_e4(self) -> int:
        """What the CPO got of bonds, for challenges that were decided for it."""
        book, chain = self.here.market.contracts.book, self.here.chain.chain
        head = (await chain.head()).number
        logs = await chain.logs(book, [contracts.CHALLENGE_ENDED.topic], from_block=0, to_block=head)
        return CHALLENGE_BOND_E4 * sum(not contracts.CHALLENGE_ENDED.told(log.topics, log.data)[2] for log in logs)
