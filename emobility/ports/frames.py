"""Text frames in both directions: what OCPP-J needs of a WebSocket, and all that gateway and simulator know of one."""

from __future__ import annotations

from typing import Protocol

from emobility.domain.errors import Unavailable


class SocketClosed(Unavailable):
    """The other end is gone."""

    def __init__(self, *, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"the socket closed with {code} {reason}")


class FrameSocket(Protocol):
    """An open connection that carries text frames in order."""

    async def send(self, frame: str) -> None:
        """Hand a frame to the transport. Raises `SocketClosed`."""

    async def receive(self) -> str | bytes:
        """Return the next frame. Raises `SocketClosed`."""

    async def ping(self) -> None:
        """Return when the other end answered a ping. Raises `SocketClosed`."""

    async def close(self, code: int, reason: str) -> None:
        """Close; closing twice is as once."""


class StationDialer(Protocol):
    """How a (simulated) station reaches the gateway."""

    async def dial(self, *, url: str, subprotocols: tuple[str, ...], username: str, password: str) -> FrameSocket:
        """Connect with basic authentication. Raises `SocketClosed` with code 401 when refused, 503 when unreachable."""
