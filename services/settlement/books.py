"""Where the contracts are, as it is stored with the genesis of their chain (`Books`)."""

from __future__ import annotations

from emobility.ports.unit_of_work import Units
from services.settlement.access import DeployedBook
from services.settlement.deployment import Deployment
from services.settlement.records import DEPLOYMENT


class StoredBooks:
    """Reads the deployment's row, once it is there."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._deployment: Deployment | None = None

    async def deployment(self) -> Deployment | None:
        """Return where the contracts are; None: nowhere yet."""
        if self._deployment is None:
            async with self._units.begin() as unit:
                rows = await unit.table(DEPLOYMENT).select()
            self._deployment = rows[0].deployment if rows else None
        return self._deployment

    async def book_of(self, currency: str) -> DeployedBook | None:
        """Return the currency's book; None: there is none."""
        deployment = await self.deployment()
        found, book = (None, None) if deployment is None else (deployment.of(currency), deployment.book(currency))
        if deployment is None or found is None or book is None:
            return None
        return DeployedBook(
            book=book, registry=deployment.registry, vault=found.vault, since_block=deployment.since_block
        )
