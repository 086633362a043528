"""The settlement on geth, whose pool and client are not anvil's: `make soak`, after `make geth`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from emobility.adapters.system import SystemTimer
from emobility.events.settlement import StatementFinal
from emobility.protocols.eip1559 import read_raw_transaction
from services.embedded.chain_command import charter_of
from services.settlement.founding import Founding
from services.settlement.inspecting import Inspection, inspect
from services.settlement.records import VARIANT, StatementState, TransactionState
from services.settlement.service import POLL_S
from tests.settlement.geth import GethWorld, a_geth
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, a_cdr, a_credit, accepted, terms

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
COVER_E4: Final = 10**6
STEPS_MAX: Final = 2_000


async def begin(world: GethWorld, here: Settling) -> None:
    here.stuck_after_s = 10**6
    await here.sign(terms())
    here.numbers = await here.market.prepare(here.world.ports.units, cover_e4=COVER_E4)
    assert await world.chain.finalized() == await world.chain.head()


async def follow(here: Settling) -> None:
    """Follow as the process does, until all is final."""
    follower = here.follower()
    for _ in range(STEPS_MAX):
        await follower.step()
        if all(each.state is StatementState.FINAL for each in await here.world.statements()):
            return
        await here.world.ports.timer.sleep(POLL_S)
    raise AssertionError([each.waiting for each in await here.transactions()])


async def assert_settled(here: Settling, statements: int, owed_e4: int) -> None:
    assert len(await here.world.told(StatementFinal)) == len(await here.proposed()) == statements
    assert await here.market.collateral_of(here.numbers[CPO]) == COVER_E4 + owed_e4
    report = await here.audit()
    assert (report.differences, report.why_quick) == ((), None)


async def test_statements_and_their_credits_become_final_on_geth(tmp_path: Path) -> None:
    async with a_geth(tmp_path) as world, open_settling(chain=world) as here:
        await begin(world, here)
        for number, cdr in enumerate((a_cdr("s1", 15_000), a_credit(a_cdr("s1", 15_000)), a_cdr("s2", 4_000))):
            await here.world.take(accepted(cdr))
            await here.world.closing.close_now()
            await follow(here)
            assert len(await here.world.statements()) == number + 1

        await assert_settled(here, 3, 4_000)


async def test_a_consortium_s_contracts_are_made_on_geth_and_found_to_be_our_build(tmp_path: Path) -> None:
    async with a_geth(tmp_path, block_s=1) as world:
        account, told = world.payer, list[int]()
        charter = charter_of(account.address, tokens=(), currencies=("EUR",), admin=None, proposer=None, issuers=())
        founding = Founding(world.chain, account, SystemTimer(), lambda done, _of, _title: told.append(done))

        made = await founding.found(await founding.planned(charter, None))

        assert await inspect(world.chain, made) == Inspection()
        assert told == list(range(len(told)))


async def test_geth_s_pool_takes_the_offer_that_replaces_a_waiting_one(tmp_path: Path) -> None:
    async with a_geth(tmp_path, block_s=6) as world, open_settling(chain=world) as here:
        await begin(world, here)
        await here.world.take(accepted(a_cdr("s1", 15_000)))
        await here.world.closing.close_now()
        here.stuck_after_s = 0
        await here.follow_steps(3)
        here.stuck_after_s = 10**6
        await follow(here)

        (row,) = await here.transactions()
        async with here.world.ports.units.begin() as unit:
            variants = await unit.table(VARIANT).select(order_by=("signed_at", "nonce"))
        offers = {each.hash: read_raw_transaction(each.raw).transaction.fees.max_fee_per_gas for each in variants}
        assert len(offers) > 1
        assert row.hash is not None
        assert (row.state, offers[row.hash] > min(offers.values())) == (TransactionState.FINAL, True)
        await assert_settled(here, 1, 15_000)
