"""The servers under load, each a process of its own: our gateway, the `ocpp` package's loop, and a bare echo."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from websockets.typing import Subprotocol

from charge_point_gateway.connection import Limits
from charge_point_gateway.gateway import GatewayOptions, build
from charge_point_gateway.security import station_identity
from charge_point_gateway.server import StationServer
from charge_point_gateway.tls import StationTLS
from emobility.adapters.memory import MemoryHttp
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.ports.ports import Ports
from emobility.runtime.garbage import collect_rarely
from emobility.runtime.settings import Settings

PASSWORD: Final = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of stations that exist for seconds
TOKEN: Final = "internal-token-of-a-bench-0123456789"  # noqa: S105 - as above
UNLIMITED: Final = Limits(frames_per_s=1e6, frames_burst=1e6, bytes_per_s=1e12, bytes_burst=1e12)
"""A bench station sends what a thousand real ones do."""


async def serve_ours(dsn: str, stations: int, port: int = 0, tls_port: int = 0, tls_folder: Path | None = None) -> None:
    """Serve the real gateway over a real PostgreSQL; print the port it listens on.

    `stations` are made known to it first. With a folder where `make_certificate` was, TLS is spoken at `tls_port`.
    """
    tls_files = {} if tls_folder is None else certificate_settings(tls_folder)
    settings = Settings(
        environment="development",
        internal_token=SecretStr(TOKEN),
        master_key=SecretStr("ab" * 32),
        database_url=dsn,
        **tls_files,
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
        if tls_folder is not None:
            tls = StationTLS(settings, gateway.certificates, gateway.metrics, clock)
            await tls.load()
            await StationServer(gateway, host="127.0.0.1", port=tls_port, tls=tls.context).start()
        server = StationServer(gateway, host="127.0.0.1", port=port)
        await server.start()
        print(server.port, flush=True)
        await _until_input_ends()
        stop.set()
        await running


def certificate_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that name a gateway's certificate and key in a folder."""
    return {"gateway_certificate_file": folder / "gateway.pem", "gateway_key_file": folder / "gateway.key"}


def make_certificate(folder: Path) -> None:
    """Write a certificate for this machine alone, and its key."""
    files, key, now = certificate_settings(folder), ec.generate_private_key(ec.SECP256R1()), SystemClock().now()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    files["gateway_certificate_file"].write_bytes(certificate.public_bytes(Encoding.PEM))
    files["gateway_key_file"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


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
    # The log goes nowhere: whoever started this reads a port and no more, and a full pipe would stop everything.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(Path(os.devnull).open("w")))  # noqa: SIM115 - to the end
    if sys.argv[1] == "ours":
        dsn, stations, *tls = sys.argv[2:]
        if tls:
            uvloop.run(serve_ours(dsn, int(stations), int(tls[0]), int(tls[1]), Path(tls[2])))
        else:
            uvloop.run(serve_ours(dsn, int(stations)))
    else:
        uvloop.run(serve_rival() if sys.argv[1] == "rival" else serve_echo())
