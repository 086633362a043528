"""Ports on loopback."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
PROBE_TIMEOUT_S: Final = 2.0


def free_port() -> int:
    """Return a TCP port on loopback that is free now. Another process may take it, so whoever binds it tries again."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int, *, timeout_s: float = 0.5) -> bool:
    """Tell whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(timeout_s)
        return probe.connect_ex((LOOPBACK, port)) == 0


async def answers_ok(port: int, path: str) -> bool:
    """Tell whether an HTTP server on a loopback port answers a GET of `path` with 200."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode())
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status_line.split(b" ")[1:2] == [b"200"]
