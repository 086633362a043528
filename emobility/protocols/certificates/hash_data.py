"""CertificateHashData of OCPP: how a certificate is named without showing it (2.0.1 part 2, data types)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, Hash, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from emobility.domain.errors import MalformedInput

HASHES: Final[Mapping[str, type[HashAlgorithm]]] = {"SHA256": SHA256, "SHA384": SHA384, "SHA512": SHA512}
SERIAL_NUMBER_BYTES_MAX: Final = 20
"""RFC 5280, 4.1.2.2."""


class NoHashData(MalformedInput):
    """A certificate's hash data that name none: no hexadecimal digits, or hashes of another length."""


@dataclass(frozen=True, slots=True)
class CertificateHashData:
    """Names a certificate by its issuer and serial number; `algorithm` is OCPP's word for the hash."""

    algorithm: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """Read it in OCPP's words. Raises `NoHashData`."""
        try:
            read = cls(
                algorithm=told["hashAlgorithm"],
                issuer_name_hash=bytes.fromhex(told["issuerNameHash"]),
                issuer_key_hash=bytes.fromhex(told["issuerKeyHash"]),
                serial_number=int.from_bytes(bytes.fromhex(told["serialNumber"].rjust(40, "0"))),
            )
        except ValueError as error:
            raise NoHashData("hashes and serial number are hexadecimal digits") from error
        size = HASHES[read.algorithm]().digest_size
        if not len(read.issuer_name_hash) == len(read.issuer_key_hash) == size or read.serial_number == 0:
            raise NoHashData(f"a hash by {read.algorithm} has {size} bytes, and no certificate has the number 0")
        return read

    @classmethod
    def of(cls, serial_number: int, issuer: x509.Certificate, algorithm: str = "SHA256") -> Self:
        """Name the certificate of this number that `issuer` issued. Raises `NoHashData` for a key of another kind."""
        return cls(algorithm, *issuer_hashes(issuer, HASHES[algorithm]()), serial_number)

    def written(self) -> dict[str, str]:
        """Write it in OCPP's words: no leading zeros in the serial number (2.0.1 part 2, CertificateHashDataType)."""
        return {
            "hashAlgorithm": self.algorithm,
            "issuerNameHash": self.issuer_name_hash.hex(),
            "issuerKeyHash": self.issuer_key_hash.hex(),
            "serialNumber": f"{self.serial_number:x}",
        }

    def issuer_among(self, certificates: Iterable[x509.Certificate]) -> x509.Certificate | None:
        """Return the certificate whose name and key are hashed here."""
        for each in certificates:
            try:
                hashes = issuer_hashes(each, HASHES[self.algorithm]())
            except NoHashData:
                continue
            if hashes == (self.issuer_name_hash, self.issuer_key_hash):
                return each
        return None


def issuer_hashes(issuer: x509.Certificate, algorithm: HashAlgorithm) -> tuple[bytes, bytes]:
    """Return the hashes of an issuer's name and key (RFC 6960, 4.1.1). Raises `NoHashData` for another kind of key."""
    key = issuer.public_key()
    if isinstance(key, EllipticCurvePublicKey):
        bits = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    elif isinstance(key, RSAPublicKey):
        bits = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    else:
        raise NoHashData("a CA's key is RSA or EC")
    return _hashed(issuer.subject.public_bytes(), algorithm), _hashed(bits, algorithm)


def _hashed(data: bytes, algorithm: HashAlgorithm) -> bytes:
    hashing = Hash(algorithm)
    hashing.update(data)
    return hashing.finalize()
