"""What the hub's memory grows by while messages pass: resident after a warm-up, and after so many more."""

from __future__ import annotations

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
            before_kib = hub.resident_kib()
            assert not (await so_many(hub.port, make, count=messages, connections=CONNECTIONS)).refused
            grown_kib = hub.resident_kib() - before_kib
    return [against_goal(name=FIGURES[0], value=grown_kib / (messages / 1_000), unit="KiB", at_most=GOAL_KIB)]
