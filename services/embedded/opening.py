"""Opens an installation for one command: servers that run already are used, the others started for it."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from emobility.adapters.cosigned_ledger.ledger import read_ledger
from emobility.adapters.ethereum import open_ethereum
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.domain.errors import Unavailable
from emobility.ports.chain import ChainReader
from emobility.ports.ports import Ports
from emobility.runtime.embedded_chain import EmbeddedChain
from emobility.runtime.embedded_kafka import EmbeddedKafka
from emobility.runtime.embedded_postgres import EmbeddedPostgres
from emobility.runtime.folder_lock import FolderInUse
from emobility.runtime.settings import Settings
from emobility.wiring import open_chain
from services.embedded.run_folder import Installation

DATABASE_VARIABLE: Final = "WATTROAM_DATABASE_URL"


class NoChainHere(Unavailable):
    """The installation has no chain that could be looked at."""

    def __init__(self) -> None:
        super().__init__("no chain is named (WATTROAM_CHAIN_RPC_URL), and the run folder holds none")


@asynccontextmanager
async def opened(run_folder: Path) -> AsyncIterator[Settings]:
    """Yield settings that reach the data: WATTROAM_* where they name a database, else the folder's installation.

    Nothing is logged meanwhile: what can't be reached is told by the command in its end, once.

    Raises:
        NothingHere: no database is named and the folder holds no installation.
    """
    with _silence():
        async with _reached(run_folder) as settings:
            yield settings


@contextmanager
def _silence() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


@asynccontextmanager
async def _reached(run_folder: Path) -> AsyncIterator[Settings]:
    if DATABASE_VARIABLE in os.environ:
        yield Settings()
        return
    installation = Installation.open(run_folder)
    async with AsyncExitStack() as stack:
        timer, randomness = SystemTimer(), SystemRandomness()
        postgres = EmbeddedPostgres(installation.folder / "postgres", timer=timer, randomness=randomness)
        try:
            await postgres.start()
        except FolderInUse:
            pass  # it runs already; the installation knows where
        else:
            stack.push_async_callback(postgres.stop)
            installation = replace(installation, database_url=postgres.dsn)
        if installation.event_log == "kafka":
            kafka = EmbeddedKafka(installation.folder / "kafka", timer=timer, randomness=randomness)
            try:
                await kafka.start()
            except FolderInUse:
                pass
            else:
                stack.push_async_callback(kafka.stop)
                installation = replace(installation, kafka_bootstrap=kafka.bootstrap)
        yield settings_of(installation)


@asynccontextmanager
async def opened_chain(run_folder: Path, settings: Settings) -> AsyncIterator[ChainReader]:
    """Yield the installation's chain, for reading; one of its own that does not run is started from its stored state.

    Nothing that happens to it meanwhile is kept.

    Args:
        run_folder: The installation's.
        settings: As `opened` gave them.

    Raises:
        NoChainHere: there is none.
        ComponentMissing: it does not run, and there is no anvil to start it.
        ServerFailed: it does not come up.
        ChainUnavailable: the endpoint does not answer.
    """
    async with AsyncExitStack() as stack:
        rpc_url = settings.chain_rpc_url
        own = EmbeddedChain(
            run_folder / "chain", clock=SystemClock(), timer=SystemTimer(), randomness=SystemRandomness()
        )
        if DATABASE_VARIABLE not in os.environ and own.has_begun:
            try:
                await own.start()
            except FolderInUse:
                pass  # it runs already; the settings know where
            else:
                stack.push_async_callback(own.stop, saves=False)
                rpc_url = own.rpc_url
        if rpc_url is None:
            raise NoChainHere
        is_theirs = rpc_url == settings.chain_rpc_url
        chain = await stack.enter_async_context(open_chain(settings, rpc_url) if is_theirs else open_ethereum(rpc_url))
        await chain.chain_id()
        yield chain


@asynccontextmanager
async def opened_book(run_folder: Path, settings: Settings, ports: Ports) -> AsyncIterator[ChainReader]:
    """Yield what the installation settles on, for reading: its ledger, or its chain as `opened_chain` does.

    Raises:
        LedgerBroken: an entry of the ledger does not follow from those before it.
        NoChainHere, ComponentMissing, ServerFailed, ChainUnavailable: see there.
    """
    if settings.settlement_on == "chain":
        async with opened_chain(run_folder, settings) as chain:
            yield chain
        return
    ledger = await read_ledger(ports.units)
    if ledger is None:
        raise NoChainHere
    yield ledger


def settings_of(installation: Installation, *, clock_file: Path | None = None) -> Settings:
    """Return the settings every process of the installation has."""
    prefix = "WATTROAM_"
    given = {
        name.removeprefix(prefix).lower(): value
        for name, value in installation.environment(clock_file=clock_file).items()
        if name != f"{prefix}EMBEDDED_ORIGINS"
    }
    return Settings(
        **given,  # type: ignore[arg-type]  # pydantic reads each from its text
        embedded_origins=installation.origins,
    )
