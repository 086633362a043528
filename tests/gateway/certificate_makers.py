"""Certificates as others make them: CAs, gateways, stations; good ones and those that must open nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from charge_point_gateway.certificates import Authority, read_authority, revocation_list
from emobility.adapters.system import SystemClock

NOW: Final = SystemClock().now().replace(microsecond=0)
DAY: Final = timedelta(days=1)
UNUSED_BY_CAS: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "encipher_only",
    "decipher_only",
)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def name(common_name: str | None, organization: str | None = None) -> x509.Name:
    parts = [(NameOID.ORGANIZATION_NAME, organization), (NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value is not None])


class CA:
    """A CA; `below` makes it an intermediate one."""

    def __init__(self, common_name: str, *, below: CA | None = None) -> None:
        self.key = new_key()
        self.certificate = self._own(common_name, below)
        self.above: list[x509.Certificate] = [] if below is None else [below.certificate, *below.above]

    def _own(self, common_name: str, below: CA | None) -> x509.Certificate:
        usage = dict.fromkeys(UNUSED_BY_CAS, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(common_name))
            .issuer_name(name(common_name) if below is None else below.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + 1_000 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        )
        return builder.sign(self.key if below is None else below.key, SHA256())

    def leaf(
        self,
        subject: x509.Name,
        key: Any,
        *,
        names: list[x509.GeneralName] | None = None,
        ends: timedelta = 90 * DAY,
        is_server: bool = False,
    ) -> x509.Certificate:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if is_server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 10 * DAY)
            .not_valid_after(NOW + ends)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, SHA256())

    def revocations(self, *revoked: x509.Certificate, ends: timedelta = 30 * DAY) -> bytes:
        serials = [(each.serial_number, NOW - DAY) for each in revoked]
        made = revocation_list(self.authority(), serials, issued_at=NOW - 2 * DAY, next_update=NOW + ends)
        return made.public_bytes(Encoding.PEM)

    def authority(self) -> Authority:
        return read_authority(pem(self.certificate, *self.above), key_pem(self.key))


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def key_pem(key: Any) -> bytes:
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made


def new_rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


def csr(key: Any, subject: x509.Name, hash_algorithm: Any = None, names: list[x509.GeneralName] | None = None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hash_algorithm or SHA256()).public_bytes(Encoding.PEM).decode()


def kept(folder: Path, file: str, content: bytes) -> Path:
    path = folder / file
    path.write_bytes(content)
    return path
