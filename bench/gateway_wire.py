"""2.0.1 TransactionEvents over the wire, validated both ways and durable before they are acknowledged.

Two rivals, neither of which stores anything: the `ocpp` package's own central-system loop in its best configuration
(ASYNC_VALIDATION=False), and a bare `websockets` server that sends each frame back unread. All three run on uvloop and
serve as many stations of one load process, in short rounds that alternate, and each round is compared with its
neighbours: what else the machine does disturbs all alike, and the median leaves out what did not.

Two kinds of figures. Messages per second is what a user sees, but ours shares two cores with PostgreSQL and with the
load. CPU per message is what a message costs, whoever else is at work: of the gateway's process alone, as of the
rival's, and with all of PostgreSQL's processes, which the rivals do without.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.figure import Figure, against_rival
from bench.gateway_processes import PASSWORD
from bench.servers import ServerProcess, cpu_s, migrated_postgres, server

FIGURES: Final = (
    "gateway.wire.durable",
    "gateway.wire.durable_beside_echo",
    "gateway.wire.cpu",
    "gateway.wire.cpu_with_postgres",
)
RIVAL_NAME: Final = "ocpp package, ASYNC_VALIDATION=False, nothing stored"
ECHO_NAME: Final = "websockets alone, each frame sent back unread"
STATIONS: Final = 400
ROUNDS: Final = 15
ROUNDS_SHORT: Final = 5
ROUND_S: Final = 2.0
ROUND_S_SHORT: Final = 1.0
WARM_UP_S: Final = 1.0
RIVAL_RATIO: Final = 12.0
ECHO_RATIO: Final = 0.4
NAMES: Final = ("ours", "rival", "echo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one server did in one round; CPU in microseconds per message."""

    per_s: float
    server_us: float
    postgres_us: float


async def run(*, short: bool) -> list[Figure]:
    """Measure both in turns."""
    if short:
        return await measure(stations=STATIONS, rounds=ROUNDS_SHORT, round_s=ROUND_S_SHORT)
    return await measure(stations=STATIONS, rounds=ROUNDS, round_s=ROUND_S)


async def measure(*, stations: int, rounds: int, round_s: float, warm_up_s: float = WARM_UP_S) -> list[Figure]:
    """Measure `rounds` rounds of each server."""
    results: list[list[Round]] = [[] for _ in NAMES]
    async with (
        migrated_postgres() as postgres,
        server("ours", postgres.socket_dsn, str(stations)) as our_server,
        server("rival") as rival_server,
        server("echo") as echo_server,
        station_load(stations, our_server, rival_server, echo_server) as load,
    ):
        assert postgres.pid is not None
        turns = list(enumerate((our_server, rival_server, echo_server)))
        for index, each in turns:
            await load.round(index, each, postgres.pid, warm_up_s)
        for number in range(rounds):
            for index, each in turns if number % 2 == 0 else reversed(turns):
                results[index].append(await load.round(index, each, postgres.pid, round_s))
    ours, rival, echo = results
    return [
        against_rival(
            name=FIGURES[0],
            unit="messages/s",
            ours=[each.per_s for each in ours],
            rival=[each.per_s for each in rival],
            rival_name=RIVAL_NAME,
            ratio_min=RIVAL_RATIO,
        ),
        against_rival(
            name=FIGURES[1],
            unit="messages/s",
            ours=[each.per_s for each in ours],
            rival=[each.per_s for each in echo],
            rival_name=ECHO_NAME,
            ratio_min=ECHO_RATIO,
        ),
        against_rival(
            name=FIGURES[2],
            unit="us/message",
            ours=[each.server_us for each in ours],
            rival=[each.server_us for each in rival],
            rival_name=RIVAL_NAME,
        ),
        against_rival(
            name=FIGURES[3],
            unit="us/message",
            ours=[each.server_us + each.postgres_us for each in ours],
            rival=[each.server_us for each in rival],
            rival_name=RIVAL_NAME,
        ),
    ]


class StationLoad:
    """The process of `station_load`, connected to all servers from the beginning."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> bytes:
        """Return what it says next."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the load has ended"
        return line

    async def round(self, index: int, target: ServerProcess, postgres_pid: int, measure_s: float) -> Round:
        """Load the server for one round."""
        assert self._process.stdin is not None
        server_s, postgres_s = cpu_s(target.pid), cpu_s(postgres_pid)
        self._process.stdin.write(f"{index} {measure_s}\n".encode())
        seen: dict[str, Any] = json.loads(await self.line())
        server_s, postgres_s = cpu_s(target.pid) - server_s, cpu_s(postgres_pid) - postgres_s
        assert seen["refusals"] == 0, seen
        result = Round(
            per_s=seen["per_s"],
            server_us=server_s / seen["answers"] * 1e6,
            postgres_us=postgres_s / seen["answers"] * 1e6,
        )
        print(
            f"  {NAMES[index]:5} {result.per_s:7,.0f}/s  {result.server_us:5.0f} us of CPU each,"
            f" {result.postgres_us:3.0f} of PostgreSQL's  p50 {seen['p50_ms']:,.0f} ms, p99 {seen['p99_ms']:,.0f} ms",
            file=sys.stderr,
        )
        return result


@asynccontextmanager
async def station_load(stations: int, *servers: ServerProcess) -> AsyncIterator[StationLoad]:
    """Connect stations to each server, from one process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.station_load", str(stations), PASSWORD, *(str(each.port) for each in servers)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    load = StationLoad(process)
    try:
        await load.line()
        yield load
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    for figure in asyncio.run(run(short=True)):
        print(figure)
