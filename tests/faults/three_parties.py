"""A hub, a CPO and an MSP, each alone in its process, and the servers below them; any of them may be killed.

On PostgreSQL's log each has a database and a master key of its own and knows the others by their URLs alone. On Kafka
they share database, key and broker, as one operator's processes do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import psycopg

from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.postgres import migrate
from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.domain.agreement import (
    RoamingAgreement,
    SettlementMode,
    SignedMeterPolicy,
    StatementPeriod,
    TaxRegime,
)
from emobility.domain.identifiers import PartyId
from emobility.ports.http import HttpClient
from emobility.runtime.embedded_kafka import EmbeddedKafka
from emobility.runtime.embedded_postgres import EmbeddedPostgres
from emobility.runtime.network import free_port
from emobility.runtime.process_tree import CommandServer, ProcessTree
from emobility.runtime.settings import Settings
from services.embedded.stack import answers
from simulator.api_client import ApiClient, side_by_side
from simulator.terms import VALID_FROM
from tests.conftest import create_database, database_dsn
from tests.faults.system_under_load import children_of

CPO: Final = PartyId("NL-TUL")
MSP: Final = PartyId("DE-EMA")
MODULES: Final = {
    "hub": "roaming_hub",
    "operations": "services.charging_operations",
    "mobility": "services.driver_mobility",
}
STATION: Final = "CS1"
TARIFF: Final = "W1"
READY_WITHIN_S: Final = 60.0
BACK_WITHIN_S: Final = 60.0
SET_UP_WITHIN_S: Final = 60.0
POLL_S: Final = 0.02
CREDIT_LIMIT_E4: Final = 10_000_000_000


@dataclass(kw_only=True)
class ThreeParties:
    """They run; `settings` are those of each process, by its name."""

    tree: ProcessTree
    settings: dict[str, Settings]
    http: HttpClient
    changes: list[str]
    killed: list[str] = field(default_factory=list)

    def api(self, name: str) -> ApiClient:
        settings = self.settings[name]
        token = settings.internal_token.get_secret_value()
        return ApiClient(self.http, base_url=settings.business_url, token=token)

    def dsn(self, name: str) -> str:
        url = self.settings[name].database_url
        assert url is not None
        return url

    async def kill(self, name: str) -> None:
        """End a process and its children with SIGKILL and nothing else; return when it is back."""
        status = next(each for each in self.tree.status() if each.name == name)
        assert status.pid is not None, f"{name} does not run"
        for each in (status.pid, *children_of(status.pid)):
            with suppress(ProcessLookupError):  # PostgreSQL's processes end by themselves when the first of them does
                os.kill(each, signal.SIGKILL)
        self.killed.append(name)
        async with asyncio.timeout(BACK_WITHIN_S):
            while self.changes.count(f"{name} is back") < self.killed.count(name):  # noqa: ASYNC110 - told by sentences
                await asyncio.sleep(POLL_S)

    async def set_up(self, token_uids: list[str]) -> None:
        """Register both at the hub, sign an agreement, and let a driver have tokens."""
        operations, mobility, hub = self.api("operations"), self.api("mobility"), self.api("hub")
        cpo_base, msp_base = f"/operations/{CPO}", f"/mobility/{MSP}"
        keys = {}
        for party, role, name, api in ((CPO, "CPO", "operations", operations), (MSP, "EMSP", "mobility", mobility)):
            base = f"/{name}/{party}"
            keys[party] = (await api.call("PUT", base, {"name": f"Company {party}"}))["public_key"]
            versions_url = f"{self.settings[name].public_url}{base}/ocpi/versions"
            invitation = {"party_id": party, "role": role, "versions_url": versions_url}
            invited = await hub.call("POST", "/hub/admin/registrations", invitation)
            asked = {"versions_url": invited["versions_url"], "token_a": invited["token_a"], "version": "2.2.1"}
            await api.call("POST", f"{base}/ocpi-register", asked)
        await operations.call("PUT", f"{cpo_base}/locations/L1", LOCATION)
        await operations.call("PUT", f"{cpo_base}/tariffs/{TARIFF}", TARIFF_BODY)
        await operations.call("PUT", f"{cpo_base}/stations/{STATION}", STATION_BODY)
        await mobility.call("PUT", f"{msp_base}/plans/flat", PLAN)
        await mobility.call("POST", f"{msp_base}/drivers", DRIVER)
        await side_by_side(
            mobility.call("POST", f"{msp_base}/drivers/D1/tokens", {"uid": uid, "whitelist": "ALLOWED"})
            for uid in token_uids
        )
        path = f"{cpo_base}/agreements"
        offered = await operations.call("PUT", path, {"agreement": AGREEMENT, "emsp_public_key": keys[MSP]})
        signing = {"agreement": offered["agreement"], "cpo_public_key": keys[CPO]}
        signed = await mobility.call("PUT", f"{msp_base}/agreements", signing)
        await operations.call("PUT", path, {"agreement": signed["agreement"], "emsp_public_key": keys[MSP]})
        async with asyncio.timeout(SET_UP_WITHIN_S):
            for api, name in ((operations, "operations"), (mobility, "mobility")):
                while (await api.call("GET", f"/{name}/internal/backlog"))["pending"]:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)


LOCATION: Final = {
    "name": "Plein",
    "address": "Plein 1",
    "city": "Utrecht",
    "postal_code": "3511 AA",
    "country": "NLD",
    "latitude": Decimal("52.090736"),
    "longitude": Decimal("5.12142"),
    "time_zone": "Europe/Amsterdam",
}
TARIFF_BODY: Final = {
    "currency": "EUR",
    "elements": [
        {
            "components": [
                {"dimension": "FLAT", "price": Decimal("0.25")},
                {"dimension": "ENERGY", "price": Decimal("0.39")},
            ]
        }
    ],
}
STATION_BODY: Final[dict[str, Any]] = {
    "location_id": "L1",
    "evses": [
        {
            "evse_uid": "E1",
            "emi3_id": "NL*TUL*E1",
            "ocpp_evse_id": 1,
            "connectors": [
                {
                    "connector_id": 1,
                    "standard": "IEC_62196_T2_COMBO",
                    "power_type": "DC",
                    "voltage_v_max": 800,
                    "current_a_max": 400,
                    "power_w_max": 300_000,
                }
            ],
        }
    ],
    "tariff_ids": [TARIFF],
}
PLAN: Final = {
    "kind": "FLAT_PER_KWH",
    "currency": "EUR",
    "price_per_kwh": Decimal("0.4700"),
    "holds_card": False,
}
DRIVER: Final = {
    "driver_id": "D1",
    "name": "Emma",
    "contract_id": "DE-EMA-C00000001",
    "plan_id": "flat",
    "currency": "EUR",
    "credit_limit_e4": CREDIT_LIMIT_E4,
    "card": "4242424242424242",
    "password": None,
}
AGREEMENT: Final = RoamingAgreement(
    agreement_id="TUL-EMA-1",
    version=1,
    cpo_id=CPO,
    emsp_id=MSP,
    valid_from=VALID_FROM,
    valid_until=None,
    currency="EUR",
    tariff_ids=(TARIFF,),
    tax_regime=TaxRegime.REVERSE_CHARGE,
    cdr_deadline_h=72,
    dispute_period_h=14 * 24,
    statement_period=StatementPeriod.WEEKLY,
    time_zone="Europe/Amsterdam",
    payment_terms_d=14,
    settlement_mode=SettlementMode.CREDIT_LINE,
    credit_limit_e4=1_000_000_000,
    signed_meter_policy=SignedMeterPolicy.NOT_REQUIRED,
)


@asynccontextmanager
async def three_parties(folder: Path, *, event_log: str) -> AsyncIterator[ThreeParties]:
    """Start servers and parties in a fresh folder; whatever dies is started again."""
    changes: list[str] = []
    timer = SystemTimer()
    began_s = timer.monotonic_s()

    def tell(sentence: str) -> None:
        changes.append(sentence)
        print(f"{timer.monotonic_s() - began_s:6.1f} s  {sentence}")  # noqa: T201 - pytest shows it when a test fails

    async with AsyncExitStack() as stack:
        tree = await stack.enter_async_context(ProcessTree(timer=timer, on_change=tell))
        postgres = EmbeddedPostgres(folder / "postgres", timer=timer, randomness=SystemRandomness())
        await tree.launch(postgres)
        bootstrap = None
        if event_log == "kafka":
            kafka = EmbeddedKafka(folder / "kafka", timer=timer, randomness=SystemRandomness())
            await tree.launch(kafka)
            bootstrap = kafka.bootstrap
        environments = _environments(await _databases(postgres.dsn, is_shared=bootstrap is not None), bootstrap)
        await tree.launch(
            *(
                CommandServer(
                    name,
                    [sys.executable, "-m", MODULES[name]],
                    log=folder / f"{name}.log",
                    timer=timer,
                    is_ready=answers(f"{variables['BUSINESS_URL']}/{name}/livez"),
                    env=os.environ | {f"WATTROAM_{each}": value for each, value in variables.items()},
                    ready_timeout_s=READY_WITHIN_S,
                )
                for name, variables in environments.items()
            )
        )
        settings = {name: _settings(variables) for name, variables in environments.items()}
        origins = [each.business_url for each in settings.values()]
        http = await stack.enter_async_context(GuardedHttpClient(embedded_origins=origins))
        tell("all run")
        yield ThreeParties(tree=tree, settings=settings, http=http, changes=changes)


async def _databases(server_dsn: str, *, is_shared: bool) -> dict[str, str]:
    """Return each process's database, migrated."""
    if is_shared:
        await migrate(server_dsn)
        return dict.fromkeys(MODULES, server_dsn)
    made = {}
    first = None
    for name in MODULES:
        create_database(server_dsn, name, first or "template0")
        made[name] = database_dsn(server_dsn, name)
        if first is None:
            await migrate(made[name])
            first = name
    return made


def _environments(databases: dict[str, str], bootstrap: str | None) -> dict[str, dict[str, str]]:
    urls = {name: f"http://127.0.0.1:{free_port()}" for name in databases}
    one_key = SystemRandomness().token_bytes(32).hex()
    return {
        name: {
            "ENVIRONMENT": "embedded",
            "DATABASE_URL": dsn,
            "EVENT_LOG": "postgres" if bootstrap is None else "kafka",
            **({} if bootstrap is None else {"KAFKA_BOOTSTRAP": bootstrap}),
            "PUBLIC_URL": urls[name],
            "BUSINESS_URL": urls[name],
            "BUSINESS_PORT": urls[name].rsplit(":", 1)[1],
            "INTERNAL_TOKEN": SystemRandomness().token_bytes(32).hex(),
            "MASTER_KEY": one_key if bootstrap else SystemRandomness().token_bytes(32).hex(),
            "EMBEDDED_ORIGINS": "[" + ",".join(f'"{url}"' for url in urls.values()) + "]",
        }
        for name, dsn in databases.items()
    }


def _settings(variables: dict[str, str]) -> Settings:
    given: dict[str, Any] = {name.lower(): value for name, value in variables.items() if name != "EMBEDDED_ORIGINS"}
    origins = tuple(variables["EMBEDDED_ORIGINS"].strip("[]").replace('"', "").split(","))
    return Settings(**given, embedded_origins=origins)


def count(dsn: str, table: str) -> int | None:
    """Return how many rows a table has; None while the database is away."""
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=2) as connection:
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()  # noqa: S608 - our own names
    except psycopg.OperationalError:
        return None
    return None if row is None else int(row[0])
