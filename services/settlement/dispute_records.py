"""Rows of disputes: what a party contests, how far its case is, and which contract resolves a book's cases.

A dispute belongs to the party that raised it; the other party of the pair sees it, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.batch.disputes import DisputeKind
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec


class DisputeState(StrEnum):
    """Life of a dispute."""

    SENDING = "SENDING"
    """Its proof, or its word, is on its way into the chain."""
    OPEN = "OPEN"
    """The other side, or the arbiter, has its turn."""
    DECIDED = "DECIDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeRecord:
    """A CDR of a final statement that a party contests.

    Attributes:
        case_id: What the resolver calls it.
        party_id: Who contests.
        statement_hash: The statement; `resolver`: the contract that decides.
        claimed_e4: Under PRICE what it should cost, in ten-thousandths; below zero the CPO owes it.
        says: What is wrong and what follows, for people.
        deadline: While it is OPEN, when the turn of the other side or the arbiter ends.
        corrected_e4: Once it is DECIDED, what was added to what the MSP owes.
        waiting: What it waits for, for people.
    """

    case_id: bytes
    kind: DisputeKind
    chain_id: int
    party_id: PartyId
    cpo_id: PartyId
    emsp_id: PartyId
    cdr_id: str
    statement_hash: bytes
    currency: str
    resolver: bytes
    claimed_e4: int | None
    state: DisputeState
    says: str
    deadline: datetime | None
    corrected_e4: int | None
    waiting: str | None
    raised_at: datetime
    decided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverRecord:
    """The contract that resolves the cases of a book; addresses. None: it is wanted, and not made yet."""

    chain_id: int
    book: bytes
    currency: str
    is_confidential: bool
    resolver: bytes | None


DISPUTE: Final = TableSpec(name="settlement_dispute", record=DisputeRecord, key=("case_id", "kind"))
RESOLVER: Final = TableSpec(name="settlement_resolver", record=ResolverRecord, key=("chain_id", "book"))
