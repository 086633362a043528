"""Signing on secp192k1, in affine coordinates and for tests alone: written apart from what verifies it."""

from __future__ import annotations

import hashlib
import secrets

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

P = 2**192 - 2**32 - 4553
N = 0xFFFFFFFFFFFFFFFFFFFFFFFE26F2FC170F69466A74DEFD8D
G = (0xDB4FF10EC057E9AE26B07D0280B7F4341DA5D1B1EAE06C7D, 0x9B2F2F6D9C5628A7844163D015BE86344082AA88D95E2F9D)
Point = tuple[int, int] | None


def add(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return one or other
    if one[0] == other[0]:
        if (one[1] + other[1]) % P == 0:
            return None
        slope = 3 * one[0] * one[0] * pow(2 * one[1], -1, P)
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, P)
    x = (slope * slope - one[0] - other[0]) % P
    return x, (slope * (one[0] - x) - one[1]) % P


def times(number: int) -> tuple[int, int]:
    total: Point = None
    for bit in f"{number:b}":
        total = add(total, total)
        if bit == "1":
            total = add(total, G)
    assert total is not None
    return total


class SigningKey:
    def __init__(self) -> None:
        self.secret = secrets.randbelow(N - 1) + 1
        x, y = times(self.secret)
        self.public_der = bytes.fromhex(f"3046301006072a8648ce3d020106052b8104001f03320004{x:048x}{y:048x}")

    def sign(self, data: bytes) -> bytes:
        nonce = secrets.randbelow(N - 1) + 1
        r = times(nonce)[0] % N
        digest = int.from_bytes(hashlib.sha256(data).digest()[:24], "big")
        return encode_dss_signature(r, pow(nonce, -1, N) * (digest + r * self.secret) % N)
