"""Drivers' passwords: argon2id with a salt of ours, so that a seeded simulation hashes alike twice."""

from __future__ import annotations

from typing import Final

from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type, hash_secret, verify_secret

from emobility.domain.errors import MalformedInput
from emobility.ports.clock import Randomness

SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
MEMORY_KIB: Final = 19_456
ROUNDS: Final = 2
LANES: Final = 1
"""OWASP's minimum for argon2id: 19 MiB, two rounds, one lane."""
PASSWORD_CHARACTERS_MIN: Final = 10
PASSWORD_CHARACTERS_MAX: Final = 256


class UnfitPassword(MalformedInput):
    """A password has between `PASSWORD_CHARACTERS_MIN` and `PASSWORD_CHARACTERS_MAX` characters."""


def hash_password(password: str, randomness: Randomness) -> str:
    """Return the argon2id hash with its salt and parameters. Raises `UnfitPassword`."""
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise UnfitPassword(f"a password has {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters")
    return hash_secret(
        password.encode(),
        randomness.token_bytes(SALT_BYTES),
        time_cost=ROUNDS,
        memory_cost=MEMORY_KIB,
        parallelism=LANES,
        hash_len=HASH_BYTES,
        type=Type.ID,
    ).decode()


def is_password(password: str, password_hash: str | None) -> bool:
    """Tell whether the password is right; without a hash to compare, the same work is done for nothing."""
    try:
        return verify_secret((password_hash or _NOBODY).encode(), password[:PASSWORD_CHARACTERS_MAX].encode(), Type.ID)
    except (VerificationError, InvalidHashError):
        return False


_NOBODY: Final = hash_secret(
    b"nobody's password",
    bytes(SALT_BYTES),
    time_cost=ROUNDS,
    memory_cost=MEMORY_KIB,
    parallelism=LANES,
    hash_len=HASH_BYTES,
    type=Type.ID,
).decode()
"""Compared with when there is no such driver, so that the time taken does not tell."""
