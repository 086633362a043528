"""How much one party, and one address, may ask of the hub: token buckets, HTTP 429 with Retry-After beyond.

A party's bucket is drawn from once it is known. Before that, each address has one; a token that is no good costs it
dear, so guessing is slow while whoever is registered never notices.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emobility.ports.ports import Ports
from emobility.protocols.ocpi.server import MessageIds, Reply, envelope, reply_to
from emobility.protocols.ocpi.status import OCPIError, StatusCode

PARTY_PER_S: Final = 1_000.0
PARTY_BURST: Final = 5_000.0
"""Requests of one platform: per second for good, and at once after a pause."""
ADDRESS_PER_S: Final = 2_000.0
ADDRESS_BURST: Final = 10_000.0
"""The same for one address, of which several platforms may call through a proxy."""
BAD_TOKEN_COST: Final = 50.0
"""Requests that one with an unknown token counts as: 40 a second are answered for good."""
BUCKETS_MAX: Final = 10_000
"""Addresses and platforms that are remembered; the one unheard longest is forgotten first."""
TARGET_BYTES_MAX: Final = 2_048
"""Longest path and query; a longer one is answered 414."""


class TooManyRequests(OCPIError):
    """A bucket is empty; HTTP 429.

    Attributes:
        retry_after_s: When a request will be answered again, in whole seconds.
    """

    def __init__(self, *, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(StatusCode.CLIENT_ERROR, f"too many requests; again in {retry_after_s} s", http_status=429)

    def reply(self) -> Reply:
        """Return it as it is answered."""
        return Reply(
            http_status=self.http_status,
            status_code=self.status_code,
            message=self.message,
            headers={"Retry-After": str(self.retry_after_s)},
        )


class Buckets:
    """One token bucket per name, full at first."""

    def __init__(self, ports: Ports, *, per_s: float, burst: float) -> None:
        self._timer = ports.timer
        self.per_s = per_s
        self.burst = burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def draw(self, name: str, cost: float = 1.0) -> None:
        """Take from a bucket. Raises `TooManyRequests`, and then takes nothing."""
        now_s, left = self._now(name)
        if left < cost:
            self._left[name] = (left, now_s)
            raise TooManyRequests(retry_after_s=max(1, math.ceil((cost - left) / self.per_s)))
        self._keep(name, left - cost, now_s)

    def charge(self, name: str, cost: float) -> None:
        """Take what is there, and let the rest be owed."""
        now_s, left = self._now(name)
        self._keep(name, max(left - cost, -self.burst), now_s)

    def _now(self, name: str) -> tuple[float, float]:
        now_s = self._timer.monotonic_s()
        left, at_s = self._left.get(name, (self.burst, now_s))
        return now_s, min(self.burst, left + (now_s - at_s) * self.per_s)

    def _keep(self, name: str, left: float, now_s: float) -> None:
        self._left[name] = (left, now_s)
        self._left.move_to_end(name)
        if len(self._left) > BUCKETS_MAX:
            self._left.popitem(last=False)


class AtTheDoor:
    """ASGI: what is refused before anybody is asked who calls: 414 and 429, as OCPI envelopes."""

    def __init__(self, app: ASGIApp, ports: Ports, addresses: Buckets) -> None:
        self._app = app
        self._ports = ports
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = str((scope.get("client") or ("",))[0])
        try:
            _refuse_long(scope)
            self._addresses.draw(address)
        except OCPIError as error:
            request = Request(scope)
            ids = MessageIds.of(request, self._ports.randomness)
            reply = (
                error.reply()
                if isinstance(error, TooManyRequests)
                else reply_to(error, correlation_id=ids.correlation_id)
            )
            await envelope(reply, clock=self._ports.clock, ids=ids)(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._addresses.charge(address, BAD_TOKEN_COST)
            await send(message)

        await self._app(scope, receive, watched)


def _refuse_long(scope: Scope) -> None:
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > TARGET_BYTES_MAX:
        raise OCPIError(StatusCode.CLIENT_ERROR, "the URL is too long", http_status=414)
