"""A meter that signs, written from the OCMF text for the tests alone; the product has no signer."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.ocmf.koblitz import SigningKey


class Meter:
    """A meter with its own key, written from the OCMF text for these tests alone.

    `encoding` is how it writes its signatures, "hex" or "base64".
    """

    def __init__(self, curve: ec.EllipticCurve | None = None, serial: str = "EM1", *, encoding: str = "hex") -> None:
        self.curve = curve or ec.SECP256R1()
        self.key = ec.generate_private_key(self.curve)
        self.serial = serial
        self.encoding = encoding

    @property
    def public_key(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.DER, form).hex()

    @property
    def curve_name(self) -> str:
        """As OCMF writes it."""
        return self.curve.name.replace("brainpoolP", "brainpool")

    def signature_of(self, payload: bytes) -> bytes:
        return self.key.sign(payload, ec.ECDSA(hashes.SHA256()))

    def sign(self, payload: str) -> str:
        data = self.signature_of(payload.encode())
        signature = {"SA": f"ECDSA-{self.curve_name}-SHA256", "SD": data.hex()}
        if self.encoding == "base64":
            signature |= {"SE": "base64", "SD": base64.b64encode(data).decode()}
        return f"OCMF|{payload}|{json.dumps(signature, separators=(',', ':'))}"

    def record(self, page: int, *readings: dict[str, Any], **changes: Any) -> str:
        fields = {
            "FV": "1.0",
            "GS": "GW7",
            "PG": f"T{page}",
            "MV": "Acme",
            "MS": self.serial,
            "IS": True,
            "IL": "VERIFIED",
        }
        fields |= {"IF": ["RFID_PLAIN"], "IT": "ISO14443", "ID": "04A1B2C3", **changes, "RD": list(readings)}
        return self.sign(re.sub(r'"RV":"([^"]*)#"', r'"RV":\1', json.dumps(fields, separators=(",", ":"))))


class MeterOf192k1(Meter):
    """A meter on the one curve that OpenSSL's users lack."""

    def __init__(self, *, encoding: str = "hex") -> None:
        super().__init__(encoding=encoding)
        self.own_key = SigningKey()

    @property
    def public_key(self) -> str:
        return self.own_key.public_der.hex()

    @property
    def curve_name(self) -> str:
        return "secp192k1"

    def signature_of(self, payload: bytes) -> bytes:
        return self.own_key.sign(payload)


def meters() -> list[Meter]:
    """One meter per curve of OCMF, half of them writing hex and half base64."""
    curves: list[ec.EllipticCurve] = [
        ec.SECP256K1(),
        ec.SECP192R1(),
        ec.SECP256R1(),
        ec.SECP384R1(),
        ec.BrainpoolP256R1(),
        ec.BrainpoolP384R1(),
    ]
    of_openssl = [Meter(curve, encoding="base64" if place % 2 else "hex") for place, curve in enumerate(curves)]
    return [MeterOf192k1(encoding="base64"), *of_openssl]


def value(context: str, kwh: str, minute: int, **changes: Any) -> dict[str, Any]:
    """`RV` is a JSON number written exactly as given; the mark is taken out after encoding."""
    reading = {"TM": f"2022-03-27T10:{minute:02}:00,000+0200 S", "TX": context, "RV": f"{kwh}#", "RI": "01-00:B0.08.00"}
    return {**reading, "RU": "kWh", "RT": "AC", "EF": "", "ST": "G", **changes}
