"""Real WebSockets from stations to the gateway, by the `websockets` library; the only module here that knows it."""

from __future__ import annotations

import base64
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from emobility.ports.frames import SocketClosed

OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 1.0
UNREACHABLE: Final = 503
ABNORMAL_CLOSURE: Final = 1006


class WebSocketFrames:
    """A client's WebSocket as `emobility.ports.frames.FrameSocket`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, frame: str | bytes) -> None:
        """Write a text frame, or (no station should) a binary one. Raises `SocketClosed`."""
        try:
            await self._connection.send(frame)
        except ConnectionClosed as closed:
            raise _closed(closed) from closed

    async def receive(self) -> str | bytes:
        """Return the next frame. Raises `SocketClosed`."""
        try:
            return await self._connection.recv()
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
        """Close, waiting at most `CLOSE_TIMEOUT_S` for the other end."""
        await self._connection.close(code, reason)


class WebSocketDialer:
    """Dials the gateway (`emobility.ports.frames.StationDialer`)."""

    async def dial(self, *, url: str, subprotocols: tuple[str, ...], username: str, password: str) -> WebSocketFrames:
        """Connect with basic authentication. Raises `SocketClosed` with code 401 when refused, 503 when unreachable."""
        credentials = base64.b64encode(f"{username}:{password}".encode()).decode()
        try:
            connection = await connect(
                url,
                subprotocols=[Subprotocol(each) for each in subprotocols],
                additional_headers={"Authorization": f"Basic {credentials}"},
                compression=None,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                proxy=None,
                user_agent_header=None,
            )
        except InvalidStatus as refused:
            raise SocketClosed(code=refused.response.status_code, reason="refused") from refused
        except (InvalidHandshake, OSError, EOFError) as unreachable:
            raise SocketClosed(code=UNREACHABLE, reason=str(unreachable)) from unreachable
        return WebSocketFrames(connection)


def _closed(closed: ConnectionClosed) -> SocketClosed:
    frame = closed.rcvd or closed.sent
    return SocketClosed(code=frame.code if frame else ABNORMAL_CLOSURE, reason=frame.reason if frame else "")
