"""Whatever befalls chain and process meanwhile: who is hosted here and has the leaf never loses it by silence."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

import pytest

from emobility.adapters.memory import run_virtual
from emobility.domain.batch.disputes import (
    CaseStage,
    Resolver,
    Word,
    demand_call,
    demand_digest,
    lapse_call,
    reveal_call,
)
from emobility.domain.errors import EmobilityError
from services.settlement.crash_points import CrashPoint
from services.settlement.dispute_records import DisputeState
from services.settlement.records import TransactionState
from tests.chains import FakeWorld
from tests.settlement.accuser import Accuser
from tests.settlement.settling import Crashed, Settling, open_settling
from tests.settlement.world import MSP, a_cdr, accepted

SEEDS: Final = 1_000 if "WATTROAM_SOAK" in os.environ else 10
MOVES: Final = 40
FINALITY: Final = 3
CDRS: Final = ("c1", "c2", "c3")
DAY: Final = timedelta(days=1)


class Siege:
    """A partner that demands leaf after leaf and ends each case it can, while the chain and our process misbehave."""

    def __init__(self, here: Settling, accuser: Accuser, chance: random.Random, first_block: int) -> None:
        self._here = here
        self._accuser = accuser
        self._chance = chance
        self._first_block = first_block
        self._follower = here.follower()
        self._chain = here.fake.fake

    async def strike(self) -> None:
        """Do one thing."""
        common = (self.demand, self.step, self.step, self.mine, self.end)
        rare = (self.crash, self.restart, self.reorganise, self.hold, self.reveal, self.days, self.days)
        doing: Callable[[], Awaitable[None]] = self._chance.choice((*common, *rare))
        with suppress(EmobilityError):
            await doing()

    async def demand(self) -> None:
        its = await self._accuser.contested(self._chance.choice(CDRS))
        resolver = Resolver(chain_id=self._here.market.deployment.chain_id, address=self._accuser.resolver)
        number, until = self._here.numbers[MSP], (self._here.chain.clock.now() + 300 * DAY).replace(microsecond=0)
        digest = demand_digest(resolver, case=its.case_id, party=number, deadline=until)
        word: Word = await self._accuser.word(MSP, digest, until)
        await self._sent(demand_call(its.opening, its.placed.hidden, word))

    async def end(self) -> None:
        await self._sent(lapse_call((await self._accuser.contested(self._chance.choice(CDRS))).case_id))

    async def reveal(self) -> None:
        """A stranger shows it before we do."""
        if self._chance.random() < 0.3:
            its = await self._accuser.contested(self._chance.choice(CDRS))
            await self._sent(reveal_call(its.statement, its.placed.leaf))

    async def _sent(self, calldata: bytes) -> None:
        await self._here.chain.sent(self._accuser.resolver, calldata)

    async def step(self) -> None:
        await self._follower.step()

    async def crash(self) -> None:
        dying = self._here.follower(dies_at=self._chance.choice(list(CrashPoint)))
        self._follower = self._here.follower()
        with suppress(Crashed):
            for _ in range(3):
                await dying.step()

    async def restart(self) -> None:
        self._follower = self._here.follower()

    async def mine(self) -> None:
        self._chain.mine(self._chance.randint(1, FINALITY))

    async def hold(self) -> None:
        self._chain.is_held = not self._chain.is_held

    async def reorganise(self) -> None:
        """Undo blocks, final ones among them."""
        depth = min((await self._chain.head()).number - self._first_block, self._chance.randint(1, 2 * FINALITY))
        if depth > 0:
            self._chain.reorganise(depth, keep_transactions=self._chance.random() < 0.5)
            self._chain.mine(depth + 1)

    async def days(self) -> None:
        """Days go by, then chain and process live for a moment; in each seven days that is not much to ask."""
        self._here.world.clock.step_by(3 * DAY)
        self._here.chain.clock.step_by(3 * DAY)
        self._chain.is_held = False
        await self.quiet()

    async def quiet(self) -> None:
        """Let all that is under way arrive."""
        for _ in range(3):
            self._chain.mine(1 + FINALITY)
            self._follower = self._here.follower()  # one that looks at the chain at once
            await self._here.follow(self._follower)


@pytest.mark.deeper
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_leaf_that_is_here_is_never_lost_by_silence(seed: int) -> None:
    run_virtual(besiege(seed))


async def besiege(seed: int) -> None:
    async with open_settling(chain=FakeWorld(finality_blocks=FINALITY)) as here:
        here.stuck_after_s = 10**6
        accuser = await Accuser.over(here, *[accepted(a_cdr(each)) for each in CDRS])
        siege = Siege(here, accuser, random.Random(seed), (await here.chain.chain.head()).number)
        for _ in range(MOVES):
            await siege.strike()

        here.fake.fake.is_held = False
        await siege.quiet()

        for cdr_id in CDRS:
            case = await accuser.case((await accuser.contested(cdr_id)).case_id)
            assert case.stage in {CaseStage.NONE, CaseStage.REVEALED}, cdr_id
        assert await accuser.corrected_e4() == 0
        for row in await accuser.rows():
            stage = (await accuser.case(row.case_id)).stage
            assert (row.state is DisputeState.ANSWERED) or stage is CaseStage.NONE, row.cdr_id
        calls = await accuser.calls()
        assert len(calls) <= len(CDRS)
        assert all(each.state in {TransactionState.FINAL, TransactionState.QUEUED} for each in calls)
