"""What a settlement book is called with and what it answers, in the domain's own terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import MalformedCall
from emobility.domain.batch.statement import AGREEMENT_BYTES, STATEMENTS_MAX, BookedStatement, Statement
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
    statements: tuple[BookedStatement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedAgreement:
    """An agreement's name in its book, the hash of the document that its parties signed, and its terms at first."""

    agreement: bytes
    document: bytes
    mode: int
    credit_limit_e4: int
    payment_term_s: int

    @property
    def terms(self) -> tuple[bytes, int, int, int]:
        """What one of the same agreement has in common, whatever its deadline was."""
        return self.document, self.mode, self.credit_limit_e4, self.payment_term_s


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """Where a batch stands; bit i of a set stands for its statement i. `pairs_hash` zero: there is none.

    Attributes:
        open_pairs: Not final; all others of the batch are, unless they are void.
        accepted_by_cpo: Open ones that their CPO accepted; likewise by their MSP.
        ripening: Open ones that count as accepted by both from `due_at_s` (unix seconds), unless challenged before.
        challenged: Open ones that wait for a verdict.
        void_pairs: Taken out by a verdict.
    """

    pairs_hash: bytes
    open_pairs: int = 0
    accepted_by_cpo: int = 0
    accepted_by_msp: int = 0
    ripening: int = 0
    challenged: int = 0
    void_pairs: int = 0
    due_at_s: int = 0

    def is_final(self, position: int) -> bool:
        """Whether the statement at this position, which must be one of the batch's, is final."""
        return any(self.pairs_hash) and not (self.open_pairs | self.void_pairs) >> position & 1

    def is_ripe(self, position: int, at_s: int) -> bool:
        """Whether a statement that one side accepted counts as accepted by both at a moment (unix seconds)."""
        return bool(self.ripening >> position & 1) and at_s >= self.due_at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementState:
    """Where an agreement stands in a book.

    Attributes:
        agreement_id: Struct hash of its terms.
        cpo: Number of the CPO in the registry.
        msp: Number of the MSP.
        mode: How obligations are met.
        has_ended: No statement becomes final any more.
        credit_limit_e4: Most that the MSP may owe; under a guarantee what is reserved.
        last_sequence: Sequence of the last final statement, 0 before the first.
        discharges: Number of payments outside the chain.
        owed_e4: What the MSP owes, unless it is prefunded; below zero the CPO owes.
        corrected_e4: Verdicts that wait for the next statement, likewise.
        payment_term_s: How long the MSP has to pay before its guarantee is called.
        ends_at_s: From when a notice ends it (unix seconds); 0: nobody gave notice.
    """

    agreement_id: bytes = bytes(32)
    cpo: int
    msp: int
    mode: BookMode
    has_ended: bool = False
    credit_limit_e4: int
    last_sequence: int
    discharges: int
    owed_e4: int
    corrected_e4: int = 0
    payment_term_s: int = 0
    ends_at_s: int = 0


def propose_call(batch_id: bytes, statements: Sequence[Statement], acceptances: Iterable[Acceptance]) -> bytes:
    """Return the call that proposes a batch, with whatever acceptances there are."""
    return contracts.PROPOSE.call(batch_id, _words(statements), _accepted(acceptances))


def accept_call(batch_id: bytes, statements: Sequence[Statement], acceptances: Iterable[Acceptance]) -> bytes:
    """Return the call that adds acceptances to a batch; the statements go with it, because no book stores them."""
    return contracts.ACCEPT.call(batch_id, _words(statements), _accepted(acceptances))


def fund_call(batch_id: bytes, statements: Sequence[Statement]) -> bytes:
    """Return the call that tries again to make final what both sides accepted."""
    return contracts.FUND.call(batch_id, _words(statements))


def discharge_call(agreement: bytes, amount_e4: int, *, by_cpo: bytes, by_msp: bytes) -> bytes:
    """Return the call that lowers what is owed by what was paid, with both signatures of `discharge_digest`."""
    return contracts.DISCHARGE.call(key_number(agreement), amount_e4, *map(contracts.signature_words, (by_cpo, by_msp)))


def guarantee_call(agreement: bytes, sequence: int, amount_e4: int) -> bytes:
    """Return the call by which a CPO takes what is overdue through a statement; only its own account may send it."""
    return contracts.CALL_GUARANTEE.call(key_number(agreement), sequence, amount_e4)


def open_agreement_call(terms: AgreementTerms, *, by_cpo: bytes, by_msp: bytes) -> bytes:
    """Return the call that opens an agreement, with both parties' compact signatures of `agreement_digest`."""
    return contracts.OPEN_AGREEMENT.call(terms.words, *map(contracts.signature_words, (by_cpo, by_msp)))


def read_proposal(calldata: bytes) -> Proposal:
    """Read the call that proposed a batch. Raises `MalformedInput`."""
    batch_id, statements, _ = contracts.PROPOSE.arguments(calldata)
    if len(statements) > STATEMENTS_MAX:
        raise MalformedCall(f"{len(statements)} statements")
    return Proposal(batch_id=batch_id, statements=tuple(map(read_statement, statements)))


def read_opening(topics: Sequence[bytes], data: bytes) -> OpenedAgreement:
    """Read the event that tells of an agreement's opening. Raises `MalformedCall`."""
    agreement, _id, document, mode, limit, term_s = contracts.AGREEMENT_OPENED.told(topics, data)
    return OpenedAgreement(
        agreement=agreement.to_bytes(AGREEMENT_BYTES, "big"),
        document=document,
        mode=mode,
        credit_limit_e4=limit,
        payment_term_s=term_s,
    )


def read_statement(words: tuple[int, bytes]) -> BookedStatement:
    """Read a statement as it stands in a call. Raises `MalformedStatement`."""
    return BookedStatement.of_words(*words)


def batch_query(batch_id: bytes) -> bytes:
    """Return the call that asks where a batch stands."""
    return contracts.BATCH.call(batch_id)


def read_batch(answer: bytes) -> BatchState:
    """Read the answer to `batch_query`. Raises `MalformedCall`."""
    ((pairs_hash, open_pairs, by_cpo, by_msp, ripening, challenged, void, due_at_s),) = contracts.BATCH.answer(answer)
    return BatchState(
        pairs_hash=pairs_hash,
        open_pairs=open_pairs,
        accepted_by_cpo=by_cpo,
        accepted_by_msp=by_msp,
        ripening=ripening,
        challenged=challenged,
        void_pairs=void,
        due_at_s=due_at_s,
    )


def agreement_query(agreement: bytes) -> bytes:
    """Return the call that asks a book where an agreement stands; it reverts where none is open."""
    return contracts.AGREEMENT_STATE.call(key_number(agreement))


def read_agreement(answer: bytes) -> AgreementState:
    """Read the answer to `agreement_query`. Raises `MalformedCall`."""
    ((agreement_id, cpo, msp, mode, has_ended, limit, last, discharges, owed, corrected, term_s, ends_at_s),) = (
        contracts.AGREEMENT_STATE.answer(answer)
    )
    if mode not in set(BookMode):
        raise MalformedCall(f"{mode} is no mode")
    return AgreementState(
        agreement_id=agreement_id,
        cpo=cpo,
        msp=msp,
        mode=BookMode(mode),
        has_ended=bool(has_ended),
        credit_limit_e4=limit,
        last_sequence=last,
        discharges=discharges,
        owed_e4=owed,
        corrected_e4=corrected,
        payment_term_s=term_s,
        ends_at_s=ends_at_s,
    )


def key_number(agreement: bytes) -> int:
    """Return an agreement's key as the contract counts it."""
    return int.from_bytes(agreement, "big")


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


def statement_words(statement: Statement) -> tuple[int, bytes]:
    """Return a statement as it stands in a call."""
    return statement.figures, statement.roots


def _words(statements: Sequence[Statement]) -> tuple[tuple[int, bytes], ...]:
    return tuple(map(statement_words, statements))


def _accepted(acceptances: Iterable[Acceptance]) -> tuple[tuple[int, int, tuple[bytes, bytes]], ...]:
    return tuple((each.party, each.pairs, contracts.signature_words(each.signature)) for each in acceptances)
