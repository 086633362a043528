"""What checks a receipt beyond its arithmetic: OCMF of meters, and a chain.

The chain is only read: any endpoint will do, its owner needs no trust but for the answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from emobility.domain.batch import contracts
from emobility.domain.batch.calls import (
    REGISTRY_QUERY,
    BatchState,
    Proposal,
    agreement_query,
    batch_query,
    party_query,
    read_agreement,
    read_batch,
    read_party,
    read_proposal,
    read_registry,
)
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.domain.receipt.checking import Finding
from emobility.domain.receipt.document import Receipt, SealedShown
from emobility.domain.receipt.settled import (
    ChainAnswers,
    SealedAnswers,
    chain_finding,
    opened_call,
    sealed_finding,
)
from emobility.ports.chain import CallReverted, ChainReader
from emobility.protocols.ocmf import verify_charge_alone
from emobility.protocols.ocmf.showing import shown_wh


class MeterProofs:
    """What `Proofs` says of meters; whose signatures of sellers count is said by whoever derives from it."""

    def metered_wh(self, records: Sequence[str], *, public_key: str) -> int:
        """Return the energy that whole signed records prove, in Wh. Raises `OCMFRefused`."""
        return verify_charge_alone(records, public_key_hex=public_key).energy_wh

    def shown_wh(self, masked: Sequence[str]) -> int:
        """Return the energy that masked copies show, in Wh. Raises `OCMFRefused`."""
        return shown_wh(masked)


async def verify_on_chain(receipt: Receipt, chain: ChainReader) -> Finding:
    """Return whether the receipt's statement is final, as the youngest final block has it.

    Raises:
        ChainUnavailable: the endpoint did not answer.
    """
    shown = receipt.chain
    chain_id = await chain.chain_id()
    if shown.sealed is not None:
        is_asked = chain_id == shown.chain_id
        return sealed_finding(
            receipt,
            SealedAnswers(
                chain_id=chain_id,
                is_final=is_asked and await _is_final(receipt, shown.sealed, chain),
                parties=await _numbered(receipt, (shown.sealed.cpo, shown.sealed.msp), chain) if is_asked else None,
            ),
        )
    transaction = await chain.transaction(bytes.fromhex(shown.transaction)) if chain_id == shown.chain_id else None
    answers = ChainAnswers(
        chain_id=chain_id,
        called=None if transaction is None else transaction.to,
        proposal=None if transaction is None else _proposal(transaction.calldata),
        batch=None if transaction is None else await _batch(receipt, chain),
        parties=None if transaction is None else await _parties(receipt, chain),
    )
    return chain_finding(receipt, answers)


def _proposal(calldata: bytes) -> Proposal | None:
    try:
        return read_proposal(calldata)
    except MalformedInput:
        return None


async def _batch(receipt: Receipt, chain: ChainReader) -> BatchState | None:
    book, batch_id = bytes.fromhex(receipt.chain.book), bytes.fromhex(receipt.chain.batch_id)
    at_block = (await chain.finalized()).number
    try:
        return read_batch(await chain.call(book, batch_query(batch_id), at_block=at_block))
    except (MalformedInput, CallReverted):
        return None


async def _is_final(receipt: Receipt, sealed: SealedShown, chain: ChainReader) -> bool:
    at_block = (await chain.finalized()).number
    try:
        call = opened_call(receipt, sealed)
        (answer,) = contracts.IS_SEALED_STATEMENT_FINAL.answer(
            await chain.call(bytes.fromhex(receipt.chain.book), call, at_block=at_block)
        )
    except (MalformedInput, CallReverted):
        return False
    return bool(answer)


async def _parties(receipt: Receipt, chain: ChainReader) -> tuple[PartyId, PartyId] | None:
    book, agreement = bytes.fromhex(receipt.chain.book), bytes.fromhex(receipt.statement.agreement)
    try:
        state = read_agreement(await chain.call(book, agreement_query(agreement)))
    except (MalformedInput, CallReverted):
        return None
    return await _numbered(receipt, (state.cpo, state.msp), chain)


async def _numbered(receipt: Receipt, numbers: tuple[int, int], chain: ChainReader) -> tuple[PartyId, PartyId] | None:
    """Return whose numbers these are in the registry of the receipt's book."""
    try:
        registry = read_registry(await chain.call(bytes.fromhex(receipt.chain.book), REGISTRY_QUERY))
        cpo, msp = [read_party(await chain.call(registry, party_query(number))) for number in numbers]
    except (MalformedInput, CallReverted):
        return None
    return cpo, msp
