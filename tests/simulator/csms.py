"""A gateway on a real port, its back office behind it, and a station's URL: what simulated stations play against."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from charge_point_gateway.gateway import GatewayOptions, GatewayService
from charge_point_gateway.gateway import build as build_gateway
from charge_point_gateway.security import station_identity
from charge_point_gateway.server import StationServer
from emobility.runtime.settings import Settings
from tests.operations.world import CPO, GATEWAY, INTERNAL_TOKEN, MASTER_KEY, ORIGIN, STATION, World, open_for_business

PASSWORD: Final = "0123456789abcdef0123456789abcdef"
IDENTITY: Final = station_identity(CPO.code, STATION)
AFTER_THE_AGREEMENT: Final = timedelta(hours=3)
"""Adversaries tell of charges in the hours before; the tariff has to be in force by then."""


@asynccontextmanager
async def csms() -> AsyncIterator[tuple[World, GatewayService, str]]:
    """A gateway on a real port, its back office, and the URL of a station."""
    async with open_for_business() as here:
        settings = Settings(
            environment="development",
            internal_token=INTERNAL_TOKEN,  # type: ignore[arg-type]
            master_key=MASTER_KEY.hex(),  # type: ignore[arg-type]
            business_url=ORIGIN,
            gateway_api_url=GATEWAY,
        )
        gateway = build_gateway(settings, here.ports, GatewayOptions(probe_timeout_s=1.0, drain_spread_s=0.01))
        here.http.mount(GATEWAY, gateway.app)
        here.clock.step_by(AFTER_THE_AGREEMENT)
        server, stop = StationServer(gateway, host="127.0.0.1", port=0), asyncio.Event()
        running = asyncio.create_task(gateway.run(stop))
        await gateway.authenticator.set_password(IDENTITY, PASSWORD, None)
        await server.start()
        try:
            yield here, gateway, f"ws://127.0.0.1:{server.port}/ocpp/{IDENTITY.key}"
        finally:
            stop.set()
            await running
            await server.wait_closed()
