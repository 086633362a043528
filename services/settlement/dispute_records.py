"""Rows of disputes: what a party contests, how far its case is, and which contract resolves a book's cases.

A dispute belongs to the party that raised it; the other party of the pair sees it, too. It was raised by a party here
(`disputing`), or heard of on the chain (`listening`).
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
    ANSWERED = "ANSWERED"
    """Under WITHHELD: the leaf was shown, so nothing is taken out; its amount can still be contested."""


class AnswerPolicy(StrEnum):
    """Whether a party's answer to what the other side raises is given by us."""

    AUTOMATIC = "AUTOMATIC"
    MANUAL = "MANUAL"
    """By its operator's word alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeRecord:
    """A CDR of a final statement that a party contests.

    Attributes:
        case_id: What the resolver calls it.
        party_id: Who contests; None: a proof decided it, and who showed that is not said.
        cdr_id: The CDR; None: no leaf of ours is in this case, though the pair is.
        statement_hash: The statement, likewise; `resolver`: the contract that decides.
        stated_e4: What the statement says that it costs; None: it was contested before that was kept.
        claimed_e4: Under PRICE what it should cost, in ten-thousandths; below zero the CPO owes it.
        says: What is wrong and what follows, for people.
        deadline: While it is OPEN, when the turn of the other side or the arbiter ends.
        turn_of: Who loses by silence until then; None: the arbiter has its turn, or nobody.
        bond_e4: Under WITHHELD, once it is ANSWERED: what the side that was asked was paid for its answer.
        corrected_e4: Once it is DECIDED, what was added to what the MSP owes.
        waiting: What it waits for, for people.
    """

    case_id: bytes
    kind: DisputeKind
    chain_id: int
    party_id: PartyId | None
    cpo_id: PartyId
    emsp_id: PartyId
    cdr_id: str | None
    statement_hash: bytes | None
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
    turn_of: PartyId | None = None
    stated_e4: int | None = None
    bond_e4: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputePolicy:
    """How a party answers; without a row leaves are shown at once, and amounts are defended by its word."""

    party_id: PartyId
    reveals: AnswerPolicy = AnswerPolicy.AUTOMATIC
    defends: AnswerPolicy = AnswerPolicy.MANUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardRecord:
    """How far the events of a contract were heard.

    Attributes:
        contract: A resolver, or the book itself, which tells who its resolvers are.
        last_number: The youngest block that was looked at; `last_hash`: its hash. Of another hash all is heard again.
    """

    chain_id: int
    contract: bytes
    book: bytes
    currency: str
    is_confidential: bool
    last_number: int
    last_hash: bytes


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
POLICY: Final = TableSpec(name="settlement_dispute_policy", record=DisputePolicy, key=("party_id",))
HEARD: Final = TableSpec(name="settlement_dispute_heard", record=HeardRecord, key=("chain_id", "contract"))
