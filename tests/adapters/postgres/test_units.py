"""What only PostgreSQL's units can get wrong."""

from __future__ import annotations

import psycopg
import pytest

from emobility.adapters.memory import VirtualClock
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemRandomness
from tests.adapters.contract.conftest import MASTER_KEY, T0


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
