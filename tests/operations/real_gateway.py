"""The back office with a real gateway, and stations that answer as a test tells them, over connections in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from charge_point_gateway.gateway import GatewayOptions, GatewayService, build
from charge_point_gateway.security import station_identity
from emobility.adapters.memory import MemoryFrameSocket, memory_frame_pair
from emobility.domain.identifiers import PartyId
from emobility.ports.frames import SocketClosed
from emobility.runtime.settings import Settings
from services.charging_operations.stations import StationTerms
from tests.operations.world import CPO, GATEWAY, INTERNAL_TOKEN, MASTER_KEY, ORIGIN, World, evse, open_for_business

PASSWORD: Final = "0123456789abcdef0123456789abcdef"
Answers = Callable[[str, dict[str, Any]], dict[str, Any] | None]
"""What a station says to a CALL; None: nothing."""
FIRMWARE_ACTIONS: Final = ("UpdateFirmware", "SignedUpdateFirmware")


def accepting(_action: str, _payload: dict[str, Any]) -> dict[str, Any]:
    return {"status": "Accepted"}


@dataclass
class TalkingStation:
    """A station's end of its connection."""

    station_id: str
    socket: MemoryFrameSocket
    answers: Answers
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    _sent: int = 0
    _waiting: dict[str, asyncio.Future[list[Any]]] = field(default_factory=dict)

    async def run(self) -> None:
        try:
            while True:
                frame: list[Any] = json.loads(await self.socket.receive())
                if frame[0] == 2:
                    await self._answer(*frame[1:])
                elif frame[1] in self._waiting:
                    self._waiting.pop(frame[1]).set_result(frame)
        except SocketClosed:
            pass

    async def _answer(self, message_id: str, action: str, payload: dict[str, Any]) -> None:
        self.heard.append((action, payload))
        said = self.answers(action, payload)
        if said is None:
            self.unanswered.append(message_id)
        else:
            await self.socket.send(json.dumps([3, message_id, said]))

    async def call(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        self._sent += 1
        message_id = f"{self.station_id}-{self._sent}"
        self._waiting[message_id] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps([2, message_id, action, payload]))
        async with asyncio.timeout(20):
            answer = await self._waiting[message_id]
        assert answer[0] == 3, answer
        said: dict[str, Any] = answer[2]
        return said

    def request_id(self) -> int | None:
        """Return the number of the last firmware that it was asked for."""
        asked = [payload for action, payload in self.heard if action in FIRMWARE_ACTIONS]
        number: int | None = asked[-1].get("requestId")
        return number

    async def reports(self, *statuses: str, action: str = "FirmwareStatusNotification", **more: Any) -> None:
        """Report on the firmware that it was asked for last."""
        number = self.request_id()
        for status in statuses:
            told = {} if number is None else {"requestId": number}
            await self.call(action, {"status": status, **told, **more})


@dataclass
class RealGateway:
    """Everything, and stations that dial in."""

    here: World
    service: GatewayService
    stations: dict[str, TalkingStation] = field(default_factory=dict)
    _running: list[asyncio.Task[None]] = field(default_factory=list)

    async def station(
        self,
        station_id: str,
        version: str = "2.0.1",
        answers: Answers = accepting,
        boot: dict[str, Any] | None = None,
        *,
        party_id: PartyId = CPO,
    ) -> TalkingStation:
        """Enter a station, and connect it."""
        terms = StationTerms(location_id="LOC1", evses=(evse(1, station=station_id),))
        assert (await self.here.api("PUT", f"/{party_id}/stations/{station_id}", terms)).status_code == 200
        identity = station_identity(party_id.code, station_id)
        if await self.service.authenticator.credential(identity) is None:
            await self.service.authenticator.set_password(identity, PASSWORD, None)
        return await self.connect(station_id, version, answers, boot)

    async def connect(
        self,
        station_id: str,
        version: str = "2.0.1",
        answers: Answers = accepting,
        boot: dict[str, Any] | None = None,
        password: str = PASSWORD,
    ) -> TalkingStation:
        """Connect a station that was entered before."""
        ours, theirs = memory_frame_pair()
        await self.service.accept(
            path=f"/ocpp/{CPO}/{station_id}",
            username=station_id,
            password=password,
            subprotocols=(f"ocpp{version}",),
            socket=ours,
        )
        end = TalkingStation(station_id, theirs, answers)
        self.stations[station_id] = end
        self._running.append(asyncio.create_task(end.run()))
        # Its first message is answered once it is the gateway's own.
        if boot is None:
            await end.call("Heartbeat", {})
        elif version == "1.6":
            told = {"chargePointVendor": boot["vendor"], "chargePointModel": boot["model"]}
            await end.call("BootNotification", {**told, "firmwareVersion": boot["firmware"]})
        else:
            told = {"vendorName": boot["vendor"], "model": boot["model"], "firmwareVersion": boot["firmware"]}
            await end.call("BootNotification", {"reason": "PowerUp", "chargingStation": told})
        await self.here.settle()
        return end

    async def disconnect(self, station_id: str) -> None:
        """A station's connection ends, and the gateway has seen it."""
        await self.stations[station_id].socket.close(1001, "gone")
        identity = station_identity(CPO.code, station_id)
        for _ in range(1_000):
            row = await self.service.presence.find(identity)
            if row is None or not row.is_online:
                return
            await asyncio.sleep(0)
        raise AssertionError("it stays online")

    def close(self) -> None:
        for each in self._running:
            each.cancel()


@asynccontextmanager
async def open_with_gateway(postgres_dsn: str | None = None) -> AsyncIterator[RealGateway]:
    async with open_for_business(postgres_dsn) as here:
        settings = Settings(
            environment="development",
            event_log="memory",
            public_url=ORIGIN,
            business_url=ORIGIN,
            gateway_api_url=GATEWAY,
            internal_token=INTERNAL_TOKEN,  # type: ignore[arg-type]  # pydantic makes it a SecretStr
            master_key=MASTER_KEY.hex(),  # type: ignore[arg-type]  # pydantic makes it a SecretStr
        )
        service = build(settings, here.ports, GatewayOptions(drain_spread_s=0.01, drain_timeout_s=0.5))
        here.http.mount(GATEWAY, service.app)
        stop = asyncio.Event()
        running = asyncio.create_task(service.run(stop))
        gateway = RealGateway(here, service)
        try:
            yield gateway
        finally:
            stop.set()
            await running
            gateway.close()
