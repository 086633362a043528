"""What a confidential batch is made of, and what its parties sign: from rows to bytes and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from emobility.domain.batch import contracts
from emobility.domain.batch.confidential import (
    Amounts,
    ConfidentialBook,
    Salts,
    SealedStatement,
    hashes_hash,
    net_digest,
)
from emobility.domain.batch.hashing import HASH_BYTES
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.batching import key_of
from services.settlement.confidential_records import (
    PARTY_NET,
    SEALED_STATEMENT,
    ConfidentialBatchRecord,
    ConfidentialBookRecord,
    PartyNetRecord,
    SealedStatementRecord,
)
from services.settlement.records import STATEMENT, StatementRecord, StatementState


def sealed_statement(record: StatementRecord, *, cpo: int, msp: int, salts: Salts) -> SealedStatement:
    """Return a statement as its parties sign it."""
    amounts = Amounts(sum_root=record.sum_root, due_e4=record.due_e4, credit_e4=record.credit_e4)
    return SealedStatement(
        agreement=record.book_agreement,
        cpo=cpo,
        msp=msp,
        count=record.count,
        sequence=record.sequence,
        period_end=record.period_end,
        evidence_root=record.evidence_root,
        amounts=amounts.sealed(salts.amounts),
    )


def book_of(record: ConfidentialBookRecord | ConfidentialBatchRecord) -> ConfidentialBook:
    """Return the book as signatures name it."""
    return ConfidentialBook(chain_id=record.chain_id, address=record.book)


def hashes_of(batch: ConfidentialBatchRecord) -> tuple[bytes, ...]:
    """Return the hashes that a batch posts."""
    return tuple(batch.hashes[start : start + HASH_BYTES] for start in range(0, len(batch.hashes), HASH_BYTES))


def digest_of_net(batch: ConfidentialBatchRecord, net: PartyNetRecord) -> bytes:
    """Return what a party signs to accept a batch."""
    return net_digest(
        book_of(batch),
        batch_id=batch.batch_id,
        hashes_hash=hashes_hash(hashes_of(batch)),
        party=net.number,
        net_e4=net.net_e4,
        nonce=net.nonce,
    )


def settle_call(batch: ConfidentialBatchRecord, nets: Sequence[PartyNetRecord]) -> bytes:
    """Return the call that settles a batch whose parties all signed."""
    words = []
    for each in sorted(nets, key=lambda net: net.number):
        assert each.signature is not None
        words.append((each.number, each.net_e4, contracts.signature_words(each.signature)))
    return contracts.SETTLE.call(batch.batch_id, hashes_of(batch), words)


def settling_id(batch_id: bytes) -> str:
    """Return the id of the transaction that settles a batch."""
    return f"settle/{batch_id.hex()}"


async def nets_of(unit: UnitOfWork, batch_id: bytes) -> list[PartyNetRecord]:
    """Return a batch's parties by number."""
    return await unit.table(PARTY_NET).select({"batch_id": batch_id}, order_by=("number",))


async def sealed_in(unit: UnitOfWork, batch_id: bytes) -> list[SealedStatementRecord]:
    """Return a batch's statements by position."""
    return await unit.table(SEALED_STATEMENT).select({"batch_id": batch_id}, order_by=("position",))


async def net_of_statements(unit: UnitOfWork, batch: ConfidentialBatchRecord, party_id: PartyId) -> int:
    """Return what a party gets on balance by its own statements in a batch, in ten-thousandths."""
    net_e4 = 0
    for sealed in await sealed_in(unit, batch.batch_id):
        if party_id not in {sealed.cpo_id, sealed.emsp_id}:
            continue
        statement = await unit.table(STATEMENT).get(*key_of_sealed(sealed))
        assert statement is not None
        pair_e4 = statement.due_e4 - statement.credit_e4
        net_e4 += (pair_e4 if party_id == sealed.cpo_id else 0) - (pair_e4 if party_id == sealed.emsp_id else 0)
    return net_e4


async def out_of_turn(unit: UnitOfWork, record: StatementRecord | SealedStatementRecord) -> str | None:
    """Return why a statement is not signed yet, if so: the chain can't hold a pair to the order of its statements."""
    if record.sequence == 1:
        return None
    key = (record.cpo_id, record.agreement_id, record.version, record.sequence - 1)
    previous = await unit.table(STATEMENT).get(*key)
    if previous is not None and previous.state is StatementState.FINAL:
        return None
    return f"statement {record.sequence - 1} is not final"


async def note_waiting(unit: UnitOfWork, record: StatementRecord, reason: str) -> None:
    """Say what a closed statement waits for."""
    current = await unit.table(STATEMENT).get_for_update(*key_of(record))
    if current is not None and current.state is StatementState.CLOSED and current.waiting != reason:
        await unit.table(STATEMENT).put(replace(current, waiting=reason))


async def wait(unit: UnitOfWork, record: StatementRecord, reason: str) -> int:
    """Say what a closed statement waits for, in a unit of its own; no step was made."""
    await note_waiting(unit, record, reason)
    await unit.commit()
    return 0


def key_of_sealed(sealed: SealedStatementRecord) -> tuple[PartyId, str, int, int]:
    """Return the key of the statement."""
    return sealed.cpo_id, sealed.agreement_id, sealed.version, sealed.sequence
