"""What a co-signed ledger says of a receipt: final as on a chain, and who besides the operator vouches for that.

A chain's blocks are promised by many. A ledger's entries are promised by one operator; what keeps it to its word are
heads that others signed. So a receipt holds here only if one of its two companies countersigned a head at which the
statement was final: then the operator can't take it back without showing two histories.
"""

from __future__ import annotations

from dataclasses import replace

from emobility.domain.batch import contracts
from emobility.domain.batch.calls import (
    REGISTRY_QUERY,
    agreement_query,
    batch_query,
    read_agreement,
    read_batch,
    read_registry,
)
from emobility.domain.errors import MalformedInput
from emobility.domain.receipt.checking import Finding, Verdict
from emobility.domain.receipt.document import Receipt
from emobility.ports.chain import CallReverted
from emobility.ports.cosigned_ledger import LedgerReader
from emobility.protocols.receipts import verify_on_chain


async def verify_in_ledger(receipt: Receipt, ledger: LedgerReader) -> Finding:
    """Return whether the receipt's statement is final in a ledger that was carried out, and who countersigned that.

    Raises:
        ChainUnavailable: the ledger can't be read.
    """
    finding = await verify_on_chain(receipt, ledger)
    if finding.verdict is not Verdict.HOLDS:
        return finding
    numbers = await _countersigned(receipt, ledger)
    if not numbers:
        says = "It is final by the word of the ledger's operator; neither company has countersigned that yet."
        return replace(finding, verdict=Verdict.UNPROVEN, says=says)
    by = " and ".join(f"{company} countersigned entry {number}" for company, number in numbers.items())
    return replace(finding, says=f"{finding.says} {by}; another history would be a second one.")


async def _countersigned(receipt: Receipt, ledger: LedgerReader) -> dict[str, int]:
    """Return, of the two companies, which countersigned a head at which the statement was final, and its number."""
    signers = await _signers(receipt, ledger)
    newest = {each.signer: each.number for each in await ledger.countersignatures()}
    found = {}
    for company, signer in signers.items():
        number = newest.get(signer)
        if number is not None and await _was_final(receipt, ledger, number):
            found[company] = number
    return found


async def _signers(receipt: Receipt, ledger: LedgerReader) -> dict[str, bytes]:
    book, shown = bytes.fromhex(receipt.chain.book), receipt.chain.sealed
    if shown is None:
        state = read_agreement(await ledger.call(book, agreement_query(bytes.fromhex(receipt.statement.agreement))))
        parties = (state.cpo, state.msp)
    else:
        parties = (shown.cpo, shown.msp)
    registry = read_registry(await ledger.call(book, REGISTRY_QUERY))
    names = (receipt.record.charge_point_operator, receipt.record.seller)
    return {
        name: contracts.SIGNER_OF.answer(await ledger.call(registry, contracts.SIGNER_OF.call(number)))[0]
        for name, number in zip(names, parties, strict=True)
    }


async def _was_final(receipt: Receipt, ledger: LedgerReader, number: int) -> bool:
    if receipt.chain.sealed is not None:  # a sealed batch is final in the entry that brings it
        batch = await ledger.receipt(bytes.fromhex(receipt.chain.transaction))
        return batch is not None and batch.block_number <= number
    asked = batch_query(bytes.fromhex(receipt.chain.batch_id))
    try:
        batch_state = read_batch(await ledger.call(bytes.fromhex(receipt.chain.book), asked, at_block=number))
    except (CallReverted, MalformedInput):
        return False
    return batch_state.is_final(receipt.chain.position) and any(batch_state.pairs_hash)
