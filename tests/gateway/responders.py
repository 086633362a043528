"""PKIs of vehicles as others run them, with OCSP responders that answer by real HTTP, rightly and wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.memory import MemoryHttp
from emobility.ports.http import TIMEOUT_S, HttpResponse
from tests.gateway.certificate_makers import CA, DAY, NOW, name, new_key

EMAID: Final = "DE-8AA-C12345678-9"
Answer = Callable[[str, str, bytes], Awaitable[tuple[int, bytes]]]
"""Method, path and body to status and body."""


class BothWays:
    """HTTP of a gateway under test: our own processes in memory, everybody else through the guarded client."""

    def __init__(self, guarded: GuardedHttpClient) -> None:
        self.guarded = guarded
        self.inside: MemoryHttp | None = None

    def allow_origin(self, url: str) -> None:
        if ".test" not in url:
            self.guarded.allow_origin(url)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", timeout_s: float = TIMEOUT_S
    ) -> HttpResponse:
        if ".test" in url and self.inside is not None:
            return await self.inside.request(method, url, headers=headers, body=body, timeout_s=timeout_s)
        return await self.guarded.request(method, url, headers=headers, body=body, timeout_s=timeout_s)


@asynccontextmanager
async def serving(answer: Answer, heads: list[str] | None = None) -> AsyncIterator[str]:
    """Serve plain HTTP on 127.0.0.1; yield the origin. `heads` gets the head of each request."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if heads is not None:
                    heads.append(head)
                method, path, _ = head.split(" ", 2)
                length = next(int(line[15:]) for line in head.lower().split("\r\n") if line[:15] == "content-length:")
                status, body = await answer(method, path, await reader.readexactly(length))
                writer.write(f"HTTP/1.1 {status} OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@dataclass
class Responder:
    """Answers for one CA. What a test changes makes it wrong; `asked` counts."""

    ca: CA
    signer: CA | None = None
    """Signs instead of the CA itself."""
    certificates: tuple[x509.Certificate, ...] = ()
    revoked: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    this_update: datetime = NOW - timedelta(hours=1)
    next_update: datetime | None = NOW + timedelta(hours=1)
    is_down: bool = False
    has_nonce: bool = True
    replayed: bytes | None = None
    said: bytes = b""
    asked: int = 0

    async def __call__(self, method: str, _path: str, body: bytes) -> tuple[int, bytes]:
        """Answer an OCSP request, or GET /crl."""
        self.asked += 1
        if self.is_down:
            return 503, b""
        if method == "GET":
            return 200, self.revocation_list()
        self.said = self.replayed or self.answer(ocsp.load_der_ocsp_request(body))
        return 200, self.said

    def answer(self, request: ocsp.OCSPRequest) -> bytes:
        status = ocsp.OCSPCertStatus.REVOKED if request.serial_number in self.revoked else ocsp.OCSPCertStatus.GOOD
        status = ocsp.OCSPCertStatus.UNKNOWN if request.serial_number in self.unknown else status
        is_revoked = status is ocsp.OCSPCertStatus.REVOKED
        signer = self.signer or self.ca
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            request.issuer_name_hash,
            request.issuer_key_hash,
            request.serial_number,
            request.hash_algorithm,
            status,
            self.this_update,
            self.next_update,
            NOW - DAY if is_revoked else None,
            x509.ReasonFlags.key_compromise if is_revoked else None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
        if self.certificates:
            builder = builder.certificates(self.certificates)
        if self.has_nonce:
            builder = builder.add_extension(request.extensions.get_extension_for_class(x509.OCSPNonce).value, False)
        return builder.sign(signer.key, SHA256()).public_bytes(Encoding.DER)

    def revocation_list(self) -> bytes:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.ca.certificate.subject)
        assert self.next_update is not None
        builder = builder.last_update(self.this_update).next_update(self.next_update)
        for serial_number in sorted(self.revoked):
            entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(NOW - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign((self.signer or self.ca).key, SHA256()).public_bytes(Encoding.DER)


def contract_leaf(
    ca: CA, common_name: str = EMAID, *, responder: str | None = None, ends: timedelta = 90 * DAY, is_ca: bool = False
) -> x509.Certificate:
    """A contract certificate as ISO 15118-2, annex F, has it."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(ca.certificate.subject)
        .public_key(new_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 10 * DAY)
        .not_valid_after(NOW + ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if responder is not None:
        place = x509.UniformResourceIdentifier(responder)
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, place)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    return builder.sign(ca.key, SHA256())


class Delegate(CA):
    """A responder's own key, certified by its CA for OCSP or, wrongly, for something else."""

    def __init__(self, ca: CA, purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.OCSP_SIGNING) -> None:
        self.key = new_key()
        self.above = []
        builder = (
            x509.CertificateBuilder()
            .subject_name(name("OCSP responder"))
            .issuer_name(ca.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        self.certificate: Any = builder.sign(ca.key, SHA256())
