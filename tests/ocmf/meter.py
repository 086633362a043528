"""A meter that signs, written from the OCMF text for the tests alone; the product has no signer."""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Meter:
    """A meter with its own key, written from the OCMF text for these tests alone."""

    def __init__(self, curve: ec.EllipticCurve | None = None, serial: str = "EM1") -> None:
        self.curve = curve or ec.SECP256R1()
        self.key = ec.generate_private_key(self.curve)
        self.serial = serial

    @property
    def public_key(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.DER, form).hex()

    def sign(self, payload: str) -> str:
        data = self.key.sign(payload.encode(), ec.ECDSA(hashes.SHA256()))
        name = "brainpool256r1" if self.curve.name == "brainpoolP256r1" else self.curve.name
        signature = {"SA": f"ECDSA-{name}-SHA256", "SD": data.hex()}
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
        return self.sign(json.dumps(fields, separators=(",", ":")).replace('"RV":"', '"RV":').replace('#"', ""))


def value(context: str, kwh: str, minute: int, **changes: Any) -> dict[str, Any]:
    """`RV` is a JSON number written exactly as given; the mark is taken out after encoding."""
    reading = {"TM": f"2022-03-27T10:{minute:02}:00,000+0200 S", "TX": context, "RV": f"{kwh}#", "RI": "01-00:B0.08.00"}
    return {**reading, "RU": "kWh", "RT": "AC", "EF": "", "ST": "G", **changes}
