"""Issue the receipt of every CDR that is final, and check each as anybody could: by the file and by the chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from emobility.adapters.receipt_proofs import ReceiptProofs
from emobility.domain.receipt.checking import Verdict, verify_receipt
from emobility.ports.chain import ChainReader
from emobility.ports.ports import Ports
from emobility.protocols.receipts import verify_on_chain
from services.audit.rows import all_rows
from services.driver_mobility.receipts import IssuedReceipt, NothingToShow, issued
from services.driver_mobility.records import EVIDENCE
from services.settlement.closing import leaves_of
from services.settlement.proving import evidence_tree, final_standing, proposal_of
from services.settlement.records import STATEMENT, StatementRecord, StatementState


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
    for statement in statements:
        async for receipt in _of_statement(ports, statement):
            yield receipt


async def _of_statement(ports: Ports, statement: StatementRecord) -> AsyncIterator[IssuedReceipt]:
    async with ports.units.begin() as unit:
        leaves = await leaves_of(unit, statement)
        tree = evidence_tree(statement, leaves)
        proposal = await proposal_of(unit, statement, ports.vault)
        kept = [await unit.table(EVIDENCE).get(leaf.emsp_id, leaf.cpo_id, leaf.cdr_id) for leaf in leaves]
    for leaf, evidence in zip(leaves, kept, strict=True):
        if evidence is None:
            continue
        standing = final_standing(leaf, statement, tree, proposal)
        assert standing.settled is not None
        with suppress(NothingToShow):  # the driver was erased
            yield await issued(ports, evidence, standing.settled, is_credit=leaf.is_credit)


def _write(receipt: IssuedReceipt, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{receipt.name}.json").write_bytes(receipt.written)


async def _holds(written: bytes, chain: ChainReader) -> bool:
    verification = verify_receipt(written, ReceiptProofs())
    if verification.receipt is None or not verification.is_accepted:
        return False
    return (await verify_on_chain(verification.receipt, chain)).verdict is Verdict.HOLDS
