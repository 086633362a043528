"""The gateway on real adapters: a WebSocket port for stations and an HTTP port for our own processes."""

from __future__ import annotations

import asyncio

from charge_point_gateway.gateway import GatewayOptions, build
from charge_point_gateway.server import StationServer
from emobility.runtime.garbage import collect_rarely
from emobility.runtime.http_server import serve_app
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.settings import Settings
from emobility.wiring import open_ports


async def run(settings: Settings, options: GatewayOptions | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    The order of a stop: unready and no new stations, calls in progress finished, connections closed in waves, the last
    events durable, and the HTTP port last, so that health stays visible.
    """
    stop, drained = asyncio.Event(), asyncio.Event()
    async with open_ports(settings) as ports:
        gateway = build(settings, ports, options)
        stations = StationServer(gateway, host=settings.gateway_host, port=settings.gateway_ocpp_port)
        collect_rarely()
        with stopping_on_signals(stop):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    serve_app(gateway.app, host=settings.gateway_host, port=settings.gateway_api_port, stop=drained)
                )
                try:
                    await stations.start()
                    serving = tasks.create_task(gateway.run(stop))
                    await stop.wait()
                    await stations.stop()
                    await serving
                    await stations.wait_closed()
                finally:
                    drained.set()
