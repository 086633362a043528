"""The payments port's adapters under test."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from emobility.adapters.memory.time import VirtualClock
from emobility.adapters.memory.units import MemoryState, MemoryUnits
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.ports.payments import Payments
from emobility.ports.unit_of_work import Units


@pytest.fixture
def units() -> Units:
    return MemoryUnits(MemoryState(VirtualClock(datetime(2022, 3, 27, tzinfo=UTC))))


@pytest.fixture
def payments(units: Units) -> Payments:
    return SandboxPayments(units)
