"""Certificate chains, verified up to an anchor that the operator trusts (RFC 5280, 6, as far as vehicles' PKIs go).

ISO 15118-2 keeps its chains short and plain: a leaf, at most two CAs, a root; no name constraints, no policies that
count. What a chain holds beyond that is refused where it is critical. Revocation is `revocation`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.x509.oid import ExtensionOID

from emobility.domain.errors import RuleBroken

CHAIN_CERTIFICATES_MAX: Final = 6
"""From leaf to anchor; ISO 15118-2 has four."""
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for what is not what it should be."""
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)
"""Extensions that may be critical."""


class ChainFault(StrEnum):
    """Why a chain is not believed."""

    UNREADABLE = "UNREADABLE"
    SIGNATURE = "SIGNATURE"
    EXPIRED = "EXPIRED"
    UNTRUSTED = "UNTRUSTED"
    """It leads to no anchor, or a certificate in it may not be where it stands."""


class ChainBroken(RuleBroken):
    """A chain that is not believed, for the reason `fault`."""

    def __init__(self, fault: ChainFault, what: str) -> None:
        self.fault = fault
        super().__init__(what)


def read_chain(pem: str) -> list[x509.Certificate]:
    """Read a leaf and what stands above it. Raises `ChainBroken`."""
    try:
        chain = x509.load_pem_x509_certificates(pem.encode())
    except UNREADABLE as error:
        raise ChainBroken(ChainFault.UNREADABLE, "no certificates in PEM") from error
    if len(chain) > CHAIN_CERTIFICATES_MAX:
        raise ChainBroken(ChainFault.UNREADABLE, f"more than {CHAIN_CERTIFICATES_MAX} certificates")
    return chain


def verified_chain(
    chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], at: datetime, *, is_ca: bool = False
) -> list[x509.Certificate]:
    """Return the path from a leaf to an anchor, both included.

    Args:
        chain: The leaf first, then the CAs above it; the anchor may be left out.
        anchors: Roots, and CAs that are trusted as they are.
        at: When all of them have to be valid.
        is_ca: The first is a CA's own instead of a leaf.

    Raises:
        ChainBroken: there is no such path.
    """
    try:
        path = _path(chain, anchors)
        for number, certificate in enumerate(path):
            place = number if is_ca else number - 1
            _check(certificate, at=at, below=None if place < 0 else place)
    except UNREADABLE as error:
        raise ChainBroken(ChainFault.UNREADABLE, "a certificate can't be read") from error
    return path


def _path(chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    path = [chain[0]]
    while len(path) < CHAIN_CERTIFICATES_MAX:
        if path[-1] in anchors:
            return path
        issuer = _issuer_of(path[-1], [*anchors, *(each for each in chain[1:] if each not in path)])
        path.append(issuer)
    raise ChainBroken(ChainFault.UNTRUSTED, f"more than {CHAIN_CERTIFICATES_MAX} certificates to an anchor")


def _issuer_of(certificate: x509.Certificate, candidates: Sequence[x509.Certificate]) -> x509.Certificate:
    fault = ChainFault.UNTRUSTED
    for candidate in candidates:
        if candidate.subject != certificate.issuer:
            continue
        try:
            certificate.verify_directly_issued_by(candidate)
        except InvalidSignature:
            fault = ChainFault.SIGNATURE
        else:
            return candidate
    raise ChainBroken(fault, "a certificate is not signed by one that is trusted")


def _check(certificate: x509.Certificate, *, at: datetime, below: int | None) -> None:
    """Hold one certificate to its place; `below` counts the CAs under it, None for the leaf."""
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise ChainBroken(ChainFault.EXPIRED, "a certificate is not valid now")
    if isinstance(certificate.signature_hash_algorithm, MD5 | SHA1):
        raise ChainBroken(ChainFault.SIGNATURE, "a certificate is signed with a weak hash")
    extensions = certificate.extensions
    if any(each.critical and each.oid not in _UNDERSTOOD for each in extensions):
        raise ChainBroken(ChainFault.UNTRUSTED, "a certificate has a critical extension that is not understood")
    constraints, usage = _extension(extensions, x509.BasicConstraints), _extension(extensions, x509.KeyUsage)
    if below is None:
        is_fit = (constraints is None or not constraints.ca) and (usage is None or usage.digital_signature)
    else:
        is_ca = constraints is not None and constraints.ca and (usage is None or usage.key_cert_sign)
        length = None if constraints is None else constraints.path_length
        is_fit = is_ca and (length is None or length >= below)
    if not is_fit:
        raise ChainBroken(ChainFault.UNTRUSTED, "a certificate may not stand where it does in its chain")


def _extension(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
