"""What a CA says of a certificate: OCSP answers (RFC 6960) and revocation lists (RFC 5280, 5), verified first.

An answer counts when it is signed by the issuer, or by a responder that the issuer has certified for it; when it speaks
of the certificate that was asked for; and now, not once. A nonce that comes back has to be ours, but few responders
repeat one: an old answer is told by its dates. Nothing here does I/O or knows a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from emobility.domain.errors import RuleBroken
from emobility.protocols.certificates.chains import UNREADABLE, ChainBroken, verified_chain
from emobility.protocols.certificates.hash_data import HASHES, CertificateHashData, NoHashData, issuer_hashes

CLOCK_SLACK: Final = timedelta(minutes=5)
"""How far a CA's clock may run ahead of ours."""
UNDATED_LASTS: Final = timedelta(hours=1)
"""How old an answer without nextUpdate may be: newer ones are to be had at any time (RFC 6960, 4.2.2.1)."""
NONCE_BYTES: Final = 32
_STATUS: Final = {ocsp.OCSPCertStatus.GOOD: "GOOD", ocsp.OCSPCertStatus.REVOKED: "REVOKED"}


class RevocationStatus(StrEnum):
    """What was said of a certificate. UNKNOWN: by a CA that does not know it."""

    GOOD = "GOOD"
    REVOKED = "REVOKED"
    UNKNOWN = "UNKNOWN"


class AnswerNotBelieved(RuleBroken):
    """An OCSP answer or a revocation list that is none, is not for us, or is old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationAnswer:
    """A verified answer; `der` is the OCSP response as it came, empty where a list said it.

    `next_update`: until when it may be kept; None: not at all.
    """

    status: RevocationStatus
    this_update: datetime
    next_update: datetime | None
    der: bytes = b""


def ocsp_request(asked: CertificateHashData, nonce: bytes) -> bytes:
    """Return a request about one certificate, DER."""
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        asked.issuer_name_hash, asked.issuer_key_hash, asked.serial_number, HASHES[asked.algorithm]()
    )
    return builder.add_extension(x509.OCSPNonce(nonce), critical=False).build().public_bytes(Encoding.DER)


def ocsp_answer(
    der: bytes,
    asked: CertificateHashData,
    *,
    issuers: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    nonce: bytes,
    at: datetime,
) -> RevocationAnswer:
    """Verify a responder's answer.

    Args:
        der: As it came.
        asked: Which certificate it has to be about.
        issuers: CAs that are believed already.
        anchors: What a CA that comes along in the answer has to lead to.
        nonce: Of our request.
        at: Now.

    Raises:
        AnswerNotBelieved: for any reason.
    """
    try:
        answer = ocsp.load_der_ocsp_response(der)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise AnswerNotBelieved(f"the responder says {answer.response_status.name}")
        issuer = asked.issuer_among([*issuers, *_led_to(answer.certificates, anchors, at)])
        if issuer is None:
            raise AnswerNotBelieved("the certificate's issuer is not known")
        _verify(answer, issuer, at)
        _check_nonce(answer, nonce)
        single = _about(answer, asked, issuer)
        this_update, next_update = single.this_update_utc, single.next_update_utc
    except UNREADABLE as error:
        raise AnswerNotBelieved("this is no OCSP response") from error
    _check_dates(this_update, next_update, at)
    return RevocationAnswer(
        status=RevocationStatus(_STATUS.get(single.certificate_status, "UNKNOWN")),
        this_update=this_update,
        next_update=next_update,
        der=der,
    )


def list_answer(
    data: bytes, asked: CertificateHashData, *, issuers: Sequence[x509.Certificate], at: datetime
) -> RevocationAnswer:
    """Look a certificate up in its issuer's revocation list, DER or PEM. Raises `AnswerNotBelieved`."""
    issuer = asked.issuer_among(issuers)
    if issuer is None:
        raise AnswerNotBelieved("the certificate's issuer is not known")
    try:
        revocations = x509.load_pem_x509_crl(data) if data.startswith(b"-----") else x509.load_der_x509_crl(data)
        key = issuer.public_key()
        if not isinstance(key, EllipticCurvePublicKey | RSAPublicKey) or revocations.issuer != issuer.subject:
            raise AnswerNotBelieved("the list is another CA's")
        if isinstance(revocations.signature_hash_algorithm, MD5 | SHA1) or not revocations.is_signature_valid(key):
            raise AnswerNotBelieved("the list is not signed by its CA, or weakly")
        # A delta or partial list says so critically; whoever is not in it may still be revoked.
        if any(each.critical for each in revocations.extensions):
            raise AnswerNotBelieved("the list is not a whole one")
        revoked = revocations.get_revoked_certificate_by_serial_number(asked.serial_number)
    except UNREADABLE as error:
        raise AnswerNotBelieved("this is no revocation list") from error
    this_update, next_update = revocations.last_update_utc, revocations.next_update_utc
    _check_dates(this_update, next_update, at)
    status = RevocationStatus.GOOD if revoked is None else RevocationStatus.REVOKED
    return RevocationAnswer(status=status, this_update=this_update, next_update=next_update)


def _led_to(
    certificates: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], at: datetime
) -> list[x509.Certificate]:
    """Return the CAs among certificates that came along, if they lead to an anchor."""
    led: list[x509.Certificate] = []
    for each in certificates:
        try:
            is_ca = each.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            issued = [each, *(other for other in certificates if other is not each)]
            if is_ca and verified_chain(issued, anchors, at, is_ca=True):
                led.append(each)
        except (x509.ExtensionNotFound, ChainBroken):
            continue
    return led


def _verify(answer: ocsp.OCSPResponse, issuer: x509.Certificate, at: datetime) -> None:
    algorithm = answer.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, MD5 | SHA1):
        raise AnswerNotBelieved("the answer is signed with a weak hash")
    for signer in [issuer, *_delegates(answer.certificates, issuer, at)]:
        key = signer.public_key()
        try:
            if isinstance(key, EllipticCurvePublicKey):
                key.verify(answer.signature, answer.tbs_response_bytes, ECDSA(algorithm))
            elif isinstance(key, RSAPublicKey):
                key.verify(answer.signature, answer.tbs_response_bytes, PKCS1v15(), algorithm)
            else:
                continue
        except InvalidSignature:
            continue
        return
    raise AnswerNotBelieved("neither the issuer nor a responder of its own has signed the answer")


def _delegates(
    certificates: Iterable[x509.Certificate], issuer: x509.Certificate, at: datetime
) -> Iterable[x509.Certificate]:
    """Return the responders that the issuer itself has certified (RFC 6960, 4.2.2.2)."""
    for each in certificates:
        try:
            each.verify_directly_issued_by(issuer)
            purposes = each.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (InvalidSignature, x509.ExtensionNotFound, *UNREADABLE):
            continue
        is_valid = each.not_valid_before_utc <= at <= each.not_valid_after_utc
        if is_valid and ExtendedKeyUsageOID.OCSP_SIGNING in purposes:
            yield each


def _check_nonce(answer: ocsp.OCSPResponse, nonce: bytes) -> None:
    try:
        told = answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        return
    if told != nonce:
        raise AnswerNotBelieved("the answer is to another request")


def _about(answer: ocsp.OCSPResponse, asked: CertificateHashData, issuer: x509.Certificate) -> ocsp.OCSPSingleResponse:
    """Return what is said of the certificate; a responder may name it by a hash of its own choice."""
    for single in answer.responses:
        try:
            hashes = issuer_hashes(issuer, single.hash_algorithm)
        except NoHashData:
            continue
        if (*hashes, asked.serial_number) == (
            single.issuer_name_hash,
            single.issuer_key_hash,
            single.serial_number,
        ):
            return single
    raise AnswerNotBelieved("the answer is about another certificate")


def _check_dates(this_update: datetime, next_update: datetime | None, at: datetime) -> None:
    if this_update > at + CLOCK_SLACK:
        raise AnswerNotBelieved("the answer is of the future")
    if at >= (this_update + UNDATED_LASTS if next_update is None else next_update):
        raise AnswerNotBelieved("the answer is old")
