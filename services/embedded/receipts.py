"""Issue the receipt of every CDR that is final, and check each as anybody could: by the file and by the chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from emobility.adapters.receipt_proofs import ReceiptProofs
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.errors import RuleBroken
from emobility.domain.receipt.checking import Verdict, verify_receipt
from emobility.domain.receipt.document import canonical, signing_bytes
from emobility.domain.receipt.making import unsigned_receipt
from emobility.ports.chain import ChainReader
from emobility.ports.ports import Ports
from emobility.protocols.receipts import verify_on_chain
from services.audit.rows import all_rows
from services.driver_mobility.evidence import opened
from services.driver_mobility.records import EVIDENCE
from services.settlement.batching import book_of
from services.settlement.closing import leaf_in_tree, leaves_of, pair_statement
from services.settlement.records import BATCH, STATEMENT, BatchRecord, StatementRecord, StatementState


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedReceipt:
    """A receipt's file. `name` is that of its bill, with `-credit` where the bill is taken back."""

    name: str
    written: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFigures:
    """How many receipts were issued, how many of them hold, and where they lie; None: nowhere."""

    issued: int = 0
    verified: int = 0
    folder: Path | None = None


async def issue_and_verify(ports: Ports, chain: ChainReader, *, folder: Path | None) -> ReceiptFigures:
    """Issue all receipts that can be, write them into a folder, if one is named, and check them.

    Raises:
        ChainUnavailable: the chain does not answer.
    """
    issued = verified = 0
    async for receipt in issued_receipts(ports):
        issued += 1
        verified += await _holds(receipt.written, chain)
        if folder is not None:
            _write(receipt, folder)
    return ReceiptFigures(issued=issued, verified=verified, folder=folder)


async def issued_receipts(ports: Ports) -> AsyncIterator[IssuedReceipt]:
    """Yield the receipt of each final CDR whose evidence is kept here and can be read, signed by its MSP."""
    async with ports.units.begin() as unit:
        statements = [row for row in await all_rows(unit, STATEMENT) if row.state is StatementState.FINAL]
        batches = {row.batch_id: row for row in await all_rows(unit, BATCH)}
    for statement in statements:
        assert statement.batch_id is not None
        async for receipt in _of_statement(ports, statement, batches[statement.batch_id]):
            yield receipt


async def _of_statement(ports: Ports, statement: StatementRecord, batch: BatchRecord) -> AsyncIterator[IssuedReceipt]:
    async with ports.units.begin() as unit:
        leaves = await leaves_of(unit, statement)
        kept = [await unit.table(EVIDENCE).get(leaf.emsp_id, leaf.cpo_id, leaf.cdr_id) for leaf in leaves]
    trees = StatementTrees([leaf_in_tree(leaf) for leaf in leaves])
    assert batch.proposed_in is not None
    assert statement.position is not None
    for place, (leaf, evidence) in enumerate(zip(leaves, kept, strict=True)):
        if evidence is None:
            continue
        try:
            shown = await opened(ports.vault, evidence)
        except RuleBroken:  # the driver was erased
            continue
        receipt = unsigned_receipt(
            shown.record,
            salt=shown.salt,
            cdr_key=leaf.cdr_key,
            proof=trees.evidence_proof(place),
            statement=pair_statement(statement),
            book=book_of(batch),
            batch_id=batch.batch_id,
            position=statement.position,
            transaction=batch.proposed_in,
        )
        signature = await ports.signer.sign(leaf.emsp_id, signing_bytes(receipt))
        name = f"{evidence.bill_id}-credit" if leaf.is_credit else evidence.bill_id
        yield IssuedReceipt(name=name, written=canonical(msgspec.structs.replace(receipt, signature=signature)))


def _write(receipt: IssuedReceipt, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{receipt.name}.json").write_bytes(receipt.written)


async def _holds(written: bytes, chain: ChainReader) -> bool:
    verification = verify_receipt(written, ReceiptProofs())
    if verification.receipt is None or not verification.is_accepted:
        return False
    return (await verify_on_chain(verification.receipt, chain)).verdict is Verdict.HOLDS
