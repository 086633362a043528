"""A station's own key and certificate, and the roots it trusts (OCPP 2.x, blocks A and M; 1.6 security extension).

The key is made when a CSR is wanted first, so a station that needs none costs nothing. What the CSMS signs is taken
only if it is for that key.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station

ROOTS_MAX: Final = 20
OWN_CERTIFICATE: Final = "ChargingStationCertificate"


class Certificates(Concept):
    """`chain` is what the CSMS signed last, in PEM; `roots` are by kind and hash data."""

    says_kind = True

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.chain: str | None = None
        self.roots: list[tuple[str, dict[str, str]]] = []
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._requests = 0

    def commands(self) -> Commands:
        """The four of both versions."""
        return {
            "CertificateSigned": self._signed,
            "InstallCertificate": self._install,
            "DeleteCertificate": self._delete,
            "GetInstalledCertificateIds": self._installed,
        }

    def request(self, kind: str = OWN_CERTIFICATE) -> None:
        """Ask the CSMS to sign the station's key."""
        self._requests += 1
        told: dict[str, Any] = {"csr": self.csr()}
        if self.says_kind:
            told["certificateType"] = kind
        if self.station.numbers_its_certificate_requests:
            told["requestId"] = self._requests
        self.station.tell("SignCertificate", told)

    def csr(self) -> str:
        """Return a request for a certificate of the station, in PEM; the key stays the same."""
        if self._key is None:
            self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, self.station.profile.charging_station_id),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.station.profile.party_id.code),
            ]
        )
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, hashes.SHA256())
        return request.public_bytes(Encoding.PEM).decode()

    def _signed(self, payload: Payload) -> Reply:
        try:
            first, *_ = x509.load_pem_x509_certificates(payload["certificateChain"].encode())
        except ValueError:
            return Reply(payload={"status": "Rejected"})
        if self._key is None or _public(first.public_key()) != _public(self._key.public_key()):
            return Reply(payload={"status": "Rejected"})
        self.chain = payload["certificateChain"]
        return Reply(payload={"status": "Accepted"})

    def _install(self, payload: Payload) -> Reply:
        try:
            root = x509.load_pem_x509_certificate(payload["certificate"].encode())
        except ValueError:
            return Reply(payload={"status": "Rejected"})
        entry = (payload["certificateType"], hash_data(root))
        if entry not in self.roots:
            if len(self.roots) >= ROOTS_MAX:
                return Reply(payload={"status": "Failed"})
            self.roots.append(entry)
        return Reply(payload={"status": "Accepted"})

    def _delete(self, payload: Payload) -> Reply:
        wanted = {name: value for name, value in payload["certificateHashData"].items() if name != "customData"}
        kept = [each for each in self.roots if each[1] != wanted]
        was_there = len(kept) < len(self.roots)
        self.roots = kept
        return Reply(payload={"status": "Accepted" if was_there else "NotFound"})

    def _found(self, kinds: list[str] | None) -> list[tuple[str, dict[str, str]]]:
        return [each for each in self.roots if kinds is None or each[0] in kinds]

    def _installed(self, payload: Payload) -> Reply:
        found = self._found(payload.get("certificateType"))
        if not found:
            return Reply(payload={"status": "NotFound"})
        chains = [{"certificateType": kind, "certificateHashData": data} for kind, data in found]
        return Reply(payload={"status": "Accepted", "certificateHashDataChain": chains})


class Certificates16(Certificates):
    """In the words of 1.6."""

    says_kind = False

    def _installed(self, payload: Payload) -> Reply:
        found = self._found([payload["certificateType"]])
        if not found:
            return Reply(payload={"status": "NotFound"})
        return Reply(payload={"status": "Accepted", "certificateHashData": [data for _, data in found]})


def hash_data(certificate: x509.Certificate) -> dict[str, str]:
    """Return what names a certificate in OCPP (CertificateHashDataType); a root is its own issuer."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    issuer = certificate.issuer.public_bytes()
    return {
        "hashAlgorithm": "SHA256",
        "issuerNameHash": hashlib.sha256(issuer).hexdigest(),
        "issuerKeyHash": hashlib.sha256(key).hexdigest(),
        "serialNumber": f"{certificate.serial_number:x}",
    }


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
