"""Have everything settled that was accepted: close the running periods, then wait until nothing moves by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from emobility.domain.errors import Unavailable
from emobility.ports.ports import Ports
from emobility.runtime.settings import Settings
from services.charging_operations.exposure import GROUP as EXPOSURE_GROUP
from services.settlement.intake import GROUP
from services.settlement.payables import GROUP as MONEY_GROUP
from simulator.api_client import ApiClient

FOLLOWERS: Final = (GROUP, MONEY_GROUP, EXPOSURE_GROUP)
"""Whoever has something to do when statements are final."""
SETTLED_WITHIN_S: Final = 120.0
POLL_S: Final = 0.1


class NotSettled(Unavailable):
    """Something still moves after `SETTLED_WITHIN_S`; the settlement's own log says what it waits for."""

    def __init__(self, pending: int) -> None:
        super().__init__(f"{pending} events, statements or transactions are not settled after {SETTLED_WITHIN_S:.0f} s")


async def settle_everything(ports: Ports, settings: Settings) -> None:
    """Settle what the back offices accepted so far. Raises `NotSettled`."""
    api = ApiClient(ports.http, base_url=settings.settlement_url, token=settings.internal_token.get_secret_value())

    async def pending() -> int:
        return int((await api.call("GET", "/settlement/internal/backlog"))["pending"])

    async def close() -> None:
        await api.call("POST", "/settlement/internal/close")

    await settle(ports, pending=pending, close=close)


async def settle(
    ports: Ports, *, pending: Callable[[], Awaitable[int]], close: Callable[[], Awaitable[object]]
) -> None:
    """Wait until all is taken in and every agreement open, close, and wait until all is final or says why not.

    Raises:
        NotSettled: it takes longer than `SETTLED_WITHIN_S`.
    """
    ends_at_s = ports.timer.monotonic_s() + SETTLED_WITHIN_S

    async def behind() -> int:
        lags = await ports.event_log.lag()
        return sum(lags.get(group, 0) for group in FOLLOWERS)

    async def rest() -> None:
        while left := await behind() + await pending():
            if ports.timer.monotonic_s() > ends_at_s:
                raise NotSettled(left)
            await ports.timer.sleep(POLL_S)

    await rest()
    await close()
    await rest()
