"""`wattroam up`: serve on one machine until Ctrl-C; data stay in the run folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console

from emobility.runtime.folder_lock import FolderInUse
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.supervision import ComponentMissing, ServerFailed
from services.embedded.run_folder import Installation
from services.embedded.stack import running


def serve(*, run_folder: Path, event_log: str) -> int:
    """Serve; return 0 after Ctrl-C, 1 when something can't be had or keeps dying."""
    try:
        asyncio.run(_serve(Installation.open_or_make(run_folder, event_log=event_log)))
    except (ComponentMissing, FolderInUse, ServerFailed) as failure:
        Console(stderr=True).print(str(failure), style="red", markup=False)
        return 1
    return 0


async def _serve(installation: Installation) -> None:
    console = Console(stderr=True)
    stop = asyncio.Event()
    with stopping_on_signals(stop):
        async with running(installation, on_change=console.print) as stack:
            console.print(f"stations: ws://127.0.0.1:{installation.gateway_ocpp_port}/ocpp/PARTY/STATION")
            console.print(f"parties:  {installation.business_url}  (token in {installation.folder}/installation.json)")
            await stack.tree.run(stop)
