"""ECDSA verification over the Koblitz curves of SEC 2, for secp192k1, which OpenSSL's users lack and meters still use.

It only verifies, from public values, so its running time gives nothing away.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

_Jacobian = tuple[int, int, int]
_INFINITY: Final[_Jacobian] = (0, 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class KoblitzCurve:
    """y² = x³ + b over a prime field, with one generator of prime order, no cofactor; coordinates have `size` bytes."""

    size: int
    prime: int
    b: int
    generator: tuple[int, int]
    order: int

    def has(self, x: int, y: int) -> bool:
        """Tell whether a point lies on the curve."""
        return max(x, y) < self.prime and (y * y - x * x * x - self.b) % self.prime == 0

    def is_signed(self, data: bytes, r: int, s: int, *, public: tuple[int, int]) -> bool:
        """Verify a signature over the SHA-256 of `data` by a point that lies on the curve (SEC 1, 4.1.4)."""
        if not (0 < r < self.order and 0 < s < self.order):
            return False
        digest = int.from_bytes(hashlib.sha256(data).digest(), "big") >> max(0, 256 - self.order.bit_length())
        inverse = pow(s, -1, self.order)
        x, _, z = self._sum_of(digest * inverse % self.order, r * inverse % self.order, public)
        return z != 0 and x * pow(z * z, -1, self.prime) % self.prime % self.order == r

    def _sum_of(self, of_generator: int, of_point: int, point: tuple[int, int]) -> _Jacobian:
        """Return `of_generator` times the generator plus `of_point` times the point, both bit by bit at once."""
        generator, other = (*self.generator, 1), (*point, 1)
        added = {(1, 0): generator, (0, 1): other, (1, 1): self._add(generator, other)}
        total = _INFINITY
        for place in reversed(range(self.order.bit_length())):
            total = self._double(total)
            bits = (of_generator >> place & 1, of_point >> place & 1)
            if bits in added:
                total = self._add(total, added[bits])
        return total

    def _double(self, point: _Jacobian) -> _Jacobian:
        p = self.prime
        x, y, z = point
        if z == 0 or y == 0:
            return _INFINITY
        yy = y * y % p
        s, m = 4 * x * yy % p, 3 * x * x % p
        doubled = (m * m - 2 * s) % p
        return doubled, (m * (s - doubled) - 8 * yy * yy) % p, 2 * y * z % p

    def _add(self, one: _Jacobian, other: _Jacobian) -> _Jacobian:
        p = self.prime
        (x1, y1, z1), (x2, y2, z2) = one, other
        if z1 == 0 or z2 == 0:
            return other if z1 == 0 else one
        z1z1, z2z2 = z1 * z1 % p, z2 * z2 % p
        u1, u2 = x1 * z2z2 % p, x2 * z1z1 % p
        s1, s2 = y1 * z2 * z2z2 % p, y2 * z1 * z1z1 % p
        if u1 == u2:
            return self._double(one) if s1 == s2 else _INFINITY
        h, r = (u2 - u1) % p, (s2 - s1) % p
        hh = h * h % p
        hhh, v = h * hh % p, u1 * hh % p
        x3 = (r * r - hhh - 2 * v) % p
        return x3, (r * (v - x3) - s1 * hhh) % p, z1 * z2 * h % p


SECP192K1: Final = KoblitzCurve(
    size=24,
    prime=2**192 - 2**32 - 2**12 - 2**8 - 2**7 - 2**6 - 2**3 - 1,
    b=3,
    generator=(
        0xDB4FF10E_C057E9AE_26B07D02_80B7F434_1DA5D1B1_EAE06C7D,
        0x9B2F2F6D_9C5628A7_844163D0_15BE8634_4082AA88_D95E2F9D,
    ),
    order=0xFFFFFFFF_FFFFFFFF_FFFFFFFE_26F2FC17_0F69466A_74DEFD8D,
)
"""SEC 2 version 2.0, 2.2.1."""
