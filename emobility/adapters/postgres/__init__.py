"""PostgreSQL: event log, units of work, tables, vault and migrations. The only home of psycopg."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from emobility.adapters.background import alongside
from emobility.adapters.postgres.appending import SEGMENT_OFFSETS, Appender
from emobility.adapters.postgres.connections import (
    UNIT_CONNECTIONS_MAX,
    Database,
    DatabaseUnavailable,
    open_database,
)
from emobility.adapters.postgres.event_log import PostgresEventLog
from emobility.adapters.postgres.migrations import MigrationRefused, migrate
from emobility.adapters.postgres.reference_rows import ReferenceRows
from emobility.adapters.postgres.retention import RETENTION_AGE
from emobility.adapters.postgres.units import PostgresUnit, PostgresUnits
from emobility.adapters.postgres.vault import PostgresVault
from emobility.adapters.postgres.wakeups import Wakeups
from emobility.ports.clock import Clock, Randomness

__all__ = [
    "DatabaseUnavailable",
    "MigrationRefused",
    "PostgresAdapters",
    "PostgresEventLog",
    "PostgresUnit",
    "PostgresUnits",
    "PostgresVault",
    "Wakeups",
    "migrate",
    "open_postgres",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAdapters:
    """Log, units and vault over one database."""

    event_log: PostgresEventLog
    units: PostgresUnits
    vault: PostgresVault
    database: Database
    appender: Appender
    wakeups: Wakeups
    clock: Clock


@asynccontextmanager
async def open_postgres(
    dsn: str,
    *,
    master_key: bytes,
    clock: Clock,
    randomness: Randomness,
    retention_age: timedelta = RETENTION_AGE,
    segment_offsets: int = SEGMENT_OFFSETS,
    unit_connections_max: int = UNIT_CONNECTIONS_MAX,
    durable: bool = True,
) -> AsyncIterator[PostgresAdapters]:
    """Open the adapters over a migrated database; they close with the context.

    Args:
        dsn: Where PostgreSQL is.
        master_key: 32 bytes; wraps the subjects' keys.
        clock: Business time, for ages.
        randomness: Makes subjects' keys.
        retention_age: How old an event is at least when `prune` drops it.
        segment_offsets: Offsets per partition in a segment table.
        unit_connections_max: Units of work that can be open at once; others wait.
        durable: False commits without waiting for the disk: only the negative control of the fault tests does that.

    Raises:
        DatabaseUnavailable: the server does not answer.
    """
    async with open_database(dsn, durable=durable, unit_connections_max=unit_connections_max) as database:
        appender = Appender(database, segment_offsets=segment_offsets)
        reference_rows = ReferenceRows()
        units = PostgresUnits(
            database, appender, clock=clock, collation=await _collation(database), reference_rows=reference_rows
        )
        wakeups = Wakeups(database, reference_rows)
        appender.on_append.append(wakeups.appended)
        try:
            async with alongside(wakeups.listen(), wakeups.notify_others()):
                yield PostgresAdapters(
                    event_log=PostgresEventLog(
                        database, units, appender, wakeups, clock=clock, retention_age=retention_age
                    ),
                    units=units,
                    vault=PostgresVault(database, master_key=master_key, clock=clock, randomness=randomness),
                    database=database,
                    appender=appender,
                    wakeups=wakeups,
                    clock=clock,
                )
        finally:
            await appender.close()


async def _collation(database: Database) -> str:
    """Return what makes text sort by code point: nothing where the database does so already and indexes help."""
    async with database.short_connection() as connection:
        cursor = await connection.execute("SELECT datcollate FROM pg_database WHERE datname = current_database()")
        row = await cursor.fetchone()
    return "" if row is not None and row[0] in {"C", "POSIX", "C.UTF-8", "C.utf8"} else ' COLLATE "C"'
