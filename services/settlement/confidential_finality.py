"""Note that a confidential batch is final: with it, all of its statements are."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from emobility.domain.batch import contracts
from emobility.domain.batch.confidential import batch_record, hashes_hash, signers_words
from emobility.events.event import Envelope
from emobility.events.settlement import StatementFinal
from emobility.ports.chain import Block, ChainReader, TransactionReceipt
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.closing import name_of
from services.settlement.confidential_batches import hashes_of, key_of_sealed, nets_of, sealed_in
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    ConfidentialBatchRecord,
    ConfidentialBatchState,
    PartyNetRecord,
)
from services.settlement.facts import fact
from services.settlement.records import STATEMENT, StatementRecord, StatementState, TransactionRecord


def signers_of(nets: list[PartyNetRecord]) -> tuple[int, ...]:
    """Return who signed for whom, as the book packs them."""
    return signers_words({each.number: each.signer for each in nets if each.signer is not None})


async def is_held(unit: UnitOfWork, chain: ChainReader, row: TransactionRecord, at: Block) -> bool:
    """Tell whether the book holds just this batch, in a block."""
    batch = await unit.table(CONFIDENTIAL_BATCH).get(row.batch_id)
    if batch is None:
        return False
    expected = batch_record(hashes_hash(hashes_of(batch)), signers_of(await nets_of(unit, batch.batch_id)))
    answer = await chain.call(row.receiver, contracts.HIDDEN_BATCH.call(batch.batch_id), at_block=at.number)
    return contracts.HIDDEN_BATCH.answer(answer) == (expected,)


async def note_final(unit: UnitOfWork, row: TransactionRecord, receipt: TransactionReceipt, now: datetime) -> int:
    """Make a batch and its statements final, and tell each statement once; return how many became final."""
    batch = await unit.table(CONFIDENTIAL_BATCH).get_for_update(row.batch_id)
    assert batch is not None, f"{row.batch_id.hex()} is gone"
    final = replace(batch, state=ConfidentialBatchState.FINAL, waiting=None, settled_in=receipt.transaction_hash)
    await unit.table(CONFIDENTIAL_BATCH).put(final)
    became = 0
    for sealed in await sealed_in(unit, batch.batch_id):
        statement = await unit.table(STATEMENT).get_for_update(*key_of_sealed(sealed))
        assert statement is not None
        if statement.final_at is not None:
            continue
        settled = replace(statement, state=StatementState.FINAL, waiting=None, final_at=now)
        await unit.table(STATEMENT).put(settled)
        assert sealed.position is not None
        unit.emit(_final(final, settled, sealed.position, receipt, now))
        became += 1
    return became


def _final(
    batch: ConfidentialBatchRecord,
    statement: StatementRecord,
    position: int,
    receipt: TransactionReceipt,
    now: datetime,
) -> Envelope:
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
        transaction=receipt.transaction_hash,
        block_number=receipt.block_number,
        block_hash=receipt.block_hash,
        final_at=now,
    )
    return fact(event, statement.statement_hash.hex(), at=now)
