"""The world in memory: every port's twin, deterministic, for tests and simulations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from emobility.adapters.memory.event_log import RETENTION_AGE, MemoryEventLog
from emobility.adapters.memory.frames import MemoryFrameSocket, memory_frame_pair
from emobility.adapters.memory.http import MemoryHttp
from emobility.adapters.memory.time import (
    LoopTimer,
    SeededRandomness,
    SimulationStuck,
    VirtualClock,
    VirtualTimeLoop,
    run_virtual,
)
from emobility.adapters.memory.units import MemoryState, MemoryUnit, MemoryUnits
from emobility.adapters.memory.vault import MemoryVault
from emobility.ports.clock import Clock, Randomness

__all__ = [
    "LoopTimer",
    "MemoryAdapters",
    "MemoryEventLog",
    "MemoryFrameSocket",
    "MemoryHttp",
    "MemoryState",
    "MemoryUnit",
    "MemoryUnits",
    "MemoryVault",
    "SeededRandomness",
    "SimulationStuck",
    "VirtualClock",
    "VirtualTimeLoop",
    "memory_adapters",
    "memory_frame_pair",
    "open_memory",
    "run_virtual",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAdapters:
    """Log, units and vault over one state."""

    event_log: MemoryEventLog
    units: MemoryUnits
    vault: MemoryVault
    state: MemoryState


def memory_adapters(
    *, master_key: bytes, clock: Clock, randomness: Randomness, retention: timedelta = RETENTION_AGE
) -> MemoryAdapters:
    """Return adapters that see one world; processes of one simulation share them."""
    state = MemoryState(clock)
    return MemoryAdapters(
        event_log=MemoryEventLog(state, retention=retention),
        units=MemoryUnits(state),
        vault=MemoryVault(master_key=master_key, clock=clock, randomness=randomness),
        state=state,
    )


@asynccontextmanager
async def open_memory(
    *, master_key: bytes, clock: Clock, randomness: Randomness, retention: timedelta = RETENTION_AGE
) -> AsyncIterator[MemoryAdapters]:
    """The same in the shape of `open_postgres` and `open_kafka`."""
    yield memory_adapters(master_key=master_key, clock=clock, randomness=randomness, retention=retention)
