"""Contracts on a chain, parties in their registry, collateral and open agreements: where the settlement takes place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from emobility.adapters.chain_signing import party_signer
from emobility.adapters.memory import LoopTimer
from emobility.domain.identifiers import PartyId
from emobility.ports.chain_signer import ChainSigner
from emobility.ports.unit_of_work import Units
from services.settlement.access import DeployedBook
from services.settlement.deployment import CurrencyContracts, Deployer, Deployment
from services.settlement.opening import book_terms
from services.settlement.records import OPENING, PARTY
from tests.chains import T0, ChainWorld

MASTER_KEY: Final = bytes(range(32))
DEADLINE: Final = T0 + timedelta(days=3650)


@dataclass(frozen=True)
class Market:
    """Contracts of one currency; also the settlement's `Books`."""

    world: ChainWorld
    deployer: Deployer
    deployment: Deployment

    @property
    def contracts(self) -> CurrencyContracts:
        return self.deployment.currencies[0]

    async def book_of(self, currency: str) -> DeployedBook | None:
        book = self.deployment.book(currency)
        if book is None:
            return None
        return DeployedBook(book=book, registry=self.deployment.registry, vault=self.contracts.vault)

    async def deposit(self, number: int, amount_e4: int) -> None:
        """Add to a party's cover."""
        await self.deployer.deposit(self.contracts, {number: await self.collateral_of(number) + amount_e4})

    async def collateral_of(self, number: int) -> int:
        return await self.deployer.collateral_of(self.contracts, number)

    async def prepare(
        self,
        units: Units,
        *,
        cover_e4: int = 10**9,
        without_cover: Iterable[PartyId] = (),
        keys: dict[PartyId, ChainSigner] | None = None,
    ) -> dict[PartyId, int]:
        """Register whom the settlement knows and open what it wants opened; `keys`: of those that keep their own."""
        async with units.begin() as unit:
            parties = await unit.table(PARTY).select()
            every = await unit.table(OPENING).select()
        openings = [replace(each, number=number) for number, each in enumerate(every) if each.book_agreement is None]
        signers: dict[PartyId, ChainSigner] = {
            each.party_id: party_signer(MASTER_KEY, each.party_id) for each in parties
        }
        signers |= keys or {}
        numbers = await self.deployer.register_parties(self.deployment, signers)
        covered = set(numbers) - set(without_cover)
        await self.deployer.deposit(self.contracts, {numbers[each]: cover_e4 for each in sorted(covered)})
        registered = {each.party_id: replace(each, number=numbers[each.party_id]) for each in parties}
        wanted = [
            (book_terms(each, registered, deadline=DEADLINE), signers[each.cpo_id], signers[each.emsp_id])
            for each in openings
        ]
        ids = await self.deployer.open_agreements(self.deployment, wanted)
        async with units.begin() as unit:
            for party in registered.values():
                await unit.table(PARTY).put(party)
            for opening, agreement in zip(openings, ids, strict=True):
                await unit.table(OPENING).put(replace(opening, book_agreement=agreement))
            await unit.commit()
        return numbers


async def a_market(world: ChainWorld, proposer: bytes) -> Market:
    """Deploy the contracts of a currency."""
    deployer = Deployer(world.chain, world.payer, LoopTimer())
    return Market(world=world, deployer=deployer, deployment=await deployer.deploy(["EUR"], proposer=proposer))
