"""Hashes and byte rules that the contracts share: keccak-256, a prefix per kind of thing, big-endian, fixed width.

The prefixes keep a leaf from being taken for a node, or a commitment for either (second preimages).
"""

from __future__ import annotations

from typing import Final

import sha3

LEAF_PREFIX: Final = b"\x00"
NODE_PREFIX: Final = b"\x01"
COMMITMENT_PREFIX: Final = b"\x02"
METER_PREFIX: Final = b"\x03"
HASH_BYTES: Final = 32
SALT_BYTES: Final = 32
U64_MAX: Final = 2**64 - 1

new_keccak256: Final = sha3.keccak_256
"""The hash object itself, for loops over millions. Ethereum's Keccak is not SHA-3: the padding differs."""


def keccak256(message: bytes) -> bytes:
    """Return the Keccak-256 hash, as Ethereum computes it."""
    digest: bytes = new_keccak256(message).digest()
    return digest


def bound(root: bytes, count: int) -> bytes:
    """Return keccak(root || count u256): a place proved against a root alone may be claimed under another count."""
    return keccak256(root + count.to_bytes(32, "big"))


def commitment(document: bytes, *, salt: bytes, prefix: bytes = COMMITMENT_PREFIX) -> bytes:
    """Return what stands for a document without telling it: whoever lacks the salt can't try guesses.

    Args:
        document: Its canonical bytes.
        salt: `SALT_BYTES` random bytes. Once they and the document are erased, the commitment means nothing.
        prefix: Of the kind of document.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return keccak256(prefix + salt + document)
