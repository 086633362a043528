"""The gateway was killed, and all its stations come back at once, a fifth of them over TLS.

Measured from the first dial until the last station's BootNotification was accepted; afterwards each station reports one
meter value within some seconds, and what counts is how long its acknowledgement takes. The stations are in processes of
their own, on the same two cores.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from bench.figure import Figure, against_goal
from bench.gateway_processes import PASSWORD, make_certificate
from bench.servers import migrated_postgres, server, server_folder
from emobility.runtime import network

FIGURES: Final = ("gateway.reconnect_storm.accepted", "gateway.reconnect_storm.p99")
STATIONS: Final = 10_000
STATIONS_SHORT: Final = 1_000
TLS_PART: Final = 5
"""One station of so many comes by TLS."""
SPEAK_S: Final = 30.0
SPEAK_S_SHORT: Final = 5.0
ACCEPTED_S_MAX: Final = 60.0
P99_MS_MAX: Final = 250.0


async def run(*, short: bool) -> list[Figure]:
    """Measure one storm."""
    if short:
        return await measure(stations=STATIONS_SHORT, speak_s=SPEAK_S_SHORT)
    return await measure(stations=STATIONS, speak_s=SPEAK_S)


async def measure(*, stations: int, speak_s: float) -> list[Figure]:
    """Let `stations` connect, kill the gateway, start it again, let them come back and speak."""
    by_tls = stations // TLS_PART
    ports = network.free_port(), network.free_port()
    with server_folder() as folder:
        make_certificate(folder)
        served = (*map(str, ports), str(folder))
        async with migrated_postgres() as postgres, AsyncExitStack() as stack:
            ours = ("ours", postgres.socket_dsn)
            loads: list[StormLoad] = []
            async with server(*ours, str(stations), *served):
                for first, count, port, kind in (
                    (0, by_tls, ports[1], "tls"),
                    (by_tls, stations - by_tls, ports[0], "plain"),
                ):
                    loads.append(await stack.enter_async_context(storm_load(first, count, port, kind)))
                await _all(loads, "dial")
            # The context has killed the gateway; each station has lost its connection.
            async with server(*ours, "0", *served):
                came_back = await _all(loads, "dial")
                waits_s = sorted(wait for waits in await _all(loads, f"speak {speak_s}") for wait in waits)
    for kind, one in zip(("by TLS", "plain"), came_back, strict=True):
        print(f"  {kind}: {one}", file=sys.stderr)
    return [
        against_goal(name=FIGURES[0], value=max(one["last_s"] for one in came_back), unit="s", at_most=ACCEPTED_S_MAX),
        against_goal(name=FIGURES[1], value=waits_s[len(waits_s) * 99 // 100] * 1000, unit="ms", at_most=P99_MS_MAX),
    ]


class StormLoad:
    """A process of `storm_load`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, command: str) -> Any:
        """Have it do something and return what it measured."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n".encode())
        line = await self._process.stdout.readline()
        assert line, "the load has ended"
        return json.loads(line)


async def _all(loads: Sequence[StormLoad], command: str) -> list[Any]:
    return await asyncio.gather(*(load.ask(command) for load in loads))


@asynccontextmanager
async def storm_load(first: int, count: int, port: int, kind: str) -> AsyncIterator[StormLoad]:
    """Start stations that do nothing yet."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.storm_load", str(first), str(count), str(port), kind, PASSWORD),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield StormLoad(process)
    finally:
        process.kill()
        await process.wait()
