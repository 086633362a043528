"""Keys in a key management service (AWS KMS, Google Cloud KMS, Azure Key Vault, an HSM): it signs, no key comes here.

Such services answer signatures in DER, with an s in either half of the curve's order and without the bit that says
which public key was meant; chains take only the lower s and need that bit. Both are made good here.
"""

from __future__ import annotations

from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from emobility.adapters.chain_signing import CURVE_ORDER, compact_signature
from emobility.domain.batch.hashing import keccak256
from emobility.ports.chain_signer import SignerUnavailable, UnsignedTransaction
from emobility.protocols.eip1559 import SignedTransaction, raw_transaction, signing_hash

SIGNATURE_BYTES_MAX: Final = 80
"""Longest DER of two numbers of 33 bytes, with room."""


class KeyManagementService(Protocol):
    """What a provider's client must do. Each method raises `SignerUnavailable`."""

    async def public_key(self) -> bytes:
        """Return the key's public half: DER, SubjectPublicKeyInfo."""

    async def sign(self, digest: bytes) -> bytes:
        """Return the ECDSA signature of 32 bytes that were hashed already: DER, SEQUENCE of r and s."""


class KMSSigner:
    """`ChainSigner` with a key of a service."""

    def __init__(self, service: KeyManagementService, address: bytes) -> None:
        self._service = service
        self._address = address

    @property
    def address(self) -> bytes:
        """The account, 20 bytes."""
        return self._address

    async def sign_transaction(self, transaction: UnsignedTransaction) -> bytes:
        """Return the signed transaction, raw. Raises `SignerUnavailable`."""
        signature = await self.sign_digest(signing_hash(transaction))
        return raw_transaction(SignedTransaction(transaction=transaction, signature=signature))

    async def sign_digest(self, digest: bytes) -> bytes:
        """Return the compact signature of a digest: 64 bytes (EIP-2098). Raises `SignerUnavailable`."""
        found = await self._service.sign(digest)
        try:
            r, s = decode_dss_signature(found) if len(found) <= SIGNATURE_BYTES_MAX else (0, 0)
        except ValueError:
            r = s = 0
        if not (0 < r < CURVE_ORDER and 0 < s < CURVE_ORDER):
            raise SignerUnavailable("the key management service answers something else than a signature")
        compact = compact_signature(digest, r, s, self._address)
        if compact is None:
            raise SignerUnavailable(f"the service answers a signature that is not that of 0x{self._address.hex()}")
        return compact


async def kms_signer(service: KeyManagementService) -> KMSSigner:
    """Return who signs with a service's key. Raises `SignerUnavailable` for a key of another curve."""
    try:
        key = load_der_public_key(await service.public_key())
    except ValueError:
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256K1):
        raise SignerUnavailable("the key management service has no key of secp256k1")
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return KMSSigner(service, keccak256(point[1:])[12:])
