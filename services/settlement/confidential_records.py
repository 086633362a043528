"""Rows of confidential mode. A sealed statement belongs to its two parties, a net to its party; a batch is nobody's.

What a batch's row holds stands on chain anyway; which of its hashes is whose stands with the sealed statements alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.agreement import SettlementMode
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.records import OPENING, StatementRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentialBookRecord:
    """Where a currency's confidential book is, with its registry and vault; addresses."""

    chain_id: int
    currency: str
    book: bytes
    registry: bytes
    vault: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedStatementRecord:
    """A closed statement as its parties sign it in confidential mode; `domain/batch/confidential` says what is hashed.

    Attributes:
        struct_hash: Of the sealed statement.
        posted: What a batch shows of it.
        by_cpo: The CPO's compact signature; None: not given yet. `by_msp` likewise.
        batch_id: The batch that it is in; `position`: where among its hashes.
    """

    cpo_id: PartyId
    agreement_id: str
    version: int
    sequence: int
    emsp_id: PartyId
    currency: str
    chain_id: int
    cpo_number: int
    msp_number: int
    struct_hash: bytes
    posted: bytes
    by_cpo: bytes | None
    by_msp: bytes | None
    batch_id: bytes | None
    position: int | None


class ConfidentialBatchState(StrEnum):
    """Life of a batch: it becomes final whole, or it is left and its statements go into another."""

    COLLECTING = "COLLECTING"
    SENDING = "SENDING"
    FINAL = "FINAL"
    ABANDONED = "ABANDONED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentialBatchRecord:
    """What is posted together. `hashes`: 32 bytes each, as they are posted; `settled_in`: hash of the transaction."""

    batch_id: bytes
    currency: str
    chain_id: int
    book: bytes
    hashes: bytes
    state: ConfidentialBatchState
    waiting: str | None
    settled_in: bytes | None
    formed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyNetRecord:
    """A party's net in a batch, ten-thousandths; below zero it pays.

    Attributes:
        nonce: The party's in the book, which its signature names.
        signer: Who signed: the address that the registry had for the party.
        failed: Why the batch was left on this party's account; it rests for a while, and others go without it.
    """

    batch_id: bytes
    party_id: PartyId
    number: int
    net_e4: int
    nonce: int
    signature: bytes | None
    signer: bytes | None
    failed: str | None
    formed_at: datetime


CONFIDENTIAL_BOOK: Final = TableSpec(
    name="settlement_confidential_book", record=ConfidentialBookRecord, key=("chain_id", "currency")
)
SEALED_STATEMENT: Final = TableSpec(
    name="settlement_sealed_statement",
    record=SealedStatementRecord,
    key=("cpo_id", "agreement_id", "version", "sequence"),
)
CONFIDENTIAL_BATCH: Final = TableSpec(
    name="settlement_confidential_batch", record=ConfidentialBatchRecord, key=("batch_id",)
)
PARTY_NET: Final = TableSpec(name="settlement_party_net", record=PartyNetRecord, key=("batch_id", "party_id"))


async def is_confidential(unit: UnitOfWork, record: StatementRecord) -> bool:
    """Tell whether a statement is settled in confidential mode."""
    opening = await unit.table(OPENING).get(record.cpo_id, record.agreement_id, record.version)
    return opening is not None and opening.mode is SettlementMode.CONFIDENTIAL
