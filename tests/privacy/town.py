"""A small town on real servers: a driver with canary values, a neighbour, one who buys ad hoc."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from pydantic import SecretStr

import charge_point_gateway.gateway
from emobility.adapters.ethereum import open_ethereum
from emobility.adapters.kafka import open_kafka
from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.postgres import open_postgres
from emobility.adapters.signing import Ed25519Signer
from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import Chain
from emobility.ports.event_log import EventLog
from emobility.ports.http import HttpClient
from emobility.ports.ports import Ports
from emobility.runtime.embedded_chain import EmbeddedChain
from emobility.runtime.settings import Settings
from services.embedded.business import Business, build
from services.embedded.deterministic import GATEWAY_URL, MemoryDialer
from services.embedded.settling import settle
from services.settlement.service import Settlement
from services.settlement.wiring import settlement_on
from simulator.api_client import Addresses, ApiClient
from simulator.backstage import HttpBackstage
from simulator.planning import plan_scenario
from simulator.report import SimulationReport
from simulator.scenario import DriverPlan, PlanKind, Scenario, SessionFault, SessionPlan, StartedBy, StoppedBy
from simulator.simulation import Simulation

BUSINESS: Final = "http://business.test"
GATEWAY_API: Final = "http://gateway.test"
MASTER_KEY: Final = bytes(range(32, 64))
TUL, POL, ZON, RHN = PartyId("NL-TUL"), PartyId("NL-POL"), PartyId("NL-ZON"), PartyId("DE-RHN")
STATIONS: Final = ("TUL-001", "TUL-002", "POL-002")
MORNING: Final = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
STAY: Final = timedelta(minutes=30)
GAP: Final = timedelta(minutes=10)
RESTS_WITHIN_S: Final = 120.0
CANARY_NAME: Final = "Kanarina Geelvink"
CANARY_CARD: Final = "5105105105105100"
CANARY_CONTRACT: Final = "NL-ZON-C7C4N4RY8"
CANARY_UID: Final = "04CA4A12CAFE80"
CANARY_EMAIL_CARD: Final = "4012888888881881"
"""Of whoever buys ad hoc."""


@dataclass(kw_only=True)
class Town:
    """It charged and is settled."""

    ports: Ports
    clock: VirtualClock
    business: Business
    settlement: Settlement
    chain: Chain
    api: ApiClient
    rpc_url: str
    dsn: str
    folder: Path
    chain_folder: Path
    topic_prefix: str
    report: SimulationReport
    sale_id: str

    async def rest(self) -> None:
        """Wait until nothing moves and everything that was accepted is settled."""
        async with asyncio.timeout(RESTS_WITHIN_S):
            while await self.business.outstanding():  # noqa: ASYNC110 - no one event says so
                await asyncio.sleep(0.01)
            await settle(self.ports, pending=self.settlement.backlog, close=self.settlement.closing.close_now)
            # The hub's day of receipts is over whenever the clock says so: its root is anchored beside all that.
            while any((await self.ports.event_log.lag()).values()):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)


class _Backstage(HttpBackstage):
    """Enters the canary's card, and lets the driver of plan number 99 buy at the QR page."""

    def __init__(self, scenario: Scenario, *, http: HttpClient, clock: VirtualClock, addresses: Addresses) -> None:
        super().__init__(scenario, addresses=addresses, http=http, now=clock.now)
        self._http = http
        self._page = ""
        self.sale_id = ""

    async def set_up(self) -> None:
        await super().set_up()
        await self._business.call("PUT", f"/mobility/{ZON}/drivers/D0001/card", {"number": CANARY_CARD})
        point = await self._business.call("POST", f"/operations/{TUL}/ad-hoc/points", {"evse_uid": self._evse_uid()})
        self._page = point["url"].removeprefix(BUSINESS)
        for station in STATIONS:
            party = TUL if station.startswith("TUL") else POL
            asked = {"until": MORNING + timedelta(hours=20), "has_heartbeats": False}
            await self._business.call("PUT", f"/operations/{party}/stations/{station}/messages", asked)

    def _evse_uid(self) -> str:
        return self._scenario.station(TUL, "TUL-002").evse_uid(1)

    async def start(self, session: SessionPlan) -> str | None:
        if session.driver.number != AD_HOC.number:
            return await super().start(session)
        shown = await self._http.request("GET", f"{BUSINESS}{self._page}", headers={})
        (self.sale_id,) = re.findall(r'name="sale_id" value="([0-9a-f]{32})"', shown.body.decode())
        form = {"sale_id": self.sale_id, "held_e4": "250000", "card": CANARY_EMAIL_CARD}
        bought = await self._http.request("POST", f"{BUSINESS}{self._page}", headers={}, body=urlencode(form).encode())
        return None if bought.status == 303 else bought.body.decode()

    async def watch(self, session: SessionPlan) -> None:
        if session.driver.number != AD_HOC.number:
            await super().watch(session)


def _driver(emsp_id: PartyId, number: int, name: str, contract_id: str, uid: str) -> DriverPlan:
    vehicle = plan_scenario(7).drivers[0].vehicle
    return DriverPlan(
        emsp_id=emsp_id,
        number=number,
        name=name,
        contract_id=contract_id,
        plan=PlanKind.PASS_THROUGH,
        rfid_uid=uid,
        vehicle=vehicle,
    )


CANARY: Final = _driver(ZON, 1, CANARY_NAME, CANARY_CONTRACT, CANARY_UID)
NEIGHBOUR: Final = _driver(RHN, 2, "Nachbar Spatz", "DE-RHN-C00000002", "04112233445566")
AD_HOC: Final = _driver(ZON, 99, "nobody", "none", "none")


def scenario() -> Scenario:
    """At home by card and by app, away from home with a dispute and a forged value; a neighbour; a sale ad hoc."""
    whole = plan_scenario(7)
    stations = tuple(each for each in whole.stations if each.charging_station_id in STATIONS)
    plans = (
        (CANARY, TUL, "TUL-001", 1, StartedBy.RFID, StoppedBy.CARD, SessionFault.NONE),
        (CANARY, TUL, "TUL-002", 2, StartedBy.APP, StoppedBy.APP, SessionFault.NONE),
        (CANARY, POL, "POL-002", 1, StartedBy.RFID, StoppedBy.CARD, SessionFault.DISPUTED),
        (CANARY, POL, "POL-002", 2, StartedBy.RFID, StoppedBy.CABLE, SessionFault.FORGED_METER_VALUE),
        (NEIGHBOUR, TUL, "TUL-001", 2, StartedBy.RFID, StoppedBy.CARD, SessionFault.NONE),
        (AD_HOC, TUL, "TUL-002", 1, StartedBy.APP, StoppedBy.CABLE, SessionFault.NONE),
    )
    sessions = []
    for number, (driver, party, station, evse, started_by, stopped_by, fault) in enumerate(plans, start=1):
        # The canary's charges follow each other with room for a dispute; the others happen beside the first.
        place = number - 1 if driver is CANARY else 0
        arrives_at = MORNING + place * (STAY + STAY + GAP)
        sessions.append(
            SessionPlan(
                number=number,
                party_id=party,
                charging_station_id=station,
                ocpp_evse_id=evse,
                driver=driver,
                started_by=started_by,
                stopped_by=stopped_by,
                arrives_at=arrives_at,
                leaves_at=arrives_at + STAY,
                power_w=11_000,
                wanted_wh=3_000,
                is_roaming=whole.home_of[party] != driver.emsp_id,
                fault=fault,
            )
        )
    return replace(
        whole,
        days=whole.days[:1],
        begins_at=MORNING - timedelta(hours=1),
        ends_at=sessions[3].leaves_at + STAY + GAP,
        stations=stations,
        drivers=(CANARY, NEIGHBOUR),
        sessions=tuple(sessions),
        outages=(),
        intrusions=(),
    )


@asynccontextmanager
async def a_town(dsn: str, folder: Path, *, kafka_bootstrap: str | None) -> AsyncIterator[Town]:
    """Let everybody charge, and settle it. Without Kafka events lie in PostgreSQL."""
    plan = scenario()
    clock, randomness, http = VirtualClock(plan.begins_at), SeededRandomness(5), MemoryHttp()
    chain_folder = folder / "chain"
    server = EmbeddedChain(chain_folder, clock=clock, timer=SystemTimer(), randomness=SystemRandomness())
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(server.start())
        stack.push_async_callback(server.stop)
        adapters = await stack.enter_async_context(
            open_postgres(dsn, master_key=MASTER_KEY, clock=clock, randomness=randomness, durable=False)
        )
        event_log: EventLog = adapters.event_log
        topic_prefix = f"privacy-{randomness.uuid()}"
        if kafka_bootstrap is not None:
            event_log = await stack.enter_async_context(open_kafka(kafka_bootstrap, adapters, prefix=topic_prefix))
        ports = Ports(
            clock=clock,
            timer=LoopTimer(),
            randomness=randomness,
            event_log=event_log,
            units=adapters.units,
            vault=adapters.vault,
            http=http,
            signer=Ed25519Signer(MASTER_KEY),
            payments=SandboxPayments(adapters.units),
        )
        await starting
        settings = Settings(
            environment="development",
            event_log="memory",
            public_url=BUSINESS,
            business_url=BUSINESS,
            gateway_api_url=GATEWAY_API,
            internal_token=SecretStr("i" * 40),
            master_key=SecretStr(MASTER_KEY.hex()),
            run_folder=folder / "run",
            chain_rpc_url=server.rpc_url,
            chain_mnemonic=SecretStr(server.mnemonic),
        )
        chain = await stack.enter_async_context(open_ethereum(server.rpc_url))
        gateway, business = charge_point_gateway.gateway.build(settings, ports), build(settings, ports)
        settlement = settlement_on(settings, ports, chain)
        http.mount(GATEWAY_API, gateway.app)
        http.mount(BUSINESS, business.app)
        addresses = Addresses(
            business_url=BUSINESS, gateway_api_url=GATEWAY_API, gateway_ocpp_url=GATEWAY_URL, internal_token="i" * 40
        )
        backstage = _Backstage(plan, http=http, clock=clock, addresses=addresses)

        async def quiet() -> None:
            while gateway.pending or await business.outstanding() or gateway.pending:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)

        simulation = Simulation(
            plan,
            clock=clock,
            timer=LoopTimer(),
            dialer=MemoryDialer(gateway),
            gateway_url=GATEWAY_URL,
            backstage=backstage,
            quiet=quiet,
        )
        stop = asyncio.Event()
        running = [asyncio.create_task(each.run(stop)) for each in (gateway, business, settlement)]
        try:
            report = await simulation.run()
            town = Town(
                ports=ports,
                clock=clock,
                business=business,
                settlement=settlement,
                chain=chain,
                api=ApiClient(http, base_url=BUSINESS, token="i" * 40),
                rpc_url=server.rpc_url,
                dsn=dsn,
                folder=settings.run_folder,
                chain_folder=chain_folder,
                topic_prefix=topic_prefix,
                report=report,
                sale_id=backstage.sale_id,
            )
            await town.rest()
            yield town
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), timeout=20)


def outcomes(report: SimulationReport) -> list[Any]:
    """What became of each planned session, for messages."""
    return [(each.number, each.outcome, each.refusal) for each in report.sessions]
