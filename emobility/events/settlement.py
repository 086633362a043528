"""Facts about settlement. Key: the agreement, so that a pair's statements keep their order; of a batch, its id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from emobility.domain.identifiers import PartyId
from emobility.events.event import Event, catalogued

SETTLEMENT: Final = "settlement"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementName:
    """Which statement: of this agreement, opened in the book by this version of its terms, the one at this place."""

    cpo_id: PartyId
    agreement_id: str
    version: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.cpo_id}/{self.agreement_id}/{self.version}/{self.sequence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementEvent(Event):
    """Base of facts about one statement. `statement_hash` is what its parties' signatures bind."""

    topic: ClassVar[str] = SETTLEMENT
    statement: StatementName
    emsp_id: PartyId
    currency: str
    statement_hash: bytes

    @property
    def key(self) -> str:
        """The agreement."""
        return self.statement.agreement_id


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class StatementClosed(StatementEvent):
    """A period of a pair is closed: its CDRs are counted and bound by two roots; amounts in ten-thousandths."""

    wire_name: ClassVar[str] = "settlement.statement_closed.v1"
    period_start: datetime
    period_end: datetime
    due_e4: int
    credit_e4: int
    count: int
    evidence_root: bytes
    sum_root: bytes
    closed_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFinal(StatementEvent):
    """Both parties signed it, it is paid or recorded, and nothing can change it any more.

    Batch, position and transaction are what a receipt names; the block is the one that made it final.
    """

    wire_name: ClassVar[str] = "settlement.statement_final.v1"
    due_e4: int
    credit_e4: int
    count: int
    chain_id: int
    book: bytes
    batch_id: bytes
    position: int
    transaction: bytes
    block_number: int
    block_hash: bytes
    final_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class StatementUnfunded(StatementEvent):
    """Both parties signed it, and the payer lacks cover: it waits alone, and is tried again."""

    wire_name: ClassVar[str] = "settlement.statement_unfunded.v1"
    net_e4: int
    batch_id: bytes
    seen_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProposed(Event):
    """Statements were proposed together in one transaction of a block that is final."""

    wire_name: ClassVar[str] = "settlement.batch_proposed.v1"
    topic: ClassVar[str] = SETTLEMENT
    batch_id: bytes
    chain_id: int
    book: bytes
    currency: str
    pairs_hash: bytes
    statements: tuple[StatementName, ...]
    transaction: bytes
    gas_used: int
    proposed_at: datetime

    @property
    def key(self) -> str:
        """The batch."""
        return self.batch_id.hex()
