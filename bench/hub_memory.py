"""What the hub's memory grows by while messages pass: the slope of what is resident, after a warm-up.

The slope is the median over all pairs of readings (Theil and Sen), since the allocator takes memory in steps: one step
is no leak, and a leak is in every pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import Final

from bench.figure import Figure, against_goal
from bench.hub_load import Target, so_many
from bench.hub_processes import process, register
from bench.hub_route import SENDERS, requests
from bench.servers import migrated_postgres
from emobility.domain.identifiers import PartyId, Role
from emobility.runtime import network

FIGURES: Final = ("hub.memory.per_1000_messages",)
MESSAGES: Final = 100_000
MESSAGES_SHORT: Final = 2_000
WARM_UP: Final = 20_000
WARM_UP_SHORT: Final = 1_000
"""Pools, caches and the allocator's arenas are full after so many."""
CONNECTIONS: Final = 16
READINGS: Final = 20
GOAL_KIB: Final = 1.0


async def run(*, short: bool) -> list[Figure]:
    """Measure the slope."""
    return await measure(messages=MESSAGES_SHORT if short else MESSAGES, warm_up=WARM_UP_SHORT if short else WARM_UP)


async def measure(*, messages: int, warm_up: int) -> list[Figure]:
    """Measure the slope over `messages` after `warm_up`."""
    async with migrated_postgres() as postgres, process("platform") as receiver:
        origin = f"http://127.0.0.1:{receiver.port}"
        msp = PartyId("DE-MSP")
        parties = [(PartyId(f"NL-C{number:02}"), Role.CPO, origin) for number in range(SENDERS)]
        senders = await register(postgres.dsn, [*parties, (msp, Role.EMSP, origin)], ["sessions"])
        async with process("hub", postgres.dsn, str(network.free_port()), origin) as hub:
            make = requests(Target(port=hub.port, path="/hub/ocpi/2.2.1"), senders[:SENDERS], msp)
            assert not (await so_many(hub.port, make, count=warm_up, connections=CONNECTIONS)).refused
            resident_kib = [hub.resident_kib()]
            for _ in range(READINGS):
                assert not (await so_many(hub.port, make, count=messages // READINGS, connections=CONNECTIONS)).refused
                resident_kib.append(hub.resident_kib())
    per_1000 = slope(resident_kib) / (messages / READINGS / 1_000)
    return [against_goal(name=FIGURES[0], value=per_1000, unit="KiB", at_most=GOAL_KIB)]


def slope(readings: Sequence[float]) -> float:
    """Return what a reading adds to the one before it."""
    numbered = list(enumerate(readings))
    return median((later - earlier) / (end - start) for (start, earlier), (end, later) in combinations(numbered, 2))
