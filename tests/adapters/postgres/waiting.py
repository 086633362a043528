"""Whether a transaction waits for another one, so that a test knows that two of them met."""

from __future__ import annotations

import asyncio
from typing import Any

from emobility.adapters.postgres.connections import Database

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def until_waiting(task: asyncio.Task[Any], database: Database) -> None:
    """Return when the task, or anyone else at this database, waits for a lock, or the task is done."""
    while not task.done():
        async with database.short_connection() as connection:
            row = await (await connection.execute(_WAITING)).fetchone()
        if row is not None and row[0] > 0:
            return
        await asyncio.sleep(0.005)
