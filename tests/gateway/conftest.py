from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from charge_point_gateway.certificates import Authority
from charge_point_gateway.gateway import GatewayOptions, GatewayService, build
from charge_point_gateway.security import station_identity
from charge_point_gateway.vehicle_certificates import VehicleTrust
from emobility.adapters.memory import (
    LoopTimer,
    MemoryAdapters,
    MemoryFrameSocket,
    MemoryHttp,
    SeededRandomness,
    VirtualClock,
    memory_adapters,
    memory_frame_pair,
)
from emobility.events import codec
from emobility.events.event import Event
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationRequest, AuthorizationStatus
from emobility.ports.ports import Ports
from emobility.ports.station_questions import ChargingAdvice, ChargingQuestion
from emobility.runtime.settings import Settings

NOW = datetime(2022, 3, 27, 0, 30, tzinfo=UTC)
TOKEN = "internal-token-of-at-least-32-characters"
PASSWORD = "0123456789abcdef0123456789abcdef"
PARTY, STATION = "NL-TNM", "CS-1"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


class FakeBackOffice:
    """Answers authorisations as told; `is_down` plays an outage."""

    def __init__(self) -> None:
        self.status = AuthorizationStatus.ACCEPTED
        self.may_cache = True
        self.is_down = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked: list[AuthorizationRequest] = []
        self.advice = ChargingAdvice()
        self.charging_questions: list[ChargingQuestion] = []
        self.app = FastAPI()

        @self.app.post("/operations/station_control/charging-advice")
        async def advise(request: Request) -> Response:
            assert request.headers["authorization"] == f"Bearer {TOKEN}"
            self.charging_questions.append(codec.decode(await request.body(), ChargingQuestion))
            await self.may_answer.wait()
            return Response(codec.encode(self.advice), status_code=503 if self.is_down else 200)

        @self.app.post("/operations/station_control/authorize")
        async def authorize(request: Request) -> Response:
            assert request.headers["authorization"] == f"Bearer {TOKEN}"
            self.asked.append(codec.decode(await request.body(), AuthorizationRequest))
            await self.may_answer.wait()
            if self.is_down:
                return Response(status_code=503)
            answer = AuthorizationAnswer(status=self.status, reason="told", may_cache=self.may_cache)
            return Response(codec.encode(answer), media_type="application/json")


@dataclass
class Station:
    """The station's end of a connection."""

    socket: MemoryFrameSocket
    sent: int = 0

    async def send(self, frame: Any) -> None:
        await self.socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def receive(self) -> list[Any]:
        async with asyncio.timeout(30):
            frame: list[Any] = json.loads(await self.socket.receive())
            return frame

    async def call(self, action: str, payload: dict[str, Any], message_id: str | None = None) -> list[Any]:
        self.sent += 1
        await self.send([2, message_id or f"m{self.sent}", action, payload])
        return await self.receive()


@dataclass
class World:
    """A gateway over memory adapters, a fake back office, and stations that dial in."""

    adapters: MemoryAdapters
    settings: Settings
    ports: Ports
    gateway: GatewayService
    back_office: FakeBackOffice
    clock: VirtualClock
    http: MemoryHttp
    stations: list[Station] = field(default_factory=list)

    async def dial(
        self, subprotocol: str = "ocpp2.0.1", *, station: str = STATION, password: str = PASSWORD, address: str = "::1"
    ) -> Station:
        ours, theirs = memory_frame_pair()
        await self.gateway.accept(
            path=f"/ocpp/{PARTY}/{station}",
            username=station,
            password=password,
            subprotocols=(subprotocol,),
            socket=ours,
            address=address,
        )
        end = Station(theirs)
        self.stations.append(end)
        return end

    async def events(self) -> list[Event]:
        return [logged.envelope.event async for logged in self.adapters.event_log.read(("charging",))]

    async def event_ids(self) -> list[str]:
        return [logged.envelope.event_id async for logged in self.adapters.event_log.read(("charging",))]


def settings_for_tests(**changes: Any) -> Settings:
    given: dict[str, Any] = {
        "environment": "development",
        "internal_token": TOKEN,
        "master_key": "ab" * 32,
        "business_url": "http://business.test",
        "gateway_api_url": "http://gateway-a.test",
        **changes,
    }
    return Settings(**given)


def ports_of(adapters: MemoryAdapters, clock: VirtualClock, http: MemoryHttp, **changes: Any) -> Ports:
    given: dict[str, Any] = {
        "clock": clock,
        "timer": LoopTimer(),
        "randomness": SeededRandomness(7),
        "event_log": adapters.event_log,
        "units": adapters.units,
        "vault": adapters.vault,
        "http": http,
        "signer": None,
        "payments": None,
        **changes,
    }
    return Ports(**given)


@pytest.fixture
def options() -> GatewayOptions:
    return GatewayOptions(probe_timeout_s=0.2, drain_spread_s=0.01)


@asynccontextmanager
async def running_world(
    options: GatewayOptions | None = None,
    *,
    clock: Any = None,
    authority: Authority | None = None,
    vehicle_trust: VehicleTrust | None = None,
    changed_settings: dict[str, Any] | None = None,
    **changed_ports: Any,
) -> AsyncIterator[World]:
    """A gateway that runs until the context ends."""
    clock = clock or VirtualClock(NOW)
    http, back_office = MemoryHttp(), FakeBackOffice()
    settings = settings_for_tests(**(changed_settings or {}))
    adapters = memory_adapters(master_key=settings.master_key_bytes, clock=clock, randomness=SeededRandomness(1))
    ports = ports_of(adapters, clock, changed_ports.pop("http", http), **changed_ports)
    gateway = build(settings, ports, options, authority, vehicle_trust)
    http.mount(settings.business_url, back_office.app)
    http.mount(settings.gateway_api_url, gateway.app)
    stop = asyncio.Event()
    running = asyncio.create_task(gateway.run(stop))
    for name in (STATION, "CS-2"):
        await gateway.authenticator.set_password(station_identity(PARTY, name), PASSWORD, None)
    try:
        yield World(adapters, settings, ports, gateway, back_office, clock, http)
    finally:
        stop.set()
        await running


@pytest.fixture
async def world(options: GatewayOptions) -> AsyncIterator[World]:
    async with running_world(options) as running:
        yield running
