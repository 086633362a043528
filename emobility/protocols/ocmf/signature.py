"""Keys and signatures of meters: ECDSA with SHA-256 over the seven curves of OCMF 1.4.1 (table 22).

A key has one form here, DER SubjectPublicKeyInfo in lower-case hex, whatever way it was printed on the meter or written
into a register. What nobody can take for a key of these curves is refused when it is entered, not when a driver leaves.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from emobility.protocols.ocmf.refusals import OCMFRefused, OCMFRule
from emobility.protocols.ocmf.secp192k1 import SECP192K1

KEY_CHARACTERS_MAX: Final = 1_000
"""A DER key of 384 bits takes 248 hex digits; printed with spaces and line breaks it stays well below."""
DEFAULT_METHOD: Final = "ECDSA-secp256r1-SHA256"
_METHOD: Final = re.compile(r"ECDSA-([A-Za-z0-9]+)-SHA256")
_BY_NAME: Final[dict[str, ec.EllipticCurve]] = {
    "secp192r1": ec.SECP192R1(),
    "secp256k1": ec.SECP256K1(),
    "secp256r1": ec.SECP256R1(),
    "secp384r1": ec.SECP384R1(),
    "brainpool256r1": ec.BrainpoolP256R1(),
    "brainpool384r1": ec.BrainpoolP384R1(),
}
CURVES: Final = ("secp192k1", *_BY_NAME)
# SEQUENCE { SEQUENCE { id-ecPublicKey, 1.3.132.0.31 }, BIT STRING { uncompressed point } }; OpenSSL's users lack it.
_SECP192K1_HEAD: Final = bytes.fromhex("3046301006072a8648ce3d020106052b8104001f033200") + b"\x04"
_UNCOMPRESSED: Final = 4
_IsSigned = Callable[[bytes, bytes], bool]


def meter_key(text: str) -> str:
    """Return a meter's public key in its one form.

    Args:
        text: DER SubjectPublicKeyInfo or a bare point (with or without its leading 04), in hex or base64, spaces and
            line breaks as they come; or PEM. A bare point tells its curve: it lies on one of them only.

    Raises:
        OCMFRefused: it is no key of these curves.
    """
    if len(text) > KEY_CHARACTERS_MAX:
        raise OCMFRefused(OCMFRule.PUBLIC_KEY, f"{len(text)} characters")
    data = _decoded(re.sub(r"-----(BEGIN|END) PUBLIC KEY-----|[\s:]", "", text))
    return _canonical(data).hex()


def is_signed(payload: bytes, signature: bytes, *, method: str, public_key_hex: str) -> bool:
    """Tell whether a payload bears the signature of a key.

    Args:
        payload: The signed bytes.
        signature: DER, or `r` and `s` of the curve's length one after the other, as some meters write it.
        method: OCMF `SA`.
        public_key_hex: As `meter_key` returns it, or in another form that it reads.

    Raises:
        OCMFRefused: the key is none, or of another curve than the method.
    """
    curve, size, check = _loaded(public_key_hex)
    named = _METHOD.fullmatch(method)
    # Key libraries write brainpoolP256r1, OCMF brainpool256r1.
    if named is None or named[1].replace("brainpoolP", "brainpool") != curve:
        raise OCMFRefused(OCMFRule.SIGNATURE, f"SA is {method}, the pinned key of curve {curve}")
    if check(signature, payload):
        return True
    if len(signature) != 2 * size:
        return False
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    return check(utils.encode_dss_signature(r, s), payload)


def _decoded(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise OCMFRefused(OCMFRule.PUBLIC_KEY, "neither hex nor base64") from error


def _canonical(data: bytes) -> bytes:
    if data[:1] == b"\x30":
        return _der(data)
    point = data[1:] if data[:1] == bytes([_UNCOMPRESSED]) and len(data) % 2 else data
    size = len(point) // 2
    x, y = int.from_bytes(point[:size], "big"), int.from_bytes(point[size:], "big")
    found = []
    if size == SECP192K1.size and SECP192K1.has(x, y):
        found.append(_SECP192K1_HEAD + point)
    for curve in _BY_NAME.values():
        if (curve.key_size + 7) // 8 == size:
            try:
                found.append(_written(ec.EllipticCurvePublicNumbers(x, y, curve).public_key()))
            except ValueError:
                continue
    if len(found) != 1:
        raise OCMFRefused(OCMFRule.PUBLIC_KEY, f"{len(data)} bytes that are a point of {len(found)} curves")
    return found[0]


def _der(data: bytes) -> bytes:
    if data.startswith(_SECP192K1_HEAD):
        _secp192k1_point(data)
        return data
    try:
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OCMFRefused(OCMFRule.PUBLIC_KEY, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or _name_of(key) is None:
        raise OCMFRefused(OCMFRule.PUBLIC_KEY, "a key of none of the curves of OCMF")
    return _written(key)


def _written(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _name_of(key: ec.EllipticCurvePublicKey) -> str | None:
    return next((name for name, curve in _BY_NAME.items() if curve.name == key.curve.name), None)


def _secp192k1_point(data: bytes) -> tuple[int, int]:
    point, size = data.removeprefix(_SECP192K1_HEAD), SECP192K1.size
    x, y = int.from_bytes(point[:size], "big"), int.from_bytes(point[size:], "big")
    if len(point) != 2 * size or not SECP192K1.has(x, y):
        raise OCMFRefused(OCMFRule.PUBLIC_KEY, "no point of secp192k1")
    return x, y


@functools.lru_cache(maxsize=1_024)
def _loaded(text: str) -> tuple[str, int, _IsSigned]:
    """Return the curve's name, the bytes of a coordinate, and what checks a DER signature over data."""
    data = bytes.fromhex(meter_key(text))
    if data.startswith(_SECP192K1_HEAD):
        return "secp192k1", SECP192K1.size, functools.partial(_is_signed_192k1, _secp192k1_point(data))
    key = serialization.load_der_public_key(data)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    name = _name_of(key)
    assert name is not None
    return name, (key.key_size + 7) // 8, functools.partial(_is_signed, key)


def _is_signed(key: ec.EllipticCurvePublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _is_signed_192k1(point: tuple[int, int], signature: bytes, payload: bytes) -> bool:
    try:
        r, s = utils.decode_dss_signature(signature)
    except ValueError:
        return False
    return SECP192K1.is_signed(payload, r, s, public=point)
