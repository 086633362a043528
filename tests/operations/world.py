"""A CPO back office with everything around it: a fake gateway, an eMSP and a navigator that keep all they get.

The tests put events into the log as the gateway would and look at rows, facts and what the partners received.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, open_memory
from emobility.adapters.payments.test_provider import SandboxPayments
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
from emobility.domain.cdr import CDR
from emobility.domain.charging_station import EVSE, Connector, PowerType
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.meter import MeterReading, ReadingContext
from emobility.domain.personal import Sealed
from emobility.domain.tariff.tariff import PriceComponent, TariffDimension, TariffElement, TariffType
from emobility.domain.token import TokenType, Whitelist
from emobility.events import codec
from emobility.events.cdr import CDRIssued
from emobility.events.charging import (
    AuthorizationDecided,
    IdTokenKind,
    TransactionEnded,
    TransactionStarted,
    TransactionUpdated,
)
from emobility.events.event import Envelope, Event
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationRequest
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import NoSuchObject, StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from emobility.protocols.station_control.messages import (
    CommandOutcome,
    CommandResult,
    StationCommand,
    StationMessage,
    StationPresence,
)
from emobility.runtime.settings import Settings
from services.charging_operations.agreements import AgreementProposal
from services.charging_operations.ledger import EnergyDirection, Ledger, LogLedger, energy_ledger
from services.charging_operations.office import Limits
from services.charging_operations.records import CDRS, QUARANTINE, TRANSACTION, CDRRecord, QuarantineRecord
from services.charging_operations.service import ChargingOperations, build
from services.charging_operations.stations import LocationTerms, StationTerms
from services.charging_operations.tariffs import TariffTerms

START: Final = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
CPO: Final = PartyId("NL-TNM")
OTHER_CPO: Final = PartyId("NL-OTH")
EMSP: Final = PartyId("NL-EMP")
OTHER_EMSP: Final = PartyId("DE-EMX")
NSP: Final = PartyId("NL-NAV")
CARD: Final = "04A1B2C3D4"
STATION: Final = "CS1"
ORIGIN: Final = "http://business.test"
PARTNERS: Final = "http://partners.test"
RESULTS: Final = f"{PARTNERS}/emsp/{EMSP}/ocpi/2.2.1/commands/sender"
"""Where the eMSP is told what became of its commands."""
GATEWAY: Final = "http://gateway.test"
INTERNAL_TOKEN: Final = "i" * 40
MASTER_KEY: Final = bytes(range(32))
SETTLE_ROUNDS_MAX: Final = 5_000


@dataclass(slots=True)
class Partner:
    """What an eMSP or navigation provider received, and what it answers."""

    host: OCPIHost
    received: list[tuple[str, str, str, Any]] = field(default_factory=list)
    allowed: str | None = "ALLOWED"
    cards: dict[str, str] = field(default_factory=dict)
    """What it says to these tokens instead."""
    reference: str | None = "quote-1"
    delay_s: float = 0
    asked: int = 0
    refuses: set[str] = field(default_factory=set)

    def got(self, module: str) -> list[Any]:
        """Return the bodies of a module, in order."""
        return [body for kind, _, _, body in self.received if kind == module]


@dataclass(slots=True)
class Gateway:
    """The gateway's API. Stations say what `station` makes of a command, else the next of `answers`, else `outcome`.

    None as version: never connected.
    """

    commands: list[StationCommand] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)
    outcome: CommandOutcome = field(default_factory=lambda: CommandOutcome(result=CommandResult.ACCEPTED))
    answers: list[CommandOutcome] = field(default_factory=list)
    station: Callable[[StationCommand], CommandOutcome | None] | None = None
    messages: list[StationMessage] = field(default_factory=list)
    kept_messages: list[tuple[str, str]] = field(default_factory=list)
    ocpp_version: str | None = "2.0.1"
    is_online: bool = True
    connected_at: datetime = START
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    hangs_for: str = ""
    """A party with the same station, which answers no command."""

    def __post_init__(self) -> None:
        self.may_answer.set()

    def app(self) -> Starlette:
        """Return the API."""

        async def command(request: Request) -> Response:
            assert request.headers["authorization"] == f"Bearer {INTERNAL_TOKEN}"
            if request.path_params["party"] == self.hangs_for:
                await asyncio.Event().wait()
            self.commands.append(codec.decode(await request.body(), StationCommand))
            await self.may_answer.wait()
            told = self.station(self.commands[-1]) if self.station is not None else None
            if told is not None:
                return Response(codec.encode(told))
            return Response(codec.encode(self.answers.pop(0) if self.answers else self.outcome))

        async def credential(request: Request) -> Response:
            self.credentials.append(f"{request.path_params['party']}/{request.path_params['station']}")
            return Response(status_code=204)

        def present(station: str) -> StationPresence:
            return StationPresence(
                charging_station_id=station,
                is_online=self.is_online,
                gateway_url=GATEWAY,
                ocpp_version=self.ocpp_version or "",
                connected_at=self.connected_at,
            )

        async def presence(request: Request) -> Response:
            if self.ocpp_version is None:
                return Response(status_code=404)
            return Response(codec.encode(present(request.path_params["station"])))

        async def presences(request: Request) -> Response:
            is_ours = request.path_params["party"] in {CPO.code, self.hangs_for} and self.ocpp_version is not None
            return Response(codec.encode([present(STATION)] if is_ours else []))

        async def messages(request: Request) -> Response:
            self.kept_messages.append((request.method, (await request.body()).decode()))
            return Response(codec.encode(self.messages) if request.method == "GET" else b"")

        return Starlette(
            routes=[
                Route("/stations/{party}/{station}/messages", messages, methods=["GET", "PUT", "DELETE"]),
                Route("/stations/{party}", presences, methods=["GET"]),
                Route("/stations/{party}/{station}", presence, methods=["GET"]),
                Route("/stations/{party}/{station}/commands", command, methods=["POST"]),
                Route("/stations/{party}/{station}/credential", credential, methods=["PUT"]),
            ]
        )


@dataclass(slots=True)
class World:
    """Everything, and short ways to make things happen."""

    ports: Ports
    clock: VirtualClock
    http: MemoryHttp
    operations: ChargingOperations
    gateway: Gateway
    emsp: Partner
    nsp: Partner

    # The operator and the partners

    async def api(self, method: str, path: str, body: Any = None, *, token: str = INTERNAL_TOKEN) -> httpx.Response:
        """Call the operator's API."""
        content = body if isinstance(body, bytes) else b"" if body is None else codec.encode(body)
        answer = await self.http.request(
            method, f"{ORIGIN}/operations{path}", headers={"authorization": f"Bearer {token}"}, body=content
        )
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)

    async def ocpi(self, method: str, module: ModuleID, path: str = "", body: Any = None, **query: str) -> Any:
        """Call the CPO's OCPI as the eMSP; returns the answer's data."""
        client = await self.emsp.host.connect(EMSP, CPO)
        side = InterfaceRole.SENDER if method == "GET" and module is not ModuleID.TOKENS else InterfaceRole.RECEIVER
        url = client.url_of(module.value, side, path, query)
        answer = await client.send(method, url, body, to_party=CPO, correlation_id="test")
        return json.loads(answer.data)

    async def put_token(self, **changes: Any) -> None:
        """Let the eMSP push its card."""
        token = v221.Token(
            country_code="NL",
            party_id="EMP",
            uid=CARD,
            type=TokenType.RFID,
            contract_id="NL-EMP-C12345678-X",
            issuer="EMP",
            valid=True,
            whitelist=Whitelist.ALLOWED,
            last_updated=self.clock.now(),
        )
        token = v221.read(v221.write(token)[:-1] + _extra(changes), v221.Token)
        await self.ocpi("PUT", ModuleID.TOKENS, f"/NL/EMP/{token.uid}", token, type=token.type.value)

    async def sign(self, agreement: RoamingAgreement) -> httpx.Response:
        """Put an agreement that the eMSP signed."""
        message = signing_bytes(agreement)
        signed = replace(agreement, emsp_signature=await self.ports.signer.sign(agreement.emsp_id, message))
        proposal = AgreementProposal(
            agreement=signed, emsp_public_key=await self.ports.signer.public_key(agreement.emsp_id)
        )
        return await self.api("PUT", f"/{agreement.cpo_id}/agreements", proposal)

    # The stations

    async def authorize(self, card: str = CARD, **fields: Any) -> AuthorizationAnswer:
        """Ask as the gateway does."""
        question = AuthorizationRequest(
            party_id=CPO,
            charging_station_id=fields.pop("charging_station_id", STATION),
            id_token=card,
            kind=fields.pop("kind", IdTokenKind.RFID),
            correlation_id="tap",
            **fields,
        )
        answer = await self.api("POST", "/station_control/authorize", question)
        assert answer.status_code == 200, answer.text
        return codec.decode(answer.content, AuthorizationAnswer)

    async def seal(self, text: str = CARD) -> Sealed:
        """Seal a text as the gateway does."""
        return await self.ports.vault.seal(text)

    async def started(self, transaction_id: str = "1", import_wh: int = 1_000, **fields: Any) -> TransactionStarted:
        """Return the start of a transaction, `at` minutes after START."""
        at = START + timedelta(minutes=fields.pop("at", 0))
        begin = fields.pop("begin", None) or reading(at, import_wh, ReadingContext.TRANSACTION_BEGIN)
        return TransactionStarted(
            party_id=fields.pop("party_id", CPO),
            charging_station_id=fields.pop("station", STATION),
            transaction_id=transaction_id,
            occurred_at=at,
            readings=(begin,),
            ocpp_evse_id=fields.pop("evse", 1),
            connector_id=1,
            id_token=await self.seal(fields.pop("card", CARD)),
            id_token_kind=IdTokenKind.RFID,
            **fields,
        )

    def updated(
        self, transaction_id: str = "1", at: int = 30, import_wh: int = 3_000, **fields: Any
    ) -> TransactionUpdated:
        """Return meter values."""
        moment = START + timedelta(minutes=at)
        return TransactionUpdated(
            party_id=fields.pop("party_id", CPO),
            charging_station_id=fields.pop("station", STATION),
            transaction_id=transaction_id,
            occurred_at=moment,
            readings=(reading(moment, import_wh, ReadingContext.SAMPLE_PERIODIC),),
            **fields,
        )

    def ended(self, transaction_id: str = "1", at: int = 60, import_wh: int = 6_000, **fields: Any) -> TransactionEnded:
        """Return the end of a transaction."""
        moment = START + timedelta(minutes=at)
        end = fields.pop("end", None) or reading(moment, import_wh, ReadingContext.TRANSACTION_END)
        return TransactionEnded(
            party_id=fields.pop("party_id", CPO),
            charging_station_id=fields.pop("station", STATION),
            transaction_id=transaction_id,
            occurred_at=moment,
            readings=(end,),
            **fields,
        )

    async def report(self, *events: Event, settle: bool = True, heard_at: datetime | None = None) -> None:
        """Append events as the gateway does, the same event under the same id, and let everything happen.

        `heard_at`: when they arrived; by default as soon as they happened, so that a test need not move the clock.
        """
        moments = [getattr(event, "occurred_at", self.clock.now()) for event in events]
        arrived_at = heard_at or max([self.clock.now(), *moments])
        await self.ports.event_log.append([envelope_of(event, arrived_at) for event in events])
        if settle:
            await self.settle()

    async def settle(self) -> None:
        """Wait until nothing moves any more."""
        quiet = 0
        for _ in range(SETTLE_ROUNDS_MAX):
            lag = sum((await self.ports.event_log.lag()).values())
            quiet = quiet + 1 if lag + await self.operations.backlog() == 0 else 0
            if quiet == 2:
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"still {await self.operations.backlog()} to send, lag {await self.ports.event_log.lag()}")

    async def until(self, happened: Callable[[], Awaitable[Any]]) -> None:
        """Wait for a condition."""
        for _ in range(SETTLE_ROUNDS_MAX):
            if await happened():
                await self.settle()
                return
            await asyncio.sleep(0.002)
        raise AssertionError("it never happened")

    # Looking

    async def rows(self, spec: TableSpec[Any], **where: Any) -> list[Any]:
        """Return rows of the back office."""
        async with self.ports.units.begin() as unit:
            return await unit.table(spec).select(where or None)

    async def cdrs(self) -> list[CDRRecord]:
        """Return all CDRs and credits, oldest first."""
        return sorted(await self.rows(CDRS), key=lambda row: (row.last_updated, row.cdr_id))

    async def quarantine(self) -> list[QuarantineRecord]:
        """Return all that is or was in quarantine."""
        return sorted(await self.rows(QUARANTINE), key=lambda row: row.quarantine_id)

    async def state(self, transaction_id: str = "1") -> str:
        """Return where a transaction stands."""
        (row,) = await self.rows(TRANSACTION, transaction_id=transaction_id)
        return str(row.state)

    async def events(self, *kinds: type[Event]) -> list[Any]:
        """Return the log's events of these kinds."""
        logged = [each.envelope.event async for each in self.ports.event_log.read(["charging", "sessions", "cdrs"])]
        return [event for event in logged if not kinds or isinstance(event, kinds)]

    async def cdrs_in_order(self) -> list[CDR]:
        """Return a session's documents as they follow each other: CDR, its credit, the replacement."""
        return sorted(await self.issued(), key=lambda cdr: (cdr.cdr_id.count("-"), not cdr.is_credit, cdr.cdr_id))

    async def issued(self) -> list[CDR]:
        """Return the CDRs that are facts."""
        return [event.cdr for event in await self.events(CDRIssued)]

    async def ledger(self, party_id: PartyId = CPO, direction: EnergyDirection = EnergyDirection.IMPORT) -> Ledger:
        """Return the ledger by rows, after checking that it balances and that the log says the same."""
        by_rows = await energy_ledger(self.ports.units, party_id, direction)
        book = LogLedger()
        for event in await self.events():
            book.take(event)
        assert by_rows.difference_wh == 0
        assert book.ledger(party_id, direction) == by_rows
        return by_rows


def reading(at: datetime, import_wh: int | None, context: ReadingContext, **fields: Any) -> MeterReading:
    """Return a register value."""
    return MeterReading(at=at, import_wh=import_wh, context=context, **fields)


def envelope_of(event: Event, now: datetime) -> Envelope:
    """Wrap an event as the gateway does: 2.x by its number, 1.6 by its content."""
    assert isinstance(event, Event)
    seq_no = getattr(event, "seq_no", None) if hasattr(event, "transaction_id") else None
    party, station = getattr(event, "party_id", CPO), getattr(event, "charging_station_id", STATION)
    if seq_no is not None:
        event_id = f"{party}/{station}/{event.transaction_id}/{seq_no}"  # type: ignore[attr-defined]  # has a number
    elif isinstance(event, AuthorizationDecided):
        event_id = event.authorization_id
    else:
        event_id = f"{party}/{station}/{hash(codec.encode(event)):x}"
    return Envelope(event=event, event_id=event_id, correlation_id=f"c-{event_id}"[:60], recorded_at=now)


def _extra(changes: dict[str, Any]) -> bytes:
    written = b"".join(b"," + v221.write(name) + b":" + v221.write(value) for name, value in changes.items())
    return written + b"}"


def agreement(**changes: Any) -> RoamingAgreement:
    """Return terms between the CPO and the eMSP."""
    terms: dict[str, Any] = {
        "agreement_id": "TNM-EMP",
        "version": 1,
        "cpo_id": CPO,
        "emsp_id": EMSP,
        "valid_from": START - timedelta(days=1),
        "valid_until": None,
        "currency": "EUR",
        "tariff_ids": ("WHOLESALE",),
        "tax_regime": TaxRegime.DOMESTIC,
        "cdr_deadline_h": 72,
        "dispute_period_h": 48,
        "statement_period": StatementPeriod.WEEKLY,
        "time_zone": "Europe/Amsterdam",
        "payment_terms_d": 14,
        "settlement_mode": SettlementMode.PREFUNDED,
        "credit_limit_e4": 0,
        "signed_meter_policy": SignedMeterPolicy.NOT_REQUIRED,
    }
    return RoamingAgreement(**(terms | changes))


def tariff_terms(per_kwh: str = "0.30", kind: TariffType | None = None) -> TariffTerms:
    """Return a price per kWh, 1.50 per hour of parking and 0.50 per session."""
    components = (
        PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal(per_kwh)),
        PriceComponent(dimension=TariffDimension.PARKING_TIME, price=Decimal("1.50")),
        PriceComponent(dimension=TariffDimension.FLAT, price=Decimal("0.50")),
    )
    return TariffTerms(currency="EUR", elements=(TariffElement(components=components),), tariff_type=kind)


def evse(number: int = 1, *, station: str = STATION, key: str | None = None) -> EVSE:
    """Return an EVSE of 11 kW."""
    connector = Connector(
        connector_id=1,
        standard="IEC_62196_T2",
        power_type=PowerType.AC_3_PHASE,
        voltage_v_max=230,
        current_a_max=16,
        power_w_max=11_040,
    )
    return EVSE(
        evse_uid=f"{station}-{number}",
        emi3_id=f"NL*TNM*E{station}*{number}",
        ocpp_evse_id=number,
        connectors=(connector,),
        meter_public_key=key,
    )


LOCATION_TERMS: Final = LocationTerms(
    name="Station square",
    address="Stationsplein 1",
    city="Utrecht",
    postal_code="3511ED",
    country="NLD",
    latitude=Decimal("52.09083"),
    longitude=Decimal("5.12222"),
    time_zone="Europe/Amsterdam",
)


@asynccontextmanager
async def world(
    postgres_dsn: str | None = None,
    *,
    limits: Limits | None = None,
    clock: VirtualClock | None = None,
    **changed_settings: Any,
) -> AsyncIterator[World]:
    """Open a world over memory, or over PostgreSQL; nothing is set up yet but the parties."""
    clock, randomness, http = clock or VirtualClock(START), SeededRandomness(7), MemoryHttp()
    opening = (
        open_memory(master_key=MASTER_KEY, clock=clock, randomness=randomness)
        if postgres_dsn is None
        else open_postgres(postgres_dsn, master_key=MASTER_KEY, clock=clock, randomness=randomness)
    )
    async with opening as adapters:
        ports = Ports(
            clock=clock,
            timer=LoopTimer(),
            randomness=randomness,
            event_log=adapters.event_log,
            units=adapters.units,
            vault=adapters.vault,
            http=http,
            signer=Ed25519Signer(MASTER_KEY),
            payments=SandboxPayments(adapters.units),
        )
        settings = Settings(
            environment="development",
            event_log="memory",
            public_url=ORIGIN,
            business_url=ORIGIN,
            gateway_api_url=GATEWAY,
            internal_token=INTERNAL_TOKEN,  # type: ignore[arg-type]  # pydantic makes it a SecretStr
            master_key=MASTER_KEY.hex(),  # type: ignore[arg-type]  # pydantic makes it a SecretStr
            **changed_settings,
        )
        operations, gateway = build(settings, ports, limits=limits), Gateway()
        emsp, nsp = _partner(ports, "emsp"), _partner(ports, "nsp")
        http.mount(GATEWAY, gateway.app())
        http.mount(ORIGIN, Starlette(routes=[Mount("/operations", app=operations.app)]))
        http.mount(PARTNERS, _partners_app({"emsp": emsp, "nsp": nsp}))
        here = World(ports=ports, clock=clock, http=http, operations=operations, gateway=gateway, emsp=emsp, nsp=nsp)
        stop = asyncio.Event()
        running = asyncio.create_task(operations.run(stop))
        try:
            await _register(here)
            yield here
        finally:
            stop.set()
            await asyncio.wait_for(running, timeout=20)


@asynccontextmanager
async def open_for_business(
    postgres_dsn: str | None = None,
    *,
    limits: Limits | None = None,
    clock: VirtualClock | None = None,
    **changed_settings: Any,
) -> AsyncIterator[World]:
    """A world with a station of two EVSEs, a wholesale and an ad hoc tariff, an agreement and the eMSP's card."""
    async with world(postgres_dsn, limits=limits, clock=clock, **changed_settings) as here:
        for path, body in (
            ("/locations/LOC1", LOCATION_TERMS),
            (f"/stations/{STATION}", StationTerms(location_id="LOC1", evses=(evse(1), evse(2)))),
            ("/tariffs/WHOLESALE", tariff_terms()),
            ("/tariffs/ADHOC", tariff_terms("0.59", TariffType.AD_HOC_PAYMENT)),
        ):
            answer = await here.api("PUT", f"/{CPO}{path}", body)
            assert answer.status_code == 200, answer.text
        answer = await here.sign(agreement())
        assert answer.status_code == 200, answer.text
        await here.put_token()
        await here.settle()
        yield here


async def _register(here: World) -> None:
    for party in (CPO, OTHER_CPO):
        answer = await here.api("PUT", f"/{party}", {"name": f"{party} charging"})
        assert answer.status_code == 201, answer.text
    for partner, party, role in ((here.emsp, EMSP, Role.EMSP), (here.nsp, NSP, Role.NSP)):
        async with here.ports.units.begin() as unit:
            await partner.host.add_party(unit, party, role=role, business_name=str(party))
            token_a = await partner.host.registrar.invite(
                unit, own_party=party, peer_id="cpo", versions_url=f"{ORIGIN}/operations/{CPO}/ocpi/versions"
            )
            await unit.commit()
        answer = await here.api(
            "POST",
            f"/{CPO}/ocpi-register",
            {
                "versions_url": f"{partner.host.ocpi_url(party)}/versions",
                "token_a": token_a,
                "peer_id": str(party).lower(),
                "expected_party": party.code,
                "expected_role": role,
            },
        )
        assert answer.status_code == 200, answer.text


def _partner(ports: Ports, service: str) -> Partner:
    interfaces: list[Interface] = []
    host = OCPIHost(ports, service=service, base_url=f"{PARTNERS}/{service}", interfaces=interfaces)
    partner = Partner(host=host)
    received = (ModuleID.LOCATIONS, ModuleID.TARIFFS, ModuleID.SESSIONS, ModuleID.CDRS)
    interfaces += [_receiver(partner, module) for module in received]
    interfaces += [_token_sender(partner), _results_receiver(partner)]
    partner.host = OCPIHost(ports, service=service, base_url=f"{PARTNERS}/{service}", interfaces=interfaces)
    return partner


def _receiver(partner: Partner, module: ModuleID) -> Interface:
    interface = Interface(module.value, InterfaceRole.RECEIVER)

    async def keep(call: OCPICall) -> Reply:
        if module.value in partner.refuses:
            raise NoSuchObject(module.value)
        partner.received.append((module.value, call.method, call.url, json.loads(call.body)))
        return Reply(http_status=201)

    for method, path in (
        ("PUT", "/{country_code}/{party_id}/{object_id}"),
        ("PUT", "/{country_code}/{party_id}/{object_id}/{evse_uid}"),
        ("POST", ""),
    ):
        interface.routes.append((method, path, keep))
    return interface


def _results_receiver(partner: Partner) -> Interface:
    interface = Interface(ModuleID.COMMANDS.value, InterfaceRole.SENDER)

    @interface.route("POST", "/{command}")
    async def keep(call: OCPICall) -> Reply:
        partner.received.append(("result", "POST", call.path["command"], json.loads(call.body)))
        return Reply()

    return interface


def _token_sender(partner: Partner) -> Interface:
    interface = Interface(ModuleID.TOKENS.value, InterfaceRole.SENDER)

    @interface.route("POST", "/{token_uid}/authorize")
    async def authorize(call: OCPICall) -> Reply:
        partner.asked += 1
        await asyncio.sleep(partner.delay_s)
        allowed = partner.cards.get(call.path["token_uid"], partner.allowed)
        if allowed is None:
            raise NoSuchObject("token", status_code=StatusCode.UNKNOWN_TOKEN)
        token = v221.Token(
            country_code="NL",
            party_id="EMP",
            uid=call.path["token_uid"],
            type=TokenType(call.query["type"]),
            contract_id="NL-EMP-C12345678-X",
            issuer="EMP",
            valid=True,
            whitelist=Whitelist.NEVER,
            last_updated=START,
        )
        return Reply(
            data=v221.AuthorizationInfo(
                allowed=v221.AllowedType(allowed), token=token, authorization_reference=partner.reference
            )
        )

    return interface


def _partners_app(partners: dict[str, Partner]) -> Starlette:
    return Starlette(
        routes=[Mount(f"/{name}/{{party}}/ocpi", app=partner.host.app) for name, partner in partners.items()]
    )
