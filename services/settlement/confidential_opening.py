"""Open agreements in confidential mode: nothing of them goes on chain but the book that settles their currency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from emobility.domain.batch.confidential import agreement_of
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from services.settlement.access import ChainAccess
from services.settlement.confidential_records import CONFIDENTIAL_BOOK, ConfidentialBookRecord
from services.settlement.deployment import Deployer, Deployment
from services.settlement.records import AGREEMENT, OPENING, Opening, SettledParty


class ConfidentialOpenings:
    """Gives agreements their ids, once their parties are registered and there is a book."""

    def __init__(self, ports: Ports, access: ChainAccess, deployer: Deployer | None, *, cover_e4: int) -> None:
        """`cover_e4`: collateral of each party on a chain of our own, in play money."""
        self._ports = ports
        self._access = access
        self._deployer = deployer
        self._cover_e4 = cover_e4

    async def advance(
        self, deployment: Deployment, unopened: Sequence[Opening], parties: Mapping[PartyId, SettledParty]
    ) -> int:
        """Open what can be; return how many. Raises `ChainUnavailable`."""
        return sum([await self._open(deployment, each, parties) for each in unopened])

    async def _open(self, deployment: Deployment, opening: Opening, parties: Mapping[PartyId, SettledParty]) -> int:
        numbers = [parties[each].number for each in (opening.cpo_id, opening.emsp_id)]
        if None in numbers:
            return await self._wait(opening, "the registration of its parties")
        if not await self._has_book(deployment, opening.currency):
            return await self._wait(opening, f"no confidential book settles {opening.currency}")
        into = deployment.of(opening.currency)
        if self._deployer is not None and into is not None:
            await self._deployer.deposit(into, {number: self._cover_e4 for number in numbers if number is not None})
        async with self._ports.units.begin() as unit:
            pair = await unit.table(AGREEMENT).get(opening.cpo_id, opening.agreement_id)
        assert pair is not None
        secret = bytes.fromhex(await self._ports.vault.open(pair.pair_secret))
        agreement = agreement_of(opening.document, pair_secret=secret)
        async with self._ports.units.begin() as unit:
            await unit.table(OPENING).put(replace(opening, book_agreement=agreement, waiting=None))
            await unit.commit()
        return 1

    async def _has_book(self, deployment: Deployment, currency: str) -> bool:
        """Tell whether there is a book, after making one on a chain of our own."""
        async with self._ports.units.begin() as unit:
            known = await unit.table(CONFIDENTIAL_BOOK).get(deployment.chain_id, currency)
        into = deployment.of(currency)
        if known is not None or self._deployer is None or into is None:
            return known is not None
        proposer = self._access.proposer.address
        book = await self._deployer.deploy_confidential(deployment, currency, proposer=proposer)
        made = ConfidentialBookRecord(
            chain_id=deployment.chain_id, currency=currency, book=book, registry=deployment.registry, vault=into.vault
        )
        async with self._ports.units.begin() as unit:
            await unit.table(CONFIDENTIAL_BOOK).put(made)
            await unit.commit()
        return True

    async def _wait(self, opening: Opening, reason: str) -> int:
        if opening.waiting != reason:
            async with self._ports.units.begin() as unit:
                await unit.table(OPENING).put(replace(opening, waiting=reason))
                await unit.commit()
        return 0
