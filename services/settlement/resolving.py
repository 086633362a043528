"""Make the contract that resolves a book's cases when somebody first contests, on a chain of our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from emobility.ports.ports import Ports
from services.settlement.books import StoredBooks
from services.settlement.deployment import Deployer
from services.settlement.dispute_records import RESOLVER, ResolverRecord

DEMAND_BOND_E4: Final = 50_000
"""What whoever asks for a leaf puts at stake: about what showing it costs."""
QUARREL_BOND_E4: Final = 500_000
"""What each side of a quarrel over a price puts at stake."""


class Resolving:
    """Makes resolvers; on other people's chains an operator does."""

    def __init__(self, ports: Ports, books: StoredBooks, deployer: Deployer | None) -> None:
        self._ports = ports
        self._books = books
        self._deployer = deployer

    async def advance(self) -> int:
        """Make what is wanted; return how many. Raises `ChainUnavailable`, `DeploymentGone`."""
        if self._deployer is None:
            return 0
        async with self._ports.units.begin() as unit:
            wanted = await unit.table(RESOLVER).select({"resolver": None})
        return sum([await self._make(self._deployer, each) for each in wanted])

    async def _make(self, deployer: Deployer, wanted: ResolverRecord) -> int:
        deployment = await self._books.deployment()
        into = None if deployment is None else deployment.of(wanted.currency)
        if into is None:
            return 0
        made = await deployer.deploy_resolver(
            "ConfidentialDisputes" if wanted.is_confidential else "SettlementDisputes",
            book=wanted.book,
            vault=into.vault,
            demand_bond_e4=DEMAND_BOND_E4,
            quarrel_bond_e4=QUARREL_BOND_E4,
        )
        async with self._ports.units.begin() as unit:
            await unit.table(RESOLVER).put(replace(wanted, resolver=made))
            await unit.commit()
        return 1
