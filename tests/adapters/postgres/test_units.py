"""What only PostgreSQL's units can get wrong."""

from __future__ import annotations

import psycopg
import pytest

from emobility.adapters.memory import VirtualClock
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemRandomness
from tests.adapters.contract.conftest import MASTER_KEY, T0, World


@pytest.mark.postgres
async def test_a_unit_whose_statement_failed_can_not_be_committed_in_silence(postgres_dsn: str) -> None:
    async with (
        open_postgres(
            postgres_dsn, master_key=MASTER_KEY, clock=VirtualClock(T0), randomness=SystemRandomness()
        ) as postgres,
        postgres.units.begin() as unit,
    ):
        with pytest.raises(psycopg.Error):
            await unit.execute(b"INSERT INTO inbox VALUES (1)", {})
        with pytest.raises(AssertionError, match="nothing was committed"):
            await unit.commit()


@pytest.mark.postgres
@pytest.mark.parametrize("emits", [False, True])
async def test_a_row_that_breaks_a_rule_says_so_with_the_commit_and_nothing_is_stored(
    postgres_dsn: str, *, emits: bool
) -> None:
    async with open_postgres(
        postgres_dsn, master_key=MASTER_KEY, clock=VirtualClock(T0), randomness=SystemRandomness()
    ) as postgres:
        async with postgres.database.short_connection() as connection:
            await connection.execute("DROP TABLE IF EXISTS delivered")
            await connection.execute(
                "CREATE TABLE delivered (wh BIGINT CONSTRAINT energy_is_not_negative CHECK (wh >= 0))"
            )

        async with postgres.units.begin() as unit:
            await unit.execute_later(b"INSERT INTO delivered VALUES (1)", {})
            await unit.execute_later(b"INSERT INTO delivered VALUES (-1)", {})
            if emits:
                unit.emit(World.booted("S1", 1))
            with pytest.raises(psycopg.errors.CheckViolation, match="energy_is_not_negative"):
                await unit.commit()

        async with postgres.database.short_connection() as connection:
            stored = await (await connection.execute("SELECT count(*) FROM delivered")).fetchone()
        assert stored == (0,)
        assert [logged async for logged in postgres.event_log.read(["charging"])] == []
