"""A ledger that one operator keeps and its parties watch: what is hashed, what is signed, what proves a rewrite.

An entry is a signed call of the settlement contracts, the very bytes that a chain would take, with its moment and what
came of it. Each names the one before by its hash, and the operator signs every head: number and hash of an entry. A
party that has read up to a head countersigns it and keeps it. Two heads of one ledger with one number and two hashes,
both signed by the operator, prove to anybody that it told two histories; no other word is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from emobility.domain.batch.hashing import HASH_BYTES, keccak256
from emobility.domain.errors import MalformedInput

LEDGER_ID_FIRST: Final = 2**40
"""Ids below belong to chains. A ledger's follows from its beginning, so no signature fits two, or a chain."""
ADDRESS_BYTES: Final = 20
BEGINNING_BYTES: Final = ADDRESS_BYTES + HASH_BYTES
_ENTRY: Final = b"wattroam ledger entry v1"
_HEAD: Final = b"wattroam ledger head v1"
_OUTCOME: Final = b"wattroam ledger outcome v1"
Told: TypeAlias = "tuple[bytes, tuple[bytes, ...], bytes]"
"""An event of a contract: contract, topics, data."""
Recover: TypeAlias = Callable[[bytes, bytes], bytes | None]
"""Returns the account whose compact signature of a digest this is; None when nobody's."""


class MalformedBeginning(MalformedInput):
    """Entry 0 of a ledger names its operator, 20 bytes, and 32 drawn ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One entry.

    Attributes:
        number: Its place; 0 is the beginning.
        hash: See `entry_hash`.
        parent_hash: Hash of the entry before; zeros before the first.
        timestamp_s: When it was entered, in unix seconds; the contracts' time.
        raw: The signed call (EIP-1559); of entry 0 the operator's account and 32 drawn bytes.
        outcome: See `outcome_hash`.
        signature: The operator's, of the head that this entry makes.
    """

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp_s: int
    raw: bytes
    outcome: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far a ledger goes, by somebody's word. Its hash stands for every entry up to `number`."""

    ledger_id: int
    number: int
    hash: bytes
    signature: bytes

    @classmethod
    def of(cls, ledger_id: int, entry: LedgerEntry) -> Self:
        """Return the head that an entry makes, by the operator's word."""
        return cls(ledger_id=ledger_id, number=entry.number, hash=entry.hash, signature=entry.signature)

    @property
    def digest(self) -> bytes:
        """What is signed."""
        return head_digest(self.ledger_id, self.number, self.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Countersignature:
    """A party's signature of a head.

    Attributes:
        number: The head's.
        signer: The party's account, 20 bytes.
        hash: The head's.
        signature: Compact.
    """

    number: int
    signer: bytes
    hash: bytes
    signature: bytes


def words_of(of: LedgerEntry | Countersignature | Head) -> dict[str, int | str]:
    """Return how JSON shows it: its bytes as hex."""
    values = {name: getattr(of, name) for name in of.__dataclass_fields__}
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}


def beginning(operator: bytes, drawn: bytes) -> bytes:
    """Return what entry 0 says: whose ledger it is, and 32 bytes that make it another one than all others."""
    return operator + drawn


def operator_of(raw: bytes) -> bytes:
    """Return whose ledger begins so. Raises `MalformedBeginning`."""
    if len(raw) != BEGINNING_BYTES:
        raise MalformedBeginning(f"a ledger begins with {BEGINNING_BYTES} bytes, not {len(raw)}")
    return raw[:ADDRESS_BYTES]


def ledger_id(raw: bytes) -> int:
    """Return the id of the ledger that begins so; contracts and signatures take it for a chain's id."""
    return LEDGER_ID_FIRST + int.from_bytes(keccak256(raw)[:5], "big")


def entry_hash(*, number: int, parent_hash: bytes, timestamp_s: int, raw: bytes, outcome: bytes) -> bytes:
    """Return an entry's hash, and with it that of all before it."""
    moment = number.to_bytes(8, "big") + timestamp_s.to_bytes(8, "big")
    return keccak256(_ENTRY + moment + parent_hash + keccak256(raw) + outcome)


def head_digest(id_: int, number: int, hash_: bytes) -> bytes:
    """Return what operator and parties sign of a head."""
    return keccak256(_HEAD + id_.to_bytes(8, "big") + number.to_bytes(8, "big") + hash_)


def outcome_hash(*, has_succeeded: bool, told: Sequence[Told]) -> bytes:
    """Return what stands for what came of a call: whether it was carried out, and every event, in order."""
    hashes = [
        keccak256(contract + len(topics).to_bytes(1, "big") + b"".join(topics) + data)
        for contract, topics, data in told
    ]
    return keccak256(_OUTCOME + bytes([has_succeeded]) + b"".join(hashes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """A ledger is not the one that it was, and what proves that.

    Attributes:
        kept: The head that somebody kept.
        shown: What the operator signed since in the same place: the two prove it to anybody. None: it shows no entry
            there at all, which is a word against a word until it signs one.
    """

    kept: Head
    shown: Head | None


def rewritten(kept: Head, shown: Sequence[Head], *, operator: bytes, recover: Recover) -> Rewrite | None:
    """Return how heads that the operator shows now go against one that was kept; None: they don't.

    Args:
        kept: Of this ledger and from its operator, or it proves nothing and is passed over.
        shown: What it shows: every head from 0 on, in order.
        operator: Whose ledger it is.
        recover: Tells whose signature one is.
    """
    if kept.ledger_id != shown[0].ledger_id or recover(kept.digest, kept.signature) != operator:
        return None
    if kept.number >= len(shown):
        return Rewrite(kept=kept, shown=None)
    there = shown[kept.number]
    return None if there.hash == kept.hash else Rewrite(kept=kept, shown=there)


def forked(one: Head, other: Head, *, operator: bytes, recover: Recover) -> bool:
    """Whether two heads prove that the operator told two histories; whoever holds them needs neither ledger."""
    return (
        (one.ledger_id, one.number) == (other.ledger_id, other.number)
        and one.hash != other.hash
        and all(recover(each.digest, each.signature) == operator for each in (one, other))
    )
