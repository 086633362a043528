"""A station on a real gateway in memory, with the real back office behind it: from frame to API and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from charge_point_gateway.gateway import GatewayService, build
from charge_point_gateway.security import station_identity
from emobility.adapters.memory import memory_frame_pair
from emobility.runtime.settings import Settings
from tests.gateway.conftest import PASSWORD, Station
from tests.operations.world import CPO, GATEWAY, INTERNAL_TOKEN, MASTER_KEY, ORIGIN, STATION, World, open_for_business


@dataclass(slots=True)
class Connected:
    """The back office's world and a station's end of its connection."""

    here: World
    station: Station
    gateway: GatewayService

    async def tell(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Have the station call; return the response once the back office has taken it in."""
        answer = await self.station.call(action, payload)
        assert answer[0] == 3, answer
        await self.here.settle()
        response: dict[str, Any] = answer[2]
        return response

    async def until(self, *, is_online: bool) -> None:
        """Wait until the back office knows that the station is there, or has left."""

        async def is_known() -> bool:
            presence = await self.here.operations.office.stations.presence(CPO, STATION)
            return (presence is not None and presence.is_online) is is_online

        await self.here.until(is_known)

    async def get(self, path: str) -> Any:
        """Ask the API about the station."""
        answer = await self.here.api("GET", f"/{CPO}/stations/{STATION}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def command(
        self, method: str, path: str, body: Any = None, *, says: dict[str, Any] | None = None
    ) -> tuple[httpx.Response, list[Any]]:
        """Ask the API for a command and have the station answer it; return the API's answer and what it heard."""
        return await self.answered(self.here.api(method, f"/{CPO}/stations/{STATION}/{path}", body), says=says)

    async def answered(self, asking: Awaitable[Any], *, says: dict[str, Any] | None = None) -> tuple[Any, list[Any]]:
        """Have the station answer the next CALL that `asking` brings about; return what came of both."""
        asked, called = asyncio.ensure_future(asking), asyncio.ensure_future(self.station.receive())
        done, _ = await asyncio.wait({asked, called}, return_when=asyncio.FIRST_COMPLETED)
        assert called in done, f"the station was not called: {asked.result()}"
        kind, message_id, *heard = called.result()
        assert kind == 2
        await self.station.send([3, message_id, {"status": "Accepted"} if says is None else says])
        result = await asked
        await self.here.settle()
        return result, heard


@asynccontextmanager
async def connected(
    subprotocol: str = "ocpp2.1", postgres_dsn: str | None = None, **changes: Any
) -> AsyncIterator[Connected]:
    """A station that is connected, of a CPO that is open for business."""
    async with open_for_business(postgres_dsn, **changes) as here:
        settings = Settings(
            environment="development",
            event_log="memory",
            public_url=ORIGIN,
            business_url=ORIGIN,
            gateway_api_url=GATEWAY,
            internal_token=INTERNAL_TOKEN,  # type: ignore[arg-type]  # pydantic makes it a SecretStr
            master_key=MASTER_KEY.hex(),  # type: ignore[arg-type]  # pydantic makes it a SecretStr
        )
        gateway = build(settings, here.ports)
        here.http.mount(GATEWAY, gateway.app)
        stop = asyncio.Event()
        running = asyncio.create_task(gateway.run(stop))
        try:
            await gateway.authenticator.set_password(station_identity(CPO.code, STATION), PASSWORD, None)
            ours, theirs = memory_frame_pair()
            await gateway.accept(
                path=f"/ocpp/{CPO}/{STATION}",
                username=STATION,
                password=PASSWORD,
                subprotocols=(subprotocol,),
                socket=ours,
                address="::1",
            )
            talk = Connected(here, Station(theirs), gateway)
            await talk.until(is_online=True)
            yield talk
        finally:
            stop.set()
            await running
