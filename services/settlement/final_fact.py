"""The fact that a statement is final, whichever book holds it."""

from __future__ import annotations

from datetime import datetime

from emobility.events.event import Envelope
from emobility.events.settlement import StatementFinal
from emobility.ports.chain import TransactionReceipt
from services.settlement.closing import name_of
from services.settlement.confidential_records import ConfidentialBatchRecord
from services.settlement.facts import fact
from services.settlement.records import BatchRecord, StatementRecord


def statement_final(
    statement: StatementRecord,
    batch: BatchRecord | ConfidentialBatchRecord,
    *,
    position: int,
    transaction: bytes,
    receipt: TransactionReceipt,
    final_at: datetime,
) -> Envelope:
    """Return it; its id is the statement's hash, so it is told once.

    Args:
        statement: What is final.
        batch: Where it stands in its book.
        position: Its place there.
        transaction: Hash of the call that brought the batch into the book.
        receipt: Of the transaction that made it final.
        final_at: When this was seen.
    """
    event = StatementFinal(
        statement=name_of(statement),
        emsp_id=statement.emsp_id,
        currency=statement.currency,
        statement_hash=statement.statement_hash,
        due_e4=statement.due_e4,
        credit_e4=statement.credit_e4,
        count=statement.count,
        chain_id=batch.chain_id,
        book=batch.book,
        batch_id=batch.batch_id,
        position=position,
        transaction=transaction,
        block_number=receipt.block_number,
        block_hash=receipt.block_hash,
        final_at=final_at,
    )
    return fact(event, statement.statement_hash.hex(), at=final_at)
