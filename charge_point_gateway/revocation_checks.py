"""Asks OCSP responders and fetches revocation lists, and remembers what they said for as long as it counts.

Calls go out through the guarded client: only origins in WATTROAM_PKI_ORIGINS are called, whatever URL a certificate or
a station names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import structlog
from cryptography import x509

from charge_point_gateway.inquiries import StatusAsked
from emobility.domain.errors import Unavailable
from emobility.ports.clock import Clock, Randomness
from emobility.ports.http import EgressRefused, HttpClient, ResponseTooLarge
from emobility.protocols.certificates.hash_data import CertificateHashData
from emobility.protocols.certificates.revocation import (
    NONCE_BYTES,
    AnswerNotBelieved,
    RevocationAnswer,
    list_answer,
    ocsp_answer,
    ocsp_request,
)

ANSWER_TIMEOUT_S: Final = 4.0
"""Of one responder: a chain of several is asked while the driver waits (a station gives a CALL about 30 s)."""
ANSWERS_KEPT_MAX: Final = 10_000
"""Answers that are remembered; the longest unused is forgotten."""
OCSP: Final = "OCSP"
_Key = tuple[str, CertificateHashData]
_LOG: Final = structlog.get_logger(__name__)


class RevocationNotTold(Unavailable):
    """No responder of those named could be reached, or was believed."""


class RevocationChecks:
    """What CAs say of certificates, by OCSP or by list."""

    def __init__(
        self, http: HttpClient, clock: Clock, randomness: Randomness, *, anchors: Sequence[x509.Certificate]
    ) -> None:
        """Make it; `anchors` are the CAs that are believed, and that others have to lead to."""
        self._http = http
        self._clock = clock
        self._randomness = randomness
        self._anchors = tuple(anchors)
        self._kept: OrderedDict[_Key, RevocationAnswer] = OrderedDict()

    async def ask(
        self,
        asked: CertificateHashData,
        *,
        urls: Sequence[str],
        source: str = OCSP,
        issuers: Sequence[x509.Certificate] = (),
    ) -> RevocationAnswer:
        """Return what a certificate's CA says of it now.

        Args:
            asked: The certificate.
            urls: Where to ask, one after the other.
            source: `OCSP` or `CRL`.
            issuers: CAs that are believed beside the anchors.

        Raises:
            RevocationNotTold: nobody answers, or what they say is not believed.
        """
        kept = self._kept.get((source, asked))
        if kept is not None and kept.next_update is not None and self._clock.now() < kept.next_update:
            self._kept.move_to_end((source, asked))
            return kept
        for url in urls:
            try:
                answer = await self._told(asked, url, source, [*self._anchors, *issuers])
            except (Unavailable, EgressRefused, ResponseTooLarge, AnswerNotBelieved) as error:
                _LOG.warning("revocation_not_told", source=source, reason=str(error))
                continue
            self._keep((source, asked), answer)
            return answer
        raise RevocationNotTold("no answer about a certificate's revocation could be had")

    async def status(self, asked: StatusAsked) -> RevocationAnswer:
        """Return what a station asked for. Raises `RevocationNotTold`, `NoHashData`."""
        return await self.ask(CertificateHashData.read(asked.hash_data), urls=asked.urls, source=asked.source)

    async def _told(
        self, asked: CertificateHashData, url: str, source: str, issuers: Sequence[x509.Certificate]
    ) -> RevocationAnswer:
        nonce = self._randomness.token_bytes(NONCE_BYTES)
        is_ocsp = source == OCSP
        response = await self._http.request(
            "POST" if is_ocsp else "GET",
            url,
            headers={"content-type": "application/ocsp-request"} if is_ocsp else {},
            body=ocsp_request(asked, nonce) if is_ocsp else b"",
            timeout_s=ANSWER_TIMEOUT_S,
        )
        if response.status != 200:
            raise AnswerNotBelieved(f"the responder answered {response.status}")
        now = self._clock.now()
        if not is_ocsp:
            return list_answer(response.body, asked, issuers=issuers, at=now)
        return ocsp_answer(response.body, asked, issuers=issuers, anchors=self._anchors, nonce=nonce, at=now)

    def _keep(self, key: _Key, answer: RevocationAnswer) -> None:
        if answer.next_update is None:
            return
        self._kept[key] = answer
        self._kept.move_to_end(key)
        if len(self._kept) > ANSWERS_KEPT_MAX:
            self._kept.popitem(last=False)
