"""Signed meter values in the Open Charge Metering Format 1.4 (S.A.F.E. e.V.): `OCMF|payload|signature`.

An independent writer: it shares no code with the verifier of the back office. ECDSA over secp256r1 with SHA-256 and
nonces after RFC 6979, so that the same charge gives the same bytes in every run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIGNATURE_ALGORITHM: Final = "ECDSA-secp256r1-SHA256"
IMPORT_REGISTER: Final = "1-b:1.8.0"
"""OBIS code: energy imported by the vehicle, total."""
# Order of the group of secp256r1 (SEC 2, 2.4.2); a private key lies below it.
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class MeterKey:
    """The private key inside one meter, made from a seed, and its public half."""

    def __init__(self, seed: str) -> None:
        secret = int.from_bytes(hashlib.sha512(f"meter key {seed}".encode()).digest(), "big") % (_ORDER - 1) + 1
        self._key = ec.derive_private_key(secret, ec.SECP256R1())

    @property
    def public_hex(self) -> str:
        """SubjectPublicKeyInfo in DER, hex: what is printed on the meter and pinned at the CPO."""
        return (
            self._key.public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            .hex()
        )

    def sign(self, data: bytes) -> str:
        """Return the DER signature, hex; the same data give the same signature."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReading:
    """What goes into one record. `tx` is B at the begin and E at the end of a charge."""

    page: int
    tx: str
    at: datetime
    register_wh: int
    id_token: str
    id_kind: str


class SigningMeter:
    """The signing part of one EVSE's meter. Its page number rises by exactly one with each record."""

    def __init__(
        self, *, serial: str, evse_name: str, key: MeterKey, time_zone: str, first_page: int = 1, is_dc: bool = False
    ) -> None:
        self._serial = serial
        self._current = "DC" if is_dc else "AC"
        self._evse_name = evse_name
        self._key = key
        self._zone = ZoneInfo(time_zone)
        self._next_page = first_page

    @property
    def public_hex(self) -> str:
        """The key to pin."""
        return self._key.public_hex

    def record(self, *, tx: str, at: datetime, register_wh: int, id_token: str, id_kind: str) -> str:
        """Sign one reading and return the record's text."""
        reading = SignedReading(
            page=self._next_page, tx=tx, at=at, register_wh=register_wh, id_token=id_token, id_kind=id_kind
        )
        self._next_page += 1
        payload = self._payload(reading)
        signature = {"SA": SIGNATURE_ALGORITHM, "SD": self._key.sign(payload.encode())}
        return f"OCMF|{payload}|{json.dumps(signature, separators=(',', ':'))}"

    def _payload(self, reading: SignedReading) -> str:
        head = {
            "FV": "1.0",
            "GI": "Wattroam Simulated Gateway",
            "GS": self._serial,
            "GV": "1.0",
            "PG": f"T{reading.page}",
            "MV": "Wattroam",
            "MM": "Simulated Meter",
            "MS": self._serial,
            "MF": "1.0",
            "IS": True,
            "IL": "TRUSTED",
            "IF": ["RFID_PLAIN", "OCPP_RS"] if reading.id_kind == "ISO14443" else ["OCPP_RS"],
            "IT": reading.id_kind,
            "ID": reading.id_token,
            "CT": "EVSEID",
            "CI": self._evse_name,
        }
        body = json.dumps(head, separators=(",", ":"))
        return f'{body[:-1]},"RD":[{self._reading(reading)}]}}'

    def _reading(self, reading: SignedReading) -> str:
        # The number is written by hand: its text is what is signed, and three decimals of kWh are whole Wh.
        local = reading.at.astimezone(self._zone)
        moment = f"{local:%Y-%m-%dT%H:%M:%S},{local.microsecond // 1000:03d}{local:%z} S"
        value = f"{reading.register_wh // 1000}.{reading.register_wh % 1000:03d}"
        return (
            f'{{"TM":"{moment}","TX":"{reading.tx}","RV":{value},"RI":"{IMPORT_REGISTER}",'
            f'"RU":"kWh","RT":"{self._current}","EF":"","ST":"G"}}'
        )


def forged(record: str) -> str:
    """Return the record with one bit of its register value flipped and the signature left as it was."""
    start = record.index('"RV":') + len('"RV":')
    end = record.index(",", start)
    value = record[start:end]
    # The lowest bit of the first digit left of the point: the value stays a number and moves by one kWh.
    place = value.index(".") - 1
    flipped = chr(ord(value[place]) ^ 1)
    return f"{record[:start]}{value[:place]}{flipped}{value[place + 1 :]}{record[end:]}"
