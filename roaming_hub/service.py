"""The roaming hub: one OCPI party in the role HUB that carries messages between all others.

Mounted at `/hub`: OCPI below `/ocpi`, the operator's side below `/admin` (internal token only).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from fastapi import FastAPI

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.host import HostedParty, OCPIHost
from emobility.protocols.ocpi.registration import Registrar
from emobility.protocols.ocpi.signing import MessageSigning
from emobility.runtime.access import Access
from emobility.runtime.operator_page import OperatorPages
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import Metrics, health_routes
from roaming_hub.addressing import Addressing
from roaming_hub.admin import admin_router
from roaming_hub.announcing import Announcing
from roaming_hub.bridge_step import BridgeStep
from roaming_hub.broadcast_worker import BroadcastWorker
from roaming_hub.broadcasts import Broadcasts
from roaming_hub.bulkhead import Circuits
from roaming_hub.callbacks import Callbacks
from roaming_hub.claims import RoleClaims
from roaming_hub.forwarding import Forwarding
from roaming_hub.forwards import Forwards
from roaming_hub.get_all import GetAll
from roaming_hub.metrics import HubMetrics
from roaming_hub.object_owners import ObjectOwners
from roaming_hub.open_routing import OpenRouting
from roaming_hub.party_admin import party_admin_router
from roaming_hub.party_desk import PartyDesk
from roaming_hub.party_page import BELOW, LINKS, PartyPage
from roaming_hub.party_rules import rules_interface
from roaming_hub.presence import Presence
from roaming_hub.proxies import Proxies
from roaming_hub.public_only import PublicOnly
from roaming_hub.rate_limits import ADDRESS_BURST, ADDRESS_PER_S, PARTY_BURST, PARTY_PER_S, AtTheDoor, Buckets
from roaming_hub.receipt_documents import ReceiptDocuments, receipts_router
from roaming_hub.receipts import Receipts
from roaming_hub.recording import Recording
from roaming_hub.routing import Router, endpoints
from roaming_hub.single_objects import SingleObjects

HUB: Final = PartyId("NL-HUB")
SERVICE: Final = "hub"
PURGE_S: Final = 3_600.0

_log = structlog.get_logger(__name__)


class RoamingHub:
    """The hub, built but not yet running."""

    def __init__(self, settings: Settings, ports: Ports) -> None:
        self.ports = ports
        base_url = f"{settings.public_url.rstrip('/')}/{SERVICE}"
        self.presence = Presence(ports, HUB)
        self.proxies = Proxies(ports, f"{base_url}/ocpi")
        self.metrics = Metrics()
        hub_metrics = HubMetrics(self.metrics)
        signing = MessageSigning(ports)
        self.bridge = BridgeStep(ports)
        self.announcing = Announcing(ports, HUB)
        self.receipts = Receipts(ports, HUB)
        documents = ReceiptDocuments(ports.units, HUB)
        self.owners = ObjectOwners(ports)
        self.forwarding = Forwarding(
            ports=ports,
            presence=self.presence,
            proxies=self.proxies,
            forwards=Forwards(ports),
            metrics=hub_metrics,
            recording=Recording(ports.units),
            circuits=Circuits(ports.timer),
            hub=HUB,
            signing=signing,
            renewed=self.announcing.renewed,
            steps=(PublicOnly(HUB), self.owners, self.bridge, SingleObjects(), self.receipts),
        )
        hub_metrics.watch(self.forwarding.bulkhead, self.forwarding.circuits)
        addressing = Addressing(ports=ports, hub=HUB, signing=signing, public_url=f"{base_url}/ocpi")
        self.broadcasts = Broadcasts(ports, HUB, addressing, self.owners, hub_metrics)
        self.broadcast_worker = BroadcastWorker(ports, self.broadcasts, addressing, self.forwarding, hub_metrics)
        self.router = Router(
            ports=ports,
            hub=HUB,
            presence=self.presence,
            addressing=addressing,
            broadcasts=self.broadcasts,
            open_routing=OpenRouting(self.owners),
            get_all=GetAll(ports, HUB, addressing, self.forwarding, self.proxies),
            forwarding=self.forwarding,
            callbacks=Callbacks(ports=ports, hub=HUB, proxies=self.proxies, forwarding=self.forwarding),
            metrics=hub_metrics,
            proxies=self.proxies,
            parties=Buckets(ports, per_s=PARTY_PER_S, burst=PARTY_BURST),
            signing=signing,
        )
        self.claims = RoleClaims(ports, HUB)
        self.host = OCPIHost(
            ports,
            service=SERVICE,
            base_url=base_url,
            interfaces=[self.presence.interface(), self.broadcasts.interface(), documents.interface()],
            registrar=Registrar(ports=ports, admits=self.claims.admit),
            fixed_party=HostedParty(service=SERVICE, party_id=HUB, role=Role.HUB, business_name="Wattroam hub"),
            extra_endpoints=endpoints,
        )
        first, last = self.router.routes(self.host)
        self.host.app.router.routes[:0] = first
        self.host.add_routes(last)
        self.host.app.add_middleware(
            AtTheDoor, ports=ports, addresses=Buckets(ports, per_s=ADDRESS_PER_S, burst=ADDRESS_BURST)
        )
        self.presence.serve_by(self.host)
        self.announcing.serve_by(self.host)
        access = Access(settings.internal_token, units=ports.units, master_key=settings.master_key_bytes)
        desk = PartyDesk(host=self.host, presence=self.presence, hub=HUB)
        self.host.add_interface(rules_interface(desk))
        self.app = FastAPI(openapi_url=None)
        self.host.mount_on(self.app, authorize=access.party)
        self.app.include_router(receipts_router(documents, access))
        self.app.include_router(party_admin_router(desk, access))
        pages = OperatorPages(
            access=access,
            clock=ports.clock,
            randomness=ports.randomness,
            master_key=settings.master_key_bytes,
            below=BELOW,
            owner="Wattroam hub",
            links=LINKS,
            is_https=settings.public_url.startswith("https://"),
        )
        self.app.router.routes += pages.routes(PartyPage(desk).routes)
        self.app.include_router(admin_router(desk, access, self.broadcasts, backlog=self.backlog))
        self.app.router.routes += health_routes(self.metrics)

    async def run(self, stop: asyncio.Event) -> None:
        """Push changes, probe silent platforms and drop old URLs, until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.host.run(stop))
            tasks.create_task(self.presence.run(stop))
            tasks.create_task(self.announcing.run(stop))
            tasks.create_task(self.receipts.run(stop))
            tasks.create_task(self.claims.run(stop))
            tasks.create_task(self.broadcast_worker.run(stop))
            tasks.create_task(self._purge(stop))

    async def backlog(self) -> int:
        """Count requests under way and messages of the hub's own that still have to be sent."""
        under_way = self.forwarding.bulkhead.in_flight + self.broadcast_worker.waiting
        return under_way + await self.host.pending() + await self.announcing.pending()

    async def _purge(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with self.ports.units.begin() as unit:
                    if await self.proxies.purge(unit) + await self.receipts.purge(unit):
                        await unit.commit()
                for purge in (
                    self.proxies.purge,
                    self.forwarding.forwards.purge,
                    self.broadcasts.purge,
                    self.owners.purge,
                    self.bridge.purge,
                ):
                    await self._purge_all(purge)
            except Unavailable as error:
                _log.warning("purge_failed", reason=str(error))
            try:
                await asyncio.wait_for(stop.wait(), timeout=PURGE_S)
            except TimeoutError:
                continue

    async def _purge_all(self, purge: Callable[[UnitOfWork], Awaitable[int]]) -> None:
        """Drop old rows in short units until none is left."""
        dropped = 1
        while dropped:
            async with self.ports.units.begin() as unit:
                dropped = await purge(unit)
                if dropped:
                    await unit.commit()


def build(settings: Settings, ports: Ports) -> RoamingHub:
    """Build the hub."""
    return RoamingHub(settings, ports)
