"""Opens an installation for one command: servers that run already are used, the others started for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.runtime.embedded_kafka import EmbeddedKafka
from emobility.runtime.embedded_postgres import EmbeddedPostgres
from emobility.runtime.folder_lock import FolderInUse
from emobility.runtime.settings import Settings
from services.embedded.run_folder import Installation


@asynccontextmanager
async def opened(run_folder: Path) -> AsyncIterator[Settings]:
    """Yield settings that reach the data: WATTROAM_* where they name a database, else the folder's installation.

    Raises:
        NothingHere: no database is named and the folder holds no installation.
    """
    if "WATTROAM_DATABASE_URL" in os.environ:
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
