"""`wattroam up`: serve on one machine until Ctrl-C; data stay in the run folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.settings import Settings
from services.embedded.run_folder import LOOPBACK, SETTLEMENT_VARIABLE, Installation
from services.embedded.stack import running


def serve(*, run_folder: Path, event_log: str, partner_ports: Sequence[int] = ()) -> int:
    """Serve; return 0 after Ctrl-C. Parties may be called at `partner_ports` of this machine, by http.

    Raises:
        EmobilityError: something can't be had, is in use, or keeps dying.
    """
    installation = Installation.open_or_make(
        run_folder, event_log=event_log, settlement_on=os.environ.get(SETTLEMENT_VARIABLE)
    )
    partners = tuple(f"http://{LOOPBACK}:{port}" for port in partner_ports)
    asyncio.run(_serve(replace(installation, partner_origins=partners)))
    return 0


async def _serve(installation: Installation) -> None:
    console = Console(stderr=True)
    stop = asyncio.Event()
    with stopping_on_signals(stop):
        async with running(installation, on_change=console.print) as stack:
            await stack.settling
            console.print(f"stations:  ws://127.0.0.1:{installation.gateway_ocpp_port}/ocpp/PARTY/STATION")
            if "WATTROAM_GATEWAY_CERTIFICATE_FILE" in os.environ:
                host = os.environ.get("WATTROAM_GATEWAY_WSS_HOST", LOOPBACK)
                port = os.environ.get("WATTROAM_GATEWAY_WSS_PORT", Settings.model_fields["gateway_wss_port"].default)
                console.print(f"by TLS:    wss://{host}:{port}/ocpp/PARTY/STATION")
            console.print(f"live page: {installation.business_url}/")
            operators = f"{installation.business_url}/operations/PARTY, /mobility/PARTY and /hub"
            console.print(f"operators: {operators}  (what there is: wattroam openapi)", soft_wrap=True)
            console.print(f"books:     {installation.settlement_url}/settlement/PARTY", soft_wrap=True)
            console.print(f"token:     internal_token in {installation.folder}/installation.json", soft_wrap=True)
            await stack.tree.run(stop)
