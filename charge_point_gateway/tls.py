"""TLS for stations (OCPP 2.0.1 part 2, A00.FR.3xx and 4xx): certificates from files, taken anew without a restart.

A handshake uses what the files said last. New files are looked for every few seconds and on SIGHUP; what can't be used
is told in one line and leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from charge_point_gateway.certificates import UNREADABLE, Authority, UnusableAuthority, read_authority
from charge_point_gateway.metrics import GatewayMetrics
from charge_point_gateway.security import RefusalReason
from charge_point_gateway.station_certificates import StationCertificates
from emobility.domain.errors import MalformedInput, Unavailable
from emobility.ports.clock import Clock
from emobility.runtime.settings import Settings

CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-RSA-AES256-GCM-SHA384:AES128-GCM-SHA256:AES256-GCM-SHA384"
)
"""Of TLS 1.2, the best first. A00.FR.318 asks for ECDHE-ECDSA and, for stations that can't do better, plain RSA.

To speak both, the gateway needs a certificate of either kind.
"""
LOOK_EVERY_S: Final = 5.0
"""How often files are looked at for changes."""
RELOAD_EVERY: Final = timedelta(days=1)
"""Files that did not change are read as often all the same: our revocation list ends, and warnings are due."""
WARN_BEFORE: Final = timedelta(days=30)
WARN_BEFORE_LIST_ENDS: Final = timedelta(days=2)
"""Revocation lists live for days or weeks; one that has ended shuts all stations of its CA out."""
_OWN: Final = (
    ("server", "gateway_certificate_file", "gateway_key_file"),
    ("second_server", "gateway_second_certificate_file", "gateway_second_key_file"),
)
"""The gateway's own certificates: their kind in metrics, their settings."""
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----\s*", re.DOTALL)
_LOG: Final = structlog.get_logger(__name__)


class TLSUnusable(MalformedInput):
    """A file can't be used; the sentence names its setting, the file and what is wrong with it."""

    def __init__(self, setting: str, path: Path, what: str) -> None:
        super().__init__(f"WATTROAM_{setting.upper()}: {path}: {what}")


class ListenerContext(ssl.SSLContext):
    """The one context that a listener gets for good; each connection is wrapped by the `current` one.

    A context of its own per load, because one that is in use forgets no CA and no revocation list, and would resume
    sessions of certificates that were revoked since.
    """

    current: ssl.SSLContext

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection; event loops call nothing else."""
        return self.current.wrap_bio(*args, **options)


def _told_handshakes(metrics: GatewayMetrics) -> type[ssl.SSLObject]:
    """Return connections that tell why a handshake failed; event loops only drop them."""

    class ToldHandshake(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                metrics.auth_failures.labels(RefusalReason.TLS_HANDSHAKE.value).inc()
                cause = getattr(error, "verify_message", None) or error.reason
                _LOG.warning("station_refused", reason=RefusalReason.TLS_HANDSHAKE.value, cause=cause)
                raise

    return ToldHandshake


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the files said: a context for handshakes, and when its parts end."""

    context: ssl.SSLContext
    expires_at: Mapping[str, datetime]


class StationTLS:
    """The TLS side of the gateway's second port."""

    def __init__(
        self,
        settings: Settings,
        certificates: StationCertificates,
        metrics: GatewayMetrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._certificates = certificates
        self._metrics = metrics
        self._clock = clock
        self._asked = asyncio.Event()
        self._loading = asyncio.Lock()
        self._connections = _told_handshakes(metrics)
        self.context = ListenerContext(ssl.PROTOCOL_TLS_SERVER)
        self.expires_at: dict[str, datetime] = {}
        """When each part of what is in use ends."""

    async def load(self) -> None:
        """Take what the files say now. Raises `TLSUnusable`; handshakes then go on as before."""
        async with self._loading:
            own_list = None
            authority = self._certificates.authority
            if authority is not None:
                own_list = (await self._certificates.revocation_list()).public_bytes(Encoding.PEM)
            own_ca = None if authority is None else authority.certificate
            loaded = await asyncio.to_thread(_loaded, self._settings, own_ca, own_list)
            loaded.context.sslobject_class = self._connections
            self.context.current = loaded.context
            self.expires_at.clear()
            self.expires_at.update(loaded.expires_at)
        now = self._clock.now()
        for kind, expires_at in loaded.expires_at.items():
            self._metrics.certificate_expires_at.labels(kind).set(expires_at.timestamp())
            if expires_at - now < (WARN_BEFORE_LIST_ENDS if kind == "revocation_list" else WARN_BEFORE):
                _LOG.warning("certificate_ends_soon", kind=kind, expires_at=expires_at.isoformat())

    def reload_soon(self) -> None:
        """Have `watch` read the files at once (SIGHUP)."""
        self._asked.set()

    async def reload(self) -> bool:
        """Take what the files say now, or tell why not and keep what was; False: trying again may help."""
        try:
            await self.load()
        except TLSUnusable as error:
            self._metrics.tls_reloads.labels("refused").inc()
            _LOG.error("tls_not_reloaded", reason=str(error))
        except (Unavailable, OSError) as error:
            self._metrics.tls_reloads.labels("failed").inc()
            _LOG.warning("tls_not_reloaded_yet", reason=str(error))
            return False
        else:
            self._metrics.tls_reloads.labels("taken").inc()
            _LOG.info("tls_reloaded")
        return True

    async def watch(self) -> None:
        """Reload when a file changed, when asked, and once a day; until cancelled."""
        seen, due = _stamps(self._settings), self._clock.now() + RELOAD_EVERY
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._asked.wait()
            except TimeoutError:
                pass
            stamps, now = _stamps(self._settings), self._clock.now()
            is_due = self._asked.is_set() or stamps != seen or now >= due
            self._asked.clear()
            if is_due:
                # After a failure it is due at the next look, whatever the files say then.
                seen, due = (stamps, now + RELOAD_EVERY) if await self.reload() else (seen, now)


def read_own_authority(settings: Settings) -> Authority | None:
    """Read the CA that signs stations' certificates; None where there is none. Raises `TLSUnusable`."""
    if settings.gateway_ca_file is None or settings.gateway_ca_key_file is None:
        return None
    chain = _read("gateway_ca_file", settings.gateway_ca_file)
    try:
        return read_authority(chain, _read("gateway_ca_key_file", settings.gateway_ca_key_file))
    except UnusableAuthority as error:
        raise TLSUnusable("gateway_ca_file", settings.gateway_ca_file, str(error)) from error


def _files(settings: Settings) -> list[Path]:
    files = (
        settings.gateway_certificate_file,
        settings.gateway_key_file,
        settings.gateway_second_certificate_file,
        settings.gateway_second_key_file,
        settings.gateway_client_ca_file,
        settings.gateway_crl_file,
    )
    return [file for file in files if file is not None]


def _stamps(settings: Settings) -> list[tuple[int, int, int] | None]:
    """Return what changes when a file, or what a link points to, is written or replaced."""
    stamps: list[tuple[int, int, int] | None] = []
    for file in _files(settings):
        try:
            status = file.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return stamps


def _loaded(settings: Settings, own_ca: x509.Certificate | None, own_list: bytes | None) -> Loaded:
    """Read the files and make a context of them. Raises `TLSUnusable`."""
    expires_at: dict[str, datetime] = {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_own(context, settings, expires_at)
    authorities: list[x509.Certificate] = []
    lists: list[bytes] = []
    if settings.gateway_client_ca_file is not None:
        authorities += _certificates("gateway_client_ca_file", settings.gateway_client_ca_file)
        expires_at["client_authority"] = min(each.not_valid_after_utc for each in authorities)
    if settings.gateway_crl_file is not None:
        lists += _revocation_lists(settings.gateway_crl_file, authorities, expires_at)
    if own_ca is not None and own_list is not None:
        authorities.append(own_ca)
        lists.append(own_list)
        expires_at["own_authority"] = own_ca.not_valid_after_utc
    if authorities:
        _verify_clients(context, authorities, lists)
    return Loaded(context=context, expires_at=expires_at)


def _load_own(context: ssl.SSLContext, settings: Settings, expires_at: dict[str, datetime]) -> None:
    """Load what the gateway proves itself by; OpenSSL picks the one of two that the station's suites fit."""
    kinds: set[type] = set()
    for label, certificate_setting, key_setting in _OWN:
        certificate_file, key_file = getattr(settings, certificate_setting), getattr(settings, key_setting)
        if certificate_file is None:
            continue
        chain = _chain(certificate_setting, certificate_file)
        _require_key_of(chain[0], key_setting, key_file)
        kind = type(chain[0].public_key())
        if kind in kinds:
            raise TLSUnusable(certificate_setting, certificate_file, "of the same kind as the first")
        kinds.add(kind)
        expires_at[label] = min(each.not_valid_after_utc for each in chain)
        try:
            context.load_cert_chain(certificate_file, key_file)
        except OSError as error:  # an SSLError is one, too
            raise TLSUnusable(certificate_setting, certificate_file, _reason(error)) from error


def _verify_clients(context: ssl.SSLContext, authorities: list[x509.Certificate], lists: list[bytes]) -> None:
    """Have OpenSSL verify a certificate that a peer shows; one that shows none has to know a password."""
    context.verify_mode = ssl.CERT_OPTIONAL
    # A CA that is listed is trusted as it is, with or without the root above it. One without a list is not.
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_X509_PARTIAL_CHAIN
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # OpenSSL takes lists from files only
        file.write(b"".join(each.public_bytes(Encoding.PEM) for each in authorities) + b"\n".join(lists))
        file.flush()
        context.load_verify_locations(cafile=file.name)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TLSUnusable(setting, path, error.strerror or "can't be read") from error


def _certificates(setting: str, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(setting, path))
    except UNREADABLE as error:
        raise TLSUnusable(setting, path, "no certificates in PEM") from error


def _chain(setting: str, path: Path) -> list[x509.Certificate]:
    chain = _certificates(setting, path)
    for number, (certificate, issuer) in enumerate(pairwise(chain), start=1):
        try:
            certificate.verify_directly_issued_by(issuer)
        except Exception as error:
            what = f"certificate {number} is not issued by certificate {number + 1}; the gateway's own goes first"
            raise TLSUnusable(setting, path, what) from error
    return chain


def _require_key_of(certificate: x509.Certificate, setting: str, path: Path) -> None:
    try:
        key = load_pem_private_key(_read(setting, path), password=None)
    except UNREADABLE as error:
        raise TLSUnusable(setting, path, "no key in PEM without passphrase") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise TLSUnusable(setting, path, "not the key of the first certificate in the certificate file")


def _revocation_lists(path: Path, authorities: list[x509.Certificate], expires_at: dict[str, datetime]) -> list[bytes]:
    lists = _CRL.findall(_read("gateway_crl_file", path))
    try:
        parsed = [x509.load_pem_x509_crl(each) for each in lists]
    except UNREADABLE as error:
        raise TLSUnusable("gateway_crl_file", path, "no revocation list in PEM") from error
    if not parsed:
        raise TLSUnusable("gateway_crl_file", path, "no revocation list in PEM")
    ends = [each.next_update_utc for each in parsed if each.next_update_utc is not None]
    if ends:
        expires_at["revocation_list"] = min(ends)
    for authority in authorities:
        if not any(each.issuer == authority.subject for each in parsed):
            _LOG.warning("authority_without_revocation_list", subject=authority.subject.rfc4514_string())
    return list(lists)


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or type(error).__name__)
