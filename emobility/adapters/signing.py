"""Ed25519 signatures of the parties hosted here (`Signer`).

Each party's key is derived from the installation's master key, so there is no key file to lose or to mix up, and the
same installation always signs with the same keys. Counterparties pin the public key; a party that holds its key
elsewhere (a KMS) gets another adapter of the same port.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from emobility.domain.identifiers import PartyId

MASTER_KEY_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class Ed25519Signer:
    """Signs for hosted parties under keys derived by HKDF-SHA256 from master key, party and generation."""

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != MASTER_KEY_BYTES:
            raise ValueError(f"the master key has {len(master_key)} bytes, not {MASTER_KEY_BYTES}")
        self._master_key = master_key
        self._keys: dict[tuple[PartyId, int], Ed25519PrivateKey] = {}

    async def sign(self, party_id: PartyId, message: bytes, *, generation: int = 0) -> str:
        """Return the party's Ed25519 signature, hex."""
        return self._key_of(party_id, generation).sign(message).hex()

    async def public_key(self, party_id: PartyId, *, generation: int = 0) -> str:
        """Return one of the hosted party's public keys, hex."""
        key = self._key_of(party_id, generation).public_key()
        return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def is_valid(self, *, public_key: str, message: bytes, signature: str) -> bool:
        """Tell whether `signature` is the holder of `public_key`'s word on `message`."""
        return is_ed25519_signature(public_key=public_key, message=message, signature=signature)

    def _key_of(self, party_id: PartyId, generation: int) -> Ed25519PrivateKey:
        name = party_id, generation
        if name not in self._keys:
            info = b"wattroam ed25519 v1 " + party_id.code.encode()
            info += b"" if generation == 0 else b" %d" % generation
            seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._master_key)
            self._keys[name] = Ed25519PrivateKey.from_private_bytes(seed)
        return self._keys[name]


def is_ed25519_signature(*, public_key: str, message: bytes, signature: str) -> bool:
    """Tell whether `signature` (hex) is the holder of `public_key`'s (hex) word on `message`."""
    try:
        key, word = bytes.fromhex(public_key), bytes.fromhex(signature)
    except ValueError:
        return False
    if len(key) != PUBLIC_KEY_BYTES or len(word) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(word, message)
    except (InvalidSignature, ValueError):
        return False
    return True
