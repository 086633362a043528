"""Compare a receipt with what a chain says: that the statement it names was proposed, signed by both, and is final.

The batch's statements are read from the transaction that proposed them, and the book itself confirms that these are
they. So a receipt need not show what the two companies owe each other, and no logs are searched.
"""

from __future__ import annotations

from dataclasses import dataclass

from emobility.domain.batch import contracts
from emobility.domain.batch.calls import BatchState, Proposal
from emobility.domain.batch.confidential import signers_words
from emobility.domain.batch.statement import UnsuitableBatch, pairs_hash, roots_hash
from emobility.domain.identifiers import PartyId
from emobility.domain.receipt.checking import Check, Finding, Verdict
from emobility.domain.receipt.document import Receipt, SealedShown


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainAnswers:
    """What an endpoint answered; None where the chain does not know the thing.

    Attributes:
        chain_id: The chain's own.
        called: The contract that the receipt's transaction called.
        proposal: What it proposed.
        batch: What the receipt's book says of the receipt's batch, at a final block.
        parties: Registered CPO and MSP of the receipt's agreement in that book.
    """

    chain_id: int
    called: bytes | None
    proposal: Proposal | None
    batch: BatchState | None
    parties: tuple[PartyId, PartyId] | None


def chain_finding(receipt: Receipt, answers: ChainAnswers) -> Finding:
    """Return the `CHAIN` check of a receipt that passed the others.

    It trusts the book that the receipt names, so compare that with the address its operator publishes.
    """
    shown, statement = receipt.chain, receipt.statement
    if answers.chain_id != shown.chain_id:
        return _refused(f"The endpoint is chain {answers.chain_id}; the receipt was settled on chain {shown.chain_id}.")
    if answers.called is None or answers.proposal is None:
        return _refused("The chain does not know the transaction that the receipt names.")
    proposal, batch = answers.proposal, answers.batch
    if answers.called.hex() != shown.book or proposal.batch_id.hex() != shown.batch_id:
        return _refused("The transaction that the receipt names proposed another batch, or in another book.")
    if batch is None or not _is_bound(proposal, batch):
        return _refused("The book does not hold these statements.")
    if shown.position >= len(proposal.statements):
        return _refused("The batch has no such position.")
    proposed = proposal.statements[shown.position]
    roots = roots_hash(bytes.fromhex(statement.evidence_root), bytes.fromhex(statement.sum_root or ""))
    named = (proposed.agreement.hex(), proposed.sequence, proposed.roots, proposed.count)
    if named != (statement.agreement, statement.sequence, roots, receipt.place.count):
        return _refused("The statement at that position is another one.")
    if not batch.is_final(shown.position):
        return _refused("The statement was proposed, but it is not final yet.")
    named_parties = (PartyId(receipt.record.charge_point_operator), PartyId(receipt.record.seller))
    if answers.parties != named_parties:
        return _refused(f"The statement is not one of {named_parties[0]} and {named_parties[1]}.")
    says = (
        f"Statement {statement.sequence} is final in book 0x{shown.book} on chain {shown.chain_id}: "
        f"{named_parties[0]} and {named_parties[1]} signed it, or one did and the other did not object in time, and "
        "neither can take it back."
    )
    return Finding(check=Check.CHAIN, verdict=Verdict.HOLDS, says=says)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedAnswers:
    """What an endpoint answered about a statement in confidential mode.

    Attributes:
        chain_id: The chain's own.
        is_final: What the receipt's book says of the opened hash, at a final block.
        parties: Registered CPO and MSP under the statement's numbers, in that book's registry.
    """

    chain_id: int
    is_final: bool
    parties: tuple[PartyId, PartyId] | None


def sealed_finding(receipt: Receipt, answers: SealedAnswers) -> Finding:
    """Return the `CHAIN` check of a receipt whose statement is sealed; see `chain_finding`."""
    shown = receipt.chain
    if answers.chain_id != shown.chain_id:
        return _refused(f"The endpoint is chain {answers.chain_id}; the receipt was settled on chain {shown.chain_id}.")
    if not answers.is_final:
        return _refused("The book holds no such statement with both signatures.")
    named_parties = (PartyId(receipt.record.charge_point_operator), PartyId(receipt.record.seller))
    if answers.parties != named_parties:
        return _refused(f"The statement is not one of {named_parties[0]} and {named_parties[1]}.")
    says = (
        f"Statement {receipt.statement.sequence} is final in confidential book 0x{shown.book} on chain "
        f"{shown.chain_id}: {named_parties[0]} and {named_parties[1]} both signed it, and neither can take it back."
    )
    return Finding(check=Check.CHAIN, verdict=Verdict.HOLDS, says=says)


def opened_call(receipt: Receipt, sealed: SealedShown) -> bytes:
    """Return the call that asks a confidential book about the receipt's statement. Raises `MalformedCall`."""
    words = (
        bytes.fromhex(receipt.statement.agreement),
        sealed.cpo,
        sealed.msp,
        receipt.place.count,
        receipt.statement.sequence,
        sealed.period_end,
        bytes.fromhex(receipt.statement.evidence_root),
        bytes.fromhex(sealed.amounts),
    )
    signatures = [bytes.fromhex(each) for each in (sealed.by_cpo, sealed.by_msp)]
    opening = (bytes.fromhex(sealed.salt), *map(contracts.signature_words, signatures))
    signers = signers_words({each.party: bytes.fromhex(each.address) for each in sealed.signers})
    place = (
        bytes.fromhex(receipt.chain.batch_id),
        receipt.chain.position,
        sealed.count,
        tuple(bytes.fromhex(each) for each in sealed.siblings),
        signers,
    )
    return contracts.IS_SEALED_STATEMENT_FINAL.call(words, opening, place)


def not_asked() -> Finding:
    """Return the `CHAIN` check when no endpoint was asked."""
    says = "No chain was asked, so whether the companies settled this statement is not shown here."
    return Finding(check=Check.CHAIN, verdict=Verdict.UNPROVEN, says=says)


def _is_bound(proposal: Proposal, batch: BatchState) -> bool:
    try:
        return pairs_hash(proposal.statements) == batch.pairs_hash
    except UnsuitableBatch:
        return False


def _refused(says: str) -> Finding:
    return Finding(check=Check.CHAIN, verdict=Verdict.REFUSED, says=says)
