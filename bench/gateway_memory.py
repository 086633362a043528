"""Resident memory per connected station: idle 2.0.1 stations on the real gateway over real WebSockets.

The rival is the `ocpp` package's loop on the `websockets` library with its defaults but for compression, which is off
in both.
"""

from __future__ import annotations

import asyncio
from typing import Final

from bench.figure import Figure
from bench.gateway_processes import PASSWORD
from bench.servers import ServerProcess, migrated_postgres, server
from bench.station_load import LoadingStation, Tally, masked, upgrade_request

FIGURES: Final = ("gateway.memory_per_station",)
STATIONS: Final = 2_000
STATIONS_SHORT: Final = 500
WARM_UP_STATIONS: Final = 200
"""What a server allocates once, for its first stations, is not counted."""
ANSWERS_S_MAX: Final = 60.0
"""How long the last heartbeats may take to be answered."""
GOAL_KIB: Final = 25.0
HEARTBEAT: Final = masked('[2,"first","Heartbeat",{}]')


async def run(*, short: bool) -> list[Figure]:
    """Measure both."""
    return await measure(stations=STATIONS_SHORT if short else STATIONS, warm_up=WARM_UP_STATIONS)


async def measure(*, stations: int, warm_up: int) -> list[Figure]:
    """Measure what `stations` add to a server that serves `warm_up` others already."""
    async with migrated_postgres() as postgres, server("ours", postgres.socket_dsn, str(warm_up + stations)) as process:
        ours = await _kib_per_station(process, stations, warm_up)
    async with server("rival") as process:
        rival = await _kib_per_station(process, stations, warm_up)
    return [
        Figure(
            name=FIGURES[0],
            value=ours,
            unit="KiB",
            rival=rival,
            rival_name="ocpp package on websockets, without compression",
            ratio=ours / rival,
            goal=f"<= {GOAL_KIB:g} KiB",
            holds=ours <= GOAL_KIB,
        )
    ]


async def _kib_per_station(target: ServerProcess, stations: int, warm_up: int) -> float:
    tally = Tally()
    kept = await _connect(target.port, range(warm_up), tally)
    before_kib = target.resident_kib()
    kept += await _connect(target.port, range(warm_up, warm_up + stations), tally)
    assert tally.refusals == 0, tally
    return (target.resident_kib() - before_kib) / stations


async def _connect(port: int, numbers: range, tally: Tally) -> list[_IdleStation]:
    """Connect stations and let each say one thing."""
    loop = asyncio.get_running_loop()
    goal = tally.answers + len(numbers)
    connected: list[_IdleStation] = []
    for number in numbers:
        station = _IdleStation(number, upgrade_request(port, f"BENCH-{number}", PASSWORD), tally)
        await loop.create_connection(lambda station=station: station, "127.0.0.1", port)  # type: ignore[misc]  # bound now
        await station.opened
        station.begin()
        connected.append(station)
    async with asyncio.timeout(ANSWERS_S_MAX):
        while tally.answers < goal:  # noqa: ASYNC110 - a tally announces nothing
            await asyncio.sleep(0.05)
    return connected


class _IdleStation(LoadingStation):
    """Sends one heartbeat and then nothing."""

    def begin(self) -> None:
        """Send the heartbeat, once."""
        if self.answers == 0:
            self.write(HEARTBEAT)
