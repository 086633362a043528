"""A restored database whose chain has confidential batches that it lacks: what may be in one waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from emobility.events.settlement import StatementFinal
from services.settlement.confidential import COMPANY_FOR, HELD, REST, Confidential
from services.settlement.confidential_records import PARTY_NET, ConfidentialBatchState
from services.settlement.missing_batches import MISSING_BATCH, MissingBatches, StandsInBatch, UnknownBatch
from services.settlement.records import StatementState
from tests.settlement.hidden import CPO_2, MSP_2, NETS, PAIRS, Hidden
from tests.settlement.settling import open_settling
from tests.settlement.test_confidential import Outsider
from tests.settlement.test_restored import backed_up
from tests.settlement.world import CPO, MSP

LONG: Final = COMPANY_FOR + REST


@pytest.fixture
async def hidden() -> AsyncIterator[Hidden]:
    async with open_settling() as here:
        yield Hidden(here)


class CopyingChain:
    """A chain before which a copy of the rows is made when the first batch is asked about."""

    def __init__(self, hidden: Hidden) -> None:
        self._hidden = hidden
        self._chain = hidden.here.chain.chain
        self.restore: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def estimate_gas(self, account: bytes, to: bytes | None, calldata: bytes) -> int:
        self.restore = self.restore or backed_up(self._hidden.here)
        return await self._chain.estimate_gas(account, to, calldata)


async def start_again(hidden: Hidden) -> None:
    """Have a new process follow, now and for days."""
    for by in (timedelta(seconds=1), LONG):
        hidden.here.world.clock.step_by(by)
        hidden.follower = hidden.here.follower(opens=True, closing=hidden.here.world.closing)
        await hidden.follow()


async def test_what_was_closed_and_settled_after_the_copy_is_not_closed_again(hidden: Hidden) -> None:
    await hidden.open()
    restore = backed_up(hidden.here)
    await hidden.charge()
    await hidden.follow()

    restore()
    await start_again(hidden)
    await hidden.charge()
    await start_again(hidden)

    assert await hidden.statements() == {}
    assert await hidden.balances() == NETS


async def test_what_was_settled_after_the_copy_waits_for_an_operator(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.charge()
    restore = backed_up(hidden.here)
    await hidden.follow()

    restore()
    await start_again(hidden)

    assert await hidden.waiting() == dict.fromkeys(PAIRS, HELD)
    assert await hidden.balances() == NETS


async def test_a_pair_that_can_not_be_in_the_batch_goes_on(hidden: Hidden) -> None:
    alone = dict(list(PAIRS.items())[:1])
    await hidden.open()
    await hidden.charge(pairs=alone)
    restore = backed_up(hidden.here)
    await hidden.later(COMPANY_FOR)

    restore()
    await start_again(hidden)
    await hidden.charge("next", pairs=PAIRS)
    await start_again(hidden)

    states = {pair: each.state for pair, each in (await hidden.statements()).items()}
    assert states == dict.fromkeys(PAIRS, StatementState.FINAL) | dict.fromkeys(alone, StatementState.CLOSED)


async def test_an_operator_who_has_looked_lets_the_pairs_go(hidden: Hidden) -> None:
    settled = {pair: PAIRS[pair] for pair in ((CPO, MSP), (CPO_2, MSP_2))}
    others = {pair: PAIRS[pair] for pair in PAIRS.keys() - settled.keys()}
    await hidden.open()
    restore = backed_up(hidden.here)
    await hidden.charge(pairs=settled)
    await hidden.later(COMPANY_FOR)
    restore()
    await start_again(hidden)
    await hidden.charge(pairs=others)
    held = await hidden.statements()

    missing = MissingBatches(hidden.here.world.ports)
    (batch,) = await missing.known()
    await missing.give_word(batch.batch_id, who="Ann", why="the partners' books end before it")
    await start_again(hidden)
    await hidden.here.world.closing.close_now()
    await start_again(hidden)

    assert held == {}
    assert (await hidden.statements()).keys() == others.keys()
    assert await hidden.balances() == NETS


async def test_no_word_lets_a_statement_go_that_is_in_the_batch(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.charge()
    restore = backed_up(hidden.here)
    await hidden.follow()
    restore()
    await start_again(hidden)
    missing = MissingBatches(hidden.here.world.ports)
    (batch,) = await missing.known()

    with pytest.raises(StandsInBatch, match=f"{CPO}/.*/1/1.*: restore a newer copy"):
        await missing.give_word(batch.batch_id, who="Ann", why="it looks so")

    assert (len(batch.pairs), (await missing.known())[0].word) == (len(PAIRS), None)
    with pytest.raises(UnknownBatch):
        await missing.give_word(bytes(32), who="Ann", why="it looks so")


async def test_what_came_in_again_is_no_longer_told_as_missing(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.charge()
    older = backed_up(hidden.here)
    copying = CopyingChain(hidden)
    await Confidential(hidden.here.world.ports, replace(hidden.here.access, chain=copying)).advance()
    await hidden.follow()
    older()
    await start_again(hidden)
    missing = MissingBatches(hidden.here.world.ports)
    were_missing = await missing.known()

    assert copying.restore is not None
    copying.restore()
    async with hidden.here.world.ports.units.begin() as unit:
        await unit.table(MISSING_BATCH).put_all(were_missing)
        await unit.commit()
    await start_again(hidden)

    assert (len(were_missing), await missing.known()) == (1, [])
    assert await hidden.balances() == NETS


async def test_a_batch_that_all_had_signed_is_adopted(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.charge()
    copying = CopyingChain(hidden)
    await Confidential(hidden.here.world.ports, replace(hidden.here.access, chain=copying)).advance()
    await hidden.follow()

    assert copying.restore is not None
    copying.restore()
    (copied,) = await hidden.batches()
    await start_again(hidden)

    assert copied.state is ConfidentialBatchState.COLLECTING
    assert await hidden.states() == {StatementState.FINAL}
    assert await hidden.balances() == NETS
    assert len(await hidden.here.world.told(StatementFinal)) == len(PAIRS)


async def test_a_batch_whose_last_signature_came_after_the_copy_has_it_of_the_chain(hidden: Hidden) -> None:
    outsider = await Outsider.of(hidden)
    await hidden.follow()
    await outsider.sign_statements()
    await hidden.follow()
    restore = backed_up(hidden.here)
    await outsider.sign_net()
    await hidden.follow()
    async with hidden.here.world.ports.units.begin() as unit:
        signed = await unit.table(PARTY_NET).select(order_by=("number",))

    restore()
    (copied,) = await hidden.batches()
    await start_again(hidden)

    (batch,) = await hidden.batches()
    async with hidden.here.world.ports.units.begin() as unit:
        assert await unit.table(PARTY_NET).select(order_by=("number",)) == signed
    assert (copied.state, batch.state) == (ConfidentialBatchState.COLLECTING, ConfidentialBatchState.FINAL)
    assert await hidden.states() == {StatementState.FINAL}
    assert await hidden.balances() == NETS
