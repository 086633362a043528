"""Note that a confidential batch is final: with it, all of its statements are."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from emobility.domain.batch import contracts
from emobility.domain.batch.confidential import batch_record, hashes_hash, signers_words
from emobility.ports.chain import Block, ChainReader, TransactionReceipt
from emobility.ports.unit_of_work import UnitOfWork, Units
from services.settlement.confidential_batches import hashes_of, key_of_sealed, nets_of, sealed_in
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    ConfidentialBatchState,
    PartyNetRecord,
)
from services.settlement.final_fact import statement_final
from services.settlement.records import STATEMENT, StatementState, TransactionRecord


def signers_of(nets: list[PartyNetRecord]) -> tuple[int, ...]:
    """Return who signed for whom, as the book packs them."""
    return signers_words({each.number: each.signer for each in nets if each.signer is not None})


async def is_held(units: Units, chain: ChainReader, row: TransactionRecord, at: Block) -> bool:
    """Tell whether the book holds just this batch, in a block."""
    async with units.begin() as unit:
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
        told = statement_final(
            settled,
            final,
            position=sealed.position,
            transaction=receipt.transaction_hash,
            receipt=receipt,
            final_at=now,
        )
        unit.emit(told)
        became += 1
    return became
