"""Endpoints that lie, are silent or fall behind, before a real chain: with two of three honest nobody is deceived."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from emobility.adapters.ethereum import QuorumChain, open_ethereum
from emobility.events.settlement import StatementFinal
from emobility.ports.chain import ChainUnavailable
from services.settlement.records import StatementState
from services.settlement.service import POLL_S
from tests.chains import AnvilWorld, an_anvil
from tests.settlement.lying_proxy import (
    Lie,
    LyingProxy,
    another_chain,
    dear,
    forged_calls,
    forged_receipts,
    proxies,
    stale_at,
    thorough,
    truth,
)
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, a_cdr, accepted, terms

COVER_E4: Final = 10**6
STEPS_MAX: Final = 400
pytestmark = [pytest.mark.chain]


@asynccontextmanager
async def settling_through(
    world: AnvilWorld, count: int
) -> AsyncIterator[tuple[Settling, Sequence[LyingProxy], list[tuple[str, str]]]]:
    """A settlement behind endpoints, prepared while they are honest; also who contradicted whom."""
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(proxies(world.server.rpc_url, count))
        chain = await stack.enter_async_context(open_ethereum(",".join(each.url for each in served)))
        dissents: list[tuple[str, str]] = []
        if isinstance(chain, QuorumChain):
            chain.on_dissent = lambda endpoint, question: dissents.append((endpoint, question))
        world.chain = chain
        here = await stack.enter_async_context(open_settling(chain=world))
        await here.sign(terms())
        here.numbers = await here.market.prepare(here.world.ports.units, cover_e4=COVER_E4)
        yield here, served, dissents


async def settle(here: Settling, number: int) -> None:
    """Have one more CDR settled."""
    await here.world.take(accepted(a_cdr(f"s{number}", 1_000 + number)))
    await here.world.closing.close_now()
    follower = here.follower()
    for _ in range(STEPS_MAX):
        if not await follower.step():
            break
        await here.world.ports.timer.sleep(POLL_S)  # as `Follower.run` does


async def test_one_of_three_that_lies_deceives_nobody_and_is_named(tmp_path: Path) -> None:
    async with an_anvil(tmp_path / "chain") as world, settling_through(world, 3) as (here, served, dissents):
        final = (await world.chain.finalized()).number
        lies: list[tuple[Lie, set[str]]] = [
            (another_chain, {"chain_id"}),
            (stale_at(final), {"behind"}),
            (forged_receipts, {"receipt"}),
            (forged_calls, {"call"}),
            (dear, set()),
        ]
        for number, (lie, questions) in enumerate(lies):
            served[2].lie, heard = lie, len(dissents)
            await settle(here, number)
            named = dissents[heard:]
            assert {endpoint for endpoint, question in named if question in questions} == {
                f"3 {served[2].url.removeprefix('http://')}" for _ in range(min(1, len(questions)))
            }
            assert questions <= {question for _, question in named}
        served[2].lie = truth

        statements = await here.world.statements()
        assert [each.state for each in statements] == [StatementState.FINAL] * len(lies)
        assert len(await here.world.told(StatementFinal)) == len(await here.proposed()) == len(lies)
        paid_e4 = await here.market.collateral_of(here.numbers[CPO]) - COVER_E4
        assert paid_e4 == sum(1_000 + number for number in range(len(lies)))
        report = await here.audit()
        assert (report.differences, report.why_quick) == ((), None)


async def a_liar(world: AnvilWorld, proxy: LyingProxy) -> None:
    """Have an endpoint swallow what it is given and say that it is final."""
    block = await world.chain.finalized()
    told: dict[str, Any] = {"number": hex(block.number), "hash": f"0x{block.hash.hex()}"}
    proxy.lie, proxy.swallows = thorough(lambda: told), True


@pytest.mark.parametrize("count", [1, 3])
async def test_an_endpoint_that_swallows_everything_deceives_only_who_asks_no_other(tmp_path: Path, count: int) -> None:
    """Asked alone it makes believe that a statement is final: the control, without which the others show nothing."""
    async with an_anvil(tmp_path / "chain") as world, settling_through(world, count) as (here, served, _):
        await a_liar(world, served[0])

        await settle(here, 0)

        served[0].lie, served[0].swallows = truth, False
        states = [each.state for each in await here.world.statements()]
        assert (states, len(await here.proposed())) == ([StatementState.FINAL], 0 if count == 1 else 1)


async def test_an_outage_holds_up_nothing_but_the_settlement_and_its_backlog_clears(tmp_path: Path) -> None:
    async with an_anvil(tmp_path / "chain") as world, settling_through(world, 2) as (here, served, _):
        await settle(here, 0)
        served[0].is_down = True
        follower = here.follower()
        for number in range(1, 4):
            await here.world.take(accepted(a_cdr(f"s{number}", 1_000 + number)))
            assert await here.world.closing.close_now() == 1
            with pytest.raises(ChainUnavailable):
                await follower.step()
        served[0].is_down = False

        await here.follow(follower)

        assert [each.state for each in await here.world.statements()] == [StatementState.FINAL] * 4
        assert (await here.audit()).differences == ()
