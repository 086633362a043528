"""Two ends of a connection that carries text frames, in one process."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from emobility.ports.frames import SocketClosed

FRAMES_IN_FLIGHT_MAX: Final = 64
"""A sender waits when the other end has not read this many frames."""


class _Wire:
    """One direction."""

    def __init__(self) -> None:
        self.frames: deque[str | bytes] = deque()
        self.changed = asyncio.Condition()


class MemoryFrameSocket:
    """One end; see `emobility.ports.frames.FrameSocket`."""

    def __init__(self, outgoing: _Wire, incoming: _Wire) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._peer: MemoryFrameSocket | None = None
        self._closed: SocketClosed | None = None
        self.is_silent = False
        """A silent end answers no ping: a test sets it to play a half-open connection."""

    def join(self, peer: MemoryFrameSocket) -> None:
        """Make `peer` the other end."""
        self._peer = peer

    async def send(self, frame: str | bytes) -> None:
        """Hand a frame to the transport. Raises `SocketClosed`."""
        wire = self._outgoing
        async with wire.changed:
            await wire.changed.wait_for(lambda: self._closed or len(wire.frames) < FRAMES_IN_FLIGHT_MAX)
            self._refuse_if_closed()
            wire.frames.append(frame)
            wire.changed.notify_all()

    async def receive(self) -> str | bytes:
        """Return the next frame; those sent before a close still arrive. Raises `SocketClosed`."""
        wire = self._incoming
        async with wire.changed:
            await wire.changed.wait_for(lambda: self._closed or wire.frames)
            if not wire.frames:
                self._refuse_if_closed()
            frame = wire.frames.popleft()
            wire.changed.notify_all()
            return frame

    async def ping(self) -> None:
        """Return when the other end answered. Raises `SocketClosed`; a silent peer never answers."""
        self._refuse_if_closed()
        if self._peer is not None and self._peer.is_silent:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)
        self._refuse_if_closed()

    async def close(self, code: int, reason: str) -> None:
        """Close both ends; closing twice is as once."""
        for end in (self, self._peer):
            if end is not None and end._closed is None:  # noqa: SLF001 - the other end of the same class
                end._closed = SocketClosed(code=code, reason=reason)  # noqa: SLF001 - as above
        for wire in (self._incoming, self._outgoing):
            async with wire.changed:
                wire.changed.notify_all()

    def _refuse_if_closed(self) -> None:
        if self._closed is not None:
            raise SocketClosed(code=self._closed.code, reason=self._closed.reason)


def memory_frame_pair() -> tuple[MemoryFrameSocket, MemoryFrameSocket]:
    """Return the two ends of an open connection."""
    there, back = _Wire(), _Wire()
    first, second = MemoryFrameSocket(there, back), MemoryFrameSocket(back, there)
    first.join(second)
    second.join(first)
    return first, second
