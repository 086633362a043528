"""Each test of the settlement's rows runs in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.settlement.world import World, open_world


@pytest.fixture(params=["memory", "postgres"])
def dsn(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else str(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
async def world(dsn: str | None) -> AsyncIterator[World]:
    async with open_world(dsn) as opened:
        yield opened
