"""What settlement asks of a ledger beyond what it asks of a chain: entries to hand out, countersignatures to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from emobility.domain.cosigned_ledger import Countersignature, LedgerEntry
from emobility.domain.errors import RuleBroken
from emobility.ports.chain import Chain, ChainReader


class NotCountersigned(RuleBroken):
    """A countersignature is of another head than the ledger's, or nobody's; nothing was kept."""


class LedgerReader(ChainReader, Protocol):
    """Reads a co-signed ledger; all a verifier needs."""

    async def entries(self, *, first: int, limit: int) -> Sequence[LedgerEntry]:
        """Return entries from number `first` on, in order."""

    async def countersignatures(self) -> Sequence[Countersignature]:
        """Return each signer's newest."""


class CosignedLedger(Chain, LedgerReader, Protocol):
    """A ledger that is written: every call that is handed over becomes an entry, or is refused."""

    async def countersign(self, countersignature: Countersignature) -> None:
        """Keep a party's signature of a head. Raises `NotCountersigned`."""
