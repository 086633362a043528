"""The signed records of a charge as a leaf commits to them: keys and signatures as plain numbers where a contract
can check them (`domain/batch/meter.py`).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from emobility.domain.batch.meter import MeterCurve, MeterRecord, SignedPayload
from emobility.protocols.ocmf.record import sections, strict_json
from emobility.protocols.ocmf.refusals import OCMFRefused, OCMFRule

_CURVES: Final = {SECP256R1.name: MeterCurve.SECP256R1, SECP256K1.name: MeterCurve.SECP256K1}


def meter_record(texts: Sequence[str], *, public_key: str) -> MeterRecord:
    """Return the records of a charge as a leaf commits to them; nothing is verified.

    Args:
        texts: As the meter wrote them, in the CDR's order.
        public_key: The meter's, DER SubjectPublicKeyInfo in hex.

    Raises:
        OCMFRefused: a text is no record, or the key is no hex.
    """
    try:
        written = bytes.fromhex(public_key)
    except ValueError as error:
        raise OCMFRefused(OCMFRule.MALFORMED, "the meter's key is not hex") from error
    curve, key = _plain_key(written)
    return MeterRecord(curve=curve, public_key=key, signed=tuple(_signed(text, curve) for text in texts))


def _plain_key(written: bytes) -> tuple[MeterCurve, bytes]:
    try:
        key = load_der_public_key(written)
    except (ValueError, UnsupportedAlgorithm):
        return MeterCurve.OTHER, written
    curve = _CURVES.get(key.curve.name) if isinstance(key, EllipticCurvePublicKey) else None
    if curve is None or not isinstance(key, EllipticCurvePublicKey):
        return MeterCurve.OTHER, written
    point = key.public_numbers()
    return curve, point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")


def _signed(text: str, curve: MeterCurve) -> SignedPayload:
    payload, signature_text = sections(text)
    fields = strict_json(signature_text)
    written = str(fields.get("SD", ""))
    try:
        signature = b64decode(written, validate=True) if fields.get("SE") == "base64" else bytes.fromhex(written)
    except ValueError as error:
        raise OCMFRefused(OCMFRule.SIGNATURE, "SD can't be read") from error
    return SignedPayload(
        payload=payload.encode(), signature=signature if curve is MeterCurve.OTHER else _plain_signature(signature)
    )


def _plain_signature(written: bytes) -> bytes:
    """Return r and s of a DER signature; of what is none, the bytes as they are, which no key signed."""
    try:
        r, s = decode_dss_signature(written)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    except (ValueError, OverflowError):
        return written
