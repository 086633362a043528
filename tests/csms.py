"""A whole CSMS for stations to dial: the gateway on real WebSockets, plain and over TLS, and the back office behind it.

Both run in this process over one memory; an eMSP answers for its cards. The clock stands still at the real time, so
that certificates count.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from charge_point_gateway.gateway import GatewayOptions, GatewayService, build
from charge_point_gateway.server import StationServer
from charge_point_gateway.tls import StationTLS
from emobility.adapters.memory import VirtualClock
from emobility.adapters.system import SystemClock
from emobility.runtime.settings import Settings
from services.charging_operations.records import TRANSACTION, TransactionRecord
from services.charging_operations.stations import StationTerms
from tests.gateway.certificate_makers import CA, csr, kept, key_pem, name, new_key, pem
from tests.operations.world import CPO, GATEWAY, INTERNAL_TOKEN, MASTER_KEY, ORIGIN, World, evse, open_for_business

PASSWORD: Final = "0123456789abcdef0123456789abcdef"
IN_BUSINESS_FOR: Final = timedelta(hours=12)
"""Tariffs and agreements are in force since then."""
DRAIN_SPREAD_S: Final = 0.01
"""Connections that are left are closed spread over this time."""


class StationKeys:
    """A folder with what the gateway's TLS needs, and certificates of a CA that nobody knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root, self.stations, self.foreign = CA("Gateway"), CA("Stations"), CA("Nobody's")
        key = new_key()
        served = self.root.leaf(name("localhost"), key, names=[x509.DNSName("localhost")], is_server=True)
        self.root_file = kept(folder, "root.pem", pem(self.root.certificate))
        self.settings: dict[str, Any] = {
            "gateway_certificate_file": kept(folder, "gateway.pem", pem(served)),
            "gateway_key_file": kept(folder, "gateway.key", key_pem(key)),
            "gateway_ca_file": kept(folder, "stations.pem", pem(self.stations.certificate)),
            "gateway_ca_key_file": kept(folder, "stations.key", key_pem(self.stations.key)),
        }

    def foreign_station(self, station_id: str) -> tuple[Path, Path]:
        """Return files of a certificate that names the station and whose CA the gateway does not know."""
        key = new_key()
        made = self.foreign.leaf(name(station_id, CPO.code), key)
        return kept(self.folder, "foreign.pem", pem(made)), kept(self.folder, "foreign.key", key_pem(key))

    def context(self, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
        """Return what a station connects with: it trusts the gateway's CA, and shows a certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.root_file))
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        return context


@dataclass(slots=True)
class CSMS:
    """The system under test, and short ways to set it up and to look into it."""

    world: World
    gateway: GatewayService
    keys: StationKeys
    port: int
    wss_port: int
    entered: int = field(default=0)

    @property
    def url(self) -> str:
        """What stations dial without TLS; they add `/` and their identity."""
        return f"ws://127.0.0.1:{self.port}/ocpp/{CPO}"

    @property
    def wss_url(self) -> str:
        """What they dial with TLS."""
        return f"wss://localhost:{self.wss_port}/ocpp/{CPO}"

    @property
    def now(self) -> datetime:
        """The time at the CSMS, in whole seconds."""
        return self.world.clock.now().replace(microsecond=0)

    async def enter_station(self, station_id: str | None = None, **credential: Any) -> str:
        """Enter a station with two EVSEs and its credential, by default a password; return its identity."""
        self.entered += 1
        station_id = station_id or f"CS-{self.entered}"
        terms = StationTerms(location_id="LOC1", evses=(evse(1, station=station_id), evse(2, station=station_id)))
        answer = await self.world.api("PUT", f"/{CPO}/stations/{station_id}", terms)
        assert answer.status_code == 200, answer.text
        await self.put_credential(station_id, **(credential or {"password": PASSWORD}))
        return station_id

    async def new_card(self, says: str = "ALLOWED", **token: Any) -> str:
        """Let the eMSP push a card of its own for one scenario; it is asked about it, and `says` its answer."""
        self.entered += 1
        card = f"CARD{self.entered:04}"
        self.world.emsp.cards[card] = says
        given = {"uid": card, "contract_id": f"NL-EMP-C{self.entered:08}-X", "whitelist": "NEVER"}
        await self.world.put_token(**(given | token))
        return card

    async def put_credential(self, station_id: str, **credential: Any) -> None:
        """Say how a station proves itself from its next connection on."""
        answer = await self.world.api("PUT", f"/{CPO}/stations/{station_id}/credential", credential)
        assert answer.status_code == 200, answer.text

    async def certificate_of(self, station_id: str) -> tuple[Path, Path]:
        """Have the gateway's own CA sign a station's request; return files of the chain and the key."""
        key = new_key()
        wanted = {"csr": csr(key, name(station_id, CPO.code))}
        answer = await self.world.api("POST", f"/{CPO}/stations/{station_id}/certificates", wanted)
        assert answer.status_code == 200, answer.text
        chain = answer.json()["certificate_chain"].encode()
        return (
            kept(self.keys.folder, f"{station_id}.pem", chain),
            kept(self.keys.folder, f"{station_id}.key", key_pem(key)),
        )

    async def command(self, station_id: str, action: str, payload: dict[str, Any]) -> Any:
        """Have the operator's API call a station; return what it shows: `result`, `detail`, `answer`."""
        answer = await self.world.api("POST", f"/{CPO}/stations/{station_id}/commands/{action}", payload)
        return answer.json()

    async def transaction(self, station_id: str, transaction_id: str) -> TransactionRecord:
        """Return what the back office holds of a transaction, once it has read all events."""
        await self.world.settle()
        where = {"charging_station_id": station_id, "transaction_id": transaction_id}
        (row,) = await self.world.rows(TRANSACTION, **where)
        assert isinstance(row, TransactionRecord)
        return row


@asynccontextmanager
async def running_csms() -> AsyncIterator[CSMS]:
    """A CSMS on ports of its own."""
    clock = VirtualClock(SystemClock().now() - IN_BUSINESS_FOR)
    with tempfile.TemporaryDirectory() as folder:
        keys = StationKeys(Path(folder))
        async with open_for_business(clock=clock) as world:
            clock.step_by(IN_BUSINESS_FOR)
            settings = Settings(
                environment="development",
                business_url=ORIGIN,
                gateway_api_url=GATEWAY,
                internal_token=INTERNAL_TOKEN,  # type: ignore[arg-type]  # pydantic makes it a SecretStr
                master_key=MASTER_KEY.hex(),  # type: ignore[arg-type]  # pydantic makes it a SecretStr
                **keys.settings,
            )
            options = GatewayOptions(drain_spread_s=DRAIN_SPREAD_S)
            gateway = build(settings, world.ports, options, keys.stations.authority())
            world.http.mount(GATEWAY, gateway.app)
            async with _served(gateway, settings) as (port, wss_port):
                yield CSMS(world, gateway, keys, port, wss_port)


@asynccontextmanager
async def _served(gateway: GatewayService, settings: Settings) -> AsyncIterator[tuple[int, int]]:
    tls = StationTLS(settings, gateway.certificates, gateway.metrics, SystemClock())
    await tls.load()
    gateway.on_revoked = tls.reload
    plain = StationServer(gateway, host="127.0.0.1", port=0)
    encrypted = StationServer(gateway, host="127.0.0.1", port=0, tls=tls.context)
    stop = asyncio.Event()
    running = asyncio.create_task(gateway.run(stop))
    for server in (plain, encrypted):
        await server.start()
    try:
        yield plain.port, encrypted.port
    finally:
        stop.set()
        await running
        for server in (plain, encrypted):
            await server.wait_closed()
