"""Serve an ASGI app in a loop that is running already, until told to stop; then finish what was begun."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_S: Final = 10
"""How long requests that were accepted may take after the stop."""
REQUEST_BYTES_MAX: Final = 1_048_576
BACKLOG: Final = 512
KEEP_ALIVE_S: Final = 30
TOO_LARGE: Final = f"the body is larger than {REQUEST_BYTES_MAX} bytes"


class RequestTooLarge(HTTPException):
    """A request body exceeds `REQUEST_BYTES_MAX`; a web framework answers it itself, else we do."""

    def __init__(self) -> None:
        super().__init__(status_code=413, detail=TOO_LARGE)


async def serve_app(
    app: ASGIApp, *, host: str, port: int, stop: asyncio.Event, on_listening: Callable[[int], None] = lambda _: None
) -> None:
    """Serve until `stop` is set, then stop accepting, drain for `DRAIN_S` seconds and return.

    Args:
        app: What to serve; bodies above `REQUEST_BYTES_MAX` bytes are answered with 413.
        host: Address to listen on.
        port: Port; 0 asks the system for one.
        stop: Ends it.
        on_listening: Told the port once connections are accepted.

    Raises:
        OSError: the address can't be bound.
    """
    with listening(host, port) as listener:
        config = uvicorn.Config(
            bounded(app),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_S,
        )
        server = _Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            on_listening(listener.getsockname()[1])
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            server.should_exit = True
            await serving


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that takes connections and sends on them at once; 0 asks the system for a port.

    asyncio asks for that itself only where a socket names its protocol, and `create_server` names none. Without it the
    body of an answer waits for the acknowledgement of its head: 40 ms on a connection that is kept.
    """
    listener = socket.create_server((host, port), backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def below(prefix: str, app: ASGIApp) -> ASGIApp:
    """Return an app that hands on what is asked for below `/{prefix}`; there is nothing else."""
    path = f"/{prefix}"

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not f"{scope['path']}/".startswith(f"{path}/"):
            await JSONResponse({"detail": "Not Found"}, status_code=404)(scope, receive, send)
            return
        await app({**scope, "root_path": f"{scope.get('root_path', '')}{path}"}, receive, send)

    return served


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: whoever started us decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bounded(app: ASGIApp) -> ASGIApp:
    """Return the app behind a limit on the bytes of a request's body, counted as they come."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        taken = 0
        has_begun = False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > REQUEST_BYTES_MAX:
                raise RequestTooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) <= REQUEST_BYTES_MAX:
            try:
                await app(scope, counted, watched)
            except RequestTooLarge:
                if has_begun:
                    raise
            else:
                return
        await JSONResponse({"detail": TOO_LARGE}, status_code=413, headers={"connection": "close"})(
            scope, receive, send
        )

    return limited
