"""Whatever befalls chain, process and partners, in any order: each CDR is settled once, and for the right money."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

import pytest

from emobility.adapters.memory import run_virtual
from emobility.adapters.memory.chain import BASE_FEE, FakeChain
from emobility.domain.batch.calls import fund_call
from emobility.domain.cdr import CDR
from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import StatementFinal, StatementUnfunded
from services.settlement.batching import statements_of
from services.settlement.closing import pair_statement
from services.settlement.crash_points import CrashPoint
from services.settlement.records import StatementState
from tests.settlement.settling import Crashed, Settling, open_settling
from tests.settlement.world import CPO, MSP, a_cdr, a_credit, accepted, terms

OTHER_MSP: Final = PartyId("NL-WIN")
AGREEMENTS: Final = (terms(), terms(CPO, OTHER_MSP))
SEEDS: Final = 1_000 if "WATTROAM_SOAK" in os.environ else 60
HARD_SEEDS: Final = (420, 884)
"""In which a younger transaction becomes final before anybody looks for the block that was final and is gone."""
MISFORTUNES: Final = 40
"""In a row."""
COVER_E4: Final = 200_000
ENOUGH_E4: Final = 10**7
DEPOSITS_MAX: Final = 3
PATIENCE_S: Final = 10**6
"""Of all processes but those that have none."""
SECOND: Final = timedelta(seconds=1)


class Fate:
    """What befalls a settlement, drawn from a seed."""

    def __init__(self, here: Settling, chance: random.Random, first_block: int) -> None:
        self._here = here
        self._chance = chance
        self._first_block = first_block
        self._follower = here.follower()
        self._creditable: list[CDR] = []
        self.documents: list[CDR] = []

    async def strike(self) -> None:
        """Do one thing; what is refused meanwhile is tried again by whoever does so in life."""
        common = (self.take, self.close, self.step, self.step, self.step)
        rare = (self.credit, self.crash, self.meet, self.reorganise, self.deposit, self.fund, self.restart)
        rarer = (self.hurry, self.meddle, self.trouble)
        doing: Callable[[], Awaitable[None]] = self._chance.choice((*common, *rare, *rarer))
        with suppress(EmobilityError):
            await doing()

    async def take(self) -> None:
        cdr = a_cdr(f"s{len(self.documents)}", self._chance.randint(-3_000, 20_000))
        self._creditable.append(cdr)
        await self._book(cdr)

    async def credit(self) -> None:
        if self._creditable:
            await self._book(a_credit(self._creditable.pop()))

    async def _book(self, cdr: CDR) -> None:
        original = cdr.credit_reference_id or cdr.cdr_id
        self.documents.append(cdr)
        await self._here.world.take(accepted(cdr, agreement=AGREEMENTS[int(original[1:]) % 2]))

    async def close(self) -> None:
        await self._here.world.closing.close_now()
        self._here.world.clock.step_by(SECOND)

    async def step(self) -> None:
        await self._follower.step()

    async def crash(self) -> None:
        dying = self._here.follower(dies_at=self._chance.choice(list(CrashPoint)))
        self._follower = self._here.follower()
        with suppress(Crashed):
            for _ in range(3):
                await dying.step()

    async def meet(self) -> None:
        """Two processes at once."""
        await asyncio.gather(self._follower.step(), self._here.follower().step(), return_exceptions=True)

    async def hurry(self) -> None:
        """A process without patience: what waits is replaced, and gaps are filled."""
        self._here.stuck_after_s = 0
        impatient = self._here.follower()
        self._here.stuck_after_s = PATIENCE_S
        await impatient.step()

    async def meddle(self) -> None:
        """Somebody else sends with our key."""
        await self._here.use_nonce(await self._chain.nonce(self._here.proposer.address, with_waiting=True))

    async def restart(self) -> None:
        self._follower = self._here.follower()

    async def reorganise(self) -> None:
        depth = (await self._chain.head()).number - self._first_block
        if depth > 0:
            self._chain.reorganise(
                min(depth, self._chance.randint(1, 8)), keep_transactions=self._chance.random() < 0.5
            )

    async def deposit(self) -> None:
        if not self._chain.is_held:
            await self._here.market.deposit(self._here.numbers[MSP], self._chance.randint(1, 20_000))

    async def fund(self) -> None:
        """A stranger's call."""
        for batch in await self._here.batches():
            async with self._here.world.ports.units.begin() as unit:
                statements = [pair_statement(each) for each in await statements_of(unit, batch)]
            await self._here.chain.sent(batch.book, fund_call(batch.batch_id, statements))

    async def trouble(self) -> None:
        """Change how the chain behaves."""
        chain, change = self._chain, self._chance.choice(["hold", "down", "drop", "lose", "mine", "dear"])
        chain.is_held ^= change == "hold"
        chain.is_down ^= change == "down"
        if change == "dear":
            chain.base_fee = BASE_FEE * self._chance.choice((1, 20, 1_000))
        if change == "drop":
            chain.drop_waiting()
        chain.answers_lost = int(change == "lose")
        chain.mine(change == "mine")

    async def end(self) -> None:
        """Let all be well, and everything be closed and covered."""
        self._chain.is_held = self._chain.is_down = False
        self._chain.answers_lost = 0
        self._chain.base_fee = BASE_FEE
        self._chain.mine(3)
        await self.close()
        for party in (MSP, OTHER_MSP):
            for _ in range(DEPOSITS_MAX):  # what reorganisations left of earlier ones may still take a nonce
                with suppress(EmobilityError):
                    await self._here.market.deposit(self._here.numbers[party], ENOUGH_E4)
        for _ in range(4):  # each looks at once whether what was final still is
            await self.hurry()
            await self._here.follow()

    @property
    def _chain(self) -> FakeChain:
        return self._here.fake.fake


@pytest.mark.deeper
@pytest.mark.parametrize("seed", sorted({*range(SEEDS), *HARD_SEEDS}))
def test_each_cdr_is_settled_once_whatever_happens(seed: int) -> None:
    run_virtual(settle_through(seed))


async def settle_through(seed: int) -> None:
    async with open_settling() as here:
        here.stuck_after_s = PATIENCE_S
        await here.sign(*AGREEMENTS)
        here.numbers = await here.market.prepare(here.world.ports.units, cover_e4=COVER_E4, without_cover=[MSP])
        fate = Fate(here, random.Random(seed), (await here.chain.chain.head()).number)
        for _ in range(MISFORTUNES):
            await fate.strike()

        await fate.end()

        statements = await here.world.statements()
        assert {each.state for each in statements} <= {StatementState.FINAL}
        assert all(leaf.sequence is not None for leaf in await here.world.leaves())
        owed_e4 = sum(cdr.total_cost.excl_e4 for cdr in fate.documents)
        assert await here.market.collateral_of(here.numbers[CPO]) == COVER_E4 + owed_e4
        final = [each.statement_hash for each in await here.world.told(StatementFinal)]
        assert sorted(final) == sorted(each.statement_hash for each in statements)
        unfunded = [each.statement_hash for each in await here.world.told(StatementUnfunded)]
        assert len(unfunded) == len(set(unfunded))
        report = await here.audit()
        assert (report.differences, report.why_quick) == ((), None)
