"""The trees again, from their definition and in another style, and Keccak from its specification: slow and plain.

An odd last node that moves up unchanged gives the shape of RFC 6962: left of the root stands the largest power of two
below the count. So this oracle recurses from the root down, where the product works from the leaves up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from emobility.domain.batch.leaf import Leaf

MASK: Final = (1 << 64) - 1
ROUNDS: Final = 24
RATE_BYTES: Final = 136


def rotated(lane: int, places: int) -> int:
    return (lane << places | lane >> (64 - places)) & MASK if places else lane


def round_constants() -> list[int]:
    """FIPS 202, algorithm 5: bits of a linear feedback shift register."""
    register, constants = 1, []
    for _ in range(ROUNDS):
        constant = 0
        for place in range(7):
            if register & 1:
                constant |= 1 << ((1 << place) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


CONSTANTS: Final = round_constants()


def permuted(lanes: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    for constant in CONSTANTS:
        columns = [lanes[x, 0] ^ lanes[x, 1] ^ lanes[x, 2] ^ lanes[x, 3] ^ lanes[x, 4] for x in range(5)]
        effect = [columns[x - 1] ^ rotated(columns[(x + 1) % 5], 1) for x in range(5)]
        lanes = {(x, y): lane ^ effect[x] for (x, y), lane in lanes.items()}
        x, y, current, moved = 1, 0, lanes[1, 0], {(0, 0): lanes[0, 0]}
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            moved[x, y], current = rotated(current, (step + 1) * (step + 2) // 2 % 64), lanes[x, y]
        lanes = {
            (x, y): lane ^ (~moved[(x + 1) % 5, y] & MASK & moved[(x + 2) % 5, y]) for (x, y), lane in moved.items()
        }
        lanes[0, 0] ^= constant
    return lanes


def keccak(message: bytes) -> bytes:
    """The original Keccak padding (0x01 … 0x80), as Ethereum keeps it."""
    padded = bytearray(message + b"\x01" + bytes(-(len(message) + 1) % RATE_BYTES))
    padded[-1] |= 0x80
    lanes = {(x, y): 0 for x in range(5) for y in range(5)}
    for start in range(0, len(padded), RATE_BYTES):
        for place in range(RATE_BYTES // 8):
            word = padded[start + 8 * place : start + 8 * place + 8]
            lanes[place % 5, place // 5] ^= int.from_bytes(word, "little")
        lanes = permuted(lanes)
    return b"".join(lanes[x, 0].to_bytes(8, "little") for x in range(4))


def big_endian(number: int, size: int) -> bytes:
    return number.to_bytes(size, "big")


def evidence_leaf(leaf: Leaf) -> bytes:
    parts = (
        big_endian(0, 1),
        big_endian(leaf.kind, 1),
        leaf.cdr_key,
        big_endian(leaf.import_wh, 8),
        big_endian(leaf.export_wh, 8),
        leaf.commitment,
        leaf.meter,
    )
    return keccak(b"".join(parts))


def split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def evidence_root(leaves: Sequence[Leaf]) -> bytes:
    ordered = sorted(leaves, key=lambda leaf: leaf.cdr_key)

    def root(part: Sequence[Leaf]) -> bytes:
        if len(part) == 1:
            return evidence_leaf(part[0])
        middle = split(len(part))
        return keccak(b"\x01" + root(part[:middle]) + root(part[middle:]))

    return root(ordered)


def sum_root(leaves: Sequence[Leaf]) -> tuple[bytes, int, int]:
    ordered = sorted(leaves, key=lambda leaf: leaf.cdr_key)

    def root(part: Sequence[Leaf]) -> tuple[bytes, int, int]:
        if len(part) == 1:
            leaf = part[0]
            amounts = big_endian(leaf.due_e4, 8) + big_endian(leaf.credit_e4, 8)
            return keccak(b"\x00" + evidence_leaf(leaf) + amounts), leaf.due_e4, leaf.credit_e4
        middle = split(len(part))
        halves = root(part[:middle]), root(part[middle:])
        nodes = b"".join(h + big_endian(due, 8) + big_endian(credit, 8) for h, due, credit in halves)
        return keccak(b"\x01" + nodes), halves[0][1] + halves[1][1], halves[0][2] + halves[1][2]

    return root(ordered)
