"""Take contracts that somebody made on another chain (`manifest`) for ours: recognise them, and know them in our rows.

A process that finds another chain or other code there ends with a sentence. Where the chain does not answer it waits,
as ever, and looks as soon as it does: nothing is signed for contracts that nobody has recognised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from emobility.domain.errors import RuleBroken
from emobility.ports.chain import ChainReader
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from services.settlement.confidential_records import CONFIDENTIAL_BOOK, ConfidentialBookRecord
from services.settlement.deployment import Deployment, DeploymentGone, recognise
from services.settlement.dispute_records import HEARD, RESOLVER, HeardRecord, ResolverRecord
from services.settlement.inspecting import other_code
from services.settlement.manifest import Manifest, bytes_of
from services.settlement.records import CHAIN, DEPLOYMENT, ChainRecord, DeploymentRecord

SETTING: Final = "WATTROAM_CHAIN_DEPLOYMENT"


class OtherDeployment(RuleBroken):
    """The rows have settled in other contracts than the file names."""


class GivenDeployment:
    """A manifest, the chain that it should be on, and the rows that keep it."""

    def __init__(self, ports: Ports, chain: ChainReader, manifest: Manifest) -> None:
        """Take them. Raises `ManifestRefused`: not all contracts were made."""
        self._ports = ports
        self._chain = chain
        self._manifest = manifest
        self._deployment = manifest.deployment
        self._is_taken = False

    @property
    def issuers(self) -> Mapping[str, Sequence[bytes]]:
        """Who vouches for parties, by country, as the file names them."""
        return {country: [bytes_of(each) for each in accounts] for country, accounts in self._manifest.issuers.items()}

    async def taken(self) -> Deployment:
        """Return where the contracts are, once they were seen there.

        Raises:
            DeploymentGone: it is another chain, other code than the file says, or not our build.
            OtherDeployment: these rows have settled elsewhere.
            ChainUnavailable: nobody knows now.
        """
        if not self._is_taken:
            await self._refuse_other()
            if (wrong := await self._wrong()) is not None:
                raise DeploymentGone(f"{SETTING}: {wrong}. `wattroam chain check` says what differs")
            await self._keep()
            self._is_taken = True
        return self._deployment

    async def _wrong(self) -> str | None:
        """Return what is not as the file and our build say."""
        try:
            await recognise(self._chain, self._deployment)
        except DeploymentGone as gone:
            return str(gone)
        return next(iter(await other_code(self._chain, self._manifest)), None)

    async def _refuse_other(self) -> None:
        async with self._ports.units.begin() as unit:
            known = await unit.table(DEPLOYMENT).select()
        if known and known[0].deployment != self._deployment:
            raise OtherDeployment(
                f"{SETTING}: this database has settled in other contracts, with the registry "
                f"0x{known[0].deployment.registry.hex()}; another deployment needs another database"
            )

    async def _keep(self) -> None:
        chain_id, since = self._manifest.chain_id, await self._chain.block(self._manifest.first_block)
        if since is None:
            raise DeploymentGone(f"{SETTING}: the chain has no block {self._manifest.first_block} yet")
        async with self._ports.units.begin() as unit:
            # Older blocks hold nothing of ours: what looks through the chain begins here.
            seen: list[tuple[TableSpec[Any], tuple[object, ...], Any]] = [
                (DEPLOYMENT, (chain_id,), DeploymentRecord(chain_id=chain_id, deployment=self._deployment)),
                (
                    CHAIN,
                    (chain_id,),
                    ChainRecord(
                        chain_id=chain_id,
                        genesis_hash=self._deployment.genesis_hash,
                        final_number=since.number,
                        final_hash=since.hash,
                        alarm=None,
                        looked_to=since.number,
                    ),
                ),
                *self._contracts(since.number, since.hash),
            ]
            for spec, key, record in seen:
                if await unit.table(spec).get(*key) is None:
                    await unit.table(spec).put(record)
            await unit.commit()

    def _contracts(self, number: int, block_hash: bytes) -> Sequence[tuple[TableSpec[Any], tuple[object, ...], Any]]:
        chain_id, found = self._manifest.chain_id, list[tuple[TableSpec[Any], tuple[object, ...], Any]]()
        for each in self._manifest.currencies:
            hidden = ConfidentialBookRecord(
                chain_id=chain_id,
                currency=each.currency,
                book=bytes_of(each.confidential_book),
                registry=self._deployment.registry,
                vault=bytes_of(each.vault),
            )
            found.append((CONFIDENTIAL_BOOK, (chain_id, each.currency), hidden))
            for book, disputes, is_confidential in (
                (each.book, each.disputes, False),
                (each.confidential_book, each.confidential_disputes, True),
            ):
                at = bytes_of(book)
                resolver = ResolverRecord(
                    chain_id=chain_id,
                    book=at,
                    currency=each.currency,
                    is_confidential=is_confidential,
                    resolver=bytes_of(disputes),
                )
                found.append((RESOLVER, (chain_id, at), resolver))
                for contract in (at, bytes_of(disputes)):
                    heard = HeardRecord(
                        chain_id=chain_id,
                        contract=contract,
                        book=at,
                        currency=each.currency,
                        is_confidential=is_confidential,
                        last_number=number,
                        last_hash=block_hash,
                    )
                    found.append((HEARD, (chain_id, contract), heard))
        return found
