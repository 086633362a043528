"""`python -m services.embedded.business_process`: hub and back offices on one port."""

from __future__ import annotations

import asyncio

import uvloop

from emobility.runtime.garbage import collect_rarely
from emobility.runtime.http_server import serve_app
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import configure_logging
from emobility.wiring import open_ports
from services.embedded.business import build


async def run(settings: Settings) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    async with open_ports(settings) as ports:
        business = build(settings, ports)
        collect_rarely()
        with stopping_on_signals(stop):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(business.run(stop))
                tasks.create_task(
                    serve_app(business.app, host=settings.business_host, port=settings.business_port, stop=stop)
                )


def main() -> None:
    """Entry point."""
    configure_logging(process="business")
    uvloop.run(run(Settings()))


if __name__ == "__main__":
    main()
