"""An embedded installation as a tree of processes: PostgreSQL, a chain, Kafka, gateway, business, settlement."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from emobility.adapters.postgres import migrate
from emobility.adapters.system import SteppedClock, SystemClock, SystemRandomness, SystemTimer
from emobility.runtime.embedded_chain import EmbeddedChain
from emobility.runtime.embedded_kafka import EmbeddedKafka
from emobility.runtime.embedded_postgres import EmbeddedPostgres
from emobility.runtime.process_tree import CommandServer, ProcessTree
from emobility.runtime.supervision import ComponentMissing
from services.embedded.run_folder import Installation

PROBE_TIMEOUT_S: Final = 1.0
READY_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running installation."""

    installation: Installation
    tree: ProcessTree
    clock_file: Path | None


@asynccontextmanager
async def running(
    installation: Installation,
    *,
    clock_file: Path | None = None,
    seed: int = 0,
    on_change: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Stack]:
    """Start everything, bottom up, and stop it, top down, with the context.

    Args:
        installation: Its secrets, ports and folder.
        clock_file: A stepped clock for all processes; None: real time.
        seed: Handed to the processes; only a simulation draws from it.
        on_change: Told in a sentence what starts, dies and comes back.
    """
    timer, randomness = SystemTimer(), SystemRandomness()
    logs = installation.folder / "logs"
    logs.mkdir(exist_ok=True)
    async with ProcessTree(timer=timer, on_change=on_change) as tree:
        postgres = EmbeddedPostgres(installation.folder / "postgres", timer=timer, randomness=randomness)
        on_change("starting PostgreSQL")
        await tree.launch(postgres)
        installation = replace(installation, database_url=postgres.socket_dsn)
        await migrate(postgres.dsn)
        if installation.event_log == "kafka":
            kafka = EmbeddedKafka(installation.folder / "kafka", timer=timer, randomness=randomness)
            on_change("starting Apache Kafka")
            await tree.launch(kafka)
            installation = replace(installation, kafka_bootstrap=kafka.bootstrap)
        installation = await _with_chain(installation, tree, clock_file, on_change)
        installation.save()
        environment = os.environ | installation.environment(clock_file=clock_file, seed=seed)
        on_change("starting gateway, back offices and settlement")
        await tree.launch(
            *(
                CommandServer(
                    name,
                    [sys.executable, "-m", module],
                    log=logs / f"{name}.log",
                    timer=timer,
                    is_ready=answers(f"{url}/livez"),
                    env=environment,
                    ready_timeout_s=READY_TIMEOUT_S,
                )
                for name, module, url in (
                    ("gateway", "charge_point_gateway", installation.gateway_api_url),
                    ("business", "services.embedded.business_process", installation.business_url),
                    ("settlement", "services.settlement", installation.settlement_url),
                )
            )
        )
        yield Stack(installation=installation, tree=tree, clock_file=clock_file)


async def _with_chain(
    installation: Installation, tree: ProcessTree, clock_file: Path | None, on_change: Callable[[str], None]
) -> Installation:
    """Start a chain of our own; without anvil accepted CDRs wait for one, and everything else goes on."""
    clock = SystemClock() if clock_file is None else SteppedClock(clock_file)
    timer, randomness = SystemTimer(), SystemRandomness()
    chain = EmbeddedChain(installation.folder / "chain", clock=clock, timer=timer, randomness=randomness)
    try:
        on_change("starting a chain")
        await tree.launch(chain)
    except ComponentMissing as missing:
        on_change(f"nothing will be settled: {missing}")
        return replace(installation, chain_rpc_url=None, chain_mnemonic=None)
    return replace(installation, chain_rpc_url=chain.rpc_url, chain_mnemonic=chain.mnemonic)


def answers(url: str) -> Callable[[], Awaitable[bool]]:
    """Return a probe that says whether `url`, on this machine, answers with 200."""
    address = urlsplit(url)

    async def probe() -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
                try:
                    writer.write(f"GET {address.path} HTTP/1.0\r\nHost: {address.netloc}\r\n\r\n".encode())
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    return probe
