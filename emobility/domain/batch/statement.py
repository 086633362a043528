"""The statement of a pair for a period, and what binds the statements of a batch together.

Byte for byte as `settlement_contracts/src/types/PairStatement.sol`, `PairFigures.sol` and `AgreementKey.sol` have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from emobility.domain.batch.hashing import HASH_BYTES, bound, keccak256
from emobility.domain.batch.trees import HashTree, StatementTrees
from emobility.domain.errors import MalformedInput, RuleBroken

PAIR_STATEMENT_TYPE: Final = "PairStatement(uint256 figures,bytes32 roots)"
STATEMENTS_MAX: Final = 256
"""As many as a contract's `PairSet` has places."""
AGREEMENT_BYTES: Final = 8
"""An agreement's key in its book, see `typed_data.agreement_key`."""
STATED_E4_MAX: Final = 2**56 - 1
"""Most that a statement's due or credit can be."""
_TYPE_HASH: Final = keccak256(PAIR_STATEMENT_TYPE.encode())
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_U24: Final = 2**24 - 1


class MalformedStatement(MalformedInput):
    """A statement has two hashes, an agreement, at least one CDR, a sequence from 1, and figures that fit."""


class UnsuitableBatch(RuleBroken):
    """A batch holds 1 to `STATEMENTS_MAX` statements, each agreement once, in ascending order of agreement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFigures:
    """What a statement says in numbers; amounts in ten-thousandths of the book's currency.

    Attributes:
        agreement: Key of the agreement in the book; it names both parties.
        due_e4: What the MSP owes the CPO.
        credit_e4: What the CPO owes the MSP.
        count: Number of CDRs.
        sequence: Place among the agreement's statements, from 1; the book makes them final in this order.
        period_end: End of the period, excluded, in whole seconds.
    """

    agreement: bytes
    due_e4: int
    credit_e4: int
    count: int
    sequence: int
    period_end: datetime

    def __post_init__(self) -> None:
        if len(self.agreement) != AGREEMENT_BYTES:
            raise MalformedStatement(f"an agreement's key has {AGREEMENT_BYTES} bytes")
        if not (0 <= self.due_e4 <= STATED_E4_MAX and 0 <= self.credit_e4 <= STATED_E4_MAX):
            raise MalformedStatement("due or credit is not an unsigned 56-bit integer")
        if not (1 <= self.count <= _U24 and 1 <= self.sequence <= _U24):
            raise MalformedStatement("count and sequence go from 1 to 16,777,215")
        if not 0 <= (self.period_end - _EPOCH) // _SECOND < 2**32 or self.period_end.microsecond:
            raise MalformedStatement("a period ends at a whole second from 1970 to 2106")

    @property
    def net_e4(self) -> int:
        """What the MSP owes the CPO on balance."""
        return self.due_e4 - self.credit_e4

    @property
    def figures(self) -> int:
        """All in one word, highest bits first: agreement u64, due and credit u56, count and sequence u24, end u32."""
        agreement, end_s = int.from_bytes(self.agreement, "big"), (self.period_end - _EPOCH) // _SECOND
        amounts = agreement << 192 | self.due_e4 << 136 | self.credit_e4 << 80
        return amounts | self.count << 56 | self.sequence << 32 | end_s


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedStatement(StatementFigures):
    """A statement as it stands in a call of the book. `roots`: `roots_hash` of its two roots."""

    roots: bytes

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 struct hash."""
        return struct_hash_of(self.figures, self.roots)

    @classmethod
    def of_words(cls, figures: int, roots: bytes) -> BookedStatement:
        """Read a statement as the contract has it. Raises `MalformedStatement`."""
        return cls(
            agreement=(figures >> 192).to_bytes(AGREEMENT_BYTES, "big"),
            due_e4=figures >> 136 & STATED_E4_MAX,
            credit_e4=figures >> 80 & STATED_E4_MAX,
            count=figures >> 56 & _U24,
            sequence=figures >> 32 & _U24,
            period_end=_EPOCH + timedelta(seconds=figures & 0xFFFF_FFFF),
            roots=roots,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStatement(StatementFigures):
    """What a CPO and an MSP say together of one period.

    Attributes:
        evidence_root: Root of the evidence tree over the period's CDRs.
        sum_root: Hash of the sum tree's root; its sums are `due_e4` and `credit_e4`.
    """

    evidence_root: bytes
    sum_root: bytes

    def __post_init__(self) -> None:
        if any(len(hashed) != HASH_BYTES for hashed in (self.evidence_root, self.sum_root)):
            raise MalformedStatement("a hash of a statement has not 32 bytes")
        StatementFigures.__post_init__(self)

    @property
    def roots(self) -> bytes:
        """What binds both roots."""
        return roots_hash(self.evidence_root, self.sum_root)

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 struct hash."""
        return struct_hash_of(self.figures, self.roots)

    @property
    def booked(self) -> BookedStatement:
        """The statement as it stands in a call of the book."""
        return BookedStatement.of_words(self.figures, self.roots)


Statement: TypeAlias = PairStatement | BookedStatement


def roots_hash(evidence_root: bytes, sum_root: bytes) -> bytes:
    """Return what binds a statement's two roots."""
    return keccak256(evidence_root + sum_root)


def struct_hash_of(figures: int, roots: bytes) -> bytes:
    """Return the EIP-712 struct hash of a statement's words, whatever they say."""
    return keccak256(_TYPE_HASH + figures.to_bytes(32, "big") + roots)


def statement_of(trees: StatementTrees, *, agreement: bytes, sequence: int, period_end: datetime) -> PairStatement:
    """Return the statement over these CDRs.

    Args:
        trees: Over all CDRs of the pair accepted in the period.
        agreement: The agreement's key in the book.
        sequence: One more than that of the statement before.
        period_end: End of the period, excluded.

    Raises:
        MalformedStatement: a figure does not fit its field.
    """
    return PairStatement(
        agreement=agreement,
        evidence_root=trees.evidence_root,
        sum_root=trees.sum_root.hash,
        due_e4=trees.sum_root.due_e4,
        credit_e4=trees.sum_root.credit_e4,
        count=trees.count,
        sequence=sequence,
        period_end=period_end,
    )


def batch_tree(statements: Sequence[Statement]) -> HashTree:
    """Return the tree over a batch's statements, for proofs of a statement's place.

    Raises:
        UnsuitableBatch: too many, none, or not ascending by agreement.
    """
    if not 1 <= len(statements) <= STATEMENTS_MAX:
        raise UnsuitableBatch(f"a batch holds 1 to {STATEMENTS_MAX} statements, not {len(statements)}")
    agreements = [statement.agreement for statement in statements]
    if agreements != sorted(set(agreements)):
        raise UnsuitableBatch("a batch has each agreement once, in ascending order")
    return HashTree([statement.struct_hash for statement in statements])


def pairs_hash(statements: Sequence[Statement]) -> bytes:
    """Return what the signatures of a batch bind. Raises `UnsuitableBatch`."""
    tree = batch_tree(statements)
    return bound(tree.root, tree.count)
