"""HTTP/1.1 over connections that are kept: one exchange at a time on each, its answer bounded.

`http_egress` judges whom to call; this module carries the bytes. It knows no redirect, cookie, proxy or compression,
so none can be turned on by mistake. Answers are read by llhttp (`httptools`), strictly.

A kept connection may have been closed by its peer meanwhile, so it is looked at before it is used. What breaks all the
same before any byte of an answer came is sent again, once and on a new connection, if its method is idempotent
(RFC 9110, 9.2.2); a POST or PATCH never is.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from socket import MSG_PEEK, socket
from typing import Final, cast

import httptools

from emobility.ports.http import RESPONSE_BYTES_MAX, HttpResponse, PeerUnreachable, ResponseTooLarge

CONNECTIONS_MAX: Final = 200
"""Opening, in use or kept; for one more, the one kept longest is closed. Of calls, those under way."""
CONNECTIONS_PER_ORIGIN_MAX: Final = 32
CONNECTIONS_PER_ORIGIN_MIN: Final = 4
"""Calls that an origin may have under way whatever others have, so that slow counterparties hold up only themselves."""
KEEP_ALIVE_S: Final = 10.0
"""An idle connection is closed then: before servers do, which usually wait for 30 s or more."""
HEAD_BYTES_MAX: Final = 65_536
"""Of an answer's status line and headers, give or take what one read brings."""
FRAMING_BYTES_PER_BODY_BYTE_MAX: Final = 8
"""A chunk of a single byte takes five bytes more."""
IDEMPOTENT: Final = frozenset({"GET", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host in canonical spelling, and port."""

    scheme: str
    host: str
    port: int


class AnswerBroken(Exception):
    """What came is no HTTP answer, or not a whole one; whether the peer acted is unknown."""


class NothingAnswered(AnswerBroken):
    """The connection broke before the first byte of an answer."""


class ConnectionPool:
    """Keeps connections to many origins and takes each call to one that is free."""

    def __init__(self, connect: Callable[[Origin], Awaitable[socket]], ssl_context: ssl.SSLContext) -> None:
        """Make a pool without connections.

        Args:
            connect: Returns a connected socket that does not block; raises `OSError` when nobody answers.
            ssl_context: For https; it checks the origin's host.
        """
        self._connect = connect
        self._ssl_context = ssl_context
        self._peers: dict[Origin, _Peer] = {}
        self._in_use = 0
        self._waiting: dict[asyncio.Future[None], _Peer] = {}
        self._closing_idle: asyncio.TimerHandle | None = None
        self._opening = 0
        self._open: set[_Connection] = set()

    async def exchange(self, method: str, origin: Origin, request: bytes) -> HttpResponse:
        """Send a whole request and return its answer.

        Raises:
            PeerUnreachable: no connection.
            AnswerBroken: no whole answer.
            ResponseTooLarge: the answer's body exceeds its limit.
        """
        peer = self._peers.setdefault(origin, _Peer())
        await self._turn(peer)
        try:
            kept = peer.take_kept()
            if kept is not None:
                try:
                    return await self._exchange_on(kept, peer, request)
                except NothingAnswered:
                    if method not in IDEMPOTENT:
                        raise
            return await self._exchange_on(await self._opened(origin, peer), peer, request)
        finally:
            self._end_turn(peer)

    async def close(self) -> None:
        """Close all connections, also those in use, and wait until they are."""
        if self._closing_idle is not None:
            self._closing_idle.cancel()
        for connection in self._open:
            connection.close()
        if self._open:
            await asyncio.wait([connection.lost for connection in self._open])

    async def _turn(self, peer: _Peer) -> None:
        """Return once a call to this origin may be under way; who waits is handed a turn that another ended."""
        if self._may_have_turn(peer):
            self._count_turn(peer)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = peer
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.pop(turn, None)
            else:
                self._end_turn(peer)  # it was handed over at that very moment
            raise

    def _end_turn(self, peer: _Peer) -> None:
        peer.in_use -= 1
        self._in_use -= 1
        for turn, waiting in list(self._waiting.items()):
            if self._may_have_turn(waiting):
                del self._waiting[turn]
                if not turn.done():
                    self._count_turn(waiting)
                    turn.set_result(None)

    def _may_have_turn(self, peer: _Peer) -> bool:
        if peer.in_use < CONNECTIONS_PER_ORIGIN_MIN:
            return True
        return peer.in_use < CONNECTIONS_PER_ORIGIN_MAX and self._in_use < CONNECTIONS_MAX

    def _count_turn(self, peer: _Peer) -> None:
        peer.in_use += 1
        self._in_use += 1

    async def _exchange_on(self, connection: _Connection, peer: _Peer, request: bytes) -> HttpResponse:
        answer = await connection.exchange(request)
        if connection.may_follow:
            peer.keep(connection)
            if self._closing_idle is None:
                self._closing_idle = asyncio.get_running_loop().call_later(KEEP_ALIVE_S, self._close_idle)
        return answer

    def _close_idle(self) -> None:
        """Close what was kept for long enough, and come back when the next one was."""
        loop = asyncio.get_running_loop()
        kept = [connection for peer in self._peers.values() for connection in peer.kept]
        kept_no_longer = loop.time() - KEEP_ALIVE_S
        for connection in kept:
            if connection.kept_since <= kept_no_longer:
                connection.close()
        left_s = [each.kept_since - kept_no_longer for each in kept if each.kept_since > kept_no_longer]
        self._closing_idle = loop.call_later(min(left_s), self._close_idle) if left_s else None

    async def _opened(self, origin: Origin, peer: _Peer) -> _Connection:
        if len(self._open) + self._opening >= CONNECTIONS_MAX:
            self._close_longest_kept()

        def forget(connection: _Connection) -> None:
            self._open.discard(connection)
            peer.kept.pop(connection, None)

        encrypted = origin.scheme == "https"
        self._opening += 1
        try:
            connected = await self._connect(origin)
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(connected, on_lost=forget),
                sock=connected,
                ssl=self._ssl_context if encrypted else None,
                server_hostname=origin.host if encrypted else None,
            )
        except OSError as error:
            raise PeerUnreachable(f"{origin.host}:{origin.port} can't be reached: {error}") from error
        finally:
            self._opening -= 1
        if not connection.lost.done():
            self._open.add(connection)
        return connection

    def _close_longest_kept(self) -> None:
        longest = min(
            (connection for peer in self._peers.values() for connection in peer.kept),
            key=lambda connection: connection.kept_since,
            default=None,
        )
        if longest is not None:
            longest.close()


@dataclass(slots=True, eq=False)
class _Peer:
    """What the pool has with one origin; of the connections kept, the last one used stands last."""

    in_use: int = 0
    kept: dict[_Connection, None] = field(default_factory=dict)

    def take_kept(self) -> _Connection | None:
        kept_no_longer = asyncio.get_running_loop().time() - KEEP_ALIVE_S
        while self.kept:
            connection, _ = self.kept.popitem()
            if connection.kept_since > kept_no_longer and connection.is_usable():
                return connection
            connection.close()
        return None

    def keep(self, connection: _Connection) -> None:
        connection.kept_since = asyncio.get_running_loop().time()
        self.kept[connection] = None


class _Connection(asyncio.Protocol):
    """A connection to a peer, with at most one exchange under way; `lost` is done when it is closed."""

    def __init__(self, connected: socket, *, on_lost: Callable[[_Connection], None]) -> None:
        self._socket = connected
        self._on_lost = on_lost
        self._answer: asyncio.Future[HttpResponse] | None = None
        self._reader = AnswerReader()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.kept_since = 0.0

    async def exchange(self, request: bytes) -> HttpResponse:
        """Send a request and wait for its answer; a connection whose exchange did not end well is closed."""
        if self.lost.done():
            raise NothingAnswered("the peer closed it at once")
        self._reader.expect()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            if not self._reader.may_follow:
                self.close()

    @property
    def may_follow(self) -> bool:
        """Whether another exchange may follow the one that ended."""
        return self._reader.may_follow and not self._transport.is_closing()

    def is_usable(self) -> bool:
        """Tell whether the peer neither closed the connection nor said anything unasked."""
        if self._transport.is_closing():
            return False
        try:
            self._socket.recv(1, MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()
            return
        try:
            answer = self._reader.feed(data)
        except (AnswerBroken, ResponseTooLarge) as error:
            self._answer.set_exception(error)
        else:
            if answer is not None:
                self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(self)
        self.lost.set_result(None)
        if self._answer is None or self._answer.done():
            return
        try:
            self._answer.set_result(self._reader.end(exc))
        except AnswerBroken as error:
            self._answer.set_exception(error)


class AnswerReader:
    """Reads one answer after another from bytes as they come; no I/O."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.expect()
        self.on_message_begin()

    def expect(self) -> None:
        """Begin to wait for the answer to a request."""
        self._bytes = 0
        self._is_whole = False
        self.may_follow = False
        """Whether the connection may carry another exchange after this one."""

    def feed(self, data: bytes) -> HttpResponse | None:
        """Read on; return the answer once it is whole.

        Raises:
            AnswerBroken: that is no answer, or more stands around its body than any needs.
            ResponseTooLarge: the body exceeds its limit.
        """
        self._bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_whole:
                raise AnswerBroken(f"it is no answer: {error}") from error
            self.may_follow = False  # what stands behind the answer was not asked for
        if len(self._body) > RESPONSE_BYTES_MAX:
            raise ResponseTooLarge(f"the answer has more than {RESPONSE_BYTES_MAX} bytes")
        if self._bytes > HEAD_BYTES_MAX + FRAMING_BYTES_PER_BODY_BYTE_MAX * len(self._body):
            raise AnswerBroken(f"it has more than {HEAD_BYTES_MAX} bytes of headers, or of chunks' heads")
        return self._response() if self._is_whole else None

    def end(self, error: Exception | None) -> HttpResponse:
        """Return the answer if the connection's end is its end too (RFC 9112, 6.3, rule 8), else raise."""
        if self._bytes == 0:
            raise NothingAnswered(error or "the peer closed it")
        if error or self._status < 200 or not self._headers.keys().isdisjoint({"content-length", "transfer-encoding"}):
            raise AnswerBroken(error or "the peer closed it within its answer")
        return self._response()

    def _response(self) -> HttpResponse:
        return HttpResponse(status=self._status, headers=self._headers, body=bytes(self._body))

    def on_message_begin(self) -> None:
        """Forget the message before: an informational one, or another request's answer."""
        if self._is_whole:
            raise AnswerBroken("something follows the answer")
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; of two with the same name the last counts, and trailers don't."""
        if not self._status:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """Note the status, and that headers are over."""
        self._status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        """Add to the body."""
        self._body += part

    def on_message_complete(self) -> None:
        """An informational answer (1xx) announces another; any other is the answer."""
        if self._status >= 200:
            self._is_whole = True
            self.may_follow = self._parser.should_keep_alive()
