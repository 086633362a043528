"""Work beside a block: the block does not outlive it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from emobility.adapters.background import alongside

DEADLINE_S = 5.0


async def fail_soon() -> None:
    await asyncio.sleep(0)
    raise LookupError("the listener broke")


async def work_for_ever() -> None:
    await asyncio.Event().wait()


async def test_work_that_fails_ends_the_block_with_its_own_error() -> None:
    with pytest.raises(LookupError, match="the listener broke"):
        async with asyncio.timeout(DEADLINE_S), alongside(work_for_ever(), fail_soon(), fail_soon()):
            await asyncio.Event().wait()

    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_an_error_of_the_block_stays_what_it_is_and_ends_the_work() -> None:
    before = asyncio.all_tasks()

    with pytest.raises(KeyError):
        async with alongside(work_for_ever()):
            raise KeyError

    assert asyncio.all_tasks() == before


async def test_who_is_cancelled_from_outside_is_cancelled() -> None:
    async def block() -> None:
        async with alongside(work_for_ever()):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_lost_its_cancellation_is_cancelled_again() -> None:
    async def deaf_once() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with asyncio.timeout(DEADLINE_S), alongside(deaf_once()):
        await asyncio.sleep(0)
