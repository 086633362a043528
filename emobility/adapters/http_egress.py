"""The one way out: HTTP to counterparties, guarded against being led astray.

A counterparty tells us URLs (its versions, a command's `response_url`, a logo). Whoever may name a URL may try to make
us call something inside. So a call leaves only when

1. the URL is plainly written: https, a host in its canonical spelling, no user part, nothing a second parser might
   read differently;
2. its origin was registered with the counterparty (`allow_origin`);
3. every address its host resolves to is public, judged when connecting and pinned: the connection goes to the judged
   address, with the host's name in TLS and in the Host header, so that no second look-up can change it.

Redirects are not followed, compressed answers are not asked for, time and size are limited. Two kinds of origins may
be http and lie inside, because no counterparty named them: those that embedded mode started itself, on loopback, and
those of our own processes that the operator configured. The latter open only to calls with our internal token, so no
counterparty's URL can lead there, and that token goes nowhere else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpcore

from emobility.ports.http import (
    RESPONSE_BYTES_MAX,
    TIMEOUT_S,
    EgressRefused,
    HttpResponse,
    PeerTimedOut,
    PeerUnreachable,
    ResponseTooLarge,
)

URL_CHARACTERS_MAX: Final = 2_048
CONNECTIONS_MAX: Final = 200
CONNECTIONS_PER_ORIGIN_MAX: Final = 32
"""A slow counterparty holds up only itself."""
KEEP_ALIVE_S: Final = 10.0
"""Shorter than servers' usual 30 s or more, so that we, not they, close an idle connection."""
ADDRESSES_MAX: Final = 8
"""A host with more addresses than this is refused."""
METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_NAME: Final = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
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
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host; raises `OSError` when there are none."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host in canonical spelling, and port."""

    scheme: str
    host: str
    port: int


class GuardedHttpClient:
    """Calls counterparties and nothing else (`HttpClient`). Use as `async with`."""

    def __init__(
        self,
        *,
        embedded_origins: Iterable[str] = (),
        own_origins: Iterable[str] = (),
        internal_token: str | None = None,
        resolver: Resolver | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make a client; it connects to nobody yet.

        Args:
            embedded_origins: Origins this installation started itself; may be http and on loopback, nothing else may.
            own_origins: Origins of our own processes, as the operator configured them.
            internal_token: The bearer token of our own processes; it opens `own_origins` and is sent only there.
            resolver: Looks hosts up; by default the system does.
            network: Connects; by default to real sockets.
            ssl_context: Which authorities are trusted; by default the system's.
            on_refused: Told the reason of each refusal, for a metric.
        """
        self._embedded = frozenset(_parse(origin)[0] for origin in embedded_origins)
        self._own = frozenset(_parse(origin)[0] for origin in own_origins) - self._embedded
        self._internal = None if internal_token is None else f"bearer {internal_token}"
        self._allowed: set[Origin] = {*self._embedded, *self._own}
        self._on_refused = on_refused
        self._turns: dict[Origin, asyncio.Semaphore] = {}
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or ssl.create_default_context(),
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_MAX,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=_PinningNetwork(
                network or httpcore.AnyIOBackend(),
                resolver or _system_resolver,
                {(origin.host, origin.port): _is_unicast for origin in self._own}
                | {(origin.host, origin.port): _is_loopback for origin in self._embedded},
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

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
        turn = self._turns.setdefault(origin, asyncio.Semaphore(CONNECTIONS_PER_ORIGIN_MAX))
        try:
            async with asyncio.timeout(timeout_s), turn:
                return await self._exchange(method, url, origin=origin, target=target, headers=headers, body=body)
        except (TimeoutError, httpcore.TimeoutException):
            raise PeerTimedOut(f"{method} {url} took more than {timeout_s} s") from None
        except httpcore.ConnectError as error:
            raise PeerUnreachable(f"{origin.host}:{origin.port} can't be reached: {error}") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise PeerTimedOut(f"{method} {url}: the connection broke before an answer came: {error}") from error
        except _AddressRefused as refusal:
            raise self._refused(url, str(refusal)) from None

    async def _exchange(
        self, method: str, url: str, *, origin: Origin, target: str, headers: Mapping[str, str], body: bytes
    ) -> HttpResponse:
        sent = [(name, value) for name, value in headers.items() if name.lower() != "accept-encoding"]
        sent.append(("accept-encoding", "identity"))
        where = httpcore.URL(
            scheme=origin.scheme.encode(), host=origin.host.encode(), port=origin.port, target=target.encode()
        )
        async with self._pool.stream(method, where, headers=sent, content=body) as answer:
            received = bytearray()
            async for part in answer.aiter_stream():
                received += part
                if len(received) > RESPONSE_BYTES_MAX:
                    raise ResponseTooLarge(f"{url} answered more than {RESPONSE_BYTES_MAX} bytes")
            return HttpResponse(
                status=answer.status,
                headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers},
                body=bytes(received),
            )

    def _checked(self, url: str) -> tuple[Origin, str]:
        """Return origin and path of a URL that is plainly written and may be asked for at all."""
        try:
            origin, target = _parse(url)
        except ValueError as error:
            raise self._refused(url, str(error)) from None
        if origin in self._embedded or origin in self._own:
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

    def _refused(self, url: str, reason: str) -> EgressRefused:
        self._on_refused(reason)
        return EgressRefused(url[:URL_CHARACTERS_MAX], reason)


class _AddressRefused(Exception):
    """A host resolves to an address that may not be called."""


class _PinningNetwork(httpcore.AsyncNetworkBackend):
    """Connects to the very address it has judged."""

    def __init__(
        self,
        network: httpcore.AsyncNetworkBackend,
        resolver: Resolver,
        inside: Mapping[tuple[str, int], Callable[[Address], bool]],
    ) -> None:
        self._network = network
        self._resolver = resolver
        self._inside = inside

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, judge all addresses, connect to the first that answers."""
        addresses = await self._judged(host, port)
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise httpcore.ConnectError(str(failure))

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no counterparty lives there."""
        del timeout, socket_options
        raise _AddressRefused(f"{path} is a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Wait, as httpcore asks between attempts."""
        await asyncio.sleep(seconds)

    async def _judged(self, host: str, port: int) -> list[Address]:
        literal = _literal(host)
        if literal is not None:
            addresses = [literal]
        else:
            try:
                addresses = [ipaddress.ip_address(text) for text in await self._resolver(host, port)]
            except (OSError, UnicodeError) as error:
                raise httpcore.ConnectError(f"{host} has no address") from error
        if not addresses:
            raise httpcore.ConnectError(f"{host} has no address")
        if len(addresses) > ADDRESSES_MAX:
            raise _AddressRefused(f"{host} has {len(addresses)} addresses")
        may_call = self._inside.get((host, port), is_public)
        for address in addresses:
            if not may_call(address):
                raise _AddressRefused(f"{host} leads to {address}, which may not be called for it")
        return addresses


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
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme]), target


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


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _system_resolver(host: str, port: int) -> Sequence[str]:
    found: list[Any] = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(entry[4][0] for entry in found))
