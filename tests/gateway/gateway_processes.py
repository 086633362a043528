"""Real gateway processes over one PostgreSQL, to be killed, paused and drained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from emobility.runtime import network
from tests.gateway.conftest import PARTY, PASSWORD, TOKEN

MASTER_KEY: Final = "ab" * 32
READY_WITHIN_S: Final = 60
NO_BACK_OFFICE: Final = "http://127.0.0.1:9"


@dataclass
class GatewayProcess:
    """`python -m charge_point_gateway` on ports of its own; `peers`: other gateways' APIs."""

    dsn: str
    log: Path
    peers: tuple[str, ...] = ()
    ocpp_port: int = field(default_factory=network.free_port)
    api_port: int = field(default_factory=network.free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def ocpp_url(self) -> str:
        return f"ws://127.0.0.1:{self.ocpp_port}/ocpp/{PARTY}"

    async def start(self) -> None:
        environment = os.environ | {
            "WATTROAM_ENVIRONMENT": "development",
            "WATTROAM_DATABASE_URL": self.dsn,
            "WATTROAM_INTERNAL_TOKEN": TOKEN,
            "WATTROAM_MASTER_KEY": MASTER_KEY,
            "WATTROAM_GATEWAY_OCPP_PORT": str(self.ocpp_port),
            "WATTROAM_GATEWAY_API_PORT": str(self.api_port),
            "WATTROAM_GATEWAY_API_URL": self.api_url,
            "WATTROAM_BUSINESS_URL": NO_BACK_OFFICE,
            "WATTROAM_EMBEDDED_ORIGINS": json.dumps([self.api_url, NO_BACK_OFFICE, *self.peers]),
        }
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "charge_point_gateway"), env=environment, stdout=log, stderr=log
            )
        async with asyncio.timeout(READY_WITHIN_S), httpx.AsyncClient() as http:
            while True:
                assert self.process.returncode is None, self.log.read_text()[-2_000:]
                try:
                    if (await http.get(f"{self.api_url}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    async def terminate(self, *, within_s: float) -> int:
        """Stop it in order; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    async def enter(self, stations: Iterable[str]) -> None:
        """Give stations their password."""
        async with api(self) as http:
            for station in stations:
                path = f"/stations/{PARTY}/{station}/credential"
                assert (await http.put(path, json={"password": PASSWORD})).status_code == 204


@asynccontextmanager
async def api(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Open a gateway's API as our own processes do."""
    async with httpx.AsyncClient(
        base_url=gateway.api_url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=60
    ) as http:
        yield http


async def command(gateway: GatewayProcess, station: str, *, timeout_s: int = 10, **part: Any) -> str:
    """Send a command through a gateway, ClearCache by default; return its result."""
    asked = part or {"ocpp_call": {"action": "ClearCache", "payload": {}}}
    async with api(gateway) as http:
        answer = await http.post(
            f"/stations/{PARTY}/{station}/commands",
            json={"correlation_id": "test", "timeout_s": timeout_s, **asked},
        )
    assert answer.status_code == 200, answer.text
    result: str = answer.json()["result"]
    return result


async def presence(gateway: GatewayProcess) -> dict[str, tuple[bool, str]]:
    """Return of each station whether it is online, and at which gateway."""
    async with api(gateway) as http:
        rows = (await http.get(f"/stations/{PARTY}")).json()
    return {row["charging_station_id"]: (row["is_online"], row["gateway_url"]) for row in rows}


@asynccontextmanager
async def gateways(dsn: str, folder: Path, number: int = 1) -> AsyncIterator[Sequence[GatewayProcess]]:
    """Start gateways that know each other."""
    made = [GatewayProcess(dsn, folder / f"gateway-{n}.log") for n in range(number)]
    for each in made:
        each.peers = tuple(other.api_url for other in made if other is not each)
    try:
        await asyncio.gather(*(each.start() for each in made))
        yield made
    finally:
        for each in made:
            await each.kill()
