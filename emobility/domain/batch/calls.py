"""What a book is called with and what it answers, as far as a verifier needs it: no library, bytes in and bytes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.statement import STATEMENTS_MAX, PairStatement
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId

PROPOSE: Final = keccak256(
    b"propose(bytes32,(bytes32,bytes32,bytes32,uint256)[],(uint32,uint256,(bytes32,bytes32))[])"
)[:4]
BATCH: Final = keccak256(b"batch(bytes32)")[:4]
AGREEMENT_STATE: Final = keccak256(b"agreementState(bytes32)")[:4]
REGISTRY: Final = keccak256(b"registry()")[:4]
PARTY: Final = keccak256(b"party(uint32)")[:4]
_WORD: Final = 32
_STATEMENT_WORDS: Final = 4


class NotOfABook(MalformedInput):
    """Bytes that should be a book's call or answer are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What was proposed together."""

    batch_id: bytes
    statements: tuple[PairStatement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """Where a batch stands; bit i of `final_pairs` stands for its statement i. `pairs_hash` zero: there is none."""

    pairs_hash: bytes
    final_pairs: int

    def is_final(self, position: int) -> bool:
        """Whether the statement at this position is final."""
        return bool(self.final_pairs >> position & 1)


def read_proposal(calldata: bytes) -> Proposal:
    """Read the call that proposed a batch. Raises `MalformedInput`."""
    if calldata[:4] != PROPOSE:
        raise NotOfABook("it proposes no batch")
    arguments = calldata[4:]
    at = _number(arguments, _WORD)
    count = _number(arguments, at)
    if count > STATEMENTS_MAX:
        raise NotOfABook(f"{count} statements")
    starts = (at + _WORD * (1 + _STATEMENT_WORDS * place) for place in range(count))
    return Proposal(batch_id=_word(arguments, 0), statements=tuple(_statement(arguments, start) for start in starts))


def batch_query(batch_id: bytes) -> bytes:
    """Return the call that asks where a batch stands."""
    return BATCH + batch_id


def read_batch(answer: bytes) -> BatchState:
    """Read the answer to `batch_query`. Raises `NotOfABook`."""
    return BatchState(pairs_hash=_word(answer, 0), final_pairs=_number(answer, _WORD))


def agreement_query(agreement: bytes) -> bytes:
    """Return the call that asks a book who is party to an agreement."""
    return AGREEMENT_STATE + agreement


def read_agreement(answer: bytes) -> tuple[int, int]:
    """Return the numbers of CPO and MSP from the answer to `agreement_query`. Raises `NotOfABook`."""
    return _number(answer, 0), _number(answer, _WORD)


def read_registry(answer: bytes) -> bytes:
    """Return the registry's address from the answer to `REGISTRY`. Raises `NotOfABook`."""
    return _word(answer, 0)[12:]


def party_query(number: int) -> bytes:
    """Return the call that asks the registry who has a number."""
    return PARTY + number.to_bytes(_WORD, "big")


def read_party(answer: bytes) -> PartyId:
    """Return the party from the answer to `party_query`. Raises `MalformedInput`."""
    country_code, party_id = _word(answer, 0)[:2], _word(answer, _WORD)[:3]
    return PartyId.of(country_code.decode("latin-1"), party_id.decode("latin-1"))


def _statement(arguments: bytes, at: int) -> PairStatement:
    agreement, evidence_root, sum_root = (_word(arguments, at + _WORD * place) for place in range(3))
    return PairStatement.of_words(
        agreement=agreement,
        evidence_root=evidence_root,
        sum_root=sum_root,
        figures=_number(arguments, at + 3 * _WORD),
    )


def _word(data: bytes, at: int) -> bytes:
    word = data[at : at + _WORD]
    if len(word) != _WORD:
        raise NotOfABook("it ends too early")
    return word


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(_word(data, at), "big")
