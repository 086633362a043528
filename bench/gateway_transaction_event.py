"""2.0.1 TransactionEvents per second over the wire, validated both ways and durable before they are acknowledged.

The rival is the `ocpp` package's own central-system loop in its best configuration (ASYNC_VALIDATION=False, uvloop),
which stores nothing. Both serve the same load from another process, in turns, on this machine;
ours shares the two cores with PostgreSQL as well.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench.figure import Figure, against_rival
from bench.gateway_processes import PASSWORD
from emobility.adapters.postgres import migrate
from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.runtime.embedded_postgres import EmbeddedPostgres

FIGURES: Final = ("gateway.transaction_event.durable",)
STATIONS: Final = 400
GOAL_RATIO: Final = 8.0


async def run(*, short: bool) -> list[Figure]:
    """Measure both in turns and compare the best round of each: what else the machine does disturbs both alike."""
    rounds, measure_s = (2, 3.0) if short else (4, 6.0)
    ours, rival = [], []
    async with (
        migrated_postgres() as dsn,
        server("ours", dsn, str(STATIONS)) as our_process,
        server("rival") as rival_process,
    ):
        for _ in range(rounds):
            ours.append(await load(our_process, measure_s))
            rival.append(await load(rival_process, measure_s))
    assert not any(each["refusals"] for each in (*ours, *rival)), (ours, rival)
    return [
        against_rival(
            name=FIGURES[0],
            value=max(each["per_s"] for each in ours),
            unit="messages/s",
            rival=max(each["per_s"] for each in rival),
            rival_name="ocpp package, ASYNC_VALIDATION=False, nothing stored",
            at_least=GOAL_RATIO,
        )
    ]


@asynccontextmanager
async def migrated_postgres() -> AsyncIterator[str]:
    """An embedded PostgreSQL of this bench's own."""
    folder = await asyncio.to_thread(_open_folder)
    postgres = EmbeddedPostgres(folder / "postgres", timer=SystemTimer(), randomness=SystemRandomness())
    try:
        await postgres.start()
        await migrate(postgres.dsn)
        yield postgres.dsn
    finally:
        postgres.kill()
        postgres.discard()
        shutil.rmtree(folder, ignore_errors=True)


def _open_folder() -> Path:
    """Make a folder that the server's unprivileged user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="wattroam-bench-", dir="/var/tmp"))
    folder.chmod(0o755)
    return folder


class ServerProcess:
    """A process of `gateway_processes`: its port, and its memory when asked."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def resident_kib(self) -> int:
        """Return the resident memory of the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return int(await self._process.stdout.readline())


@asynccontextmanager
async def server(*arguments: str) -> AsyncIterator[ServerProcess]:
    """Run a server process until the context ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.gateway_processes", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield ServerProcess(process, int(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


async def load(target: ServerProcess, measure_s: float) -> dict[str, float]:
    """Load a server from a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.station_load", str(target.port), str(STATIONS), "1", str(measure_s), PASSWORD),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, process.returncode
    measured: dict[str, float] = json.loads(output)
    print(f"  {measured}", file=sys.stderr)
    return measured


if __name__ == "__main__":
    for figure in asyncio.run(run(short=True)):
        print(figure)
