"""Connections of a pool are handed over whole or not at all."""

from __future__ import annotations

import asyncio

import pytest

from emobility.adapters.postgres.connections import open_database, taken_from

STEPS = 12
"""Of the loop, after which a hand-over that has begun is done for certain."""
DEADLINE_S = 5.0


@pytest.mark.postgres
async def test_who_is_cancelled_as_a_connection_is_handed_over_is_cancelled(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn, unit_connections_max=1) as database, asyncio.timeout(DEADLINE_S):
        for steps in range(STEPS):
            held = await taken_from(database.units)
            waiting = asyncio.create_task(taken_from(database.units))
            await asyncio.sleep(0.01)
            returning = asyncio.create_task(database.units.putconn(held))
            for _ in range(steps):
                await asyncio.sleep(0)

            is_late = waiting.done()
            waiting.cancel()

            await returning
            if is_late:
                await database.units.putconn(await waiting)
            else:
                with pytest.raises(asyncio.CancelledError):
                    await waiting
