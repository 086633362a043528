"""Waiting until a system behind HTTP has nothing left to do: no lag, no undelivered message, no command under way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from emobility.domain.errors import Unavailable
from emobility.ports.clock import Timer
from emobility.ports.http import HttpClient
from simulator.api_client import Addresses, ApiClient, CallRefused

POLL_FIRST_S: Final = 0.005
POLL_MAX_S: Final = 0.05
QUIET_WITHIN_S: Final = 120.0
"""A system that is still busy after this will not come to rest: a message is sent over and over."""


UP_WITHIN_S: Final = 60.0


class NeverUp(Unavailable):
    """The system that is to be played on does not come up."""


class NeverQuiet(Unavailable):
    """The system did not come to rest."""

    def __init__(self, *, gateway: int, business: int) -> None:
        self.gateway = gateway
        self.business = business
        super().__init__(
            f"after {QUIET_WITHIN_S:.0f} s {gateway} calls at the gateway and {business} back-office tasks are left"
        )


async def until_up(addresses: Addresses, *, http: HttpClient, timer: Timer) -> None:
    """Return once gateway and business process answer. Raises `NeverUp`."""
    ends_at_s = timer.monotonic_s() + UP_WITHIN_S
    for base_url in (addresses.gateway_api_url, addresses.business_url):
        api = ApiClient(http, base_url=base_url, token=addresses.internal_token)
        while True:
            try:
                await api.call("GET", "/livez")
                break
            except (Unavailable, CallRefused) as error:
                if timer.monotonic_s() >= ends_at_s:
                    raise NeverUp(f"{base_url} does not answer after {UP_WITHIN_S:.0f} s: {error}") from error
            await timer.sleep(POLL_MAX_S)


def quiet_by_http(addresses: Addresses, *, http: HttpClient, timer: Timer) -> Callable[[], Awaitable[None]]:
    """Return what waits for gateway and business process. It raises `NeverQuiet`."""
    gateway = ApiClient(http, base_url=addresses.gateway_api_url, token=addresses.internal_token)
    business = ApiClient(http, base_url=addresses.business_url, token=addresses.internal_token)

    async def quiet() -> None:
        ends_at_s = timer.monotonic_s() + QUIET_WITHIN_S
        pause_s = POLL_FIRST_S
        while True:
            # What the gateway has taken in shows as lag behind it, so the gateway is asked first.
            at_gateway = int((await gateway.call("GET", "/internal/backlog"))["pending"])
            behind = 0
            if not at_gateway:
                # It answers when nothing is left there; what it did meanwhile may have reached the gateway.
                answer = await business.call("GET", "/internal/quiet")
                behind = int(answer["outstanding"])
                if not behind and not answer["has_waited"]:
                    return
            if timer.monotonic_s() >= ends_at_s:
                raise NeverQuiet(gateway=at_gateway, business=behind)
            if at_gateway:
                await timer.sleep(pause_s)
                pause_s = min(pause_s * 2, POLL_MAX_S)

    return quiet
