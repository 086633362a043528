"""What a leaf's `meter` stands for: the signed records of one charge, in the bytes that a contract can judge.

Apart from the evidence record, so that a quarrel about the meter opens the meter's word and no retail price. Whoever is
shown the commitment learns nothing; both companies can make it again, for both have the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from emobility.domain.batch.hashing import METER_PREFIX, commitment
from emobility.domain.errors import MalformedInput
from emobility.domain.personal import Sealed

KEY_BYTES_MAX: Final = 255
SIGNATURE_BYTES_MAX: Final = 255
PAYLOAD_BYTES_MAX: Final = 2**32 - 1


class MalformedMeterRecord(MalformedInput):
    """A part of a meter's record is longer than its length can say, or there is none."""


class MeterCurve(IntEnum):
    """The curve of a meter's key, as far as a contract can check signatures on it."""

    OTHER = 0
    """Key and signature as they came; only an arbiter can judge them."""
    SECP256R1 = 1
    """Key: x and y. Signature: r and s. 32 bytes each; SHA-256 of the payload is signed."""
    SECP256K1 = 2
    """Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPayload:
    """What the meter wrote and its signature over these very bytes."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRecord:
    """All signed records of a charge, in the order in which the CDR has them, and the key pinned for the meter."""

    curve: MeterCurve
    public_key: bytes
    signed: tuple[SignedPayload, ...]

    @property
    def packed(self) -> bytes:
        """Curve u8, key with its length u8, then payload with its length u32 and signature with its length u8, each.

        Raises:
            MalformedMeterRecord: there is no record, or a part is too long.
        """
        if not self.signed:
            raise MalformedMeterRecord("a meter's record has a payload")
        parts = [bytes([self.curve]), _sized(self.public_key, 1, KEY_BYTES_MAX)]
        for each in self.signed:
            parts += [_sized(each.payload, 4, PAYLOAD_BYTES_MAX), _sized(each.signature, 1, SIGNATURE_BYTES_MAX)]
        return b"".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterCommitted:
    """An MSP's commitment to the signed records of a CDR that it accepted.

    Attributes:
        commitment: What the leaf says.
        public_key: Of the meter, hex, as the MSP has it pinned; else the CDR's own.
        salt: 32 bytes in hex, for the two parties; sealed under the driver's key.
    """

    commitment: bytes
    public_key: str
    salt: Sealed


def meter_commitment(record: MeterRecord, *, salt: bytes) -> bytes:
    """Return what stands for a meter's record in a leaf. Raises `MalformedMeterRecord`."""
    return commitment(record.packed, salt=salt, prefix=METER_PREFIX)


def _sized(part: bytes, length_bytes: int, most: int) -> bytes:
    if len(part) > most:
        raise MalformedMeterRecord(f"{len(part)} bytes; at most {most} can be told")
    return len(part).to_bytes(length_bytes, "big") + part
