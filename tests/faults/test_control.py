"""The control: a database that confirms before the disk has it does lose acknowledged messages, and the audit says so.

Without it nobody would know whether the tests beside this one can fail.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import psycopg
import pytest

from simulator.truth import Truth
from tests.faults.system_under_load import SOAK_S, Load, SystemUnderLoad, system_under_load

pytestmark = [pytest.mark.fault, pytest.mark.postgres, pytest.mark.timeout(240 + SOAK_S * 3)]

SEED: Final = 11
ROUNDS_MAX: Final = 5
"""Kills until something is lost; the first is enough unless the server happened to write just before."""
FORGETFUL: Final = (
    """CREATE FUNCTION confirm_before_the_disk_has_it() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    RETURN NULL;
END $$""",
    """DO $$
DECLARE
    name TEXT;
BEGIN
    FOR name IN
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    LOOP
        EXECUTE format(
            'CREATE TRIGGER forgetful AFTER INSERT OR UPDATE OR DELETE ON %I '
            'FOR EACH STATEMENT EXECUTE FUNCTION confirm_before_the_disk_has_it()', name
        );
    END LOOP;
END $$""",
    "ALTER SYSTEM SET wal_writer_delay = '10s'",
    "SELECT pg_reload_conf()",
)
"""`synchronous_commit=off` for whoever writes, set with each write as our processes ask for `on` when they connect;
and a long pause between the background writes, so that the control does not hang on the moment of the kill."""


async def test_without_synchronous_commit_the_audit_finds_what_was_lost(run_folder: Path) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}")  # noqa: T201 - repeats the moments of the kills
    async with system_under_load(run_folder, event_log="postgres", seed=SEED) as system:
        await forget_on_a_crash(system)
        async with system.load() as load:
            for _ in range(ROUNDS_MAX):
                await load.reach(load.acknowledged + chance.randrange(60, 120))
                if lost := await lost_by_a_kill(system, load):
                    break

    assert lost > 0


async def forget_on_a_crash(system: SystemUnderLoad) -> None:
    dsn = system.stack.installation.database_url
    assert dsn is not None
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for statement in FORGETFUL:
            await connection.execute(statement.encode())


async def lost_by_a_kill(system: SystemUnderLoad, load: Load) -> int:
    """Kill PostgreSQL; return how many messages the audit misses that were acknowledged before."""
    system.kill("postgres", load)
    acknowledged = list(load.run.acknowledged)
    await system.back("postgres", system.changes.count("postgres is back") + 1)
    truth = Truth(acknowledged=acknowledged).as_json()
    report, _ = await system.audit(truth)
    lost = [each for each in report.differences if each.rule == "acknowledged is stored"]
    system.tell(f"{len(lost)} of {len(acknowledged)} acknowledged messages are lost")
    return len(lost)
