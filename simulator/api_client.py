"""HTTP to our own operator and driver APIs: JSON both ways, the bearer token on every call, a clear refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from emobility.domain.errors import RuleBroken
from emobility.events import codec
from emobility.ports.http import HttpClient

T = TypeVar("T")

TIMEOUT_S: Final = 30.0
AT_ONCE_MAX: Final = 8
"""Calls in flight while the system is set up."""
_SUCCESS: Final = range(200, 300)


class CallRefused(RuleBroken):
    """An API answered with something else than success; `error` is its name for machines, when it gave one."""

    def __init__(self, *, method: str, url: str, status: int, body: str) -> None:
        self.status = status
        self.body = body[:500]
        try:
            self.error = str(json.loads(body).get("error", status))
        except (ValueError, AttributeError):
            self.error = str(status)
        super().__init__(f"{method} {url} was answered with {status}: {self.body}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the system under simulation is, and the token that opens its APIs."""

    business_url: str
    gateway_api_url: str
    gateway_ocpp_url: str
    internal_token: str


class ApiClient:
    """Calls one origin."""

    def __init__(self, http: HttpClient, *, base_url: str, token: str) -> None:
        http.allow_origin(base_url)
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._token = token

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer's JSON, None when it is empty. Raises `CallRefused` and what `HttpClient` raises."""
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        url = self._base_url + path
        response = await self._http.request(
            method, url, headers=headers, body=b"" if body is None else codec.encode(body), timeout_s=TIMEOUT_S
        )
        if response.status not in _SUCCESS:
            text = response.body.decode(errors="replace")
            raise CallRefused(method=method, url=url, status=response.status, body=text)
        return json.loads(response.body) if response.body else None


async def side_by_side(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all, `AT_ONCE_MAX` at a time; the first error ends the rest."""
    gate = asyncio.Semaphore(AT_ONCE_MAX)

    async def guarded(call: Coroutine[Any, Any, T]) -> T:
        async with gate:
            return await call

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(guarded(call)) for call in calls]
    return [task.result() for task in tasks]
