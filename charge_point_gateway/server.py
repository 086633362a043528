"""OCPP-J over real WebSockets, by the `websockets` library; the only module that knows it.

A peer is authenticated during the handshake: one that fails gets an HTTP status and never a WebSocket.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import http
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast
from urllib.parse import unquote

import structlog
from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from charge_point_gateway.gateway import Admission, GatewayService
from charge_point_gateway.security import StationRefused
from charge_point_gateway.token_buckets import TokenBucket
from charge_point_gateway.websocket_frames import NEVER, frame_end, text_frame, whole_text
from emobility.domain.errors import Unavailable
from emobility.ports.frames import SocketClosed

MESSAGE_BYTES_MAX: Final = 1_048_576
"""A larger message ends the connection (1009) before it fills memory; a smaller one over the frame limit does not."""
PING_INTERVAL_S: Final = 30.0
PING_TIMEOUT_S: Final = 20.0
CLOSE_TIMEOUT_S: Final = 1.0
"""How long a closing handshake may take; a half-open socket never answers one."""
READS_NOTHING_S_MAX: Final = 60.0
"""How long a peer may leave unread what waits for it before it is dropped: the library's pings would wait as well."""
OPEN_TIMEOUT_S: Final = 10.0
"""How long a peer may take to finish its opening handshake (slow loris)."""
LISTEN_BACKLOG: Final = 4_096
"""Connections that wait to be taken, when all stations come back at once; systems may allow fewer."""
ACCEPT_RETRY_S: Final = 0.5
MESSAGES_BUFFERED_MAX: Final = 16
"""Messages read ahead of the session, and what came with them; then TCP holds the station back."""
FRAGMENTS_MAX: Final = 1_024
"""Fragments of one message; empty ones cost memory without ever reaching `MESSAGE_BYTES_MAX`."""
OVERHEAD_FRAMES_PER_S: Final = 50.0
OVERHEAD_FRAMES_BURST: Final = 4.0 * FRAGMENTS_MAX
"""Pings, pongs and fragments: they carry no message, so no other limit counts them. More end the connection (1008)."""
HANDSHAKES_PER_ADDRESS_MAX: Final = 2_000
"""Connections of one address that have not finished their opening handshake; one more is dropped unread."""
AUTHORIZATION_CHARACTERS_MAX: Final = 512
_LOG: Final = structlog.get_logger(__name__)


class StationConnection(ServerConnection):
    """A WebSocket of the `websockets` library that is itself a `FrameSocket`, and remembers whom the handshake let in.

    The library keeps the handshake, the pings, the closing and whatever is not a whole text message. Those are taken
    here and handed over at once: its parser and its queue together cost more than handling most messages does.
    """

    def __init__(self, *args: Any, opening: Counter[str], **options: Any) -> None:
        """Take what the library gives; `opening` counts the server's unfinished handshakes by address."""
        super().__init__(*args, **options)
        self.admission: Admission | None = None
        self._opening = opening
        self._opening_address: str | None = None
        self._overhead: TokenBucket | None = None
        self._drop: asyncio.TimerHandle | None = None
        self._messages: list[str | bytes] = []
        self._fragments: list[bytes] = []
        self._is_text = True
        self._reader: asyncio.Future[None] | None = None
        self._handle: Callable[[str | bytes], bool] | None = None
        self._has_ended = False
        self._takes_frames = False
        self._partial = bytearray()
        """The beginning of a frame, at most `MESSAGE_BYTES_MAX` and its header."""
        self._partial_wants = 0
        """How long it has to become before it is looked at again."""

    # -- what the library calls ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take whole text messages; every other frame, and the handshake, is the library's."""
        if not self._takes_frames or self.protocol.state is State.CONNECTING:
            # What comes before the handshake is answered may leave half a frame with the library: then it takes all.
            self._takes_frames = self.request is None and data.endswith(b"\r\n\r\n")
            super().data_received(data)
            return
        if self._partial:
            # Joined once, when all is there: a station may send a frame in a million pieces.
            self._partial += data
            if len(self._partial) < self._partial_wants:
                return
            data, self._partial = bytes(self._partial), bytearray()
        else:
            data = bytes(data)
        start = 0
        while start < len(data):
            end = frame_end(data, start, payload_bytes_max=MESSAGE_BYTES_MAX)
            if end == NEVER:
                super().data_received(data[start:])
                return
            if end is None or end > len(data):
                self._partial += data[start:]
                self._partial_wants = len(self._partial) + 1 if end is None else end - start
                return
            text = None if self._fragments else whole_text(data, start, end)
            if text is None or self.protocol.state is not State.OPEN:
                super().data_received(data[start:end])
            else:
                self._deliver(text, is_text=True)
            start = end

    def process_event(self, event: Event) -> None:
        """Take data frames; leave the handshake and control frames to the library."""
        if isinstance(event, Frame):
            is_data = event.opcode in DATA_OPCODES
            if not (is_data and event.fin) and self._is_over_overhead():
                self._fragments.clear()
                self._fail(CloseCode.POLICY_VIOLATION, "too many pings or fragments")
                return
            if is_data:
                self._take(event)
                return
        super().process_event(event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count an opening handshake, or drop the connection where its address has too many of them."""
        super().connection_made(transport)
        address = str((transport.get_extra_info("peername") or ("",))[0])
        if self._opening[address] >= HANDSHAKES_PER_ADDRESS_MAX:
            self.transport.abort()
            return
        self._opening[address] += 1
        self._opening_address = address

    def has_opened(self) -> None:
        """Count the opening handshake no longer."""
        address, self._opening_address = self._opening_address, None
        if address is not None:
            self._opening[address] -= 1
            if not self._opening[address]:
                del self._opening[address]

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake the reader, who finds the connection closed."""
        self.has_opened()
        self._read_again()
        super().connection_lost(exc)
        self._has_ended = True
        self._wake()

    def pause_writing(self) -> None:
        """Give a peer that does not read some time, and no more."""
        super().pause_writing()
        self._drop = self.loop.call_later(READS_NOTHING_S_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._read_again()

    def _read_again(self) -> None:
        if self._drop is not None:
            self._drop.cancel()
            self._drop = None

    def _is_over_overhead(self) -> bool:
        now_s = self.loop.time()
        if self._overhead is None:
            self._overhead = TokenBucket(per_s=OVERHEAD_FRAMES_PER_S, burst=OVERHEAD_FRAMES_BURST, now_s=now_s)
        return not self._overhead.take(now_s)

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.protocol.fail(code, reason)
        self.send_data()

    def _take(self, frame: Frame) -> None:
        # The library has checked the order of fragments and the size of the whole message.
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        if not frame.fin or self._fragments:
            self._fragments.append(bytes(frame.data))
            if len(self._fragments) > FRAGMENTS_MAX:
                self._fragments.clear()
                self._fail(CloseCode.MESSAGE_TOO_BIG, f"over {FRAGMENTS_MAX} fragments")
                return
            if not frame.fin:
                return
            data = b"".join(self._fragments)
            self._fragments.clear()
        else:
            data = bytes(frame.data)
        self._deliver(data, is_text=self._is_text)

    def _deliver(self, data: bytes, *, is_text: bool) -> None:
        try:
            message = str(data, "utf-8") if is_text else data
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "text is UTF-8")
            return
        if self._handle is not None:
            self._hand_over(message, self._handle)
            return
        self._messages.append(message)
        if len(self._messages) >= MESSAGES_BUFFERED_MAX:
            self.transport.pause_reading()
        self._wake()

    def _hand_over(self, message: str | bytes, handle: Callable[[str | bytes], bool]) -> None:
        try:
            if handle(message):
                return
        except Exception as error:  # noqa: BLE001 - it is the reader's, not the transport's
            if self._reader is not None and not self._reader.done():
                self._reader.set_exception(error)
        self._handle = None
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    @property
    def has_ended(self) -> bool:
        """Whether the connection is gone; messages may be left."""
        return self._has_ended

    # -- FrameSocket --------------------------------------------------------------------------------------------------

    async def receive_while(self, handle: Callable[[str | bytes], bool]) -> None:
        """Hand over each message, at once, until `handle` returns False. Raises `SocketClosed`, what `handle` raises.

        While nothing waits, the transport itself calls `handle`: a future and a task's turn for each message cost more
        than its framing. After False, messages wait here, and TCP holds the station back, as ever.
        """
        while self._messages:
            if len(self._messages) == MESSAGES_BUFFERED_MAX and not self._has_ended:
                self.transport.resume_reading()
            if not handle(self._messages.pop(0)):
                return
        if not self._has_ended:
            self._handle = handle
            self._reader = self.loop.create_future()
            try:
                await self._reader
            finally:
                self._handle = None
        if self._has_ended and not self._messages:
            raise _closed(self.protocol.close_exc)

    async def receive(self) -> str | bytes:
        """Return the next message. Raises `SocketClosed`."""
        received: list[str | bytes] = []

        def take_one(message: str | bytes) -> bool:
            received.append(message)
            return False

        await self.receive_while(take_one)
        return received[0]

    def send_now(self, frame: str) -> bool:
        """Write a text frame if that takes no waiting; tell whether it was written."""
        if self.paused or self.protocol.state is not State.OPEN:
            return False
        self.transport.write(text_frame(frame.encode()))
        return True


class WebSocketFrames:
    """A station's connection as `emobility.ports.frames.FrameSocket`."""

    __slots__ = ("_connection", "receive", "receive_while", "send_now")

    def __init__(self, connection: StationConnection) -> None:
        self._connection = connection
        self.receive = connection.receive
        self.receive_while = connection.receive_while
        self.send_now = connection.send_now

    @property
    def has_ended(self) -> bool:
        """Whether the connection is gone; messages may be left."""
        return self._connection.has_ended

    async def send(self, frame: str) -> None:
        """Write a text frame, waiting while the other end does not read. Raises `SocketClosed`."""
        try:
            await self._connection.send(frame)
        except ConnectionClosed as closed:
            raise _closed(closed) from closed

    async def ping(self) -> None:
        """Return when a ping was answered. Raises `SocketClosed`."""
        try:
            pong = await self._connection.ping()
            await pong
        except ConnectionClosed as closed:
            raise _closed(closed) from closed

    async def close(self, code: int, reason: str) -> None:
        """Close, waiting at most `CLOSE_TIMEOUT_S` for the other end to read what it was sent, and again to close."""
        try:
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                await self._connection.close(code, reason)
        except TimeoutError:
            if not self._connection.has_ended:
                self._connection.transport.abort()


def _closed(closed: ConnectionClosed) -> SocketClosed:
    frame = closed.rcvd or closed.sent
    return SocketClosed(code=frame.code if frame else 1006, reason=frame.reason if frame else "")


class StationServer:
    """Listens for stations on one port and hands their sockets to the gateway; with `tls`, it alone is spoken there.

    A connection is taken when there is room for what it will cost, one to a turn of the loop; until then it waits where
    the system keeps it. When all stations come back at once, each that is begun is finished: else all would be begun,
    wait for each other longer than they may, and begin again.
    """

    def __init__(self, gateway: GatewayService, *, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._gateway = gateway
        self._host = host
        self._port = port
        self._tls = tls
        self._listeners: list[socket.socket] = []
        self._accepting: set[asyncio.Task[None]] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._connections: set[StationConnection] = set()
        self._opening: Counter[str] = Counter()
        self.handler_tasks: set[asyncio.Task[None]] = set()
        """One for each connection; the library puts them in."""

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._listeners[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen. Raises `OSError` where that can't be done."""
        loop = asyncio.get_running_loop()
        kind, passive = socket.SOCK_STREAM, socket.AI_PASSIVE
        for family, *_, address in await loop.getaddrinfo(self._host, self._port, type=kind, flags=passive):
            listener = socket.create_server(address[:2], family=family, backlog=LISTEN_BACKLOG)
            listener.setblocking(False)
            self._listeners.append(listener)
            self._accepting.add(asyncio.create_task(self._accept(listener)))

    def is_serving(self) -> bool:
        """Whether it listens; a handshake that is answered later is refused by the library."""
        return bool(self._accepting)

    async def stop(self) -> None:
        """Listen no more; open connections are the gateway's to drain."""
        accepting, self._accepting = self._accepting, set()
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def wait_closed(self) -> None:
        """Close what is open yet, and return when no connection is left."""
        await self.stop()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        await asyncio.gather(*(connection.close(CloseCode.GOING_AWAY) for connection in list(self._connections)))
        if self.handler_tasks:
            await asyncio.wait(set(self.handler_tasks))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._gateway.has_room()
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is left, or the peer is gone already
                _LOG.warning("station_not_accepted", error=str(error))
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            task = asyncio.create_task(self._open(accepted))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)
            await asyncio.sleep(0)

    async def _open(self, accepted: socket.socket) -> None:
        timeouts: dict[str, float] = {}
        if self._tls is not None:
            timeouts = {"ssl_handshake_timeout": OPEN_TIMEOUT_S, "ssl_shutdown_timeout": CLOSE_TIMEOUT_S}
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # a TLS handshake that failed is told by `tls.py`
            await loop.connect_accepted_socket(self._connection, accepted, ssl=self._tls, **timeouts)

    def _connection(self) -> StationConnection:
        protocol = ServerProtocol(
            select_subprotocol=lambda _protocol, _offered: _subprotocol(connection),
            max_size=MESSAGE_BYTES_MAX,
        )
        connection = StationConnection(
            protocol,
            cast("Server", self),  # of the library's server it asks no more than this one has
            opening=self._opening,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
        )
        return connection

    async def handler(self, connection: StationConnection) -> None:
        """Serve one connection, from its handshake to its end."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await connection.handshake(self._admit, server_header=None)
            if connection.protocol.state is not State.OPEN:
                return
            self._connections.add(connection)
            connection.start_keepalive()
            async with connection:
                await self._serve(connection)
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - it ends this connection and no other
            _LOG.error("connection_failed", exc_info=error)
        finally:
            connection.transport.abort()
            self._connections.discard(connection)
            self.handler_tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, StationConnection)
        connection.has_opened()
        username, password = basic_credentials(request.headers.get_all("Authorization"), request.path)
        address = connection.remote_address
        tls: ssl.SSLObject | None = connection.transport.get_extra_info("ssl_object")
        try:
            connection.admission = await self._gateway.admit(
                path=request.path,
                username=username,
                password=password,
                subprotocols=_offered(request.headers.get_all("Sec-WebSocket-Protocol")),
                address=str(address[0]) if address else "",
                is_encrypted=tls is not None,
                certificate=None if tls is None else tls.getpeercert(binary_form=True),
            )
        except StationRefused as refused:
            response = connection.respond(http.HTTPStatus(refused.http_status), "")
            if refused.http_status == http.HTTPStatus.UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = 'Basic realm="ocpp", charset="UTF-8"'
            if refused.retry_after_s is not None:
                response.headers["Retry-After"] = str(refused.retry_after_s)
            return response
        except Unavailable:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, StationConnection)
        assert connection.admission is not None, "an unauthenticated peer reached the handler"
        task = asyncio.current_task()
        assert task is not None
        self._gateway.track(task)
        await self._gateway.serve(connection.admission, WebSocketFrames(connection))


def _subprotocol(connection: StationConnection) -> Subprotocol | None:
    return None if connection.admission is None else Subprotocol(connection.admission.version.subprotocol)


def _offered(headers: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip() for header in headers for name in header.split(","))


def basic_credentials(headers: Sequence[str], path: str) -> tuple[str | None, str | None]:
    """Read one `Authorization: Basic` header (RFC 7617); anything else is no credentials at all.

    A user name ends at the first colon, but an OCPP identity may contain one: the station named by `path` is tried
    first. A password that is no printable ASCII is a 1.6 AuthorizationKey sent as the bytes it means (OCPP-J 1.6, 6.2;
    stations do either): it is returned in the hexadecimal digits, small ones, in which it is set.
    """
    if len(headers) != 1 or len(headers[0]) > AUTHORIZATION_CHARACTERS_MAX:
        return None, None
    scheme, _, encoded = headers[0].partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        pair = base64.b64decode(encoded.strip(), validate=True)
        station = unquote(path.partition("?")[0].rpartition("/")[2]).encode()
        is_named = bool(station) and pair.startswith(station + b":")
        name, colon, key = (station, b":", pair[len(station) + 1 :]) if is_named else pair.partition(b":")
        username = name.decode()
    except (binascii.Error, ValueError):
        return None, None
    is_text = key.isascii() and key.decode("ascii").isprintable()
    return (username, key.decode("ascii") if is_text else key.hex()) if colon else (None, None)
