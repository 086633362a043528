"""Confidential statements on their way to finality: what goes on chain, and whom a bad party holds up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import pytest

from emobility.adapters.chain_signing import LocalChainSigner, party_signer
from emobility.domain.agreement import SettlementMode
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import StatementFinal
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    CONFIDENTIAL_BOOK,
    ConfidentialBatchRecord,
    ConfidentialBatchState,
    ConfidentialBookRecord,
)
from services.settlement.deployment import Deployment
from services.settlement.opening import PLAY_MONEY_E4
from services.settlement.records import DEPLOYMENT, PARTY, StatementRecord, StatementState
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MSP, a_cdr, accepted, terms

CPO_2: Final = PartyId("NL-TNM")
MSP_2: Final = PartyId("NL-WIN")
PAIRS: Final = {(CPO, MSP): 70_000, (CPO, MSP_2): 20_000, (CPO_2, MSP): 30_000, (CPO_2, MSP_2): 45_000}
"""What each MSP owes each CPO."""
NETS: Final = {CPO: 90_000, CPO_2: 75_000, MSP: -100_000, MSP_2: -65_000}


class Hidden:
    """Four pairs, so that every pair is on a cycle."""

    def __init__(self, here: Settling) -> None:
        self.here = here
        self.follower = here.follower(opens=True)

    async def open(self, *, outside: PartyId | None = None, key: LocalChainSigner | None = None) -> None:
        agreements = [terms(*pair, settlement_mode=SettlementMode.CONFIDENTIAL) for pair in PAIRS]
        await self.here.sign(*agreements, outside=outside)
        if outside is not None:
            await self.follow()  # deploys, and registers the others
            deployment = await self.deployment()
            await self.here.market.deployer.register_parties(
                deployment, {outside: key or party_signer(b"x" * 32, outside)}
            )
        await self.follow()

    async def deployment(self) -> Deployment:
        async with self.here.world.ports.units.begin() as unit:
            (row,) = await unit.table(DEPLOYMENT).select()
        return row.deployment

    async def book(self) -> ConfidentialBookRecord:
        async with self.here.world.ports.units.begin() as unit:
            (row,) = await unit.table(CONFIDENTIAL_BOOK).select()
        return row

    async def charge(self, name: str = "s") -> None:
        for (cpo, msp), cost_e4 in PAIRS.items():
            cdr = a_cdr(f"{name}-{msp.party_id}", cost_e4, cpo_id=cpo)
            await self.here.world.take(accepted(cdr, agreement=terms(cpo, msp)))
        await self.here.world.closing.close_now()

    async def follow(self) -> None:
        await self.here.follow(self.follower)

    async def later(self, by: timedelta) -> None:
        await self.here.world.clock.advance_to(self.here.world.clock.now() + by)
        self.follower = self.here.follower(opens=True)  # one that looks at once
        await self.follow()

    async def balances(self) -> dict[PartyId, int]:
        """What each party got, beside what it began with."""
        async with self.here.world.ports.units.begin() as unit:
            parties = await unit.table(PARTY).select()
        into = (await self.deployment()).of("EUR")
        assert into is not None
        return {
            each.party_id: await self.here.market.deployer.collateral_of(into, each.number or 0) - PLAY_MONEY_E4
            for each in parties
        }

    async def statements(self) -> dict[tuple[PartyId, PartyId], StatementRecord]:
        return {(each.cpo_id, each.emsp_id): each for each in await self.here.world.statements()}

    async def states(self) -> set[StatementState]:
        return {each.state for each in await self.here.world.statements()}

    async def batches(self) -> list[ConfidentialBatchRecord]:
        async with self.here.world.ports.units.begin() as unit:
            return await unit.table(CONFIDENTIAL_BATCH).select(order_by=("formed_at",))


@pytest.fixture
async def hidden() -> AsyncIterator[Hidden]:
    async with open_settling() as here:
        yield Hidden(here)


async def test_nets_of_parties_are_settled_and_nothing_of_a_pair_is_shown(hidden: Hidden) -> None:
    await hidden.open()
    await hidden.charge()

    await hidden.follow()

    assert await hidden.states() == {StatementState.FINAL}
    assert await hidden.balances() == NETS
    (batch,) = await hidden.batches()
    assert batch.state is ConfidentialBatchState.FINAL
    assert len(batch.hashes) == 8 * 32
    assert len(await hidden.here.world.told(StatementFinal)) == len(PAIRS)
    assert await hidden.here.batches() == []
    (transaction,) = await hidden.here.transactions()
    for statement in await hidden.here.world.statements():
        assert statement.statement_hash not in transaction.calldata
        assert statement.book_agreement not in transaction.calldata
        assert statement.evidence_root not in transaction.calldata


async def test_the_next_period_is_settled_under_the_next_nonce(hidden: Hidden) -> None:
    await hidden.open()
    for name in ("a", "b"):
        await hidden.charge(name)
        await hidden.follow()

    assert await hidden.states() == {StatementState.FINAL}
    assert await hidden.balances() == {party: 2 * net for party, net in NETS.items()}
