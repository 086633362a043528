"""Servers that a bench starts, each a process of its own, and what they take of the machine (read from /proc)."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from emobility.adapters.postgres import migrate
from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.runtime.embedded_postgres import EmbeddedPostgres


@asynccontextmanager
async def migrated_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """An embedded PostgreSQL of this bench's own."""
    with server_folder() as folder:
        postgres = EmbeddedPostgres(folder / "postgres", timer=SystemTimer(), randomness=SystemRandomness())
        try:
            await postgres.start()
            await migrate(postgres.dsn)
            yield postgres
        finally:
            postgres.kill()
            postgres.discard()


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder that a server's unprivileged user may enter; it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="wattroam-bench-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcess:
    """A process of `gateway_processes`."""

    pid: int
    port: int

    def resident_kib(self) -> int:
        """Return the resident memory of the process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() // 1024


@asynccontextmanager
async def server(*arguments: str) -> AsyncIterator[ServerProcess]:
    """Run a server process until the context ends; it ends by itself when this process does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.gateway_processes", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield ServerProcess(pid=process.pid, port=int(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU, user's and system's, of a process and all it started, in steps of a clock tick."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    # Fields 14 to 17 of proc(5): its own, and its ended children's; the name before them may hold spaces.
    ticks = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    total_s = ticks / os.sysconf("SC_CLK_TCK")
    for child in children:
        with suppress(FileNotFoundError):  # ended meanwhile
            total_s += cpu_s(int(child))
    return total_s
