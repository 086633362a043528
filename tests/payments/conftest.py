"""The payments port's adapters under test, over both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from emobility.adapters.memory import SeededRandomness, VirtualClock, open_memory
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.postgres import open_postgres
from emobility.ports.payments import Payments
from emobility.ports.unit_of_work import Units


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> str | None:
    """Where the database is; None: in memory."""
    return request.getfixturevalue("postgres_dsn") if request.param == "postgres" else None


@pytest.fixture
async def units(store: str | None) -> AsyncIterator[Units]:
    common: dict[str, Any] = {
        "master_key": bytes(32),
        "clock": VirtualClock(datetime(2022, 3, 27, tzinfo=UTC)),
        "randomness": SeededRandomness("payments"),
    }
    async with AsyncExitStack() as stack:
        opening: Any = open_memory(**common) if store is None else open_postgres(store, **common)
        opened = await stack.enter_async_context(opening)
        yield opened.units


@pytest.fixture
def payments(units: Units) -> Payments:
    return SandboxPayments(units)
