"""The roaming hub: one OCPI party in the role HUB that carries messages between all others.

Mounted at `/hub`: OCPI below `/ocpi`, the operator's side below `/admin` (internal token only).
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from fastapi import FastAPI

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.host import HostedParty, OCPIHost
from emobility.protocols.ocpi.signing import MessageSigning
from emobility.runtime.access import Access
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import Metrics, health_routes
from roaming_hub.addressing import Addressing
from roaming_hub.admin import admin_router
from roaming_hub.callbacks import Callbacks
from roaming_hub.forwarding import Forwarding
from roaming_hub.forwards import Forwards
from roaming_hub.metrics import HubMetrics
from roaming_hub.presence import Presence
from roaming_hub.proxies import Proxies
from roaming_hub.receipt_documents import ReceiptDocuments, receipts_router
from roaming_hub.receipts import Receipts
from roaming_hub.routing import Router, endpoints

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
        self.receipts = Receipts(ports, HUB, signing)
        documents = ReceiptDocuments(ports.units, HUB)
        self.forwarding = Forwarding(
            ports=ports,
            presence=self.presence,
            proxies=self.proxies,
            forwards=Forwards(ports),
            metrics=hub_metrics,
            hub=HUB,
            signing=signing,
            steps=(self.receipts,),
        )
        hub_metrics.watch(self.forwarding.bulkhead)
        self.router = Router(
            ports=ports,
            hub=HUB,
            presence=self.presence,
            addressing=Addressing(ports=ports, hub=HUB, signing=signing, public_url=f"{base_url}/ocpi"),
            forwarding=self.forwarding,
            callbacks=Callbacks(ports=ports, hub=HUB, proxies=self.proxies, forwarding=self.forwarding),
            metrics=hub_metrics,
            signing=signing,
        )
        self.host = OCPIHost(
            ports,
            service=SERVICE,
            base_url=base_url,
            interfaces=[self.presence.interface(), documents.interface()],
            fixed_party=HostedParty(service=SERVICE, party_id=HUB, role=Role.HUB, business_name="Wattroam hub"),
            extra_endpoints=endpoints,
        )
        self.host.add_routes(self.router.routes(self.host))
        self.presence.serve_by(self.host)
        access = Access(settings.internal_token, units=ports.units, master_key=settings.master_key_bytes)
        self.app = FastAPI(openapi_url=None)
        self.host.mount_on(self.app, authorize=access.party)
        self.app.include_router(admin_router(self.host, self.presence, HUB, access, backlog=self.backlog))
        self.app.include_router(receipts_router(documents, access))
        self.app.router.routes += health_routes(self.metrics)

    async def run(self, stop: asyncio.Event) -> None:
        """Push changes, probe silent platforms and drop old URLs, until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.host.run(stop))
            tasks.create_task(self.presence.run(stop))
            tasks.create_task(self.receipts.run(stop))
            tasks.create_task(self._purge(stop))

    async def backlog(self) -> int:
        """Count requests under way and messages of the hub's own that still have to be sent."""
        return self.forwarding.bulkhead.in_flight + await self.host.pending()

    async def _purge(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with self.ports.units.begin() as unit:
                    if await self.proxies.purge(unit) + await self.receipts.purge(unit):
                        await unit.commit()
            except Unavailable as error:
                _log.warning("purge_failed", reason=str(error))
            try:
                await asyncio.wait_for(stop.wait(), timeout=PURGE_S)
            except TimeoutError:
                continue


def build(settings: Settings, ports: Ports) -> RoamingHub:
    """Build the hub."""
    return RoamingHub(settings, ports)
