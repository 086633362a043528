"""What a receipt names of a statement that was settled in confidential mode: its salt and place, and no amount."""

from __future__ import annotations

from dataclasses import dataclass

from emobility.domain.batch.confidential import hashes_tree, salts_of
from emobility.domain.batch.trees import Proof
from emobility.domain.receipt.document import SettledPlace, SignerShown
from emobility.domain.receipt.making import confidential_place, sealed_shown
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from services.settlement.batching import key_of
from services.settlement.confidential_batches import book_of, hashes_of, nets_of, sealed_statement, settling_id
from services.settlement.confidential_records import (
    CONFIDENTIAL_BATCH,
    SEALED_STATEMENT,
    ConfidentialBatchRecord,
    SealedStatementRecord,
    is_confidential,
)
from services.settlement.records import (
    AGREEMENT,
    TRANSACTION,
    LeafRecord,
    StatementRecord,
    TransactionState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentialProposal:
    """Where a final statement was settled; `block_number` is None while a chain that lost it has it sent again."""

    batch: ConfidentialBatchRecord
    sealed: SealedStatementRecord
    pair_secret: bytes
    signers: tuple[SignerShown, ...]
    transaction: bytes
    block_number: int | None

    def settled(self, leaf: LeafRecord, statement: StatementRecord, proof: Proof) -> SettledPlace:
        """Return what the receipt of one of its CDRs names."""
        salts = salts_of(pair_secret=self.pair_secret, agreement=statement.book_agreement, sequence=statement.sequence)
        stated = sealed_statement(statement, cpo=self.sealed.cpo_number, msp=self.sealed.msp_number, salts=salts)
        assert self.sealed.position is not None
        assert self.sealed.by_cpo is not None
        assert self.sealed.by_msp is not None
        shown = sealed_shown(
            stated,
            salt=salts.posted,
            by_cpo=self.sealed.by_cpo,
            by_msp=self.sealed.by_msp,
            place=hashes_tree(hashes_of(self.batch)).proof(self.sealed.position),
            signers=self.signers,
        )
        return confidential_place(
            cdr_key=leaf.cdr_key,
            meter=leaf.meter,
            proof=proof,
            statement=stated,
            book=book_of(self.batch),
            batch_id=self.batch.batch_id,
            transaction=self.transaction,
            sealed=shown,
            position=self.sealed.position,
        )


async def confidential_proposal_of(
    unit: UnitOfWork, statement: StatementRecord, vault: Vault
) -> ConfidentialProposal | None:
    """Return where a final statement was settled; None: not in confidential mode."""
    if statement.batch_id is not None or not await is_confidential(unit, statement):
        return None
    sealed = await unit.table(SEALED_STATEMENT).get(*key_of(statement))
    pair = await unit.table(AGREEMENT).get(statement.cpo_id, statement.agreement_id)
    assert sealed is not None
    assert sealed.batch_id is not None
    assert pair is not None
    batch = await unit.table(CONFIDENTIAL_BATCH).get(sealed.batch_id)
    row = await unit.table(TRANSACTION).get(settling_id(sealed.batch_id))
    assert batch is not None
    transaction, block_number = batch.settled_in, None
    if row is not None and row.state is TransactionState.FINAL:
        transaction, block_number = row.hash, row.block_number
    assert transaction is not None
    return ConfidentialProposal(
        batch=batch,
        sealed=sealed,
        pair_secret=bytes.fromhex(await vault.open(pair.pair_secret)),
        signers=tuple(
            SignerShown(party=each.number, address=each.signer.hex())
            for each in await nets_of(unit, batch.batch_id)
            if each.signer is not None
        ),
        transaction=transaction,
        block_number=block_number,
    )
