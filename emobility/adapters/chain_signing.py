"""secp256k1 signatures by keys that this process holds (`ChainSigner`), and whose signature one is.

A hosted party's key is derived from the installation's master key, as that of its documents is (`adapters.signing`), so
there is no key file to lose. A party that keeps its key elsewhere (Web3Signer, a KMS) gets another adapter of the port.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NoReturn

from coincurve import PrivateKey, PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from emobility.domain.batch.hashing import HASH_BYTES, keccak256
from emobility.domain.identifiers import PartyId
from emobility.ports.chain_signer import UnsignedTransaction
from emobility.protocols.eip1559 import (
    COMPACT_SIGNATURE_BYTES,
    SignedTransaction,
    raw_transaction,
    signing_hash,
)

MASTER_KEY_BYTES: Final = 32
CURVE_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
MNEMONIC_ROUNDS: Final = 2048
"""BIP-39: rounds of PBKDF2 from words to seed."""
_HARDENED: Final = 1 << 31
_S_BITS: Final = 255


class LocalChainSigner:
    """Signs with one key, deterministically (RFC 6979). The key leaves it in no way: not shown, not pickled."""

    __slots__ = ("_address", "_key")

    def __init__(self, secret: bytes) -> None:
        """Take the key: 32 bytes, from 1 to the curve's order less 1."""
        self._key = PrivateKey(secret)
        self._address = _address_of(self._key.public_key)

    def __repr__(self) -> str:
        """Name the account."""
        return f"LocalChainSigner(0x{self._address.hex()})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be written anywhere."""
        raise TypeError("a key is not pickled")

    @property
    def address(self) -> bytes:
        """The account, 20 bytes."""
        return self._address

    async def sign_transaction(self, transaction: UnsignedTransaction) -> bytes:
        """Return the signed transaction, raw."""
        signature = self._sign(signing_hash(transaction))
        return raw_transaction(SignedTransaction(transaction=transaction, signature=signature))

    async def sign_digest(self, digest: bytes) -> bytes:
        """Return the compact signature of a digest: 64 bytes (EIP-2098)."""
        return self._sign(digest)

    def _sign(self, digest: bytes) -> bytes:
        if len(digest) != HASH_BYTES:
            raise ValueError(f"a digest has {HASH_BYTES} bytes, not {len(digest)}")
        signature = self._key.sign_recoverable(digest, hasher=None)  # its s is never above half the order
        r, s, parity = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
        return r + (parity << _S_BITS | s).to_bytes(32, "big")


def party_signer(master_key: bytes, party_id: PartyId) -> LocalChainSigner:
    """Return who signs for a hosted party."""
    return _derived_signer(master_key, f"party {party_id.code}")


def proposer_signer(master_key: bytes) -> LocalChainSigner:
    """Return who sends the installation's settlement transactions and pays for them."""
    return _derived_signer(master_key, "proposer")


def ledger_operator(master_key: bytes) -> LocalChainSigner:
    """Return who keeps the installation's ledger: signs its entries, and administers the contracts in it."""
    return _derived_signer(master_key, "ledger operator")


def mnemonic_signer(mnemonic: str, index: int) -> LocalChainSigner:
    """Return account m/44'/60'/0'/0/`index` of BIP-39 words (BIP-32)."""
    seed = hashlib.pbkdf2_hmac("sha512", mnemonic.encode(), b"mnemonic", MNEMONIC_ROUNDS)
    node = hmac.digest(b"Bitcoin seed", seed, "sha512")
    for step in (44 + _HARDENED, 60 + _HARDENED, _HARDENED, 0, index):
        secret, chain_code = PrivateKey(node[:32]), node[32:]
        parent = b"\0" + secret.secret if step >= _HARDENED else secret.public_key.format(compressed=True)
        child = hmac.digest(chain_code, parent + step.to_bytes(4, "big"), "sha512")
        node = secret.add(child[:32]).secret + child[32:]
    return LocalChainSigner(node[:32])


def recovered_address(digest: bytes, signature: bytes) -> bytes | None:
    """Return whose compact signature this is, as a contract sees it; None when nobody's.

    Like OpenZeppelin it takes no s above half the curve's order, or each signature would have a second form.
    """
    vs = int.from_bytes(signature[32:], "big")
    parity, s = vs >> _S_BITS, vs & (1 << _S_BITS) - 1
    if len(signature) != COMPACT_SIGNATURE_BYTES or len(digest) != HASH_BYTES or s > CURVE_ORDER // 2:
        return None
    recoverable = signature[:32] + s.to_bytes(32, "big") + bytes([parity])
    try:
        return _address_of(PublicKey.from_signature_and_message(recoverable, digest, hasher=None))
    except Exception:  # noqa: BLE001 - coincurve raises bare exceptions
        return None


def compact_signature(digest: bytes, r: int, s: int, address: bytes) -> bytes | None:
    """Return an account's signature in the one form that contracts take; None when it is not the account's.

    Args:
        digest: What was signed, 32 bytes.
        r: As the signer gave it.
        s: In either half of the curve's order.
        address: Whose it should be; tells which of two public keys is meant.
    """
    if not (0 < r < CURVE_ORDER and 0 < s < CURVE_ORDER):
        return None
    low = min(s, CURVE_ORDER - s)
    for parity in (0, 1):
        compact = r.to_bytes(32, "big") + (parity << _S_BITS | low).to_bytes(32, "big")
        if recovered_address(digest, compact) == address:
            return compact
    return None


def _derived_signer(master_key: bytes, purpose: str) -> LocalChainSigner:
    if len(master_key) != MASTER_KEY_BYTES:
        raise ValueError(f"the master key has {len(master_key)} bytes, not {MASTER_KEY_BYTES}")
    # 16 bytes more than the key, so that the remainder favours no key.
    drawn = HKDF(algorithm=SHA256(), length=48, salt=None, info=b"wattroam secp256k1 v1 " + purpose.encode()).derive(
        master_key
    )
    return LocalChainSigner((int.from_bytes(drawn, "big") % (CURVE_ORDER - 1) + 1).to_bytes(32, "big"))


def _address_of(key: PublicKey) -> bytes:
    return keccak256(key.format(compressed=False)[1:])[12:]
