"""Resident memory per connected station: idle 2.0.1 stations on the real gateway over real WebSockets, and over TLS.

The rival is the `ocpp` package's loop on the `websockets` library with its defaults but for compression, which is off
in both. It is measured without TLS, which costs both the same.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from bench.figure import Figure
from bench.gateway_processes import PASSWORD, make_certificate
from bench.servers import ServerProcess, migrated_postgres, server, server_folder
from bench.station_load import LoadingStation, Tally, masked, trusting, upgrade_request
from emobility.runtime import network

FIGURES: Final = ("gateway.memory_per_station", "gateway.memory_per_station.tls")
STATIONS: Final = 10_000
STATIONS_SHORT: Final = 500
TLS_PART: Final = 5
"""As many by TLS as plain would take long to connect; one of so many tells as much."""
CONNECTED_AT_ONCE: Final = 50
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
    with server_folder() as folder:
        make_certificate(folder)
        by_tls = max(1, stations // TLS_PART)
        async with migrated_postgres() as postgres:
            async with server("ours", postgres.socket_dsn, str(warm_up + stations)) as process:
                ours = await _kib_per_station(process, process.port, stations, warm_up)
            tls_port = network.free_port()
            async with server("ours", postgres.socket_dsn, "0", "0", str(tls_port), str(folder)) as process:
                ours_tls = await _kib_per_station(process, tls_port, by_tls, warm_up, tls=trusting())
    async with server("rival") as process:
        rival = await _kib_per_station(process, process.port, stations, warm_up)
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
        ),
        Figure(name=FIGURES[1], value=ours_tls, unit="KiB"),
    ]


async def _kib_per_station(
    target: ServerProcess, port: int, stations: int, warm_up: int, *, tls: ssl.SSLContext | None = None
) -> float:
    tally = Tally()
    kept = await _connect(port, range(warm_up), tally, tls)
    before_kib = target.resident_kib()
    kept += await _connect(port, range(warm_up, warm_up + stations), tally, tls)
    assert tally.refusals == 0, tally
    return (target.resident_kib() - before_kib) / stations


async def _connect(port: int, numbers: range, tally: Tally, tls: ssl.SSLContext | None) -> list[_IdleStation]:
    """Connect stations and let each say one thing."""
    goal = tally.answers + len(numbers)
    connected: list[_IdleStation] = []
    for batch in (numbers[first : first + CONNECTED_AT_ONCE] for first in range(0, len(numbers), CONNECTED_AT_ONCE)):
        connected += await asyncio.gather(*(_connected(port, number, tally, tls) for number in batch))
    async with asyncio.timeout(ANSWERS_S_MAX):
        while tally.answers < goal:  # noqa: ASYNC110 - a tally announces nothing
            await asyncio.sleep(0.05)
    return connected


async def _connected(port: int, number: int, tally: Tally, tls: ssl.SSLContext | None) -> _IdleStation:
    station = _IdleStation(number, upgrade_request(port, f"BENCH-{number}", PASSWORD), tally)
    await asyncio.get_running_loop().create_connection(
        lambda: station, "127.0.0.1", port, ssl=tls, server_hostname=None if tls is None else "localhost"
    )
    await station.opened
    station.begin()
    return station


class _IdleStation(LoadingStation):
    """Sends one heartbeat and then nothing."""

    def begin(self) -> None:
        """Send the heartbeat, once."""
        if self.answers == 0:
            self.write(HEARTBEAT)
