"""How long the audit of a million sessions takes, and how much memory: figures alone, and with every document.

The books are filled as the product would have left them (`settlement_books.py`) and settled on a chain in memory. A
quick audit streams figures of all sides and builds both trees of each statement again; a full one also folds the log of
station reports, prices CDRs and bills again, opens what is sealed and compares with the chain. The rival is a script as
is usual: session by session it asks for both CDRs, the leaf and its statement, and compares their amounts.

Times of a short run are told as for a million sessions; what they have in common with each audit counts in them too.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import psycopg

from bench.figure import Figure, against_goal, against_rival
from bench.servers import migrated_postgres
from bench.settlement_books import Filling
from bench.settlement_pairs import agreements as hundred_pairs
from emobility.ports.reconciliation import Period
from services.audit.period_report import PeriodReport
from services.audit.periodically import audited_period
from services.audit.sharing import Shared
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import MASTER_KEY

FIGURES: Final = (
    "settlement.audit.quick",
    "settlement.audit.full",
    "settlement.audit.memory",
    "settlement.audit.sessions_per_s",
)
MILLION: Final = 1_000_000
SESSIONS_SHORT: Final = 4_000
PAIRS_SHORT: Final = 4
QUICK_S_MAX: Final = 60
FULL_S_MAX: Final = 300
MEMORY_MIB_MAX: Final = 600
"""Of this process and of one that shares the slices, together: as much for a million sessions as for ten million."""
RIVAL_SESSIONS: Final = 2_000
KIB_PER_MIB: Final = 1024


async def run(*, short: bool) -> list[Figure]:
    """Fill, audit twice and let the rival try."""
    return await measure(
        sessions=SESSIONS_SHORT if short else MILLION, pairs=PAIRS_SHORT if short else len(hundred_pairs())
    )


async def measure(*, sessions: int, pairs: int) -> list[Figure]:
    """Measure with so many sessions of so many pairs."""
    async with migrated_postgres() as server, open_settling(server.dsn) as here:
        await Filling(here, hundred_pairs()[:pairs], dsn=server.dsn).fill(sessions)
        return await audited_books(here, server.dsn, sessions)


async def audited_books(here: Settling, dsn: str, sessions: int) -> list[Figure]:
    """Measure over books that are filled."""
    ports, processes = here.world.ports, len(os.sched_getaffinity(0))
    sharing = Shared(dsn=dsn, master_key=MASTER_KEY, processes=processes)
    before_kib = _forget_peak()
    began = perf_counter()
    quick = await audited_period(ports, Period())
    quick_s = perf_counter() - began
    began = perf_counter()
    full = await audited_period(ports, Period(), sharing=sharing, chain=here.chain.chain)
    full_s = perf_counter() - began
    own_kib = _kib("VmHWM") - before_kib
    sharer_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    for found in (quick, full):
        _require_sound(found, sessions)
    rival = await asyncio.to_thread(_rival_sessions_per_s, dsn, min(sessions, RIVAL_SESSIONS))
    scale = MILLION / sessions
    return [
        against_goal(name=FIGURES[0], value=quick_s * scale, unit="s per million sessions", at_most=QUICK_S_MAX),
        against_goal(
            name=FIGURES[1],
            value=full_s * scale,
            unit=f"s per million sessions, {processes} processes",
            at_most=FULL_S_MAX,
        ),
        against_goal(
            name=FIGURES[2], value=(own_kib + sharer_kib) / KIB_PER_MIB, unit="MiB at most", at_most=MEMORY_MIB_MAX
        ),
        against_rival(
            name=FIGURES[3],
            unit="sessions/s",
            ours=[sessions / quick_s],
            rival=[rival],
            rival_name="psycopg, four queries per session, amounts alone, no roots",
        ),
    ]


def _require_sound(found: PeriodReport, sessions: int) -> None:
    """What is fast because it looked at nothing, or found what is not there, is not measured."""
    assert found.report.is_clean, found.report.differences[:3]
    settled = sum(pair.stages[stage].documents for pair in found.reconciled.pairs.values() for stage in pair.stages)
    assert settled >= 5 * sessions, f"{settled} documents at all stages are too few for {sessions} sessions"


def _forget_peak() -> int:
    """Have the kernel count the peak of this process's memory anew; return what it takes now, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _kib("VmRSS")


def _kib(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, f"the kernel does not tell {name}"
    return int(found[1])


_ASKED: Final = (
    "SELECT cdr FROM cpo_cdr WHERE party_id = %(cpo)s AND cdr_id = %(cdr)s",
    "SELECT cdr FROM emsp_cdr WHERE party_id = %(emsp)s AND cpo_id = %(cpo)s AND cdr_id = %(cdr)s",
    (
        "SELECT due_e4, credit_e4, agreement_id, version, sequence FROM settlement_leaf"
        " WHERE cpo_id = %(cpo)s AND cdr_id = %(cdr)s"
    ),
    (
        "SELECT state FROM settlement_statement WHERE cpo_id = %(cpo)s AND agreement_id = %(agreement)s"
        " AND version = %(version)s AND sequence = %(sequence)s"
    ),
)


def _rival_sessions_per_s(dsn: str, sessions: int) -> float:
    with psycopg.connect(dsn) as connection:
        names = connection.execute("SELECT party_id, emsp_id, cdr_id FROM cpo_cdr LIMIT %s", [sessions]).fetchall()
        began = perf_counter()
        for cpo, emsp, cdr in names:
            values = {"cpo": cpo, "emsp": emsp, "cdr": cdr}
            (issued,) = _one(connection, _ASKED[0], values)
            (received,) = _one(connection, _ASKED[1], values)
            due_e4, credit_e4, agreement, version, sequence = _one(connection, _ASKED[2], values)
            values |= {"agreement": agreement, "version": version, "sequence": sequence}
            (state,) = _one(connection, _ASKED[3], values)
            amounts = {each["total_cost"]["excl_e4"] for each in (issued, received)} | {due_e4 - credit_e4}
            assert (len(amounts), state) == (1, "FINAL")
        return len(names) / (perf_counter() - began)


def _one(connection: psycopg.Connection, asked: str, values: dict[str, object]) -> tuple[Any, ...]:
    row = connection.execute(asked.encode(), values).fetchone()
    assert row is not None, f"{values} is gone"
    return row
