"""Two companies with a guarantee between them, and time that passes for them and for the chain."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from emobility.adapters.chain_signing import party_signer
from emobility.domain.agreement import SettlementMode
from emobility.domain.batch.calls import AgreementState, agreement_query, guarantee_call, read_agreement
from emobility.domain.identifiers import PartyId
from emobility.events.banking import GuaranteeCalled
from services.settlement.crash_points import CrashPoint
from services.settlement.guarantee_records import GUARANTEE, CallPolicy, GuaranteePolicy, GuaranteeRecord
from services.settlement.guarantees import Guarantees, GuaranteeStanding
from services.settlement.records import OPENING, PARTY, SigningPolicy, TransactionKind, TransactionRecord
from services.settlement.service import Follower
from tests.chains import LedgerWorld
from tests.settlement.bank_desk import Desk
from tests.settlement.market import MASTER_KEY
from tests.settlement.settling import Settling
from tests.settlement.world import CPO

GRACE_D = 7
LIMIT_E4 = 10_000_000


class Guaranteed(Desk):
    """A desk whose agreement is under a guarantee of 1,000.00, with 14 days to pay."""

    @classmethod
    async def over(cls, here: Settling, *, calls: CallPolicy = CallPolicy.AUTOMATIC) -> Guaranteed:
        desk = cls(here)
        await desk.open(mode=SettlementMode.GUARANTEE)
        await desk.guarantees.choose(GuaranteePolicy(party_id=CPO, calls=calls, grace_d=GRACE_D))
        return desk

    @property
    def guarantees(self) -> Guarantees:
        return Guarantees(self.here.world.ports, self.here.access)

    def follower(self, *, dies_at: CrashPoint | None = None) -> Follower:
        """Start a process that administers its chain, where it is one."""
        follower = self.here.follower(dies_at=dies_at)
        if not isinstance(self.here.chain, LedgerWorld):
            follower._guarantees._deployer = self.here.market.deployer
        return follower

    async def follow(self) -> None:
        await self.here.follow(self.follower())

    async def owes(self, name: str, cost_e4: int) -> None:
        await self.charge(name, cost_e4)
        await self.settle()

    def pass_days(self, days: int) -> None:
        """Let time pass, without anything being done."""
        for clock in (self.here.world.clock, self.here.chain.clock):
            clock.step_by(timedelta(days=days))

    async def days_pass(self, days: int) -> None:
        """Let time pass, and the process do what it does then."""
        self.pass_days(days)
        await self.follow()

    async def state(self) -> AgreementState:
        """Return what the book says at the end of the chain."""
        (state,) = await self.states()
        return state

    async def states(self) -> list[AgreementState]:
        """Return it of each version that was opened."""
        chain, book = self.here.chain.chain, self.here.market.contracts.book
        asked = [agreement_query(opening.book_agreement) for opening in await self.rows(OPENING)]
        return [read_agreement(await chain.call(book, each)) for each in asked]

    async def renew(self, limit_e4: int) -> None:
        """Have both sign the agreement anew, with another limit."""
        self.agreement = replace(self.agreement, version=self.agreement.version + 1, credit_limit_e4=limit_e4)
        await self.here.sign(self.agreement)
        await self.here.market.prepare(self.here.world.ports.units)

    async def sign_by_themselves(self, party_id: PartyId, *, is_so: bool = True) -> None:
        """Have a party keep its key from now on, or leave it here."""
        async with self.here.world.ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
            assert party is not None
            signs = SigningPolicy.BY_API if is_so else SigningPolicy.AUTOMATIC
            await unit.table(PARTY).put(replace(party, signs=signs))
            await unit.commit()

    async def row(self) -> GuaranteeRecord:
        (row,) = await self.rows(GUARANTEE)
        assert isinstance(row, GuaranteeRecord)
        return row

    async def standing(self) -> GuaranteeStanding:
        (found,) = await self.guarantees.of_party(CPO)
        return found

    async def calls(self) -> list[TransactionRecord]:
        return [each for each in await self.here.transactions() if each.kind is TransactionKind.GUARANTEE]

    async def told_of(self) -> list[int]:
        return [each.amount_e4 for each in await self.here.world.told(GuaranteeCalled)]

    async def call_with_another_tool(self, sequence: int, amount_e4: int) -> bool:
        """Call as the CPO's own tool does; tell whether the book gave it."""
        opening = (await self.rows(OPENING))[-1]
        call = guarantee_call(opening.book_agreement, sequence, amount_e4)
        chain = self.here.chain
        sent = await chain.sent(self.here.market.contracts.book, call, by=party_signer(MASTER_KEY, CPO))
        return (await chain.final(sent)).has_succeeded
