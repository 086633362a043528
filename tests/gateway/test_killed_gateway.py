"""kill -9 of a real gateway process, again and again, under load: what was acknowledged is stored, exactly."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import websockets
from websockets.exceptions import WebSocketException

from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.events.charging import TransactionUpdated
from emobility.runtime import network
from tests.gateway.conftest import PARTY, PASSWORD, TOKEN, until

STATIONS: Final = 40
KILLS: Final = 4
EVENTS_BETWEEN_KILLS: Final = 400
MASTER_KEY: Final = "ab" * 32
DEADLINE_S: Final = 120


@dataclass
class GatewayProcess:
    """`python -m charge_point_gateway` on ports of its own."""

    dsn: str
    log: Path
    ocpp_port: int = field(default_factory=network.free_port)
    api_port: int = field(default_factory=network.free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    async def start(self) -> None:
        environment = os.environ | {
            "WATTROAM_ENVIRONMENT": "development",
            "WATTROAM_DATABASE_URL": self.dsn,
            "WATTROAM_INTERNAL_TOKEN": TOKEN,
            "WATTROAM_MASTER_KEY": MASTER_KEY,
            "WATTROAM_GATEWAY_OCPP_PORT": str(self.ocpp_port),
            "WATTROAM_GATEWAY_API_PORT": str(self.api_port),
            "WATTROAM_GATEWAY_API_URL": self.api_url,
            "WATTROAM_BUSINESS_URL": "http://127.0.0.1:9",
            "WATTROAM_EMBEDDED_ORIGINS": json.dumps([self.api_url, "http://127.0.0.1:9"]),
        }
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "charge_point_gateway"), env=environment, stdout=log, stderr=log
            )
        async with asyncio.timeout(60), httpx.AsyncClient() as http:
            while True:
                assert self.process.returncode is None, self.log.read_text()[-2_000:]
                try:
                    if (await http.get(f"{self.api_url}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@dataclass
class SendingStation:
    """Sends its transaction's events in order, each until it is acknowledged, as OCPP asks of a station."""

    name: str
    url: str
    seq_no: int = 0
    acknowledged: list[int] = field(default_factory=list)
    refusals: list[Any] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        authorization = base64.b64encode(f"{self.name}:{PASSWORD}".encode()).decode()
        while not stop.is_set():
            try:
                async with websockets.connect(
                    f"{self.url}/{self.name}",
                    additional_headers={"Authorization": f"Basic {authorization}"},
                    subprotocols=["ocpp2.0.1"],  # type: ignore[list-item]  # a NewType of str
                ) as connection:
                    while not stop.is_set():
                        await self._send_next(connection)
            except (OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(0.05)

    async def _send_next(self, connection: Any) -> None:
        payload = {
            "eventType": "Updated",
            "timestamp": "2022-03-27T01:00:00Z",
            "triggerReason": "MeterValuePeriodic",
            "seqNo": self.seq_no,
            "transactionInfo": {"transactionId": "tx-1"},
            "meterValue": [{"timestamp": "2022-03-27T01:00:00Z", "sampledValue": [{"value": self.seq_no}]}],
        }
        await connection.send(json.dumps([2, f"{self.name}-{self.seq_no}", "TransactionEvent", payload]))
        async with asyncio.timeout(15):
            answer = json.loads(await connection.recv())
        if answer[0] == 3:
            self.acknowledged.append(self.seq_no)
            self.seq_no += 1
        else:
            self.refusals.append(answer)


@asynccontextmanager
async def gateway_process(dsn: str, log: Path) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(dsn, log)
    await gateway.start()
    yield gateway
    await gateway.kill()


@pytest.mark.fault
@pytest.mark.timeout(DEADLINE_S * 2)
async def test_every_acknowledged_message_survives_kills_of_the_gateway(postgres_dsn: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    async with gateway_process(postgres_dsn, tmp_path / "gateway.log") as gateway:
        stations = [
            SendingStation(f"CS-{n}", f"ws://127.0.0.1:{gateway.ocpp_port}/ocpp/{PARTY}") for n in range(STATIONS)
        ]
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as http:
            for station in stations:
                path = f"{gateway.api_url}/stations/{PARTY}/{station.name}/credential"
                assert (await http.put(path, json={"password": PASSWORD})).status_code == 204
        stop = asyncio.Event()
        sending = [asyncio.create_task(station.run(stop)) for station in stations]
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(KILLS):
                goal = _acknowledged(stations) + EVENTS_BETWEEN_KILLS + chance.randrange(EVENTS_BETWEEN_KILLS)
                await _progress_to(stations, goal)
                await gateway.kill()
                await gateway.start()
            await _progress_to(stations, _acknowledged(stations) + EVENTS_BETWEEN_KILLS)
            stop.set()
            await asyncio.gather(*sending)

    stored = await _stored(postgres_dsn)
    for station in stations:
        assert station.refusals == []
        assert station.acknowledged == list(range(station.seq_no))
        lost = {(station.name, seq_no) for seq_no in station.acknowledged} - stored.keys()
        assert lost == set()
        # Sent and perhaps stored, but never acknowledged: the one event in flight at the end.
        surplus = {key for key in stored if key[0] == station.name and key[1] >= station.seq_no}
        assert len(surplus) <= 1
    assert all(len(contents) == 1 for contents in stored.values()), "one key, two contents"


def _acknowledged(stations: list[SendingStation]) -> int:
    return sum(len(station.acknowledged) for station in stations)


async def _progress_to(stations: list[SendingStation], goal: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while _acknowledged(stations) < goal:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def _stored(dsn: str) -> dict[tuple[str, int], set[int | None]]:
    """Return by station and seqNo the register values that the log holds."""
    stored: dict[tuple[str, int], set[int | None]] = {}
    async with open_postgres(
        dsn, master_key=bytes.fromhex(MASTER_KEY), clock=SystemClock(), randomness=SystemRandomness()
    ) as postgres:
        async for logged in postgres.event_log.read(("charging",)):
            event = logged.envelope.event
            assert isinstance(event, TransactionUpdated)
            assert event.seq_no is not None
            key = (event.charging_station_id, event.seq_no)
            stored.setdefault(key, set()).add(event.readings[0].import_wh)
            assert event.readings[0].import_wh == event.seq_no
    return stored


@pytest.mark.fault
async def test_a_stopped_gateway_drains_and_leaves_with_success(postgres_dsn: str, tmp_path: Path) -> None:
    async with gateway_process(postgres_dsn, tmp_path / "gateway.log") as gateway:
        assert gateway.process is not None
        station = SendingStation("CS-1", f"ws://127.0.0.1:{gateway.ocpp_port}/ocpp/{PARTY}")
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as http:
            path = f"{gateway.api_url}/stations/{PARTY}/CS-1/credential"
            assert (await http.put(path, json={"password": PASSWORD})).status_code == 204
        stop = asyncio.Event()
        sending = asyncio.create_task(station.run(stop))
        await until(lambda: station.seq_no > 5)

        gateway.process.terminate()
        async with asyncio.timeout(60):
            assert await gateway.process.wait() == 0

        stop.set()
        await sending
        await gateway.start()
    assert station.refusals == []
    assert {seq_no for _, seq_no in await _stored(postgres_dsn)} >= set(station.acknowledged)
