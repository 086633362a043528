"""X.509 as stations use it (OCPP 2.0.1 part 2, A00 and A02): whom a certificate names, and which CSR may be signed.

A station's certificate names its party and itself, and nobody else:

- O is the party id (A00.FR.404 asks for the CPO's name there; ids are unique where names are not), given once;
- CN is the charging station id of the connection's path (A00.FR.405). A subject alternative name may say so instead or
  as well: a dNSName that is the id, or a URI whose path is the connection's, /ocpp/{party}/{station}.

One that names two stations opens neither: it can't be said whose it is. Nothing here does I/O or knows a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import MalformedPartyId, PartyId

RSA_BITS_MIN: Final = 2048
RSA_BITS_MAX: Final = 8192
"""A longer key would cost our CPU more than its station's."""
EC_BITS_MIN: Final = 224
"""As RSA of 2048 bits, 112 bits of security (OCPP 2.0.1 part 2, A00.FR.5xx)."""
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for what is not what it should be."""


class CertificateRequestRefused(RuleBroken):
    """A CSR that is not signed; the sentence says which rule it breaks."""


class UnusableAuthority(MalformedInput):
    """A certificate and a key that can't sign stations' certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA of our own.

    Attributes:
        certificate: Its certificate, which stations' certificates are issued by.
        intermediates_pem: What a station sends along so that others reach a root: its chain but for a root.
        key: Signs certificates and the revocation list.
    """

    certificate: x509.Certificate
    intermediates_pem: str
    key: RSAPrivateKey | EllipticCurvePrivateKey = field(repr=False)


def read_authority(chain_pem: bytes, key_pem: bytes) -> Authority:
    """Read a CA's chain, its own certificate first, and its key. Raises `UnusableAuthority`."""
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
        key = load_pem_private_key(key_pem, password=None)
    except UNREADABLE as error:
        raise UnusableAuthority("a PEM certificate and a PEM key without passphrase are needed") from error
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey) or not _is_key_of(key, chain[0]):
        raise UnusableAuthority("the key is not the RSA or EC key of the first certificate")
    if not _may_sign(chain[0]):
        raise UnusableAuthority("the first certificate is of no CA that may sign certificates and revocation lists")
    intermediates = [each for each in chain if each.issuer != each.subject]
    return Authority(
        certificate=chain[0],
        intermediates_pem="".join(each.public_bytes(Encoding.PEM).decode() for each in intermediates),
        key=key,
    )


def _is_key_of(key: RSAPrivateKey | EllipticCurvePrivateKey, certificate: x509.Certificate) -> bool:
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign and usage.crl_sign


def read_certificate(der: bytes) -> x509.Certificate | None:
    """Return a certificate, or None for one that only OpenSSL can read."""
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE:
        return None


def names_only(certificate: x509.Certificate, party_id: PartyId, charging_station_id: str) -> bool:
    """Tell whether a certificate names this station of this party, and nobody else."""
    try:
        return _named(certificate.subject, _alternative_names(certificate.extensions)) == {
            (party_id, charging_station_id)
        }
    except UNREADABLE:
        return False


def _alternative_names(extensions: x509.Extensions) -> x509.SubjectAlternativeName | None:
    try:
        return extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _named(subject: x509.Name, alternatives: x509.SubjectAlternativeName | None) -> set[tuple[PartyId | None, str]]:
    """Return every station that is named; a party of None is one that is no party id, or not one."""
    organizations = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    party_id = _party(organizations[0]) if len(organizations) == 1 else None
    stations = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    named = {(party_id, station) for station in stations}
    if alternatives is not None:
        named |= {(party_id, name) for name in alternatives.get_values_for_type(x509.DNSName)}
        for uri in alternatives.get_values_for_type(x509.UniformResourceIdentifier):
            _, _, path = urlsplit(uri).path.partition("/ocpp/")
            party, _, station = path.partition("/")
            named |= {(_party(unquote(party)), unquote(station)), (party_id, unquote(station))}
    return named


def _party(text: str) -> PartyId | None:
    try:
        return PartyId(text)
    except MalformedPartyId:
        return None


def read_request(csr_pem: str, party_id: PartyId, charging_station_id: str) -> x509.CertificateSigningRequest:
    """Read a station's CSR (RFC 2986, PEM) and hold it to the rules.

    Raises:
        CertificateRequestRefused: it can't be read, is not signed by its own key, its key or hash is weak, or it names
            anyone but this station of this party.
    """
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
        hash_algorithm = request.signature_hash_algorithm
        if isinstance(key, RSAPublicKey):
            is_strong = RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX
        else:
            is_strong = isinstance(key, EllipticCurvePublicKey) and key.curve.key_size >= EC_BITS_MIN
        if not is_strong:
            raise CertificateRequestRefused("a station's key is RSA of 2048 to 8192 bits, or EC of 224 bits or more")
        if hash_algorithm is None or isinstance(hash_algorithm, MD5 | SHA1):
            raise CertificateRequestRefused("a CSR is signed with SHA-256 or stronger")
        if not request.is_signature_valid:
            raise CertificateRequestRefused("the CSR is not signed by its own key")
        named = _named(request.subject, _alternative_names(request.extensions))
    except UNREADABLE as error:
        raise CertificateRequestRefused("this is no CSR in PEM") from error
    if named != {(party_id, charging_station_id)}:
        raise CertificateRequestRefused(f"the CSR has to name O={party_id.code}, CN={charging_station_id}, no other")
    return request


def signed_certificate(
    authority: Authority,
    request: x509.CertificateSigningRequest,
    *,
    party_id: PartyId,
    charging_station_id: str,
    serial_number: int,
    not_before: datetime,
    not_after: datetime,
) -> x509.Certificate:
    """Return a certificate for a TLS client; of the request only the key is taken over.

    Args:
        authority: Signs it, and outlives it: a later `not_after` is cut.
        request: As `read_request` let it pass.
        party_id: Becomes O.
        charging_station_id: Becomes CN.
        serial_number: Positive, unique, unguessable; at most 20 bytes (RFC 5280, 4.1.2.2).
        not_before: From when on it is valid.
        not_after: Until when.
    """
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, party_id.code),
            x509.NameAttribute(NameOID.COMMON_NAME, charging_station_id),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    key = request.public_key()
    own = authority.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(own.subject)
        .public_key(key)
        .serial_number(serial_number)
        .not_valid_before(max(not_before, own.not_valid_before_utc))
        .not_valid_after(min(not_after, own.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_key_identifier(own), critical=False)
    )
    return builder.sign(authority.key, SHA256())


def revocation_list(
    authority: Authority, revoked: Iterable[tuple[int, datetime]], *, issued_at: datetime, next_update: datetime
) -> x509.CertificateRevocationList:
    """Return the CA's list (RFC 5280, 5): serial numbers with the moment each was revoked."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(issued_at)
        .next_update(next_update)
        .add_extension(_key_identifier(authority.certificate), critical=False)
        .add_extension(x509.CRLNumber(int(issued_at.timestamp() * 1_000)), critical=False)
    )
    for serial_number, revoked_at in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(revoked_at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, SHA256())


def _key_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(certificate.public_key())  # type: ignore[arg-type]  # an RSA or EC key, by `read_authority`
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
