"""An embedded installation as a tree of processes: PostgreSQL, a chain, Kafka, gateway, business, settlement."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
from emobility.runtime.foundry import find_foundry
from emobility.runtime.process_tree import CommandServer, ProcessTree
from emobility.runtime.supervision import ComponentMissing
from services.embedded.run_folder import Installation

PROBE_TIMEOUT_S: Final = 1.0
READY_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running installation.

    Attributes:
        settling: Chain and settlement, which may come up while others charge already; gives the installation with them.
    """

    installation: Installation
    tree: ProcessTree
    clock_file: Path | None
    settling: asyncio.Task[Installation]


@asynccontextmanager
async def running(
    installation: Installation,
    *,
    clock_file: Path | None = None,
    seed: int = 0,
    on_change: Callable[[str], None] = lambda _: None,
    beside: Callable[[Installation], None] = lambda _: None,
) -> AsyncIterator[Stack]:
    """Start everything, bottom up, and stop it, top down, with the context.

    Args:
        installation: Its secrets, ports and folder.
        clock_file: A stepped clock for all processes; None: real time.
        seed: Handed to the processes; only a simulation draws from it.
        on_change: Told in a sentence what starts, dies and comes back.
        beside: Called when the database is up and all else is about to start.
    """
    timer, randomness = SystemTimer(), SystemRandomness()
    (installation.folder / "logs").mkdir(exist_ok=True)
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
        installation.save()
        beside(installation)
        environment = os.environ | installation.environment(clock_file=clock_file, seed=seed)
        on_change("starting gateway and back offices")
        await tree.launch(
            _process(installation, "gateway", "charge_point_gateway", installation.gateway_api_url, environment),
            _process(
                installation, "business", "services.embedded.business_process", installation.business_url, environment
            ),
        )
        settling = asyncio.create_task(_settle(installation, tree, environment, clock_file, on_change))
        try:
            yield Stack(installation=installation, tree=tree, clock_file=clock_file, settling=settling)
        finally:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)


async def _settle(
    installation: Installation,
    tree: ProcessTree,
    environment: Mapping[str, str],
    clock_file: Path | None,
    on_change: Callable[[str], None],
) -> Installation:
    """Start a chain of our own and the settlement; without anvil accepted CDRs wait, and everything else goes on."""
    clock = SystemClock() if clock_file is None else SteppedClock(clock_file)
    timer, randomness = SystemTimer(), SystemRandomness()
    folder = installation.folder / "chain"
    if installation.settlement_on == "ledger":
        await tree.launch(
            _process(installation, "settlement", "services.settlement", installation.settlement_url, environment)
        )
        return installation
    try:
        anvil = find_foundry("anvil")  # before the tree is asked, which stops whole when a child fails
    except ComponentMissing as missing:
        on_change(f"nothing will be settled: {missing}")
        installation = replace(installation, chain_rpc_url=None, chain_mnemonic=None)
    else:
        chain = EmbeddedChain(folder, clock=clock, timer=timer, randomness=randomness, anvil=anvil)
        await tree.launch(chain)
        installation = replace(installation, chain_rpc_url=chain.rpc_url, chain_mnemonic=chain.mnemonic)
    installation.save()
    environment = {**environment, **installation.chain_environment()}
    await tree.launch(
        _process(installation, "settlement", "services.settlement", installation.settlement_url, environment)
    )
    return installation


def _process(
    installation: Installation, name: str, module: str, url: str, environment: Mapping[str, str]
) -> CommandServer:
    return CommandServer(
        name,
        [sys.executable, "-m", module],
        log=installation.folder / "logs" / f"{name}.log",
        timer=SystemTimer(),
        is_ready=answers(f"{url}/livez"),
        env=environment,
        ready_timeout_s=READY_TIMEOUT_S,
    )


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
