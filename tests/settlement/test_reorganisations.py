"""Blocks that come undone, in memory and on anvil: less deep than finality, nothing final is ever touched."""

from __future__ import annotations

import os
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from emobility.adapters.memory import run_virtual
from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import StatementFinal
from emobility.ports.chain import TransactionNotTaken
from services.settlement.records import IN_FLIGHT, VARIANT, StatementState
from tests.chains import AnvilWorld, ChainWorld, FakeWorld, an_anvil
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, a_cdr, accepted, terms

IS_LONG: Final = "WATTROAM_SOAK" in os.environ
FAKE_SEEDS: Final = 1_000 if IS_LONG else 50
ANVIL_SEEDS: Final = 50 if IS_LONG else 5
FINALITY: Final = 8
"""Blocks that must follow one before it is final; reorganisations go less deep."""
MOVES: Final = 16
ROUNDS_MAX: Final = MOVES * (FINALITY + 2)
COVER_E4: Final = 10**7
OTHERS: Final = terms(CPO, PartyId("NL-WIN"))


class Blocks(ABC):
    """Mines and undoes blocks."""

    world: ChainWorld

    @abstractmethod
    async def mine(self, count: int) -> None:
        """Mine blocks; the first takes what waits."""

    @abstractmethod
    async def undo(self, count: int) -> None:
        """Undo the youngest, with their transactions."""


class FakeBlocks(Blocks):
    def __init__(self, world: FakeWorld) -> None:
        self.world = world
        self._fake = world.fake

    async def mine(self, count: int) -> None:
        self._fake.mine(count)

    async def undo(self, count: int) -> None:
        self._fake.reorganise(count, keep_transactions=False)


class AnvilBlocks(Blocks):
    def __init__(self, world: AnvilWorld) -> None:
        self.world = world
        self._server = world.server

    async def mine(self, count: int) -> None:
        for _ in range(count):
            await self._call("evm_mine")

    async def undo(self, count: int) -> None:
        await self._call("anvil_reorg", count, [])

    async def _call(self, method: str, *params: Any) -> None:
        await self._server._call(method, *params)


class Drama:
    """What befalls a settlement whose chain is mined by hand, drawn from a seed."""

    def __init__(self, here: Settling, blocks: Blocks, seed: int) -> None:
        self._here = here
        self._blocks = blocks
        self._chance = random.Random(seed)
        self._depth = 1 + seed % (FINALITY - 1)
        self._follower = here.follower()
        self._followers = [self._follower]
        self._first = 0
        self.cdrs = 0

    @property
    def lost(self) -> int:
        """How often a process saw that final blocks are gone."""
        return sum(int(each._metrics._lost._value.get()) for each in self._followers)

    async def play(self, *, first_cdr: int = 0) -> None:
        """Make moves, then let the chain go on until all is final."""
        self.cdrs = first_cdr
        self._first = (await self._here.chain.chain.head()).number
        moves: tuple[Callable[[], Awaitable[None]], ...]
        moves = (self.close, self.step, self.step, self.mine, self.mine, self.undo, self.restart)
        await self.close()
        for _ in range(MOVES):
            with suppress(EmobilityError):
                await self._chance.choice(moves)()
        for _ in range(ROUNDS_MAX):
            with suppress(EmobilityError):
                await self.step()
            await self._blocks.mine(1)
            if await self._is_done():
                return
        raise AssertionError(f"not settled after {ROUNDS_MAX} blocks more")

    async def close(self) -> None:
        agreement = self._chance.choice((terms(), OTHERS))
        await self._here.world.take(accepted(a_cdr(f"s{self.cdrs}", 1_000 + self.cdrs), agreement=agreement))
        self.cdrs += 1
        await self._here.world.closing.close_now()

    async def step(self) -> None:
        await self._follower.step()

    async def restart(self) -> None:
        self._follower = self._here.follower()
        self._followers.append(self._follower)

    async def mine(self) -> None:
        await self._blocks.mine(self._chance.randint(1, FINALITY))

    async def undo(self) -> None:
        """Undo blocks; their transactions wait again, or are gone, as when a node had never heard of them."""
        depth = min(self._depth, (await self._here.chain.chain.head()).number - self._first)
        if depth < 1:
            return
        await self._blocks.undo(depth)
        if self._chance.random() < 0.5:
            for raw in await self._signed():
                with suppress(TransactionNotTaken):
                    await self._here.chain.chain.send_raw(raw)
        # The other branch is longer, or nobody would follow it.
        await self._blocks.mine(depth + 1)

    async def _signed(self) -> list[bytes]:
        async with self._here.world.ports.units.begin() as unit:
            return [each.raw for each in await unit.table(VARIANT).select(order_by=("nonce",))]

    async def _is_done(self) -> bool:
        statements = await self._here.world.statements()
        return all(each.state is StatementState.FINAL for each in statements) and not any(
            each.state in IN_FLIGHT for each in await self._here.transactions()
        )


async def prepared(here: Settling) -> None:
    here.stuck_after_s = 10**6
    await here.sign(terms(), OTHERS)
    here.numbers = await here.market.prepare(here.world.ports.units, cover_e4=COVER_E4)


async def assert_settled_once(here: Settling, cdrs: int) -> None:
    statements = await here.world.statements()
    assert sum(each.count for each in statements) == cdrs
    assert len(await here.world.told(StatementFinal)) == len(statements)
    assert await here.market.collateral_of(here.numbers[CPO]) == COVER_E4 + sum(1_000 + each for each in range(cdrs))
    report = await here.audit()
    assert (report.differences, report.why_quick) == ((), None)


@pytest.mark.deeper
@pytest.mark.parametrize("seed", range(FAKE_SEEDS))
def test_blocks_that_are_undone_before_they_are_final_change_no_settlement(seed: int) -> None:
    async def settle() -> None:
        world = FakeWorld(finality_blocks=FINALITY)
        async with open_settling(chain=world) as here:
            await prepared(here)
            world.fake.is_held = True
            drama = Drama(here, FakeBlocks(world), seed)
            await drama.play()
            assert drama.lost == 0
            await assert_settled_once(here, drama.cdrs)

    run_virtual(settle())


def test_one_deeper_than_finality_is_an_alarm_and_all_is_settled_again() -> None:
    async def settle() -> None:
        world = FakeWorld(finality_blocks=FINALITY)
        async with open_settling(chain=world) as here:
            await prepared(here)
            first = (await world.chain.head()).number
            drama = Drama(here, FakeBlocks(world), 1)
            await drama.play()
            depth = (await world.chain.head()).number - first
            assert depth > FINALITY
            world.fake.reorganise(depth, keep_transactions=False)
            assert await here.proposed() == []

            follower = here.follower()
            await here.follow(follower)

            assert int(follower._metrics._lost._value.get()) == 1
            await assert_settled_once(here, drama.cdrs)

    run_virtual(settle())


@pytest.mark.deeper
@pytest.mark.chain
@pytest.mark.timeout(1_800 if IS_LONG else 180)
async def test_blocks_that_anvil_undoes_change_no_settlement(tmp_path: Path) -> None:
    async with an_anvil(tmp_path / "chain", finality_blocks=FINALITY) as world, open_settling(chain=world) as here:
        await prepared(here)
        cdrs = 0
        with world.held():
            for seed in range(ANVIL_SEEDS):
                drama = Drama(here, AnvilBlocks(world), seed)
                await drama.play(first_cdr=cdrs)
                cdrs = drama.cdrs
                assert drama.lost == 0
            await assert_settled_once(here, cdrs)
