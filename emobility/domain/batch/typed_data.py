"""EIP-712: what the parties sign, as `SettlementBook.sol` and `PartyRegistry.sol` in `settlement_contracts` check it.

Every digest names chain and contract, so that a signature for one book means nothing in another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import ClassVar, Final

from emobility.domain.batch.hashing import HASH_BYTES, keccak256
from emobility.domain.batch.statement import AGREEMENT_BYTES
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId

DOMAIN_VERSION: Final = "1"
ADDRESS_BYTES: Final = 20
PARTIES_MAX: Final = 2**24
"""Party numbers that a book can name."""
AGREEMENTS_MAX: Final = 2**12
"""Agreements of a pair and kind in one book."""
BATCH_ID_FORM: Final = b"wattroam-batch-1"
DOMAIN_TYPE: Final = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
AGREEMENT_TYPE: Final = (
    "Agreement(bytes32 document,uint32 cpo,uint32 msp,bytes3 currency,uint8 kind,uint16 number,uint8 mode,"
    "uint64 creditLimitE4,uint32 paymentTermS,uint64 deadline)"
)
ACCEPTANCE_TYPE: Final = "Acceptance(bytes32 batchId,bytes32 pairsHash,uint32 party,uint256 pairs)"
DISCHARGE_TYPE: Final = "Discharge(uint64 agreement,uint24 number,int64 amountE4)"
ENDING_TYPE: Final = "Ending(uint64 agreement)"
REGISTRATION_TYPE: Final = (
    "Registration(bytes2 countryCode,bytes3 partyId,address signer,address payout,uint64 deadline)"
)
ROTATION_TYPE: Final = "SignerRotation(uint32 number,address signer,uint32 nonce,uint64 deadline)"
CLAIMS_TYPE: Final = "Claims(uint32 number,uint16 roles,uint32 modules,bytes32 platform,uint32 nonce,uint64 deadline)"
MESSAGE_KEY_TYPE: Final = "MessageKey(uint32 number,bytes32 key,uint32 nonce,uint64 deadline)"
CANCELLATION_TYPE: Final = "RotationCancellation(uint32 number,address signer,uint32 nonce,uint64 deadline)"
SUCCESSION_TYPE: Final = "SignerAcceptance(uint32 number,address signer,uint32 nonce,uint64 deadline)"
_DOMAIN_HASH: Final = keccak256(DOMAIN_TYPE.encode())
_AGREEMENT_HASH: Final = keccak256(AGREEMENT_TYPE.encode())
_ACCEPTANCE_HASH: Final = keccak256(ACCEPTANCE_TYPE.encode())
_DISCHARGE_HASH: Final = keccak256(DISCHARGE_TYPE.encode())
_ENDING_HASH: Final = keccak256(ENDING_TYPE.encode())
_REGISTRATION_HASH: Final = keccak256(REGISTRATION_TYPE.encode())
_ROTATION_HASH: Final = keccak256(ROTATION_TYPE.encode())
_CLAIMS_HASH: Final = keccak256(CLAIMS_TYPE.encode())
_MESSAGE_KEY_HASH: Final = keccak256(MESSAGE_KEY_TYPE.encode())
_CANCELLATION_HASH: Final = keccak256(CANCELLATION_TYPE.encode())
_SUCCESSION_HASH: Final = keccak256(SUCCESSION_TYPE.encode())


class MalformedTypedData(MalformedInput):
    """A value does not fit its EIP-712 type."""


class BookMode(IntEnum):
    """How a book meets obligations, as the contract counts its modes."""

    PREFUNDED = 0
    CREDIT_LINE = 1
    GUARANTEE = 2


class BookKind(IntEnum):
    """What an agreement settles, as the contract counts its kinds."""

    SESSION = 0
    """Charging: the CPO is paid by the MSP."""
    FLEX = 1
    """Delivered flexibility: who delivers it is paid, in the place of the CPO, by the grid operator that ordered it."""
    SWAP = 2
    """Battery swaps: the operator of the swap stations is paid by the MSP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """A contract on one chain that checks signatures. `address`: 20 bytes."""

    name: ClassVar[str]
    chain_id: int
    address: bytes

    @property
    def domain_separator(self) -> bytes:
        """What makes signatures for this contract useless elsewhere."""
        return domain_separator_of(self.name, chain_id=self.chain_id, address=self.address)


class Book(Verifier):
    """A settlement book: one currency's contract."""

    __slots__ = ()
    name = "SettlementBook"


class Registry(Verifier):
    """A party registry."""

    __slots__ = ()
    name = "PartyRegistry"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementTerms:
    """An agreement as it is opened in a book.

    Attributes:
        document: Hash of the roaming agreement that the two signed.
        cpo: Party number of the CPO in the registry.
        msp: Party number of the MSP.
        currency: ISO 4217.
        number: Which of the pair's agreements of this kind, below `AGREEMENTS_MAX`; each is used once.
        credit_limit_e4: Most that the MSP may owe, in ten-thousandths of `currency`; 0 when prefunded.
        payment_term_s: How long the MSP has to pay before its guarantee is called, in seconds; else 0.
        deadline: Until when it can be opened.
    """

    document: bytes
    cpo: int
    msp: int
    currency: str
    kind: BookKind = BookKind.SESSION
    number: int = 0
    mode: BookMode
    credit_limit_e4: int
    payment_term_s: int = 0
    deadline: datetime

    @property
    def words(self) -> tuple[bytes, int, int, bytes, int, int, int, int, int, int]:
        """The terms as they stand in a call of the contract."""
        return (
            self.document,
            self.cpo,
            self.msp,
            self.currency.encode(),
            int(self.kind),
            self.number,
            int(self.mode),
            self.credit_limit_e4,
            self.payment_term_s,
            _seconds(self.deadline),
        )


def agreement_id(terms: AgreementTerms) -> bytes:
    """Return an agreement's id: the struct hash of its terms. Raises `MalformedTypedData`."""
    if not (terms.currency.isascii() and len(terms.currency) == 3):
        raise MalformedTypedData(f"{terms.currency!r} is no currency")
    return keccak256(
        _AGREEMENT_HASH
        + _hash(terms.document)
        + _uint(terms.cpo, 32)
        + _uint(terms.msp, 32)
        + terms.currency.encode().ljust(32, b"\0")
        + _uint(terms.kind, 8)
        + _uint(terms.number, 16)
        + _uint(terms.mode, 8)
        + _uint(terms.credit_limit_e4, 64)
        + _uint(terms.payment_term_s, 32)
        + _uint(_seconds(terms.deadline), 64)
    )


def agreement_key(terms: AgreementTerms) -> bytes:
    """Return an agreement's key in its book: CPO u24, kind u4, number u12, MSP u24. Raises `MalformedTypedData`."""
    if not (terms.cpo < PARTIES_MAX and terms.msp < PARTIES_MAX and terms.number < AGREEMENTS_MAX):
        raise MalformedTypedData(
            f"party {terms.cpo} or {terms.msp}, or number {terms.number}, is beyond a key's fields"
        )
    key = terms.cpo << 40 | terms.kind << 36 | terms.number << 24 | terms.msp
    return key.to_bytes(AGREEMENT_BYTES, "big")


def number_in(agreement: bytes) -> int:
    """Return which of the pair's agreements a key names."""
    return int.from_bytes(agreement, "big") >> 24 & AGREEMENTS_MAX - 1


def agreement_digest(book: Book, terms: AgreementTerms) -> bytes:
    """Return what both parties sign to open an agreement. Raises `MalformedTypedData`."""
    return digest_of(book, agreement_id(terms))


def acceptance_digest(book: Book, *, batch_id: bytes, pairs_hash: bytes, party: int, pairs: int) -> bytes:
    """Return what a party signs to accept its statements of a batch.

    Args:
        book: Where the batch is proposed.
        batch_id: See `batch_id_of`.
        pairs_hash: See `statement.pairs_hash`.
        party: Its number in the registry.
        pairs: Bit i stands for the batch's statement i.

    Raises:
        MalformedTypedData: a value does not fit its type.
    """
    words = _hash(batch_id) + _hash(pairs_hash) + _uint(party, 32) + _uint(pairs, 256)
    return digest_of(book, keccak256(_ACCEPTANCE_HASH + words))


def discharge_digest(book: Book, *, agreement: bytes, number: int, amount_e4: int) -> bytes:
    """Return what both parties sign when an obligation was paid outside the chain.

    Args:
        book: Where it is owed.
        agreement: The agreement's key.
        number: How many discharges it has had.
        amount_e4: Paid by the MSP, in ten-thousandths; below zero paid by the CPO.

    Raises:
        MalformedTypedData: a value does not fit its type.
    """
    if not -(2**63) <= amount_e4 < 2**63:
        raise MalformedTypedData(f"{amount_e4} does not fit 64 bits")
    signed = amount_e4.to_bytes(32, "big", signed=True)
    return digest_of(book, keccak256(_DISCHARGE_HASH + _key(agreement) + _uint(number, 24) + signed))


def ending_digest(book: Book, agreement: bytes) -> bytes:
    """Return what both parties sign to end an agreement, by its key, at once. Raises `MalformedTypedData`."""
    return digest_of(book, keccak256(_ENDING_HASH + _key(agreement)))


def registration_digest(
    registry: Registry, *, party_id: PartyId, signer: bytes, payout: bytes, deadline: datetime
) -> bytes:
    """Return what a party's signer signs to be registered.

    Args:
        registry: Where.
        party_id: The party.
        signer: Who signs for it from then on.
        payout: Where withdrawn collateral goes.
        deadline: Until when it can be registered.

    Raises:
        MalformedTypedData: an address has not 20 bytes.
    """
    party = party_id.country_code.encode().ljust(32, b"\0") + party_id.party_id.encode().ljust(32, b"\0")
    words = party + _address(signer) + _address(payout) + _uint(_seconds(deadline), 64)
    return digest_of(registry, keccak256(_REGISTRATION_HASH + words))


def claims_digest(
    registry: Registry, *, number: int, roles: int, modules: int, platform: bytes, nonce: int, deadline: datetime
) -> bytes:
    """Return what a party's signer signs to say in which roles, with which modules and from where it speaks.

    Args:
        registry: Where.
        number: The party's number.
        roles: Bit by bit, see `domain/party_claims.py`.
        modules: Likewise.
        platform: Hash of the origin from which it is served.
        nonce: How many words of it the registry took before.
        deadline: Until when.

    Raises:
        MalformedTypedData: a value does not fit its type.
    """
    words = _uint(number, 32) + _uint(roles, 16) + _uint(modules, 32) + _hash(platform)
    return digest_of(registry, keccak256(_CLAIMS_HASH + words + _uint(nonce, 32) + _uint(_seconds(deadline), 64)))


def message_key_digest(registry: Registry, *, number: int, key: bytes, nonce: int, deadline: datetime) -> bytes:
    """Return what a party's signer signs to name the Ed25519 key of its messages; see `claims_digest`."""
    words = _uint(number, 32) + _hash(key) + _uint(nonce, 32) + _uint(_seconds(deadline), 64)
    return digest_of(registry, keccak256(_MESSAGE_KEY_HASH + words))


def signer_rotation_digest(registry: Registry, *, number: int, signer: bytes, nonce: int, deadline: datetime) -> bytes:
    """Return what a party's present signer signs to name its successor; it takes over after a delay.

    Args:
        registry: Where.
        number: The party's number.
        signer: Who signs for it from then on.
        nonce: How many words of it the registry took before.
        deadline: Until when.

    Raises:
        MalformedTypedData: a value does not fit its type.
    """
    return _succession(registry, _ROTATION_HASH, number, signer, nonce, deadline)


def rotation_cancellation_digest(
    registry: Registry, *, number: int, signer: bytes, nonce: int, deadline: datetime
) -> bytes:
    """Return what the present signer signs to take `signer`, its successor, back; see `signer_rotation_digest`."""
    return _succession(registry, _CANCELLATION_HASH, number, signer, nonce, deadline)


def signer_acceptance_digest(
    registry: Registry, *, number: int, signer: bytes, nonce: int, deadline: datetime
) -> bytes:
    """Return what the successor, `signer`, signs to take over; see `signer_rotation_digest`."""
    return _succession(registry, _SUCCESSION_HASH, number, signer, nonce, deadline)


def batch_id_of(book: Book, pairs_hash: bytes) -> bytes:
    """Return a batch's id: the same statements have the same one, so proposing them again is recognised."""
    return keccak256(BATCH_ID_FORM + book.domain_separator + _hash(pairs_hash))


def _succession(  # noqa: PLR0917 - the words of the type
    registry: Registry, kind: bytes, number: int, signer: bytes, nonce: int, deadline: datetime
) -> bytes:
    words = _uint(number, 32) + _address(signer) + _uint(nonce, 32) + _uint(_seconds(deadline), 64)
    return digest_of(registry, keccak256(kind + words))


def domain_separator_of(name: str, *, chain_id: int, address: bytes) -> bytes:
    """Return what makes signatures for a contract, by its name in the domain, useless elsewhere."""
    return keccak256(
        _DOMAIN_HASH
        + keccak256(name.encode())
        + keccak256(DOMAIN_VERSION.encode())
        + _uint(chain_id, 256)
        + _address(address)
    )


def digest_of(verifier: Verifier, struct_hash: bytes) -> bytes:
    """Return the EIP-712 digest of a struct in a contract's domain."""
    return keccak256(b"\x19\x01" + verifier.domain_separator + struct_hash)


def _seconds(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp())


def _uint(number: int, bits: int) -> bytes:
    if not 0 <= number < 1 << bits:
        raise MalformedTypedData(f"{number} does not fit {bits} bits")
    return number.to_bytes(32, "big")


def _hash(value: bytes) -> bytes:
    if len(value) != HASH_BYTES:
        raise MalformedTypedData(f"a hash has {HASH_BYTES} bytes, not {len(value)}")
    return value


def _key(agreement: bytes) -> bytes:
    if len(agreement) != AGREEMENT_BYTES:
        raise MalformedTypedData(f"an agreement's key has {AGREEMENT_BYTES} bytes, not {len(agreement)}")
    return agreement.rjust(32, b"\0")


def _address(value: bytes) -> bytes:
    if len(value) != ADDRESS_BYTES:
        raise MalformedTypedData(f"an address has {ADDRESS_BYTES} bytes, not {len(value)}")
    return value.rjust(32, b"\0")
