"""Connections to PostgreSQL, and what its errors mean to us.

Two pools: units of work keep a connection while they are open, everything else (append, vault, reading the log) is
short. They are kept apart because a unit may ask the vault: with one pool, units could hold all connections while
each waits for one more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.adapt import Loader
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from emobility.domain.errors import Unavailable
from emobility.ports.unit_of_work import UnitConflict

UNIT_CONNECTIONS_MAX: Final = 8
SHORT_CONNECTIONS_MAX: Final = 4
WAITING_MAX: Final = 2_000
"""Most callers that wait for a connection; one more is refused at once."""
CONNECTION_WAIT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 5
RECONNECT_S_MAX: Final = 2.0

Connection = AsyncConnection[Any]


class DatabaseUnavailable(Unavailable):
    """PostgreSQL did not answer; whether the last statement took effect is unknown."""


class _BytesAsText(Loader):
    """Hands JSONB over as it came; the codec reads it."""

    def load(self, data: Any) -> bytes:
        """Return the bytes."""
        return bytes(data)


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's errors about the connection, and about waiting for others, into ours."""
    try:
        yield
    except (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable) as error:
        raise UnitConflict(f"PostgreSQL gave way to another unit: {error.diag.message_primary}") from error
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed, TooManyRequests) as error:
        raise DatabaseUnavailable(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The two pools of a process."""

    dsn: str
    units: AsyncConnectionPool[Connection]
    short: AsyncConnectionPool[Connection]

    @asynccontextmanager
    async def short_connection(self) -> AsyncIterator[Connection]:
        """Lend an autocommitting connection for a statement or two. Raises `DatabaseUnavailable`, `UnitConflict`."""
        with translated():
            connection = await taken_from(self.short)
            try:
                # Not as the connection's own context, which commits: nothing here is in a transaction at its end.
                yield connection
            finally:
                await self.short.putconn(connection)


async def taken_from(pool: AsyncConnectionPool[Connection]) -> Connection:
    """Take a connection; who is cancelled as it is handed over gives it back and is cancelled.

    The pool waits by `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes as its wait ends. Of
    tasks that end together that is no rare moment: the one that fails gives its connection to the next.
    """
    task = asyncio.current_task()
    assert task is not None
    cancellations = task.cancelling()
    connection = await pool.getconn()
    if task.cancelling() > cancellations:
        await pool.putconn(connection)
        raise asyncio.CancelledError
    return connection


def connection_options(*, durable: bool) -> dict[str, Any]:
    """Return what every connection is opened with. `durable=False` is for the negative control of the fault tests."""
    settings = {"synchronous_commit": "on" if durable else "off", "timezone": "UTC", "client_min_messages": "warning"}
    return {
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "wattroam",
        # A server that vanished without a word is noticed within seconds.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
    }


async def _configure(connection: Connection) -> None:
    connection.adapters.register_loader("jsonb", _BytesAsText)
    # Statements are composed once and come again and again, on each of several connections.
    connection.prepare_threshold = 1
    connection.prepared_max = 500


@asynccontextmanager
async def open_database(
    dsn: str, *, durable: bool = True, unit_connections_max: int = UNIT_CONNECTIONS_MAX
) -> AsyncIterator[Database]:
    """Open the pools and wait for the server. Raises `DatabaseUnavailable`."""
    options = connection_options(durable=durable)

    def pool(name: str, *, max_size: int) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool(
            dsn,
            # A unit begins its transaction itself, when it first writes or locks.
            kwargs={**options, "autocommit": True},
            min_size=1,
            max_size=max_size,
            max_waiting=WAITING_MAX,
            timeout=CONNECTION_WAIT_S,
            reconnect_timeout=RECONNECT_S_MAX,
            configure=_configure,
            name=name,
            open=False,
        )

    units = pool("units", max_size=unit_connections_max)
    short = pool("short", max_size=SHORT_CONNECTIONS_MAX)
    with translated():
        try:
            await units.open(wait=True)
            await short.open(wait=True)
        except BaseException as error:
            await asyncio.gather(units.close(), short.close())
            if isinstance(error, PoolTimeout):  # which knows nothing of the cause
                await (await psycopg.AsyncConnection.connect(dsn, **options)).close()
            raise
    try:
        yield Database(dsn=dsn, units=units, short=short)
    finally:
        await asyncio.gather(units.close(), short.close())
