"""An MSP under test, in memory and on PostgreSQL, and a CPO that speaks real OCPI to it but is only played."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, open_memory
from emobility.adapters.payments.test_provider import SandboxCard, SandboxPayments
from emobility.adapters.postgres import open_postgres
from emobility.adapters.signing import Ed25519Signer
from emobility.domain.agreement import (
    RoamingAgreement,
    SettlementMode,
    SignedMeterPolicy,
    StatementPeriod,
    TaxRegime,
    signing_bytes,
)
from emobility.domain.cdr import CDR, CDRLocation
from emobility.domain.charging_station import Connector, EVSEStatus, Location, PowerType
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.session import AuthMethod, ChargingPeriod, Session, SessionStatus, SessionToken
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffDimension, TariffElement
from emobility.domain.tariff.version import tariff_hash
from emobility.domain.token import TokenType
from emobility.events import codec
from emobility.ports.http import HttpResponse
from emobility.ports.ports import Ports
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.client import OCPIClient
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.mapping import (
    PublishedEVSE,
    cdr_to_ocpi,
    location_to_ocpi,
    owner_path,
    session_to_ocpi,
    tariff_to_ocpi,
)
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import InvalidParameters
from emobility.protocols.ocpi.v221 import (
    CommandResponse,
    CommandResponseType,
    InterfaceRole,
    ModuleID,
)
from emobility.runtime.settings import Settings
from services.driver_mobility.driving import Driving
from services.driver_mobility.service import DriverMobility, build

T0: Final = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
MSP: Final = PartyId("NL-EMA")
OTHER_MSP: Final = PartyId("NL-EMB")
CPO: Final = PartyId("NL-TNM")
NSP: Final = PartyId("NL-NAV")
MASTER_KEY: Final = bytes(range(32))
INTERNAL: Final = "i" * 40
BASE: Final = "http://business"
CPO_BASE: Final = "http://played-cpo"
DEADLINE_S: Final = 20.0
RFID: Final = "04AABBCCDD11"
PASSWORD: Final = "correct horse battery"


def energy_tariff(price: str = "0.30", *, tariff_id: str = "W1", at: datetime = T0 - timedelta(days=1)) -> Tariff:
    return Tariff(
        party_id=CPO,
        tariff_id=tariff_id,
        currency="EUR",
        elements=(
            TariffElement(
                components=(
                    PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal(price)),
                    PriceComponent(dimension=TariffDimension.PARKING_TIME, price=Decimal("1.20")),
                )
            ),
        ),
        last_updated=at,
    )


def agreement(**changes: Any) -> RoamingAgreement:
    terms = RoamingAgreement(
        agreement_id="TNM-EMA",
        version=1,
        cpo_id=CPO,
        emsp_id=MSP,
        valid_from=T0 - timedelta(days=30),
        valid_until=None,
        currency="EUR",
        tariff_ids=("W1",),
        tax_regime=TaxRegime.DOMESTIC,
        cdr_deadline_h=48,
        dispute_period_h=72,
        statement_period=StatementPeriod.WEEKLY,
        time_zone="Europe/Amsterdam",
        payment_terms_d=14,
        settlement_mode=SettlementMode.PREFUNDED,
        credit_limit_e4=0,
        signed_meter_policy=SignedMeterPolicy.VERIFIED_IF_PRESENT,
    )
    return replace(terms, **changes)


@dataclass
class PlayedCPO:
    """Another platform: its own OCPI endpoints, and what arrived at them."""

    ports: Ports
    clock: VirtualClock
    host: OCPIHost
    app: FastAPI
    tokens: dict[str, v221.Token] = field(default_factory=dict)
    refuses_tokens: bool = False
    disputes: list[v221.Dispute] = field(default_factory=list)
    commands: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    command_answer: CommandResponseType = CommandResponseType.ACCEPTED
    tariff: Tariff = field(default_factory=energy_tariff)

    async def client(self) -> OCPIClient:
        return await self.host.connect(CPO, MSP)

    async def push(self, module: ModuleID, path: str, body: Any) -> None:
        client = await self.client()
        await client.put(module, InterfaceRole.RECEIVER, path, body, to_party=MSP, correlation_id="push")

    async def publish(self) -> None:
        """Tell the MSP of one location with two EVSEs, and of the tariff."""
        location = Location(
            party_id=CPO,
            location_id="LOC1",
            name="Plein <script>alert(1)</script>",
            address="Plein 1",
            city="Delft",
            postal_code="2611AA",
            country="NLD",
            latitude=Decimal("52.01"),
            longitude=Decimal("4.35"),
            time_zone="Europe/Amsterdam",
            last_updated=T0,
        )
        evses = [
            PublishedEVSE(
                evse_uid=uid,
                emi3_id=f"NL*TNM*{uid}",
                status=EVSEStatus.AVAILABLE,
                connectors=(
                    Connector(
                        connector_id=1,
                        standard="IEC_62196_T2",
                        power_type=PowerType.AC_3_PHASE,
                        voltage_v_max=230,
                        current_a_max=16,
                        power_w_max=11_000,
                    ),
                ),
                tariff_ids=("W1",),
                last_updated=T0,
            )
            for uid in ("E1", "E2")
        ]
        await self.push_tariff(self.tariff)
        await self.push(ModuleID.LOCATIONS, owner_path(CPO, "LOC1"), location_to_ocpi(location, evses))

    async def push_tariff(self, tariff: Tariff) -> None:
        await self.push(ModuleID.TARIFFS, owner_path(CPO, tariff.tariff_id), tariff_to_ocpi(tariff))

    async def authorize(self, uid: str = RFID, *, evse_uid: str = "E1") -> v221.AuthorizationInfo:
        """Ask in real time whether a card may charge."""
        client = await self.client()
        answer = await client.post(
            ModuleID.TOKENS,
            InterfaceRole.SENDER,
            f"{uid}/authorize",
            v221.LocationReferences(location_id="LOC1", evse_uids=[evse_uid]),
            to_party=MSP,
            correlation_id="authorize",
        )
        return answer.as_(v221.AuthorizationInfo)

    async def token(self, uid: str = RFID, token_type: TokenType = TokenType.RFID) -> SessionToken:
        return SessionToken(
            emsp_id=MSP,
            uid=await self.ports.vault.seal(uid),
            token_type=token_type,
            contract_id=await self.ports.vault.seal("NL-EMA-C00001"),
        )

    async def push_session(self, session: Session) -> None:
        self.pass_until(session.last_updated)
        wire = await session_to_ocpi(session, self.ports.vault)
        await self.push(ModuleID.SESSIONS, owner_path(CPO, session.session_id), wire)

    async def begin(self, session: Session) -> None:
        """Push a session as it stood when it began."""
        await self.push_session(
            replace(
                session,
                status=SessionStatus.ACTIVE,
                ended_at=None,
                energy_import_wh=0,
                periods=(),
                total_cost=None,
                last_updated=session.started_at,
            )
        )

    def pass_until(self, at: datetime) -> None:
        """Nobody reports what has not happened yet."""
        self.clock.step_to(max(at, self.clock.now()))

    async def post_cdr(self, cdr: CDR) -> HttpResponse:
        self.pass_until(cdr.issued_at)
        return await self.post_wire(v221.write(await cdr_to_ocpi(cdr, self.ports.vault)))

    async def post_wire(self, body: bytes) -> HttpResponse:
        client = await self.client()
        url = client.url_of(ModuleID.CDRS, InterfaceRole.RECEIVER, "")
        headers = {
            "Authorization": f"Token {_base64(client.token)}",
            "OCPI-from-country-code": CPO.country_code,
            "OCPI-from-party-id": CPO.party_id,
            "OCPI-to-country-code": MSP.country_code,
            "OCPI-to-party-id": MSP.party_id,
            "X-Request-ID": "r",
            "X-Correlation-ID": "c",
            "Content-Type": "application/json",
        }
        assert client.signing is not None
        headers |= await client.signing.sign("POST", url, headers, body)
        return await self.ports.http.request("POST", url, headers=headers, body=body)

    async def report_result(self, result: v221.CommandResultType) -> None:
        """Send the station's word on the last command to its response_url."""
        client = await self.client()
        url = self.commands[-1][1]["response_url"]
        body = v221.CommandResult(result=result)
        await client.send("POST", url, body, to_party=MSP, correlation_id="result")

    async def charge(
        self,
        session_id: str,
        *,
        reference: str | None,
        energy_wh: int = 10_000,
        token: SessionToken | None = None,
        started_at: datetime = T0,
        auth_method: AuthMethod = AuthMethod.AUTH_REQUEST,
        parking_s: int = 0,
        evse_uid: str = "E1",
    ) -> tuple[Session, CDR]:
        """Return an ended session and its honest CDR."""
        ended_at = started_at + timedelta(hours=1, seconds=parking_s)
        periods = [
            ChargingPeriod(
                started_at=started_at,
                energy_import_wh=energy_wh,
                charging_s=3600,
                parking_s=0,
                power_w_min=0,
                power_w_max=11_000,
            )
        ]
        if parking_s:
            parked_at = started_at + timedelta(hours=1)
            periods.append(ChargingPeriod(started_at=parked_at, energy_import_wh=0, charging_s=0, parking_s=parking_s))
        priced = price_session(self.tariff, periods, ended_at=ended_at, time_zone="Europe/Amsterdam")
        own_token = token or await self.token()
        session = Session(
            party_id=CPO,
            session_id=session_id,
            started_at=started_at,
            ended_at=ended_at,
            energy_import_wh=energy_wh,
            energy_export_wh=0,
            token=own_token,
            auth_method=auth_method,
            authorization_reference=reference,
            location_id="LOC1",
            evse_uid=evse_uid,
            connector_id=1,
            currency="EUR",
            tariff_hash=tariff_hash(self.tariff),
            periods=tuple(periods),
            total_cost=priced.total,
            status=SessionStatus.COMPLETED,
            last_updated=ended_at,
        )
        cdr = CDR(
            party_id=CPO,
            cdr_id=session_id,
            session_id=session_id,
            started_at=started_at,
            ended_at=ended_at,
            token=own_token,
            auth_method=auth_method,
            authorization_reference=reference,
            location=CDRLocation(
                location_id="LOC1",
                name="Plein",
                address="Plein 1",
                city="Delft",
                postal_code="2611AA",
                country="NLD",
                latitude=Decimal("52.01"),
                longitude=Decimal("4.35"),
                time_zone="Europe/Amsterdam",
                evse_uid=evse_uid,
                emi3_id=f"NL*TNM*{evse_uid}",
                connector_id=1,
                connector_standard="IEC_62196_T2",
                power_type=PowerType.AC_3_PHASE,
            ),
            currency="EUR",
            tariff=self.tariff,
            tariff_hash=tariff_hash(self.tariff),
            periods=tuple(periods),
            total_cost=priced.total,
            total_fixed_cost=priced.fixed,
            total_energy_cost=priced.energy,
            total_time_cost=priced.time,
            total_parking_cost=priced.parking,
            total_energy_import_wh=energy_wh,
            total_energy_export_wh=0,
            total_charging_s=3600,
            total_parking_s=parking_s,
            signed_data=None,
            issued_at=ended_at,
        )
        return session, cdr


@dataclass
class World:
    """The MSP under test and everything around it."""

    settings: Settings
    ports: Ports
    clock: VirtualClock
    http: MemoryHttp
    service: DriverMobility
    cpo: PlayedCPO

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        expect: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Call the MSP's own API with the internal token; returns the decoded answer."""
        answer = await self.http.request(
            method,
            f"{BASE}/mobility{path}",
            headers={"Authorization": f"Bearer {INTERNAL}", **(headers or {})},
            body=b"" if body is None else codec.encode(body),
        )
        wanted = {expect} if expect else {200, 201, 202, 204}
        assert answer.status in wanted, f"{method} {path}: {answer.status} {answer.body.decode()}"
        if answer.headers.get("content-type", "").startswith("text/html"):
            return answer.body.decode()
        return msgspec.json.decode(answer.body) if answer.body else None

    @property
    def driving(self) -> Driving:
        """What drivers can do, called without HTTP."""
        return Driving(self.ports, self.service._quoting, self.service._commanding)

    def browser(self) -> httpx.AsyncClient:
        """A real HTTP client with cookies at the business process."""
        app = self.http._apps[BASE]
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=BASE)

    async def enrol(self, **changes: Any) -> str:
        """Add a driver with a card and an RFID token; returns the driver's number."""
        terms = {
            "name": "Ada <b>Lovelace</b>",
            "contract_id": "NL-EMA-C00001",
            "plan_id": "flat",
            "currency": "EUR",
            "credit_limit_e4": 1_000_000,
            "card": SandboxCard.GOOD.value,
            "password": PASSWORD,
        } | changes
        uid = terms.pop("uid", RFID)
        driver = await self.call("POST", f"/{MSP}/drivers", terms)
        await self.call("POST", f"/{MSP}/drivers/{driver['driver_id']}/tokens", {"uid": uid})
        return str(driver["driver_id"])

    async def quote(self, driver_id: str, **changes: Any) -> dict[str, Any]:
        asked = {"cpo_id": str(CPO), "location_id": "LOC1", "evse_uid": "E1", "energy_wh": 10_000} | changes
        answer: dict[str, Any] = await self.call("POST", f"/{MSP}/drivers/{driver_id}/quotes", asked)
        return answer

    async def quiet(self) -> None:
        """Wait until consumers have no lag and nothing is under way."""
        async with asyncio.timeout(DEADLINE_S):
            still = 0
            while still < 2:
                busy = sum((await self.ports.event_log.lag()).values()) + await self.service.backlog()
                still = 0 if busy else still + 1
                await asyncio.sleep(0.01)

    async def caught_up(self) -> None:
        """Wait until every event was handled; payments and deliveries may still be under way."""
        async with asyncio.timeout(DEADLINE_S):
            lag = 1
            while lag:
                await asyncio.sleep(0.01)
                lag = sum((await self.ports.event_log.lag()).values())

    async def account(self, driver_id: str) -> dict[str, Any]:
        accounts = await self.call("GET", f"/{MSP}/drivers/{driver_id}/account")
        return dict(accounts[0]) if accounts else {}

    async def cdr_states(self) -> dict[str, str]:
        return {row["cdr_id"]: row["state"] for row in await self.call("GET", f"/{MSP}/cdrs")}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def played_cpo(ports: Ports, clock: VirtualClock) -> PlayedCPO:
    """Serve the CPO's side; what arrives is kept for the test to look at."""
    app = FastAPI()
    tokens = Interface(ModuleID.TOKENS, InterfaceRole.RECEIVER)
    commands = Interface(ModuleID.COMMANDS, InterfaceRole.RECEIVER)
    disputes = Interface(ModuleID.DISPUTES, InterfaceRole.RECEIVER)
    host = OCPIHost(ports, service="played", base_url=CPO_BASE, interfaces=(tokens, commands, disputes))
    cpo = PlayedCPO(ports=ports, clock=clock, host=host, app=app)

    @tokens.route("PUT", "/{country_code}/{party_id}/{uid}")
    async def put_token(call: OCPICall) -> Reply:
        token = call.read(v221.Token)
        if cpo.refuses_tokens:
            raise InvalidParameters(f"no token {token.uid.lower()} of {token.contract_id} here")
        cpo.tokens[token.uid] = token
        return Reply()

    @commands.route("POST", "/{command}")
    async def take_command(call: OCPICall) -> Reply:
        cpo.commands.append((call.path["command"], call.read(dict[str, Any])))
        return Reply(data=CommandResponse(result=cpo.command_answer, timeout=30))

    @disputes.route("POST")
    async def take_dispute(call: OCPICall) -> Reply:
        cpo.disputes.append(call.read(v221.Dispute))
        return Reply()

    # The interfaces were empty when the host was made.
    cpo.host = OCPIHost(ports, service="played", base_url=CPO_BASE, interfaces=(tokens, commands, disputes))

    async def nobody(*_: object) -> None:
        return None

    cpo.host.mount_on(app, authorize=nobody)
    return cpo


@asynccontextmanager
async def open_world(kind: str, dsn: str | None, *, seed: str = "mobility") -> AsyncIterator[World]:
    """Build the MSP and the played CPO, registered with each other, with agreement, tariff and location."""
    clock, randomness, http = VirtualClock(T0), SeededRandomness(seed), MemoryHttp()
    async with AsyncExitStack() as stack:
        opening: Any = open_memory(master_key=MASTER_KEY, clock=clock, randomness=randomness)
        if kind == "postgres":
            assert dsn is not None
            opening = open_postgres(dsn, master_key=MASTER_KEY, clock=clock, randomness=randomness)
        opened = await stack.enter_async_context(opening)
        ports = Ports(
            clock=clock,
            timer=LoopTimer(),
            randomness=randomness,
            event_log=opened.event_log,
            units=opened.units,
            vault=opened.vault,
            http=http,
            signer=Ed25519Signer(MASTER_KEY),
            payments=SandboxPayments(opened.units),
        )
        settings = Settings(
            environment="development",
            public_url=BASE,
            business_url=BASE,
            internal_token=SecretStr(INTERNAL),
            master_key=SecretStr(MASTER_KEY.hex()),
            event_log="memory",
        )
        service, cpo = build(settings, ports), played_cpo(ports, clock)
        business = FastAPI()
        business.mount("/mobility", service.app)
        business.add_api_route("/navigation/{party}/stations", stations_of_the_nsp, methods=["GET"])
        http.mount(BASE, business)
        http.mount(CPO_BASE, cpo.app)
        built = World(settings=settings, ports=ports, clock=clock, http=http, service=service, cpo=cpo)
        stop = asyncio.Event()
        running = asyncio.create_task(service.run(stop))
        try:
            await _set_up(built)
            yield built
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                async with asyncio.timeout(DEADLINE_S):
                    await running


async def stations_of_the_nsp() -> dict[str, Any]:
    """What the NSP gives: names are text that somebody else wrote."""
    return {
        "stations": [
            {
                "cpo_id": str(CPO),
                "location_id": "LOC1",
                "name": "Plein <script>alert(1)</script>",
                "address": 'Plein 1" onmouseover="alert(2)',
                "city": "Delft",
                "evses": [{"evse_uid": "E1", "emi3_id": "NL*TNM*E1", "status": "AVAILABLE", "power_w_max": 11_000}],
            }
        ]
    }


async def _set_up(world: World) -> None:
    await world.call("PUT", f"/{MSP}", {"name": "Emma & Co", "nsp_id": str(NSP)})
    flat = {"kind": "FLAT_PER_KWH", "currency": "EUR", "price_per_kwh": "0.45"}
    await world.call("PUT", f"/{MSP}/plans/flat", flat)
    plus = {"kind": "WHOLESALE_PLUS", "currency": "EUR", "session_fee": "0.35", "holds_card": True}
    await world.call("PUT", f"/{MSP}/plans/plus", plus)
    async with world.ports.units.begin() as unit:
        await world.cpo.host.add_party(unit, CPO, role=Role.CPO, business_name="TNM")
        token_a = await world.cpo.host.registrar.invite(
            unit, own_party=CPO, peer_id="ema", versions_url=f"{BASE}/mobility/{MSP}/ocpi/versions"
        )
        await unit.commit()
    registration = {
        "versions_url": f"{CPO_BASE}/{CPO}/ocpi/versions",
        "token_a": token_a,
        "peer_id": "tnm",
        "expected_party": CPO.code,
        "expected_role": Role.CPO,
    }
    await world.call("POST", f"/{MSP}/ocpi-register", registration)
    await sign(world, agreement())
    await world.cpo.publish()


async def sign(world: World, terms: RoamingAgreement, *, cpo_key: bytes = MASTER_KEY) -> dict[str, Any]:
    """Let both sides sign an agreement."""
    signer = Ed25519Signer(cpo_key)
    signed = replace(terms, cpo_signature=await signer.sign(CPO, signing_bytes(terms)))
    body = {"agreement": signed, "cpo_public_key": await signer.public_key(CPO)}
    answer: dict[str, Any] = await world.call("PUT", f"/{MSP}/agreements", body)
    return answer


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> tuple[str, str | None]:
    """Kind of store and where its database is."""
    dsn = request.getfixturevalue("postgres_dsn") if request.param == "postgres" else None
    return request.param, dsn


@pytest.fixture
async def world(store: tuple[str, str | None]) -> AsyncIterator[World]:
    """The same journeys on both stores."""
    kind, dsn = store
    async with open_world(kind, dsn) as opened:
        yield opened


@pytest.fixture
async def memory_world() -> AsyncIterator[World]:
    """One world in memory, for rules that do not depend on the store."""
    async with open_world("memory", None) as opened:
        yield opened


@pytest.fixture(name="open_world")
def _open_world() -> Callable[[], AbstractAsyncContextManager[World]]:
    """For tests that build a world per example."""
    return lambda: open_world("memory", None)
