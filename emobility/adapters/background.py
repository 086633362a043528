"""Work an adapter does beside whoever uses it: if it fails, its user must not go on as if nothing had happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

CANCEL_AGAIN_S: Final = 0.5
"""How long work that was cancelled may take to end before it is cancelled again."""


@asynccontextmanager
async def alongside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do work for the length of a block; if some of it fails, cancel the block and raise that error instead.

    A task group would do so too, but wrap every error of the block itself in a group.
    """
    block = asyncio.current_task()
    assert block is not None
    failures: list[BaseException] = []

    def note_failure(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)
            if len(failures) == 1:
                block.cancel()

    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(note_failure)
    try:
        yield
    except asyncio.CancelledError:
        if not failures or block.uncancel() > 0:
            raise
        raise failures[0] from None
    finally:
        for task in tasks:
            task.remove_done_callback(note_failure)
        await _cancel(tasks)


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: Python 3.11's `wait_for` swallows a cancellation that comes as its wait ends."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
