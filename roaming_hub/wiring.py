"""The hub on real adapters, alone in its process: `/hub` behind one HTTP port."""

from __future__ import annotations

import asyncio

from emobility.runtime.garbage import collect_rarely
from emobility.runtime.http_server import below, serve_app
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.settings import Settings
from emobility.wiring import open_ports
from roaming_hub.service import SERVICE, build


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    async with open_ports(settings) as ports:
        hub = build(settings, ports)
        app = below(SERVICE, hub.host.straight(hub.app))
        collect_rarely()
        with stopping_on_signals(stop):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(serve_app(app, host=settings.business_host, port=settings.business_port, stop=stop))
                tasks.create_task(hub.run(stop))
