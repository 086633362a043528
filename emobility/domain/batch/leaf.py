"""One accepted CDR as a leaf of its pair's two trees.

The key hides the CDR's id from everyone but the pair; the commitment stands for what the driver's receipt shows. So
the evidence leaf can go round with a receipt, while what was owed stands only in the sum leaf, for the two parties.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import islice, pairwise
from operator import attrgetter, lt
from struct import Struct
from typing import Final

from emobility.domain.batch.hashing import HASH_BYTES, LEAF_PREFIX, U64_MAX, keccak256
from emobility.domain.cdr import CDR, CDRFigures
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId

PAIR_SECRET_BYTES: Final = 32
PAIRS_KEPT: Final = 1_000
NO_METER: Final = bytes(HASH_BYTES)
"""Of a charge whose meter signs nothing."""
encode_evidence_leaf: Final = Struct(">cB32sQQ32s32s").pack
"""Prefix, kind, CDR key, import Wh, export Wh, commitment, meter."""
_encode_meterless_leaf: Final = Struct(">cB32sQQ32s").pack
encode_sum_leaf: Final = Struct(">c32sQQ").pack
"""Prefix, evidence leaf, due, credit."""


class MalformedLeaf(MalformedInput):
    """A leaf's hashes have 32 bytes, its numbers fit 64 bits, and it states due or credit, not both."""


class DuplicateLeaf(RuleBroken):
    """A CDR stands in a statement once."""

    def __init__(self, *, cdr_key: bytes) -> None:
        self.cdr_key = cdr_key
        super().__init__(f"the CDR with the key {cdr_key.hex()} is there twice")


class EmptyStatement(RuleBroken):
    """A statement has at least one CDR."""

    def __init__(self) -> None:
        super().__init__("a statement without CDRs can't be made")


class LeafKind(IntEnum):
    """Whether a leaf's Wh count up or, in a credit CDR, with a minus sign."""

    CHARGE = 0
    CREDIT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A CDR in a statement. Energy in Wh; amounts in ten-thousandths of the statement's currency, wholesale.

    Attributes:
        cdr_key: See `cdr_key_of`.
        commitment: To the evidence record, see `hashing.commitment`.
        meter: Of a charge the commitment to its signed meter record (`meter.meter_commitment`), else `NO_METER`; of a
            credit the key of the charge that it takes back, so that no dispute takes back the same again.
        due_e4: What the MSP owes the CPO; a credit CDR of a charge with a negative cost has it, too.
        credit_e4: What the CPO owes the MSP.
    """

    kind: LeafKind
    cdr_key: bytes
    import_wh: int
    export_wh: int
    commitment: bytes
    meter: bytes
    due_e4: int
    credit_e4: int

    def __post_init__(self) -> None:
        if not len(self.cdr_key) == len(self.commitment) == len(self.meter) == HASH_BYTES:
            raise MalformedLeaf("a CDR key and a commitment have 32 bytes")
        smallest = min(self.import_wh, self.export_wh, self.due_e4, self.credit_e4)
        if smallest < 0 or max(self.import_wh, self.export_wh, self.due_e4, self.credit_e4) > U64_MAX:
            raise MalformedLeaf("a number of a leaf is not an unsigned 64-bit integer")
        if self.due_e4 and self.credit_e4:
            raise MalformedLeaf("a leaf states what is due or what is credited, not both")

    @property
    def net_e4(self) -> int:
        """What the MSP owes for this CDR; negative where the CPO does."""
        return self.due_e4 - self.credit_e4

    @property
    def evidence_hash(self) -> bytes:
        """The hash under which it stands in the evidence tree."""
        return evidence_hash(
            kind=self.kind,
            cdr_key=self.cdr_key,
            import_wh=self.import_wh,
            export_wh=self.export_wh,
            commitment=self.commitment,
            meter=self.meter,
        )


def cdr_key_of(cpo_id: PartyId, cdr_id: str, *, pair_secret: bytes) -> bytes:
    """Return the CDR's name in the trees: HMAC-SHA256, because ids are guessable and a bare hash would tell them.

    Args:
        cpo_id: The CPO that issued it.
        cdr_id: Its id there.
        pair_secret: `PAIR_SECRET_BYTES` random bytes that only the agreement's two parties know.
    """
    code = cpo_id.code
    mac = _keyed(pair_secret).copy()
    mac.update(f"{code[:2]}{code[3:]}/{cdr_id}".encode())
    return mac.digest()


@lru_cache(PAIRS_KEPT)
def _keyed(pair_secret: bytes) -> hmac.HMAC:
    """Return the HMAC of nothing yet: taking the key in is half of a short HMAC's work."""
    if len(pair_secret) != PAIR_SECRET_BYTES:
        raise ValueError(f"a pair secret has {PAIR_SECRET_BYTES} bytes, not {len(pair_secret)}")
    return hmac.new(pair_secret, digestmod="sha256")


def leaf_of(cdr: CDR | CDRFigures, *, pair_secret: bytes, commitment: bytes, meter: bytes) -> Leaf:
    """Return the leaf of an accepted CDR. A credit CDR's is the exact mirror of its original's and names it as `meter`.

    Raises:
        MalformedLeaf: a number is out of range.
    """
    cost_e4 = cdr.total_cost.excl_e4  # what settles is net of tax
    return Leaf(
        kind=LeafKind.CREDIT if cdr.is_credit else LeafKind.CHARGE,
        cdr_key=cdr_key_of(cdr.party_id, cdr.cdr_id, pair_secret=pair_secret),
        import_wh=cdr.total_energy_import_wh,
        export_wh=cdr.total_energy_export_wh,
        commitment=commitment,
        meter=cdr_key_of(cdr.party_id, cdr.credit_reference_id or "", pair_secret=pair_secret)
        if cdr.is_credit
        else meter,
        due_e4=max(0, cost_e4),
        credit_e4=max(0, -cost_e4),
    )


def evidence_hash(
    *, kind: LeafKind, cdr_key: bytes, import_wh: int, export_wh: int, commitment: bytes, meter: bytes
) -> bytes:
    """Return the hash under which a leaf stands in the evidence tree; with an empty `meter`, as it once was."""
    if not meter:
        return keccak256(_encode_meterless_leaf(LEAF_PREFIX, kind, cdr_key, import_wh, export_wh, commitment))
    return keccak256(encode_evidence_leaf(LEAF_PREFIX, kind, cdr_key, import_wh, export_wh, commitment, meter))


def in_order(leaves: Iterable[Leaf]) -> tuple[Leaf, ...]:
    """Return the leaves by ascending CDR key, the order of every tree.

    Raises:
        DuplicateLeaf: a CDR is there twice.
        EmptyStatement: there is none.
    """
    given = tuple(leaves)
    if not given:
        raise EmptyStatement
    if _ascend(given):  # as the worker's table gives them
        return given
    ordered = tuple(sorted(given, key=attrgetter("cdr_key")))
    if not _ascend(ordered):
        raise DuplicateLeaf(cdr_key=next(one.cdr_key for one, two in pairwise(ordered) if one.cdr_key == two.cdr_key))
    return ordered


def _ascend(leaves: Sequence[Leaf]) -> bool:
    keys = [leaf.cdr_key for leaf in leaves]
    return all(map(lt, keys, islice(keys, 1, None)))
