"""What a settlement book is called with and what it answers, in the domain's own terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import MalformedCall
from emobility.domain.batch.statement import STATEMENTS_MAX, PairStatement
from emobility.domain.batch.typed_data import AgreementTerms, BookMode
from emobility.domain.identifiers import PartyId

REGISTRY_QUERY: Final = contracts.REGISTRY.call()
"""The call that asks a book for its registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """A party's word on a batch.

    Attributes:
        party: Its number in the registry.
        pairs: Bit i stands for the batch's statement i; of these only its own count.
        signature: Compact, over `typed_data.acceptance_digest`.
    """

    party: int
    pairs: int
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What was proposed together."""

    batch_id: bytes
    statements: tuple[PairStatement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedAgreement:
    """An agreement's name in its book, and the hash of the document that its parties signed."""

    agreement: bytes
    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """Where a batch stands; bit i of a set stands for its statement i. `pairs_hash` zero: there is none.

    What one side accepted is told until the pair is final.
    """

    pairs_hash: bytes
    final_pairs: int
    accepted_by_cpo: int = 0
    accepted_by_msp: int = 0

    def is_final(self, position: int) -> bool:
        """Whether the statement at this position is final."""
        return bool(self.final_pairs >> position & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementState:
    """Where an agreement stands in a book.

    Attributes:
        cpo: Number of the CPO in the registry.
        msp: Number of the MSP.
        mode: How obligations are met.
        credit_limit_e4: Most that the MSP may owe.
        last_sequence: Sequence of the last final statement, 0 before the first.
        discharges: Number of payments outside the chain.
        owed_e4: What the MSP owes on a credit line; below zero the CPO owes.
    """

    cpo: int
    msp: int
    mode: BookMode
    credit_limit_e4: int
    last_sequence: int
    discharges: int
    owed_e4: int


def propose_call(batch_id: bytes, statements: Sequence[PairStatement], acceptances: Iterable[Acceptance]) -> bytes:
    """Return the call that proposes a batch, with whatever acceptances there are."""
    return contracts.PROPOSE.call(batch_id, _words(statements), _accepted(acceptances))


def accept_call(batch_id: bytes, statements: Sequence[PairStatement], acceptances: Iterable[Acceptance]) -> bytes:
    """Return the call that adds acceptances to a batch; the statements go with it, because no book stores them."""
    return contracts.ACCEPT.call(batch_id, _words(statements), _accepted(acceptances))


def fund_call(batch_id: bytes, statements: Sequence[PairStatement]) -> bytes:
    """Return the call that tries again to make final what both sides accepted."""
    return contracts.FUND.call(batch_id, _words(statements))


def discharge_call(agreement: bytes, amount_e4: int, *, by_cpo: bytes, by_msp: bytes) -> bytes:
    """Return the call that lowers what is owed by what was paid, with both signatures of `discharge_digest`."""
    return contracts.DISCHARGE.call(agreement, amount_e4, _halves(by_cpo), _halves(by_msp))


def open_agreement_call(terms: AgreementTerms, *, by_cpo: bytes, by_msp: bytes) -> bytes:
    """Return the call that opens an agreement, with both parties' compact signatures of `agreement_digest`."""
    return contracts.OPEN_AGREEMENT.call(terms.words, _halves(by_cpo), _halves(by_msp))


def read_proposal(calldata: bytes) -> Proposal:
    """Read the call that proposed a batch. Raises `MalformedInput`."""
    batch_id, statements, _ = contracts.PROPOSE.arguments(calldata)
    if len(statements) > STATEMENTS_MAX:
        raise MalformedCall(f"{len(statements)} statements")
    return Proposal(batch_id=batch_id, statements=tuple(map(read_statement, statements)))


def read_opening(topics: Sequence[bytes], data: bytes) -> OpenedAgreement:
    """Read the event that tells of an agreement's opening. Raises `MalformedCall`."""
    agreement, _cpo, _msp, document, *_ = contracts.AGREEMENT_OPENED.told(topics, data)
    return OpenedAgreement(agreement=agreement, document=document)


def read_statement(words: tuple[bytes, bytes, bytes, int]) -> PairStatement:
    """Read a statement as it stands in a call. Raises `MalformedStatement`."""
    agreement, evidence_root, sum_root, figures = words
    return PairStatement.of_words(agreement=agreement, evidence_root=evidence_root, sum_root=sum_root, figures=figures)


def batch_query(batch_id: bytes) -> bytes:
    """Return the call that asks where a batch stands."""
    return contracts.BATCH.call(batch_id)


def read_batch(answer: bytes) -> BatchState:
    """Read the answer to `batch_query`. Raises `MalformedCall`."""
    ((pairs_hash, final_pairs, by_cpo, by_msp),) = contracts.BATCH.answer(answer)
    return BatchState(pairs_hash=pairs_hash, final_pairs=final_pairs, accepted_by_cpo=by_cpo, accepted_by_msp=by_msp)


def agreement_query(agreement: bytes) -> bytes:
    """Return the call that asks a book where an agreement stands; it reverts where none is open."""
    return contracts.AGREEMENT_STATE.call(agreement)


def read_agreement(answer: bytes) -> AgreementState:
    """Read the answer to `agreement_query`. Raises `MalformedCall`."""
    ((cpo, msp, mode, limit, last_sequence, discharges, owed),) = contracts.AGREEMENT_STATE.answer(answer)
    if mode not in set(BookMode):
        raise MalformedCall(f"{mode} is no mode")
    return AgreementState(
        cpo=cpo,
        msp=msp,
        mode=BookMode(mode),
        credit_limit_e4=limit,
        last_sequence=last_sequence,
        discharges=discharges,
        owed_e4=owed,
    )


def read_registry(answer: bytes) -> bytes:
    """Return the registry's address from the answer to `REGISTRY_QUERY`. Raises `MalformedCall`."""
    (address,) = contracts.REGISTRY.answer(answer)
    return bytes(address)


def party_query(number: int) -> bytes:
    """Return the call that asks the registry who has a number; it reverts where nobody has."""
    return contracts.PARTY.call(number)


def read_party(answer: bytes) -> PartyId:
    """Return the party from the answer to `party_query`. Raises `MalformedInput`."""
    ((country_code, party_id, *_),) = contracts.PARTY.answer(answer)
    return PartyId.of(country_code.decode("latin-1"), party_id.decode("latin-1"))


def statement_words(statement: PairStatement) -> tuple[bytes, bytes, bytes, int]:
    """Return a statement as it stands in a call."""
    return statement.agreement, statement.evidence_root, statement.sum_root, statement.figures


def _words(statements: Sequence[PairStatement]) -> tuple[tuple[bytes, bytes, bytes, int], ...]:
    return tuple(map(statement_words, statements))


def _accepted(acceptances: Iterable[Acceptance]) -> tuple[tuple[int, int, tuple[bytes, bytes]], ...]:
    return tuple((each.party, each.pairs, _halves(each.signature)) for each in acceptances)


def _halves(signature: bytes) -> tuple[bytes, bytes]:
    return signature[:32], signature[32:]
