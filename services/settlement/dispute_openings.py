"""Where a final statement stands in its book, as the book's resolver asks for it (`opening`)."""

from __future__ import annotations

from dataclasses import dataclass

from emobility.domain.batch.confidential import hashes_tree, salts_of
from emobility.domain.batch.disputes import confidential_opening, open_opening
from emobility.domain.batch.statement import batch_tree
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from services.settlement.batching import key_of, statements_of
from services.settlement.closing import pair_statement
from services.settlement.confidential_batches import hashes_of, nets_of, sealed_statement
from services.settlement.confidential_finality import signers_of
from services.settlement.confidential_records import CONFIDENTIAL_BATCH, SEALED_STATEMENT, is_confidential
from services.settlement.records import AGREEMENT, BATCH, StatementRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStatement:
    """A statement's book, what the book calls it, and the proof of its place there."""

    chain_id: int
    book: bytes
    is_confidential: bool
    struct_hash: bytes
    opening: bytes


async def opened_statement(unit: UnitOfWork, vault: Vault, record: StatementRecord) -> OpenedStatement:
    """Return how a final statement is opened."""
    if await is_confidential(unit, record):
        return await _confidential(unit, vault, record)
    assert record.batch_id is not None
    assert record.position is not None
    batch = await unit.table(BATCH).get(record.batch_id)
    assert batch is not None
    statement = pair_statement(record)
    tree = batch_tree([pair_statement(each) for each in await statements_of(unit, batch)])
    return OpenedStatement(
        chain_id=batch.chain_id,
        book=batch.book,
        is_confidential=False,
        struct_hash=statement.struct_hash,
        opening=open_opening(statement, batch_id=batch.batch_id, proof=tree.proof(record.position)),
    )


async def _confidential(unit: UnitOfWork, vault: Vault, record: StatementRecord) -> OpenedStatement:
    sealed = await unit.table(SEALED_STATEMENT).get(*key_of(record))
    pair = await unit.table(AGREEMENT).get(record.cpo_id, record.agreement_id)
    assert sealed is not None
    assert sealed.batch_id is not None
    assert pair is not None
    batch = await unit.table(CONFIDENTIAL_BATCH).get(sealed.batch_id)
    assert batch is not None
    secret = bytes.fromhex(await vault.open(pair.pair_secret))
    salts = salts_of(pair_secret=secret, agreement=record.book_agreement, sequence=record.sequence)
    assert sealed.position is not None
    assert sealed.by_cpo is not None
    assert sealed.by_msp is not None
    return OpenedStatement(
        chain_id=batch.chain_id,
        book=batch.book,
        is_confidential=True,
        struct_hash=sealed.struct_hash,
        opening=confidential_opening(
            sealed_statement(record, cpo=sealed.cpo_number, msp=sealed.msp_number, salts=salts),
            salts=salts,
            by_cpo=sealed.by_cpo,
            by_msp=sealed.by_msp,
            batch_id=batch.batch_id,
            proof=hashes_tree(hashes_of(batch)).proof(sealed.position),
            signers=signers_of(await nets_of(unit, batch.batch_id)),
            sum_root=record.sum_root,
            due_e4=record.due_e4,
            credit_e4=record.credit_e4,
        ),
    )
