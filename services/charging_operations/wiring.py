"""The CPO back office on real adapters, alone in its process: `/operations` behind one HTTP port."""

from __future__ import annotations

import asyncio

from emobility.runtime.garbage import collect_rarely
from emobility.runtime.http_server import below, serve_app
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.settings import Settings
from emobility.wiring import open_ports
from services.charging_operations.service import SERVICE, build


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    async with open_ports(settings) as ports:
        operations = build(settings, ports)
        app = below(SERVICE, operations.host.straight(operations.app))
        collect_rarely()
        with stopping_on_signals(stop):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(serve_app(app, host=settings.business_host, port=settings.business_port, stop=stop))
                tasks.create_task(operations.run(stop))
