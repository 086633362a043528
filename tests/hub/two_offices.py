"""A CPO's and an MSP's back office, each with its own keys and rows, and a hub between them; all in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, memory_adapters
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.signing import Ed25519Signer
from emobility.domain.agreement import (
    RoamingAgreement,
    SettlementMode,
    SignedMeterPolicy,
    StatementPeriod,
    TaxRegime,
)
from emobility.domain.identifiers import PartyId, Role
from emobility.events import codec
from emobility.ports.http import HttpResponse
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.agreement_exchange import AgreementExchange, OfferRecord
from emobility.protocols.ocpi.v221 import read
from emobility.runtime.settings import Settings
from roaming_hub.service import build as build_hub
from services.charging_operations.service import build as build_operations
from services.driver_mobility.service import build as build_mobility
from tests.hub.world import HUB_ORIGIN, INTERNAL_TOKEN, START, World, memory_ports, running, settings, until

TULIP: Final = PartyId("NL-TUL")
EMMA: Final = PartyId("DE-EMA")
CPO_ORIGIN: Final = "http://cpo.test"
MSP_ORIGIN: Final = "http://msp.test"
DAY: Final = timedelta(days=1)


def terms(**changes: Any) -> RoamingAgreement:
    """Version 1 from tomorrow on."""
    made: dict[str, Any] = {
        "agreement_id": "1",
        "version": 1,
        "cpo_id": TULIP,
        "emsp_id": EMMA,
        "valid_from": START + DAY,
        "valid_until": None,
        "currency": "EUR",
        "tariff_ids": ("W1",),
        "tax_regime": TaxRegime.REVERSE_CHARGE,
        "cdr_deadline_h": 48,
        "dispute_period_h": 168,
        "statement_period": StatementPeriod.WEEKLY,
        "time_zone": "Europe/Amsterdam",
        "payment_terms_d": 30,
        "settlement_mode": SettlementMode.PREFUNDED,
        "credit_limit_e4": 0,
        "signed_meter_policy": SignedMeterPolicy.NOT_REQUIRED,
        "notice_period_d": 30,
    }
    return RoamingAgreement(**(made | changes))


class Overheard(MemoryHttp):
    """Keeps which URLs were called."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    async def request(self, method: str, url: str, **more: Any) -> HttpResponse:
        self.urls.append(f"{method} {url}")
        return await super().request(method, url, **more)

    def called(self, *parts: str) -> list[str]:
        """Calls whose URL holds all of these."""
        return [url for url in self.urls if all(part in url for part in parts)]


@dataclass
class Office:
    """One party's back office."""

    party: PartyId
    base: str
    http: MemoryHttp
    service: Any

    @property
    def exchange(self) -> AgreementExchange:
        made: AgreementExchange = self.service.exchange
        return made

    async def api(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        sent = {"Authorization": f"Bearer {INTERNAL_TOKEN}", "Content-Type": "application/json"}
        payload = b"" if body is None else body if isinstance(body, bytes) else codec.encode(body)
        return await self.http.request(method, f"{self.base}/{self.party}{path}", headers=sent | headers, body=payload)

    async def talk(self, version: int = 1) -> OfferRecord | None:
        found = await self.exchange.offers(self.party)
        return next((each for each in found if each.version == version), None)


@dataclass
class TwoOffices:
    """Everything in one process."""

    world: World
    cpo: Office
    msp: Office

    @property
    def clock(self) -> VirtualClock:
        return self.world.clock

    async def quiet(self) -> None:
        """Wait until nothing is owed to anybody."""

        async def nothing_pends() -> bool:
            return not (await self.cpo.service.host.pending() or await self.msp.service.host.pending())

        await until(nothing_pends, what="deliveries to arrive")

    async def agreed(self, made: RoamingAgreement) -> None:
        """Offer by the CPO, accept by the MSP."""
        await self.cpo.exchange.offer(TULIP, made)
        await self.quiet()
        await self.msp.exchange.accept(EMMA, TULIP, made.agreement_id, made.version, round_=1)
        await self.quiet()


def ports_of(http: MemoryHttp, clock: VirtualClock, *, key: bytes) -> Ports:
    adapters = memory_adapters(master_key=key, clock=clock, randomness=SeededRandomness(key.hex()))
    return Ports(
        clock=clock,
        timer=LoopTimer(),
        randomness=SeededRandomness(key.hex() + "r"),
        event_log=adapters.event_log,
        units=adapters.units,
        vault=adapters.vault,
        http=http,
        signer=Ed25519Signer(key),
        payments=SandboxPayments(adapters.units),
    )


def settings_at(origin: str, key: bytes) -> Settings:
    return settings(origin).model_copy(update={"master_key": type(settings().master_key)(key.hex())})


@asynccontextmanager
async def two_offices(*, is_through_hub: bool = True) -> AsyncIterator[TwoOffices]:
    """Both are registered at the hub, or, without it, know nobody yet."""
    clock, http = VirtualClock(START), Overheard()
    hub = build_hub(settings(), memory_ports(http, clock, SeededRandomness(7)))
    http.mount(HUB_ORIGIN, Starlette(routes=[Mount("/hub", app=hub.app)]))
    world = World(http=http, clock=clock, hub=hub, platforms={}, randomness=SeededRandomness(8))
    cpo_key, msp_key = b"c" * 32, b"m" * 32
    operations = build_operations(settings_at(CPO_ORIGIN, cpo_key), ports_of(http, clock, key=cpo_key))
    mobility = build_mobility(settings_at(MSP_ORIGIN, msp_key), ports_of(http, clock, key=msp_key))
    for origin, path, app in ((CPO_ORIGIN, "/operations", operations.app), (MSP_ORIGIN, "/mobility", mobility.app)):
        outer = FastAPI()
        outer.mount(path, app)
        http.mount(origin, outer)
    cpo = Office(TULIP, f"{CPO_ORIGIN}/operations", http, operations)
    msp = Office(EMMA, f"{MSP_ORIGIN}/mobility", http, mobility)
    here = TwoOffices(world, cpo, msp)
    for office in (cpo, msp):
        answer = await office.api("PUT", "", {"name": f"Company {office.party}"})
        assert answer.status == 201, answer
    if is_through_hub:
        for office, role in ((cpo, Role.CPO), (msp, Role.EMSP)):
            await joined(world, office, role)
    async with running(operations.host, mobility.host, hub.host):
        yield here


async def joined(world: World, office: Office, role: Role) -> None:
    versions_url = f"{office.base}/{office.party}/ocpi/versions"
    token_a = await world.invite(office.party, role, versions_url)
    asked = {"versions_url": f"{HUB_ORIGIN}/hub/ocpi/versions", "token_a": token_a}
    answer = await office.api("POST", "/ocpi-register", asked)
    assert answer.status == 200, answer


async def joined_directly(here: TwoOffices) -> None:
    """The CPO registers at the MSP, which invited it."""
    invitation = {
        "versions_url": f"{here.cpo.base}/{TULIP}/ocpi/versions",
        "expected_party": TULIP.code,
        "expected_role": Role.CPO,
    }
    answer = await here.msp.api("POST", "/ocpi-invitations", invitation)
    assert answer.status == 200, answer
    asked = read(answer.body, dict[str, str])
    registration = {**asked, "peer_id": "de-ema", "expected_party": EMMA.code, "expected_role": Role.EMSP}
    answer = await here.cpo.api("POST", "/ocpi-register", registration)
    assert answer.status == 200, answer


def at(days: float) -> datetime:
    return START + timedelta(days=days)
