"""The statement of a pair for a period, and what binds the statements of a batch together.

Byte for byte as `settlement_contracts/src/types/PairStatement.sol` and `PairFigures.sol` have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from emobility.domain.batch.hashing import HASH_BYTES, U64_MAX, keccak256
from emobility.domain.batch.trees import HashTree, StatementTrees
from emobility.domain.errors import MalformedInput, RuleBroken

PAIR_STATEMENT_TYPE: Final = "PairStatement(bytes32 agreement,bytes32 evidenceRoot,bytes32 sumRoot,uint256 figures)"
STATEMENTS_MAX: Final = 256
"""As many as a contract's `PairSet` has places."""
_TYPE_HASH: Final = keccak256(PAIR_STATEMENT_TYPE.encode())
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


class MalformedStatement(MalformedInput):
    """A statement has three hashes, at least one CDR, a sequence from 1, and figures that fit their fields."""


class UnsuitableBatch(RuleBroken):
    """A batch holds 1 to `STATEMENTS_MAX` statements, each agreement once, in ascending order of agreement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStatement:
    """What a CPO and an MSP say together of one period; amounts in ten-thousandths of the agreement's currency.

    Attributes:
        agreement: Id of the agreement in the book, see `typed_data.agreement_id`.
        evidence_root: Root of the evidence tree over the period's CDRs.
        sum_root: Hash of the sum tree's root; its sums are `due_e4` and `credit_e4`.
        due_e4: What the MSP owes the CPO.
        credit_e4: What the CPO owes the MSP.
        count: Number of CDRs.
        sequence: Place among the agreement's statements, from 1; the book makes them final in this order.
        period_end: End of the period, excluded, in whole seconds.
    """

    agreement: bytes
    evidence_root: bytes
    sum_root: bytes
    due_e4: int
    credit_e4: int
    count: int
    sequence: int
    period_end: datetime

    def __post_init__(self) -> None:
        if any(len(hashed) != HASH_BYTES for hashed in (self.agreement, self.evidence_root, self.sum_root)):
            raise MalformedStatement("a hash of a statement has not 32 bytes")
        if not (0 <= self.due_e4 <= U64_MAX and 0 <= self.credit_e4 <= U64_MAX):
            raise MalformedStatement("due or credit is not an unsigned 64-bit integer")
        if not (1 <= self.count < 2**32 and 1 <= self.sequence < 2**32):
            raise MalformedStatement("count and sequence go from 1 to 4,294,967,295")
        if not 0 <= (self.period_end - _EPOCH) // _SECOND < 2**40 or self.period_end.microsecond:
            raise MalformedStatement("a period ends at a whole second after 1970")

    @property
    def net_e4(self) -> int:
        """What the MSP owes the CPO on balance."""
        return self.due_e4 - self.credit_e4

    @property
    def figures(self) -> int:
        """The figures in one word, highest bits first: due u64, credit u64, count u32, sequence u32, end u40."""
        period_end_s = (self.period_end - _EPOCH) // _SECOND
        return self.due_e4 << 168 | self.credit_e4 << 104 | self.count << 72 | self.sequence << 40 | period_end_s

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 struct hash."""
        return struct_hash_of(self.agreement, self.evidence_root, self.sum_root, self.figures)

    @classmethod
    def of_words(cls, *, agreement: bytes, evidence_root: bytes, sum_root: bytes, figures: int) -> PairStatement:
        """Read a statement as the contract has it. Raises `MalformedStatement`."""
        if not 0 <= figures < 2**232:
            raise MalformedStatement("bits are set that mean nothing")
        return cls(
            agreement=agreement,
            evidence_root=evidence_root,
            sum_root=sum_root,
            due_e4=figures >> 168,
            credit_e4=figures >> 104 & U64_MAX,
            count=figures >> 72 & 0xFFFF_FFFF,
            sequence=figures >> 40 & 0xFFFF_FFFF,
            period_end=_moment(figures & 0xFF_FFFF_FFFF),
        )


def struct_hash_of(agreement: bytes, evidence_root: bytes, sum_root: bytes, figures: int) -> bytes:
    """Return the EIP-712 struct hash of a statement's words, whatever they say."""
    return keccak256(_TYPE_HASH + agreement + evidence_root + sum_root + figures.to_bytes(32, "big"))


def statement_of(trees: StatementTrees, *, agreement: bytes, sequence: int, period_end: datetime) -> PairStatement:
    """Return the statement over these CDRs.

    Args:
        trees: Over all CDRs of the pair accepted in the period.
        agreement: The agreement's id in the book.
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


def batch_tree(statements: Sequence[PairStatement]) -> HashTree:
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


def pairs_hash(statements: Sequence[PairStatement]) -> bytes:
    """Return what the signatures of a batch bind. Raises `UnsuitableBatch`."""
    tree = batch_tree(statements)
    # The count is in it, because a place proved against a root alone may be claimed under another count.
    return keccak256(tree.root + tree.count.to_bytes(32, "big"))


def _moment(seconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError as error:
        raise MalformedStatement(f"{seconds} s after 1970 is no moment") from error
