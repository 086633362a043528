"""The whole system in one process on memory adapters, a virtual clock and one seed: two runs give the same bytes.

Stations and gateway exchange frames through joined memory sockets, services call each other's ASGI apps, the event
loop's time jumps. Everything else is the code that runs in production.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Literal

from pydantic import SecretStr

import charge_point_gateway.gateway
import services.settlement.service
from charge_point_gateway.gateway import GatewayService, StationRefused
from emobility.adapters.chain_signing import mnemonic_signer, party_signer, proposer_signer, recovered_address
from emobility.adapters.cosigned_ledger.ledger import WrittenLedger, open_ledger
from emobility.adapters.memory import (
    LoopTimer,
    MemoryHttp,
    SeededRandomness,
    VirtualClock,
    memory_adapters,
    memory_frame_pair,
    run_virtual,
)
from emobility.adapters.memory.chain import FakeChain
from emobility.adapters.memory.contracts import settlement_contracts_in_python
from emobility.adapters.memory.reconciliation import MemoryReconciliation
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.signing import Ed25519Signer
from emobility.domain.identifiers import PartyId
from emobility.ports.frames import FrameSocket, SocketClosed
from emobility.ports.ports import Ports
from emobility.ports.reconciliation import Period
from emobility.runtime.settings import Settings
from services.audit.books import Books, gather_books
from services.audit.chain_sight import ChainSight, look_at_chain
from services.audit.period_report import PeriodReport
from services.audit.periodically import audited_period
from services.embedded.business import Business, build
from services.embedded.receipts import ReceiptFigures, issue_and_verify
from services.embedded.settling import settle
from services.settlement.access import ChainAccess
from services.settlement.books import StoredBooks
from services.settlement.deployment import Deployer
from services.settlement.ledger import SettlementLedger, settlement_ledger
from services.settlement.opening import Openings
from services.settlement.service import Settlement
from simulator.api_client import Addresses, ApiClient
from simulator.backstage import HttpBackstage
from simulator.planning import plan_scenario
from simulator.report import SimulationReport
from simulator.scenario import Scenario
from simulator.simulation import Simulation

BUSINESS_URL: Final = "http://business.invalid"
GATEWAY_API_URL: Final = "http://gateway.invalid"
GATEWAY_URL: Final = "ws://gateway.invalid"
MNEMONIC: Final = "test test test test test test test test test test test junk"
"""Of the account that administers a chain which is gone after the run."""
QUIET_POLL_S: Final = 0.01
"""Virtual seconds between two looks whether anything still moves."""
BEFORE_THE_BEGINNING: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRun:
    """What a run leaves: the simulator's report, books, what the chain says and every byte of the event log.

    `erased`: the MSPs of which a driver was erased in the end; `reconciled`: what came of charges, stage by stage.
    """

    report: SimulationReport
    books: Books
    sight: ChainSight
    settled: SettlementLedger
    receipts: ReceiptFigures
    log: bytes
    erased: tuple[PartyId, ...] = ()
    reconciled: PeriodReport | None = None


class MemoryDialer:
    """Dials the gateway of the same process (`StationDialer`), through its own authentication."""

    def __init__(self, gateway: GatewayService) -> None:
        self._gateway = gateway

    async def dial(self, *, url: str, subprotocols: tuple[str, ...], username: str, password: str) -> FrameSocket:
        """Connect. Raises `SocketClosed` with the HTTP status when refused."""
        near, far = memory_frame_pair()
        try:
            await self._gateway.accept(
                path=url.removeprefix(GATEWAY_URL),
                username=username,
                password=password,
                subprotocols=subprotocols,
                socket=far,
            )
        except StationRefused as refused:
            raise SocketClosed(code=refused.http_status, reason="refused") from refused
        return near


def run_in_memory(
    seed: int,
    *,
    progress: Callable[[str, int], None] = lambda _sentence, _permille: None,
    scenario: Scenario | None = None,
    settles_on: Literal["chain", "ledger"] = "chain",
    erases: bool = False,
) -> MemoryRun:
    """Play the scenario of a seed; the same seed gives the same bytes.

    Args:
        seed: Draws all that is drawn.
        progress: Told what goes on.
        scenario: Another one than the seed's own.
        settles_on: A chain in memory, or a ledger.
        erases: Erase a driver of each MSP when all is settled, and reconcile what is left.
    """
    return run_virtual(_run(scenario or plan_scenario(seed), seed, progress, settles_on=settles_on, erases=erases))


async def _run(
    scenario: Scenario,
    seed: int,
    progress: Callable[[str, int], None],
    *,
    settles_on: Literal["chain", "ledger"],
    erases: bool,
) -> MemoryRun:
    clock, randomness, http = (
        VirtualClock(scenario.begins_at - BEFORE_THE_BEGINNING),
        SeededRandomness(seed),
        MemoryHttp(),
    )
    settings = Settings(
        environment="development",
        event_log="memory",
        public_url=BUSINESS_URL,
        business_url=BUSINESS_URL,
        gateway_api_url=GATEWAY_API_URL,
        internal_token=SecretStr(randomness.token_bytes(32).hex()),
        master_key=SecretStr(randomness.token_bytes(32).hex()),
        seed=seed,
    )
    key = settings.master_key_bytes
    memory = memory_adapters(master_key=key, clock=clock, randomness=randomness)
    ports = Ports(
        clock=clock,
        timer=LoopTimer(),
        randomness=randomness,
        event_log=memory.event_log,
        units=memory.units,
        vault=memory.vault,
        http=http,
        signer=Ed25519Signer(key),
        payments=SandboxPayments(memory.units),
        reconciliation=MemoryReconciliation(memory.units),
    )
    gateway, business = charge_point_gateway.gateway.build(settings, ports), build(settings, ports)
    http.mount(GATEWAY_API_URL, gateway.app)
    http.mount(BUSINESS_URL, business.app)
    chain = (
        await open_ledger(memory.units, operator=mnemonic_signer(MNEMONIC, 0), clock=clock, randomness=randomness)
        if settles_on == "ledger"
        else FakeChain(clock=clock, randomness=randomness, execute=settlement_contracts_in_python())
    )
    settlement = _settlement(settings, ports, chain)
    addresses = Addresses(
        business_url=BUSINESS_URL,
        gateway_api_url=GATEWAY_API_URL,
        gateway_ocpp_url=GATEWAY_URL,
        internal_token=settings.internal_token.get_secret_value(),
    )
    simulation = Simulation(
        scenario,
        clock=clock,
        timer=LoopTimer(),
        dialer=MemoryDialer(gateway),
        gateway_url=GATEWAY_URL,
        backstage=HttpBackstage(scenario, addresses=addresses, http=http, now=clock.now),
        quiet=lambda: _quiet(gateway, business),
        progress=progress,
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.run(stop))
        tasks.create_task(business.run(stop))
        tasks.create_task(settlement.run(stop))
        report = await simulation.run()
        await _quiet(gateway, business)
        await settle(ports, pending=settlement.backlog, close=settlement.closing.close_now)
        settled = await settlement_ledger(memory.units)
        receipts = await issue_and_verify(ports, chain, folder=None)
        erased = await _erase_one_of_each(scenario, http, settings) if erases else ()
        stop.set()
    books = await gather_books(memory.units, memory.event_log, memory.vault)
    return MemoryRun(
        report=report,
        books=books,
        sight=await look_at_chain(chain, books),
        settled=settled,
        receipts=receipts,
        log=memory.event_log.dump(),
        erased=erased,
        reconciled=await audited_period(ports, Period(), chain=chain) if erases else None,
    )


def _settlement(settings: Settings, ports: Ports, chain: FakeChain | WrittenLedger) -> Settlement:
    """Put the settlement together on a chain that it administers."""
    key, books = settings.master_key_bytes, StoredBooks(ports.units)
    access = ChainAccess(
        chain=chain,
        proposer=proposer_signer(key),
        signer_of=partial(party_signer, key),
        recovered_address=recovered_address,
        books=books,
        ledger=chain if isinstance(chain, WrittenLedger) else None,
    )
    deployer = Deployer(chain, mnemonic_signer(MNEMONIC, 0), ports.timer)
    return services.settlement.service.build(settings, ports, access, Openings(ports, access, books, deployer))


async def _erase_one_of_each(scenario: Scenario, http: MemoryHttp, settings: Settings) -> tuple[PartyId, ...]:
    """Erase a driver of each MSP, one that charged; return the MSPs."""
    api = ApiClient(http, base_url=BUSINESS_URL, token=settings.internal_token.get_secret_value())
    charged = {each.driver.emsp_id: each.driver for each in reversed(scenario.sessions)}
    for emsp_id, driver in sorted(charged.items()):
        await api.call("POST", f"/mobility/{emsp_id}/drivers/D{driver.number:04d}/erase")
    return tuple(sorted(charged))


async def _quiet(gateway: GatewayService, business: Business) -> None:
    while gateway.pending or await business.outstanding() or gateway.pending:  # noqa: ASYNC110 - no one event says so
        await asyncio.sleep(QUIET_POLL_S)
