"""The one way out: HTTP to counterparties, guarded against being led astray.

A counterparty tells us URLs (its versions, a command's `response_url`, a logo). Whoever may name a URL may try to make
us call something inside. So a call leaves only when

1. the URL is plainly written: https, a host in its canonical spelling, no user part, nothing a second parser might
   read differently;
2. its origin was registered with the counterparty (`allow_origin`);
3. every address its host resolves to is public, judged when connecting and pinned: the connection goes to the judged
   address, with the host's name in TLS and in the Host header, so that no second look-up can change it.

Redirects are not followed, compressed answers are not asked for, time and size are limited. Three kinds of origins may
be http and lie inside, because no counterparty named them: those that embedded mode started itself, on loopback; those
of our own processes that the operator configured; and services that the operator configured, such as OCSP responders,
which speak http all over the world. Our own processes open only to calls with our internal token, so no counterparty's
URL can lead there, and that token goes nowhere else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from emobility.adapters.http_connections import AnswerBroken, ConnectionPool, Origin
from emobility.ports.http import (
    TIMEOUT_S,
    EgressRefused,
    HttpResponse,
    PeerTimedOut,
    ResponseTooLarge,
    header_line,
    origin_text,
)

ORIGINS_KEPT: Final = 1_024
"""Origins kept as they were read: thousands of calls go to few of them."""
URL_CHARACTERS_MAX: Final = 2_048
ADDRESSES_MAX: Final = 8
"""A host with more addresses than this is refused."""
METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_NAME: Final = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_OUR_HEADERS: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"}
)
"""How a message is carried is decided here and nowhere else."""
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_CLOSED_NETWORKS: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        # `is_global` decides most; these are public by number only, or lead to an IPv4 address hidden inside.
        "168.63.129.16/32",  # a cloud's host agent
        "192.0.0.0/24",
        "192.88.99.0/24",
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "2001::/23",  # Teredo and other protocol assignments
        "2002::/16",  # 6to4
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
        "::/96",  # IPv4-compatible
    )
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Connect = Callable[[str, int], Awaitable[socket.socket]]
"""Returns a socket, one that does not block, connected to an address and port; raises `OSError` when it can't."""
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host; raises `OSError` when there are none."""


class GuardedHttpClient:
    """Calls counterparties and nothing else (`HttpClient`). Use as `async with`."""

    def __init__(
        self,
        *,
        embedded_origins: Iterable[str] = (),
        own_origins: Iterable[str] = (),
        configured_origins: Iterable[str] = (),
        internal_token: str | None = None,
        resolver: Resolver | None = None,
        connect: Connect | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make a client; it connects to nobody yet.

        Args:
            embedded_origins: Origins this installation started itself; may be http and on loopback, nothing else may.
            own_origins: Origins of our own processes, as the operator configured them.
            configured_origins: Origins of others' services that the operator named, wherever they are.
            internal_token: The bearer token of our own processes; it opens `own_origins` and is sent only there.
            resolver: Looks hosts up; by default the system does.
            connect: Connects to a judged address; by default the system does.
            ssl_context: Which authorities are trusted; by default the system's.
            on_refused: Told the reason of each refusal, for a metric.
        """
        self._embedded = frozenset(_parse(origin)[0] for origin in embedded_origins)
        self._own = frozenset(_parse(origin)[0] for origin in own_origins) - self._embedded
        self._configured = frozenset(_parse(origin)[0] for origin in configured_origins) - self._embedded - self._own
        self._internal = None if internal_token is None else f"bearer {internal_token}"
        self._allowed: set[Origin] = {*self._embedded, *self._own, *self._configured}
        self._on_refused = on_refused
        self._inside = {(origin.host, origin.port): _is_unicast for origin in (*self._configured, *self._own)} | {
            (origin.host, origin.port): _is_loopback for origin in self._embedded
        }
        self._resolver = resolver or _system_resolver
        self._connect = connect or _system_connect
        self._pool = ConnectionPool(self._connected, ssl_context or ssl.create_default_context())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    def allow_origin(self, url: str) -> None:
        """Register the origin of a counterparty's URL. Raises `EgressRefused` for one that could never be called."""
        origin, _ = self._checked(url)
        self._allowed.add(origin)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout_s: float = TIMEOUT_S,
    ) -> HttpResponse:
        """Call a URL once; see the port for the errors."""
        origin, target = self._checked(url)
        if origin not in self._allowed:
            raise self._refused(url, "its origin was never registered")
        if method not in METHODS:
            raise self._refused(url, f"method {method!r} is not used here")
        if origin not in self._embedded and self._carries_internal_token(headers) != (origin in self._own):
            raise self._refused(url, "our internal token and our own processes belong together, and to nobody else")
        try:
            async with asyncio.timeout(timeout_s):
                return await self._pool.exchange(method, origin, _written(method, origin, target, headers, body))
        except TimeoutError:
            raise PeerTimedOut(f"{method} at {origin_text(url)} took more than {timeout_s} s") from None
        except AnswerBroken as error:
            broken = f"{method} at {origin_text(url)}: the connection broke before an answer came: {error}"
            raise PeerTimedOut(broken) from error
        except ResponseTooLarge as error:
            raise ResponseTooLarge(f"{method} at {origin_text(url)}: {error}") from None
        except _NotCalled as refusal:
            raise self._refused(url, str(refusal)) from None

    def _checked(self, url: str) -> tuple[Origin, str]:
        """Return origin and path of a URL that is plainly written and may be asked for at all."""
        try:
            origin, target = _parse(url)
        except ValueError as error:
            raise self._refused(url, str(error)) from None
        if origin in self._embedded or origin in self._own or origin in self._configured:
            return origin, target
        if origin.scheme != "https":
            raise self._refused(url, "only https leaves this machine")
        address = _literal(origin.host)
        if address is not None and not is_public(address):
            raise self._refused(url, f"{address} is not a public address")
        return origin, target

    def _carries_internal_token(self, headers: Mapping[str, str]) -> bool:
        return any(
            name.lower() == "authorization" and f"{value[:6].lower()}{value[6:]}" == self._internal
            for name, value in headers.items()
        )

    async def _connected(self, origin: Origin) -> socket.socket:
        """Resolve, judge all addresses, connect to the first that answers: the very address that was judged."""
        failure = OSError(f"{origin.host} has no address")
        for address in await self._judged(origin.host, origin.port):
            try:
                return await self._connect(str(address), origin.port)
            except OSError as error:
                failure = error
        raise failure

    async def _judged(self, host: str, port: int) -> list[Address]:
        literal = _literal(host)
        if literal is not None:
            addresses = [literal]
        else:
            try:
                addresses = [ipaddress.ip_address(text) for text in await self._resolver(host, port)]
            except (OSError, UnicodeError) as error:
                raise OSError(f"{host} has no address") from error
        if len(addresses) > ADDRESSES_MAX:
            raise _NotCalled(f"{host} has {len(addresses)} addresses")
        may_call = self._inside.get((host, port), is_public)
        for address in addresses:
            if not may_call(address):
                raise _NotCalled(f"{host} leads to {address}, which may not be called for it")
        return addresses

    def _refused(self, url: str, reason: str) -> EgressRefused:
        self._on_refused(reason)
        return EgressRefused(url, reason)


class _NotCalled(Exception):
    """A host resolves to an address that may not be called, or a header can't be sent."""


def is_public(address: Address) -> bool:
    """Tell whether an address lies outside: global unicast, and no other address hidden in it."""
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.scope_id is not None):
        return False
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address in network for network in _CLOSED_NETWORKS if network.version == address.version)


def _is_loopback(address: Address) -> bool:
    return address.is_loopback


def _is_unicast(address: Address) -> bool:
    """Whether a process of ours can live there; a cloud's metadata service, link-local, is none."""
    return not (address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved)


def _parse(url: str) -> tuple[Origin, str]:
    """Return origin and path with query. Raises `ValueError`, with the reason, unless the URL is plainly written."""
    if len(url) > URL_CHARACTERS_MAX:
        raise ValueError("it is too long")
    if not _PRINTABLE.fullmatch(url) or "\\" in url or "#" in url:
        raise ValueError("it holds characters that are not allowed in a URL")
    authority = url.find("://") + len("://")
    ends = [end for end in (url.find("/", authority), url.find("?", authority)) if end >= 0]
    end = min(ends, default=len(url))
    path, _, query = url[end:].partition("?")
    return _origin(url[:end]), (path or "/") + (f"?{query}" if query else "")


@lru_cache(maxsize=ORIGINS_KEPT)
def _origin(url: str) -> Origin:
    """Return the origin of a URL without path and query. Raises `ValueError` unless it is plainly written."""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        raise ValueError("its scheme is not https")
    if "@" in parts.netloc or "%" in parts.netloc:
        raise ValueError("its host carries a user or an escape")
    host = _canonical_host(parts.netloc, parts.hostname)
    try:
        port = parts.port
    except ValueError:
        raise ValueError("its port is no port") from None
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("its port is no port")
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])


def _canonical_host(netloc: str, hostname: str | None) -> str:
    """Return the host if it can be read in one way only."""
    if not hostname:
        raise ValueError("it has no host")
    if netloc.startswith("["):
        return str(ipaddress.IPv6Address(hostname))
    if not _NAME.fullmatch(hostname):
        raise ValueError("its host is not a plain name")
    # A last label that is a number makes it an IPv4 address for some resolvers: 2130706433, 0x7f.1, 127.1, 0177.0.0.1.
    if _NUMERIC_LABEL.fullmatch(hostname.rsplit(".", 1)[-1]):
        return str(ipaddress.IPv4Address(hostname))
    return hostname


def _written(method: str, origin: Origin, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a whole request. Raises `_NotCalled` for a header that would be read as more than one."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != _DEFAULT_PORTS[origin.scheme]:
        host = f"{host}:{origin.port}"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    for name, value in headers.items():
        if name.lower() in _OUR_HEADERS:
            continue
        line = header_line(name, value)
        if line is None:
            raise _NotCalled(f"header {name!r} is not plainly written")
        lines.append(line)
    lines.append("accept-encoding: identity\r\n\r\n")
    return "\r\n".join(lines).encode("ascii") + body


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _system_resolver(host: str, port: int) -> Sequence[str]:
    found: list[Any] = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(entry[4][0] for entry in found))


async def _system_connect(address: str, port: int) -> socket.socket:
    connecting = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, (address, port))
    except BaseException:
        connecting.close()
        raise
    return connecting
