"""Wait for something to happen, but not for ever."""

from __future__ import annotations

import asyncio

from emobility.ports.clock import Timer


async def first_of(timer: Timer, *events: asyncio.Event, within_s: float) -> None:
    """Return when one of the events is set, or the time is over."""
    waiting = [asyncio.ensure_future(each) for each in (*(event.wait() for event in events), timer.sleep(within_s))]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
        # Their cancellations are results here; our own is not, and goes on.
        await asyncio.gather(*waiting, return_exceptions=True)
