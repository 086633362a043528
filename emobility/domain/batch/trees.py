"""The two trees of a pair's statement, and proofs that a leaf is in them.

The **evidence tree** has no sums: its proofs go to drivers and auditors. The **sum tree** adds up what is due and what
is credited; a proof in it shows amounts of neighbours, so it is for the two parties alone.

Both are positional: leaf i keeps its place, two neighbours make a node, and an odd last node moves up unchanged (never
doubled, which would let one leaf pass for two). A level's hashes are one byte string and its sums two arrays, so a
million leaves fit in 200 MB and are hashed in a few seconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import add
from struct import Struct, iter_unpack
from typing import Final

from emobility.domain.batch.hashing import (
    HASH_BYTES,
    LEAF_PREFIX,
    NODE_PREFIX,
    U64_MAX,
    keccak256,
    new_keccak256,
)
from emobility.domain.batch.leaf import Leaf, encode_evidence_leaf, encode_sum_leaf, in_order
from emobility.domain.errors import MalformedInput, RuleBroken

LEAVES_MAX: Final = 2**32 - 1
"""A statement counts its CDRs in 32 bits, so a proof has at most 32 siblings."""
SUM_NODE_BYTES: Final = HASH_BYTES + 16
"""Hash, due u64, credit u64."""
_encode_sum_pair: Final = Struct(">c32sQQ32sQQ").pack
"""Prefix, and two nodes."""


class MalformedProof(MalformedInput):
    """A proof has one sibling for each level at which its node has a neighbour, no more and no fewer."""


class SumOutOfRange(RuleBroken):
    """What a statement sums up fits its field: 64 bits each for due and credit."""

    def __init__(self, *, due_e4: int, credit_e4: int) -> None:
        self.due_e4 = due_e4
        self.credit_e4 = credit_e4
        super().__init__(f"due {due_e4} and credit {credit_e4} ten-thousandths do not fit 64 bits each")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Where a leaf stands and what it meets on the way up. `count` is that of the statement, never of the prover.

    A sibling of an evidence proof is a hash; one of a sum proof is `SUM_NODE_BYTES` long.
    """

    index: int
    count: int
    siblings: tuple[bytes, ...]

    @property
    def packed(self) -> bytes:
        """The siblings as a contract takes those of a sum proof, one after the other."""
        return b"".join(self.siblings)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumNode:
    """A node of the sum tree: its hash and what the leaves below it add up to."""

    hash: bytes
    due_e4: int
    credit_e4: int

    @property
    def encoded(self) -> bytes:
        """The node as its parent hashes it."""
        return self.hash + self.due_e4.to_bytes(8, "big") + self.credit_e4.to_bytes(8, "big")

    @classmethod
    def of(cls, encoded: bytes) -> SumNode:
        """Read what `encoded` wrote."""
        due, credit = encoded[HASH_BYTES:40], encoded[40:]
        return cls(
            hash=encoded[:HASH_BYTES], due_e4=int.from_bytes(due, "big"), credit_e4=int.from_bytes(credit, "big")
        )


class HashTree:
    """A tree without sums over given hashes; also that over the statements of a batch."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        """Build it over at least one hash, in the order given."""
        self.count: Final = len(hashes)
        self._levels: Final = _hash_levels(hashes)

    @property
    def root(self) -> bytes:
        """Its root; says nothing of the count."""
        return self._levels[-1]

    def proof(self, index: int) -> Proof:
        """Return the proof of the hash at `index`."""
        places = _neighbours(index, self.count, len(self._levels))
        hashes = (_hash_at(level, place) for level, place in zip(self._levels, places, strict=True))
        return Proof(index=index, count=self.count, siblings=tuple(each for each in hashes if each))


class StatementTrees:
    """Both trees over the CDRs of one pair and period."""

    def __init__(self, leaves: Iterable[Leaf]) -> None:
        """Build them.

        Args:
            leaves: In any order.

        Raises:
            DuplicateLeaf: a CDR is there twice.
            EmptyStatement: there is none.
            SumOutOfRange: due or credit of all does not fit 64 bits.
        """
        self.leaves: Final = in_order(leaves)
        hashes = [
            new_keccak256(
                encode_evidence_leaf(
                    LEAF_PREFIX, leaf.kind, leaf.cdr_key, leaf.import_wh, leaf.export_wh, leaf.commitment, leaf.meter
                )
            ).digest()
            for leaf in self.leaves
        ]
        self.evidence: Final = HashTree(hashes)
        self._sums: Final = _sum_levels(hashes, self.leaves)
        self.sum_root: Final = self._sums[-1].node(0)

    @property
    def evidence_root(self) -> bytes:
        """The root for drivers and auditors."""
        return self.evidence.root

    @property
    def count(self) -> int:
        """How many CDRs there are."""
        return len(self.leaves)

    def evidence_proof(self, index: int) -> Proof:
        """Return the proof of the leaf at `index`, for anyone it concerns."""
        return self.evidence.proof(index)

    def sum_proof(self, index: int) -> Proof:
        """Return the proof of the leaf's amounts: for the pair's eyes only."""
        places = _neighbours(index, self.count, len(self._sums))
        there = ((level, place) for level, place in zip(self._sums, places, strict=True) if place < len(level))
        return Proof(index=index, count=self.count, siblings=tuple(level.node(place).encoded for level, place in there))


def proven_root(leaf: bytes, proof: Proof) -> bytes:
    """Return the root of the `HashTree` that a leaf's hash leads to; equal to the known one, it proves the leaf.

    Raises:
        MalformedProof: too many siblings, too few, or not hashes.
    """
    node = leaf
    for sibling, is_left in _path(proof, HASH_BYTES):
        node = keccak256(NODE_PREFIX + (sibling + node if is_left else node + sibling))
    return node


def proven_sum_root(evidence_leaf: bytes, proof: Proof, *, due_e4: int, credit_e4: int) -> SumNode:
    """Return the sum root that the leaf with these amounts leads to: compare its hash and both sums.

    Raises:
        MalformedProof: too many siblings, too few, or not nodes.
        SumOutOfRange: a sibling states sums that overflow; no true one does.
    """
    if not (0 <= due_e4 <= U64_MAX and 0 <= credit_e4 <= U64_MAX):
        raise SumOutOfRange(due_e4=due_e4, credit_e4=credit_e4)
    hashed = keccak256(encode_sum_leaf(LEAF_PREFIX, evidence_leaf, due_e4, credit_e4))
    node = SumNode(hash=hashed, due_e4=due_e4, credit_e4=credit_e4)
    for encoded, is_left in _path(proof, SUM_NODE_BYTES):
        sibling = SumNode.of(encoded)
        left, right = (sibling, node) if is_left else (node, sibling)
        due_e4, credit_e4 = left.due_e4 + right.due_e4, left.credit_e4 + right.credit_e4
        if max(due_e4, credit_e4) > U64_MAX:
            raise SumOutOfRange(due_e4=due_e4, credit_e4=credit_e4)
        node = SumNode(hash=keccak256(NODE_PREFIX + left.encoded + right.encoded), due_e4=due_e4, credit_e4=credit_e4)
    return node


def _path(proof: Proof, node_bytes: int) -> Iterable[tuple[bytes, bool]]:
    """Yield each sibling and whether it stands left."""
    index, width = proof.index, proof.count
    if not 0 <= index < width <= LEAVES_MAX:
        raise MalformedProof(f"there is no leaf {index} of {width}")
    siblings = iter(proof.siblings)
    while width > 1:
        if index ^ 1 < width:
            sibling = next(siblings, b"")
            if len(sibling) != node_bytes:
                raise MalformedProof(f"a sibling is missing or has not {node_bytes} bytes")
            yield sibling, bool(index & 1)
        index, width = index // 2, (width + 1) // 2
    if next(siblings, None) is not None:
        raise MalformedProof("there are more siblings than levels")


def _neighbours(index: int, count: int, height: int) -> list[int]:
    """Return where the neighbour of each node on the way up would stand."""
    if not 0 <= index < count:
        raise IndexError(f"there is no leaf {index} of {count}")
    return [(index >> level) ^ 1 for level in range(height)]


def _hash_at(level: bytes, place: int) -> bytes:
    """Return a level's hash at a place; nothing beyond its end."""
    return level[place * HASH_BYTES : (place + 1) * HASH_BYTES]


@dataclass(frozen=True, slots=True)
class _SumLevel:
    """Nodes of one height, column by column: a node is put together only where it is asked for."""

    hashes: bytes
    due_e4: array[int]
    credit_e4: array[int]

    def __len__(self) -> int:
        return len(self.due_e4)

    def node(self, place: int) -> SumNode:
        """Return the node at a place."""
        hashed = _hash_at(self.hashes, place)
        return SumNode(hash=hashed, due_e4=self.due_e4[place], credit_e4=self.credit_e4[place])


def _hash_levels(hashes: Sequence[bytes]) -> list[bytes]:
    levels = [b"".join(hashes)]
    while len(levels[-1]) > HASH_BYTES:
        even = len(levels[-1]) // (2 * HASH_BYTES) * 2 * HASH_BYTES
        pairs, odd = levels[-1][:even], levels[-1][even:]
        parents = [new_keccak256(NODE_PREFIX + pair).digest() for (pair,) in iter_unpack("64s", pairs)]
        levels.append(b"".join(parents) + odd)
    return levels


def _sum_levels(evidence: Sequence[bytes], leaves: Sequence[Leaf]) -> list[_SumLevel]:
    due, credit = [leaf.due_e4 for leaf in leaves], [leaf.credit_e4 for leaf in leaves]
    if max(sum(due), sum(credit)) > U64_MAX:
        raise SumOutOfRange(due_e4=sum(due), credit_e4=sum(credit))
    preimages = map(encode_sum_leaf, repeat(LEAF_PREFIX), evidence, due, credit)
    hashes = [new_keccak256(preimage).digest() for preimage in preimages]
    levels = [_SumLevel(b"".join(hashes), array("Q", due), array("Q", credit))]
    while len(hashes) > 1:
        paired = len(hashes) & ~1
        left, right = (hashes[::2], due[::2], credit[::2]), (hashes[1::2], due[1::2], credit[1::2])
        preimages = map(_encode_sum_pair, repeat(NODE_PREFIX), *left, *right)  # ends before an odd last node
        hashes = [new_keccak256(preimage).digest() for preimage in preimages] + hashes[paired:]
        due = [*map(add, left[1], right[1]), *due[paired:]]
        credit = [*map(add, left[2], right[2]), *credit[paired:]]
        levels.append(_SumLevel(b"".join(hashes), array("Q", due), array("Q", credit)))
    return levels
