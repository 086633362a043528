"""How the settlement reaches its chain, its keys and its books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from emobility.domain.batch.typed_data import Book
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import STRETCH_BLOCKS, Chain, Log, logs_between
from emobility.ports.chain_signer import ChainSigner, TransactionSigner
from emobility.ports.cosigned_ledger import CosignedLedger
from services.settlement.lease import LEASE_S
from services.settlement.spending import Caps

STUCK_AFTER_S: Final = 120.0
"""How long a transaction may wait where settings say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedBook:
    """A currency's book and the contracts beside it. `since_block`: what they tell stands in later blocks."""

    book: Book
    registry: bytes
    vault: bytes
    since_block: int = 0


class Books(Protocol):
    """Where settlement takes place."""

    async def book_of(self, currency: str) -> DeployedBook | None:
        """Return the currency's book; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainAccess:
    """A chain, and who signs.

    Attributes:
        proposer: Sends and pays for transactions; the holder of the lease is its only sender.
        signer_of: Signs for a party that is hosted here.
        recovered_address: Whose compact signature of a digest this is; None when nobody's.
        successors: Keys that take over from `proposer`, each from the one before; looked for again now and then.
        caps: What each of them may spend.
        stuck_after_s: How long a transaction may wait before it is replaced by one that offers more.
        lease_s: How long the process that sends may be silent before another takes over.
        ledger: `chain`, where it is a ledger that parties countersign.
    """

    chain: Chain
    proposer: TransactionSigner
    signer_of: Callable[[PartyId], ChainSigner]
    recovered_address: Callable[[bytes, bytes], bytes | None]
    books: Books
    successors: Callable[[], Awaitable[Sequence[TransactionSigner]]] | None = None
    caps: Caps = field(default_factory=Caps)
    stuck_after_s: float = STUCK_AFTER_S
    lease_s: float = LEASE_S
    ledger: CosignedLedger | None = None

    async def signers(self) -> Sequence[TransactionSigner]:
        """Return who may send, the oldest key first."""
        return [self.proposer] if self.successors is None else [self.proposer, *await self.successors()]

    async def logs(self, contract: bytes, topics: Sequence[bytes | None], *, first: int, last: int) -> list[Log]:
        """Return a contract's events in the blocks from `first` to `last`, both included, in order."""
        return await logs_between(self.chain, contract, topics, first=first, last=last)

    async def newest_log(self, contract: bytes, topics: Sequence[bytes | None]) -> Log | None:
        """Return a contract's newest event of this kind, looking back from the youngest block; None: there is none."""
        end = (await self.chain.head()).number
        while end >= 0:
            start = max(end - STRETCH_BLOCKS + 1, 0)
            if found := await self.chain.logs(contract, topics, from_block=start, to_block=end):
                return found[-1]
            end = start - 1
        return None
