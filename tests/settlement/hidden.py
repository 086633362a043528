"""Four pairs that settle in confidential mode, each on a cycle, and what their chain and rows say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from emobility.adapters.chain_signing import LocalChainSigner
from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import SETTLEMENT
from services.settlement.confidential_records import CONFIDENTIAL_BATCH, ConfidentialBatchRecord
from services.settlement.deployment import CurrencyContracts, Deployment
from services.settlement.opening import PLAY_MONEY_E4
from services.settlement.payables import take_final_statements
from services.settlement.records import DEPLOYMENT, PARTY, StatementRecord, StatementState
from tests.settlement.settling import Settling
from tests.settlement.world import CPO, MSP, a_cdr, accepted, terms

CPO_2: Final = PartyId("NL-TNM")
MSP_2: Final = PartyId("NL-WIN")
PAIRS: Final = {(CPO, MSP): 70_000, (CPO, MSP_2): 20_000, (CPO_2, MSP): 30_000, (CPO_2, MSP_2): 45_000}
"""What each MSP owes each CPO."""
NETS: Final = {CPO: 90_000, CPO_2: 75_000, MSP: -100_000, MSP_2: -65_000}


OWN_KEY: Final = LocalChainSigner(b"\x11" * 32)
SINK: Final = 99
"""A party number that nobody has."""


class Hidden:
    """Four pairs, so that every pair is on a cycle."""

    def __init__(self, here: Settling, mode: SettlementMode = SettlementMode.CONFIDENTIAL) -> None:
        self.here = here
        self.mode = mode
        self.follower = here.follower(opens=True)

    async def open(self, *, outside: PartyId | None = None, pairs: Iterable[tuple[PartyId, PartyId]] = PAIRS) -> None:
        agreements = [terms(*pair, settlement_mode=self.mode) for pair in pairs]
        await self.here.sign(*agreements, outside=outside)
        await self.follow()
        if outside is not None:
            await self.here.market.deployer.register_parties(await self.deployment(), {outside: OWN_KEY})
            await self.later(timedelta(seconds=1))
        vault = (await self.euro()).vault
        granted = contracts.GRANT_ROLE.call(contracts.BOOK_ROLE, self.here.chain.payer.address)
        await self.here.chain.final(await self.here.chain.sent(vault, granted))

    async def deployment(self) -> Deployment:
        async with self.here.world.ports.units.begin() as unit:
            (row,) = await unit.table(DEPLOYMENT).select()
        return row.deployment

    async def euro(self) -> CurrencyContracts:
        found = (await self.deployment()).of("EUR")
        assert found is not None
        return found

    async def charge(self, name: str = "s", *, pairs: Mapping[tuple[PartyId, PartyId], int] = PAIRS) -> None:
        for (cpo, msp), cost_e4 in pairs.items():
            cdr = a_cdr(f"{name}-{msp.party_id}", cost_e4, cpo_id=cpo)
            await self.here.world.take(accepted(cdr, agreement=terms(cpo, msp)))
        await self.here.world.closing.close_now()

    async def follow(self) -> None:
        await self.here.follow(self.follower)
        told = [each async for each in self.here.world.ports.event_log.read([SETTLEMENT])]
        async with self.here.world.ports.units.begin() as unit:
            await take_final_statements(unit, told)
            await unit.commit()

    async def later(self, by: timedelta) -> None:
        self.here.world.clock.step_by(by)
        self.follower = self.here.follower(opens=True)  # one that looks at once
        await self.follow()

    async def leave(self, party_id: PartyId, amount_e4: int) -> None:
        """Have a party's collateral be this and no more, as after deposits and withdrawals."""
        euro, number = await self.euro(), await self.number(party_id)
        too_much = await self.here.market.deployer.collateral_of(euro, number) - amount_e4
        if too_much < 0:
            await self.here.market.deployer.deposit(euro, {number: amount_e4})
        else:
            moved = contracts.APPLY_NETS.call([number, SINK], [-too_much, too_much])
            await self.here.chain.final(await self.here.chain.sent(euro.vault, moved))

    async def number(self, party_id: PartyId) -> int:
        async with self.here.world.ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
        assert party is not None
        assert party.number is not None
        return party.number

    async def balances(self) -> dict[PartyId, int]:
        """What each party got, beside what it began with."""
        deployer, euro = self.here.market.deployer, await self.euro()
        numbers = {party_id: await self.number(party_id) for party_id in NETS}
        return {each: await deployer.collateral_of(euro, number) - PLAY_MONEY_E4 for each, number in numbers.items()}

    async def statements(self) -> dict[tuple[PartyId, PartyId], StatementRecord]:
        return {(each.cpo_id, each.emsp_id): each for each in await self.here.world.statements()}

    async def states(self) -> set[StatementState]:
        return {each.state for each in await self.here.world.statements()}

    async def waiting(self) -> dict[tuple[PartyId, PartyId], str | None]:
        """What those wait for that are not final."""
        found = await self.statements()
        return {pair: each.waiting for pair, each in found.items() if each.state is not StatementState.FINAL}

    async def batches(self) -> list[ConfidentialBatchRecord]:
        async with self.here.world.ports.units.begin() as unit:
            return await unit.table(CONFIDENTIAL_BATCH).select(order_by=("formed_at",))
