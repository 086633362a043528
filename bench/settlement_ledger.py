"""Chain or ledger: the same months settled on both, in turns, in one run.

A month is 10,000 sessions of 100 pairs between 20 parties. Both keep the settlement's own rows in a PostgreSQL of their
own; the ledger's entries are rows beside them, the chain is anvil, one node that mines as soon as something waits. So
the chain is as fast as none with several validators is: what it shows is the least that a chain costs. Measured is what
differs, from closed statements to all being final and, on the ledger, countersigned by all 20 parties. CPU is that of
this process, of PostgreSQL and of anvil together; bytes are those that stay on disk: the ledger's rows, or anvil's
state. Taking CDRs in and closing is the same on both, and left out (`settlement.sessions_per_s` has it).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Final

import psycopg

from bench.figure import Figure, against_rival
from bench.servers import cpu_s, migrated_postgres
from bench.settlement_pairs import agreements as hundred_pairs
from emobility.domain.agreement import RoamingAgreement
from emobility.events.settlement import StatementFinal
from emobility.runtime.embedded_postgres import EmbeddedPostgres
from tests.chains import a_ledger, an_anvil
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import a_cdr, accepted

FIGURES: Final = (
    "settlement.ledger.sessions_per_s",
    "settlement.ledger.final_s",
    "settlement.ledger.cpu_us_per_session",
    "settlement.ledger.bytes_per_session",
)
SESSIONS: Final = 10_000
SESSIONS_SHORT: Final = 1_000
MONTHS: Final = 5
MONTHS_SHORT: Final = 2
TAKEN_AT_ONCE: Final = 500
COST_E4: Final = 15_000
FINAL_S_MAX: Final = 120.0
LOOK_S: Final = 0.01
RIVAL: Final = "the same on a chain: anvil, one node that mines at once"
_TABLES: Final = ("ledger_entry", "ledger_countersignature")


@dataclass
class Book:
    """Where months are settled, and what each took: seconds, CPU-seconds, bytes."""

    settling: Settling
    pids: tuple[int, ...]
    stored: Callable[[], int]
    agreements: list[RoamingAgreement]
    took_s: list[float] = field(default_factory=list)
    took_cpu_s: list[float] = field(default_factory=list)
    took_bytes: list[int] = field(default_factory=list)

    async def settle(self, month: int, sessions: int) -> None:
        """Settle a month."""
        world = self.settling.world
        for start in range(0, sessions, TAKEN_AT_ONCE):
            numbers = range(start, min(start + TAKEN_AT_ONCE, sessions))
            pairs = (self.agreements[number % len(self.agreements)] for number in numbers)
            await world.take(
                *(
                    accepted(a_cdr(f"{month}-{number}", COST_E4, cpo_id=pair.cpo_id), agreement=pair)
                    for number, pair in zip(numbers, pairs, strict=True)
                )
            )
        await world.closing.close_now()
        wanted, follower = (month + 1) * len(self.agreements), self.settling.follower()
        bytes_before, cpu_before, began = self.stored(), self._cpu_s(), perf_counter()
        async with asyncio.timeout(FINAL_S_MAX):
            while await follower.step() or len(await world.told(StatementFinal)) < wanted:  # noqa: ASYNC110 - rows tell nobody
                await asyncio.sleep(0 if self.settling.access.ledger is not None else LOOK_S)
        self.took_s.append(perf_counter() - began)
        self.took_cpu_s.append(self._cpu_s() - cpu_before)
        self.took_bytes.append(self.stored() - bytes_before)

    def _cpu_s(self) -> float:
        return process_time() + sum(map(cpu_s, self.pids))


async def run(*, short: bool) -> list[Figure]:
    """Settle months on both in turns."""
    sessions, months = (SESSIONS_SHORT, MONTHS_SHORT) if short else (SESSIONS, MONTHS)
    async with _on_ledger() as ledger, _on_chain() as chain:
        for month in range(months):
            for book in (ledger, chain):
                await book.settle(month, sessions)

    def beside(name: str, unit: str, of: Callable[[Book], list[float]]) -> Figure:
        return against_rival(name=name, unit=unit, ours=of(ledger), rival=of(chain), rival_name=RIVAL)

    return [
        beside(FIGURES[0], "sessions/s", lambda book: [sessions / each for each in book.took_s]),
        beside(FIGURES[1], "s", lambda book: book.took_s),
        beside(FIGURES[2], "us/session", lambda book: [each * 1e6 / sessions for each in book.took_cpu_s]),
        beside(FIGURES[3], "B/session", lambda book: [sum(book.took_bytes) / sessions / months]),
    ]


@asynccontextmanager
async def _on_ledger() -> AsyncIterator[Book]:
    async with migrated_postgres() as server, a_ledger(server.dsn) as world, open_settling(server.dsn, world) as here:
        yield await _opened(here, (_pid(server),), lambda: _table_bytes(server.dsn))


@asynccontextmanager
async def _on_chain() -> AsyncIterator[Book]:
    with TemporaryDirectory(prefix="wattroam-bench-") as folder:
        async with (
            migrated_postgres() as server,
            an_anvil(Path(folder)) as world,
            open_settling(server.dsn, world) as here,
        ):
            anvil = world.server.pid
            assert anvil is not None
            yield await _opened(here, (_pid(server), anvil), lambda: _folder_bytes(Path(folder)))


async def _opened(here: Settling, pids: tuple[int, ...], stored: Callable[[], int]) -> Book:
    agreements = hundred_pairs()
    await here.sign(*agreements)
    await here.market.prepare(here.world.ports.units)
    return Book(settling=here, pids=pids, stored=stored, agreements=agreements)


def _pid(server: EmbeddedPostgres) -> int:
    assert server.pid is not None
    return server.pid


def _table_bytes(dsn: str) -> int:
    """Return what the ledger's rows and indexes take on disk, without the space that is free in their pages."""
    with psycopg.connect(dsn) as connection:
        sizes = [
            connection.execute(
                f"SELECT coalesce(sum(pg_column_size(t.*)), 0) + pg_indexes_size('{table}') FROM {table} t"  # noqa: S608
            ).fetchone()
            for table in _TABLES
        ]
    return sum(int(size[0]) for size in sizes if size is not None)


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and os.access(path, os.R_OK))
