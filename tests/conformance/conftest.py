from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conformance.scenario import Operator, Station
from tests.csms import CSMS, running_csms


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def csms() -> AsyncIterator[CSMS]:
    """One CSMS for all scenarios of a module."""
    async with running_csms() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def station(csms: CSMS, request: pytest.FixtureRequest) -> AsyncIterator[Station]:
    """A station of the module's `VERSION` that has booted."""
    version: str = request.module.VERSION
    station = Station(csms, version, await csms.enter_station(), await csms.new_card())
    await station.connects()
    await station.boots()
    yield station
    await station.disconnects()


@pytest.fixture
def operator(csms: CSMS, station: Station) -> Operator:
    return Operator(csms, station)
