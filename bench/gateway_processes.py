"""The servers under load, each a process of its own: our gateway, the `ocpp` package's loop, and a bare echo."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import uvloop
from pydantic import SecretStr
from websockets.typing import Subprotocol

from charge_point_gateway.connection import Limits
from charge_point_gateway.gateway import GatewayOptions, build
from charge_point_gateway.security import station_identity
from charge_point_gateway.server import StationServer
from emobility.adapters.memory import MemoryHttp
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.ports.ports import Ports
from emobility.runtime.garbage import collect_rarely
from emobility.runtime.settings import Settings

PASSWORD: Final = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of stations that exist for seconds
TOKEN: Final = "internal-token-of-a-bench-0123456789"  # noqa: S105 - as above
UNLIMITED: Final = Limits(frames_per_s=1_000_000.0, frames_burst=1_000_000.0)
"""A bench station sends what a thousand real ones do."""


async def serve_ours(dsn: str, stations: int) -> None:
    """Serve the real gateway over a real PostgreSQL; print the port it listens on."""
    settings = Settings(
        environment="development",
        internal_token=SecretStr(TOKEN),
        master_key=SecretStr("ab" * 32),
        database_url=dsn,
    )
    clock, timer, randomness = SystemClock(), SystemTimer(), SystemRandomness()
    async with open_postgres(dsn, master_key=settings.master_key_bytes, clock=clock, randomness=randomness) as postgres:
        ports = Ports(
            clock=clock,
            timer=timer,
            randomness=randomness,
            event_log=postgres.event_log,
            units=postgres.units,
            vault=postgres.vault,
            http=MemoryHttp(),
            signer=None,  # type: ignore[arg-type]  # the gateway signs nothing
            payments=None,  # type: ignore[arg-type]  # nor does it pay
        )
        gateway = build(settings, ports, GatewayOptions(limits=UNLIMITED))
        for number in range(stations):
            await gateway.authenticator.set_password(station_identity("NL-TNM", f"BENCH-{number}"), PASSWORD, None)
        collect_rarely()  # as `charge_point_gateway.wiring` does
        stop = asyncio.Event()
        running = asyncio.create_task(gateway.run(stop))
        server = StationServer(gateway, host="127.0.0.1", port=0)
        await server.start()
        print(server.port, flush=True)
        await _until_input_ends()
        stop.set()
        await running


def rival_class() -> type[Any]:
    """Return the `ocpp` package's own central system in its best configuration: no validation threads, no log."""
    import logging  # noqa: PLC0415 - only who measures the rival loads it

    import ocpp.messages  # noqa: PLC0415 - as above
    from ocpp.routing import on  # noqa: PLC0415 - as above
    from ocpp.v201 import ChargePoint, call_result  # noqa: PLC0415 - as above

    ocpp.messages.ASYNC_VALIDATION = False
    logging.getLogger("ocpp").setLevel(logging.CRITICAL)

    class CentralSystem(ChargePoint):  # type: ignore[misc]  # the package is untyped
        @on("TransactionEvent")  # type: ignore[untyped-decorator]  # as above
        async def transaction_event(self, **_payload: Any) -> Any:
            return call_result.TransactionEvent()

        @on("Heartbeat")  # type: ignore[untyped-decorator]  # as above
        async def heartbeat(self, **_payload: Any) -> Any:
            return call_result.Heartbeat(current_time=datetime.now(UTC).isoformat())  # noqa: TID251 - the rival's

    return CentralSystem


async def serve_rival() -> None:
    """Serve the rival, which stores nothing."""
    central_system = rival_class()

    async def handle(connection: Any) -> None:
        await central_system(connection.request.path.rpartition("/")[2], connection).start()

    await _serve_websockets(handle)


async def serve_echo() -> None:
    """Send every frame back: what the `websockets` library alone costs."""

    async def handle(connection: Any) -> None:
        async for frame in connection:
            await connection.send(frame)

    await _serve_websockets(handle)


async def _serve_websockets(handle: Callable[[Any], Awaitable[None]]) -> None:
    import logging  # noqa: PLC0415 - only the rivals load these

    import websockets  # noqa: PLC0415 - as above

    logging.disable(logging.CRITICAL)
    async with websockets.serve(
        handle, "127.0.0.1", 0, subprotocols=[Subprotocol("ocpp2.0.1")], compression=None
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await _until_input_ends()


async def _until_input_ends() -> None:
    """Return when whoever started this process has ended."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        uvloop.run(serve_ours(sys.argv[2], int(sys.argv[3])))
    else:
        uvloop.run(serve_rival() if sys.argv[1] == "rival" else serve_echo())
