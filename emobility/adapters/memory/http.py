"""HTTP between services of one process: an origin leads to an ASGI app, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from emobility.ports.http import (
    RESPONSE_BYTES_MAX,
    TIMEOUT_S,
    EgressRefused,
    HttpResponse,
    PeerTimedOut,
    PeerUnreachable,
    ResponseTooLarge,
    header_line,
    origin_text,
)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class MemoryHttp:
    """Routes origins to ASGI apps; see `emobility.ports.http.HttpClient`.

    Origins that were mounted here may be called, as may those that `allow_origin` registered; any other is refused.
    After a time-out the app goes on working, as a real peer would.
    """

    def __init__(self) -> None:
        self._apps: dict[str, Any] = {}
        self._allowed: set[str] = set()
        self._cut: set[str] = set()
        self._running: set[asyncio.Task[HttpResponse]] = set()

    def mount(self, origin: str, app: Any) -> None:
        """Let `origin` (scheme://host:port) lead to an ASGI app."""
        self._apps[_origin(origin)] = app

    def allow_origin(self, url: str) -> None:
        """Register the origin of a counterparty's URL as one that may be called."""
        self._allowed.add(_origin(url))

    def cut(self, origin: str) -> None:
        """Make an origin unreachable, until `mend`."""
        self._cut.add(_origin(origin))

    def mend(self, origin: str) -> None:
        """Make an origin reachable again."""
        self._cut.discard(_origin(origin))

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout_s: float = TIMEOUT_S,
    ) -> HttpResponse:
        """Call an app once; see the port for the errors."""
        origin = _origin(url)
        app = self._apps.get(origin)
        if app is None and origin not in self._allowed:
            raise EgressRefused(url, "its origin was never registered")
        for name, value in headers.items():
            if header_line(name, value) is None:
                raise EgressRefused(url, f"header {name!r} is not plainly written")
        if app is None or origin in self._cut:
            raise PeerUnreachable(f"{origin} does not answer")
        task = asyncio.create_task(_call(app, method, url, headers, body))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            task.add_done_callback(_forget_outcome)
            raise PeerTimedOut(f"{method} at {origin_text(url)} took more than {timeout_s} s")
        return task.result()


def _forget_outcome(task: asyncio.Task[HttpResponse]) -> None:
    if not task.cancelled():
        task.exception()


async def _call(app: Any, method: str, url: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, follow_redirects=False, timeout=None) as client:  # noqa: S113 - the caller's time-out is around this task
        answer = await client.request(method, url, headers=dict(headers), content=body)
    if len(answer.content) > RESPONSE_BYTES_MAX:
        raise ResponseTooLarge(f"{method} at {origin_text(url)}: the answer has {len(answer.content)} bytes")
    lower = {name.lower(): value for name, value in answer.headers.items()}
    return HttpResponse(status=answer.status_code, headers=lower, body=answer.content)
