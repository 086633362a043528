"""How the settlement reaches its chain, its keys and its books."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from emobility.domain.batch.typed_data import Book
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import Chain
from emobility.ports.chain_signer import ChainSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedBook:
    """A currency's book and the contracts beside it."""

    book: Book
    registry: bytes
    vault: bytes


class Books(Protocol):
    """Where settlement takes place."""

    async def book_of(self, currency: str) -> DeployedBook | None:
        """Return the currency's book; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainAccess:
    """A chain, and who signs.

    Attributes:
        proposer: Sends and pays for transactions; this process is its only sender.
        signer_of: Signs for a party that is hosted here.
        recovered_address: Whose compact signature of a digest this is; None when nobody's.
    """

    chain: Chain
    proposer: ChainSigner
    signer_of: Callable[[PartyId], ChainSigner]
    recovered_address: Callable[[bytes, bytes], bytes | None]
    books: Books
