"""Confidential mode: what two parties sign for a period, sealed, and what a batch of such statements shows.

Byte for byte as `settlement_contracts/src/types/SealedStatement.sol` and `ConfidentialBook.sol` have it. A chain is
shown one salted hash per statement, random ones beside them, and each party's net over all its statements.

Two salts per statement, both from the pair's secret: that of the hash goes round with drivers' receipts; that of the
amounts stays with the two parties, or whoever holds a receipt could try amounts until one fits.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from emobility.domain.batch.abi import encode
from emobility.domain.batch.contracts import SEALED_STATEMENT
from emobility.domain.batch.hashing import HASH_BYTES, SALT_BYTES, bound, keccak256
from emobility.domain.batch.leaf import PAIR_SECRET_BYTES
from emobility.domain.batch.trees import HashTree
from emobility.domain.batch.typed_data import Verifier, digest_of
from emobility.domain.errors import MalformedInput, RuleBroken

AMOUNTS_PREFIX: Final = b"\x05"
POSTED_PREFIX: Final = b"\x06"
HASHES_MIN: Final = 2
HASHES_MAX: Final = 256
STATEMENTS_MAX: Final = HASHES_MAX - 1
SEALED_STATEMENT_TYPE: Final = (
    "SealedStatement(bytes32 agreement,uint32 cpo,uint32 msp,uint32 count,uint32 sequence,uint40 periodEnd,"
    "bytes32 evidenceRoot,bytes32 amounts)"
)
NET_ACCEPTANCE_TYPE: Final = "NetAcceptance(bytes32 batchId,bytes32 hashesHash,uint32 party,int64 netE4,uint64 nonce)"
SealedWords: TypeAlias = tuple[bytes, int, int, int, int, int, bytes, bytes]
"""A sealed statement as it stands in a call (`contracts.SEALED_STATEMENT`)."""
_SEALED_HASH: Final = keccak256(SEALED_STATEMENT_TYPE.encode())
_NET_HASH: Final = keccak256(NET_ACCEPTANCE_TYPE.encode())
_BATCH_ID_FORM: Final = b"wattroam-confidential-batch-1"
_AGREEMENT_FORM: Final = b"wattroam-confidential-agreement-1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


class MalformedSealedStatement(MalformedInput):
    """A sealed statement has three hashes, two parties, at least one CDR and a sequence from 1."""


class UnsuitableHashes(RuleBroken):
    """A batch shows 2, 4, 8 and so on up to `HASHES_MAX` hashes."""


class ConfidentialBook(Verifier):
    """A book that knows no pairs."""

    __slots__ = ()
    name = "ConfidentialBook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Salts:
    """Of one statement. `posted` is in its receipts; `amounts` is for its two parties, and in a dispute."""

    posted: bytes
    amounts: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What a statement seals: due, credit (ten-thousandths of its currency) and the sum tree's root hash."""

    sum_root: bytes
    due_e4: int
    credit_e4: int

    def sealed(self, salt: bytes) -> bytes:
        """Return what stands for them in the statement."""
        if len(salt) != SALT_BYTES:
            raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
        figures = self.due_e4.to_bytes(8, "big") + self.credit_e4.to_bytes(8, "big")
        return keccak256(AMOUNTS_PREFIX + salt + self.sum_root + figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedStatement:
    """What a CPO and an MSP say together of one period, with its amounts sealed.

    Attributes:
        agreement: See `agreement_of`.
        cpo: Number of the CPO in the registry.
        msp: Number of the MSP.
        count: Number of CDRs.
        sequence: Place among the agreement's statements, from 1. Neither party signs one twice.
        period_end: End of the period, excluded, in whole seconds.
        evidence_root: Root of the evidence tree over the period's CDRs.
        amounts: See `Amounts.sealed`.
    """

    agreement: bytes
    cpo: int
    msp: int
    count: int
    sequence: int
    period_end: datetime
    evidence_root: bytes
    amounts: bytes

    def __post_init__(self) -> None:
        if any(len(hashed) != HASH_BYTES for hashed in (self.agreement, self.evidence_root, self.amounts)):
            raise MalformedSealedStatement("a hash of a sealed statement has not 32 bytes")
        if not all(1 <= number < 1 << 32 for number in (self.cpo, self.msp, self.count, self.sequence)):
            raise MalformedSealedStatement("parties, count and sequence go from 1 to 4,294,967,295")
        if not 0 <= (self.period_end - _EPOCH) // _SECOND < 1 << 40 or self.period_end.microsecond:
            raise MalformedSealedStatement("a period ends at a whole second after 1970")

    @property
    def words(self) -> SealedWords:
        """The statement as it stands in a call."""
        end_s = (self.period_end - _EPOCH) // _SECOND
        numbers = (self.cpo, self.msp, self.count, self.sequence, end_s)
        return (self.agreement, *numbers, self.evidence_root, self.amounts)

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 struct hash."""
        return struct_hash_of(self.words)


def struct_hash_of(words: SealedWords) -> bytes:
    """Return the EIP-712 struct hash of a sealed statement's words, whatever they say."""
    return keccak256(_SEALED_HASH + encode(SEALED_STATEMENT, words))


def agreement_of(document: bytes, *, pair_secret: bytes) -> bytes:
    """Return the id of an agreement in confidential mode; nobody without the secret can tell whose it is.

    Args:
        document: SHA-256 of the signed terms (`domain/agreement.document_hash`).
        pair_secret: `PAIR_SECRET_BYTES` bytes that only the two parties know.
    """
    return _derived(pair_secret, _AGREEMENT_FORM, document)


def salts_of(*, pair_secret: bytes, agreement: bytes, sequence: int) -> Salts:
    """Return the salts of a statement: the same for both parties, and the same whenever it is batched again."""
    place = agreement + sequence.to_bytes(4, "big")
    return Salts(posted=_derived(pair_secret, b"posted", place), amounts=_derived(pair_secret, b"amounts", place))


def posted_hash(struct_hash: bytes, *, salt: bytes) -> bytes:
    """Return what a batch shows of a statement."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return keccak256(POSTED_PREFIX + salt + struct_hash)


def filled_up(posted: Sequence[bytes], noise: Iterator[bytes]) -> tuple[bytes, ...]:
    """Return the hashes that a batch shows, ascending: those of statements among random ones, a power of two in all.

    So their number tells the number of pairs to a factor of two, and their order tells nothing. At least one is random,
    so that a batch which must be made again is another one.

    Args:
        posted: Of the batch's statements.
        noise: Random 32-byte strings, which nobody can tell from salted hashes.

    Raises:
        UnsuitableHashes: there are more than `STATEMENTS_MAX`, or none.
    """
    if not 1 <= len(posted) <= STATEMENTS_MAX:
        raise UnsuitableHashes(f"a batch holds 1 to {STATEMENTS_MAX} statements, not {len(posted)}")
    size = 1 << len(posted).bit_length()
    return tuple(sorted([*posted, *(next(noise) for _ in range(size - len(posted)))]))


def hashes_tree(hashes: Sequence[bytes]) -> HashTree:
    """Return the tree over a batch's hashes, for proofs of a statement's place. Raises `UnsuitableHashes`."""
    if not HASHES_MIN <= len(hashes) <= HASHES_MAX or len(hashes) & (len(hashes) - 1):
        raise UnsuitableHashes(f"{len(hashes)} hashes tell too much, or are too many")
    return HashTree(hashes)


def hashes_hash(hashes: Sequence[bytes]) -> bytes:
    """Return what the signatures of a batch bind. Raises `UnsuitableHashes`."""
    return bound(hashes_tree(hashes).root, len(hashes))


def signers_words(signers: Mapping[int, bytes]) -> tuple[int, ...]:
    """Return who signed for each party (number, address) of a batch, as the book packs them: ascending."""
    return tuple(number << 160 | int.from_bytes(address, "big") for number, address in sorted(signers.items()))


def batch_record(hashes_hash: bytes, signers: Sequence[int]) -> bytes:
    """Return what a book stores of a batch: its hashes, and who signed."""
    return keccak256(hashes_hash + keccak256(b"".join(word.to_bytes(32, "big") for word in signers)))


def statement_digest(book: ConfidentialBook, statement: SealedStatement) -> bytes:
    """Return what both parties sign of a statement, off chain."""
    return digest_of(book, statement.struct_hash)


def net_digest(
    book: ConfidentialBook, *, batch_id: bytes, hashes_hash: bytes, party: int, net_e4: int, nonce: int
) -> bytes:
    """Return what a party signs to accept a batch.

    Args:
        book: Where it is settled.
        batch_id: See `batch_id_of`.
        hashes_hash: See `hashes_hash`.
        party: Its number in the registry.
        net_e4: What it gets over all its statements of the batch, in ten-thousandths; below zero it pays.
        nonce: How many batches of the book it signed before.

    Raises:
        MalformedCall: a value does not fit its type.
    """
    words = encode("(bytes32,bytes32,uint32,int64,uint64)", (batch_id, hashes_hash, party, net_e4, nonce))
    return digest_of(book, keccak256(_NET_HASH + words))


def batch_id_of(book: ConfidentialBook, hashes_hash: bytes) -> bytes:
    """Return a batch's id: the same hashes have the same one, so posting them again is recognised."""
    return keccak256(_BATCH_ID_FORM + book.domain_separator + hashes_hash)


# What can be settled together


@dataclass(frozen=True, slots=True, kw_only=True)
class PairNet:
    """What the MSP owes the CPO in a statement, on balance, in ten-thousandths; below zero the CPO owes."""

    cpo: int
    msp: int
    net_e4: int

    @property
    def payer(self) -> int:
        """Who pays."""
        return self.msp if self.net_e4 >= 0 else self.cpo


def party_nets(pairs: Iterable[PairNet]) -> dict[int, int]:
    """Return what each party gets on balance, ascending by number; together nothing."""
    nets: dict[int, int] = {}
    for pair in pairs:
        nets[pair.cpo] = nets.get(pair.cpo, 0) + pair.net_e4
        nets[pair.msp] = nets.get(pair.msp, 0) - pair.net_e4
    return dict(sorted(nets.items()))


def covered(pairs: Sequence[PairNet], cover_e4: Mapping[int, int]) -> list[int]:
    """Return the places of pairs that can be settled together.

    Where a party's net exceeds its cover, the largest statement that it pays is left out, until what is left is
    covered. So nobody waits but the payees of one that is short, and those who needed their money to pay.

    Args:
        pairs: In any order; place i is the i-th.
        cover_e4: Each party's free collateral; none: nothing.
    """
    places = list(range(len(pairs)))
    while True:
        nets = party_nets(pairs[place] for place in places)
        short = next((party for party, net in nets.items() if -net > cover_e4.get(party, 0)), None)
        if short is None:
            return places
        paid = [place for place in places if pairs[place].payer == short]
        places.remove(max(paid, key=lambda place: (abs(pairs[place].net_e4), place)))


def exposed(pairs: Sequence[PairNet]) -> frozenset[tuple[int, int]]:
    """Return the pairs whose net follows from the parties' nets, for whoever knows or guesses who trades with whom.

    These are the bridges of the graph of parties: one part of the parties has no other way to owe the rest. Of pairs
    on a cycle nothing follows: any amount can go round.
    """
    links = {(min(pair.cpo, pair.msp), max(pair.cpo, pair.msp)) for pair in pairs}
    return frozenset(link for link in links if not _are_linked(*link, links - {link}))


def _are_linked(start: int, end: int, links: Iterable[tuple[int, int]]) -> bool:
    neighbours: dict[int, set[int]] = {}
    for one, other in links:
        neighbours.setdefault(one, set()).add(other)
        neighbours.setdefault(other, set()).add(one)
    seen, todo = {start}, [start]
    while todo:
        found = neighbours.get(todo.pop(), set()) - seen
        seen |= found
        todo += found
    return end in seen


def _derived(pair_secret: bytes, what: bytes, about: bytes) -> bytes:
    if len(pair_secret) != PAIR_SECRET_BYTES:
        raise ValueError(f"a pair secret has {PAIR_SECRET_BYTES} bytes, not {len(pair_secret)}")
    return hmac.digest(pair_secret, what + b"\0" + about, "sha256")
