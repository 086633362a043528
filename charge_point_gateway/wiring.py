"""The gateway on real adapters: WebSocket ports for stations and an HTTP port for our own processes."""

from __future__ import annotations

import asyncio
import signal

from charge_point_gateway.gateway import GatewayOptions, build
from charge_point_gateway.server import StationServer
from charge_point_gateway.tls import StationTLS, read_own_authority
from charge_point_gateway.vehicle_certificates import read_vehicle_trust
from emobility.domain.errors import RuleBroken
from emobility.runtime.garbage import collect_rarely
from emobility.runtime.http_server import serve_app
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.settings import Settings
from emobility.wiring import open_ports


class NoStationPort(RuleBroken):
    """Stations could not connect at all."""

    def __init__(self) -> None:
        super().__init__(
            "no station could connect: set WATTROAM_GATEWAY_CERTIFICATE_FILE and WATTROAM_GATEWAY_KEY_FILE, "
            "or WATTROAM_GATEWAY_PLAIN=true behind a proxy that speaks TLS"
        )


async def run(settings: Settings, options: GatewayOptions | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises `NoStationPort`, `TLSUnusable`, `UnusableRoots`.

    The order of a stop: unready and no new stations, calls in progress finished, connections closed in waves, the last
    events durable, and the HTTP port last, so that health stays visible.
    """
    stop, drained = asyncio.Event(), asyncio.Event()
    is_tls_served = settings.gateway_certificate_file is not None
    if not (settings.is_plain_served or is_tls_served):
        raise NoStationPort
    authority = await asyncio.to_thread(read_own_authority, settings)
    vehicle_trust = await asyncio.to_thread(read_vehicle_trust, settings)
    async with open_ports(settings) as ports:
        gateway = build(settings, ports, options, authority, vehicle_trust)
        servers = []
        if settings.is_plain_served:
            servers.append(StationServer(gateway, host=settings.gateway_host, port=settings.gateway_ocpp_port))
        tls = StationTLS(settings, gateway.certificates, gateway.metrics, ports.clock) if is_tls_served else None
        if tls is not None:
            await tls.load()
            gateway.on_revoked, gateway.own_certificates = tls.reload, tls.expires_at
            host = settings.gateway_wss_host or settings.gateway_host
            servers.append(StationServer(gateway, host=host, port=settings.gateway_wss_port, tls=tls.context))
        collect_rarely()
        with stopping_on_signals(stop):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    serve_app(gateway.app, host=settings.gateway_host, port=settings.gateway_api_port, stop=drained)
                )
                watching = None if tls is None else tasks.create_task(watched(tls))
                try:
                    for server in servers:
                        await server.start()
                    serving = tasks.create_task(gateway.run(stop))
                    await stop.wait()
                    for server in servers:
                        await server.stop()
                    await serving
                    for server in servers:
                        await server.wait_closed()
                finally:
                    if watching is not None:
                        watching.cancel()
                    drained.set()


async def watched(tls: StationTLS) -> None:
    """Take new certificates as they come, and on SIGHUP; until cancelled."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, tls.reload_soon)
    try:
        await tls.watch()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
