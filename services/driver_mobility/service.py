"""The MSP back office as one deployable: `build(settings, ports)` gives an ASGI app and its background work."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.retention import RetentionTerms
from emobility.ports.ports import Ports
from emobility.protocols.cdr_standing import SettlementClient
from emobility.protocols.ocpi.agreement_exchange import AgreementExchange
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.invoice_reconciliation import Reconciliations
from emobility.runtime.access import Access
from emobility.runtime.agreement_page import agreement_pages
from emobility.runtime.reconciliation_page import reconciliation_pages
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import Metrics, health_routes
from services.driver_mobility.agreement_api import AgreementAPI, MSPRegister
from services.driver_mobility.api import API, answer
from services.driver_mobility.check_page import CheckPage
from services.driver_mobility.checking import CDRChecking
from services.driver_mobility.commanding import Commanding
from services.driver_mobility.driving import Driving
from services.driver_mobility.enrolment import Enrolment, hosted_msps
from services.driver_mobility.erasing import Erasing
from services.driver_mobility.invoice_api import RetailInvoiceAPI
from services.driver_mobility.invoicing import InvoicingAPI, MSPBooks
from services.driver_mobility.page import Page
from services.driver_mobility.paying import PaymentWorker
from services.driver_mobility.quoting import Quoting
from services.driver_mobility.receipts import Receipts
from services.driver_mobility.receiving import Receiving
from services.driver_mobility.silent_charges import SilentCharges
from services.driver_mobility.station_search import StationSearch
from services.driver_mobility.tokens import Tokens
from services.driver_mobility.unpaid import UnpaidBlocks

SERVICE: Final = "mobility"
SWEEP: Final = timedelta(minutes=15)
"""Business time between two looks for dispute periods that are over and quotes nobody used."""

_log = structlog.get_logger(__name__)


class DriverMobility:
    """Hosts MSPs: what they serve (`app`), what they do by themselves (`run`), what is still under way (`backlog`)."""

    def __init__(self, settings: Settings, ports: Ports) -> None:
        self._ports = ports
        self._quoting = Quoting(ports)
        self._commanding = Commanding(ports, self._quoting)
        tokens = Tokens(ports, self._quoting)
        receiving = Receiving(ports, self._quoting, self._look_again)
        self.host = OCPIHost(
            ports,
            service=SERVICE,
            base_url=f"{settings.public_url.rstrip('/')}/{SERVICE}",
            interfaces=(*receiving.interfaces(), tokens.interface(), self._commanding.interface()),
        )
        self._commanding.use(self.host)
        self.metrics = Metrics()
        self.checking = CDRChecking(ports, self.host.deliveries, self.metrics)
        self._payments = PaymentWorker(ports, self.metrics)
        self.unpaid = UnpaidBlocks(ports, self.host.deliveries, tokens)
        self._silent_charges = SilentCharges(ports)
        ports.http.allow_origin(settings.business_url)
        driving = Driving(ports, self._quoting, self._commanding)
        access = Access(settings.internal_token, units=ports.units, master_key=settings.master_key_bytes)
        self._access = access
        self.app = FastAPI(title="Wattroam driver mobility", openapi_url=None, docs_url=None, redoc_url=None)
        self.app.router.routes += health_routes(self.metrics)
        self.app.add_api_route("/internal/backlog", self._backlog_route, methods=["GET"])
        self.host.mount_on(self.app, authorize=access.party)
        enrolment = Enrolment(ports, self.host, tokens)
        self.exchange = AgreementExchange(
            ports=ports, deliveries=self.host.deliveries, register=MSPRegister(enrolment=enrolment)
        )
        self.host.add_interface(self.exchange.interface())
        AgreementAPI(access, self.exchange).mount_on(self.app)
        self.app.router.routes += agreement_pages(self.exchange, access, settings)
        self._erasing = Erasing(
            ports, self.host.deliveries, tokens, terms=RetentionTerms(vouchers_years=settings.fiscal_retention_years)
        )
        self.reconciliations = Reconciliations(ports=ports, deliveries=self.host.deliveries, books=MSPBooks())
        for interface in self.reconciliations.interfaces():
            self.host.add_interface(interface)
        InvoicingAPI(access, self.reconciliations).mount_on(self.app)
        self.app.router.routes += reconciliation_pages(self.reconciliations, access, settings)
        settlement = SettlementClient(
            ports.http,
            settlement_url=settings.settlement_url,
            internal_token=settings.internal_token.get_secret_value(),
        )
        receipts = Receipts(ports, settlement)
        API(
            ports,
            access,
            enrolment=enrolment,
            driving=driving,
            checking=self.checking,
            erasing=self._erasing,
            receipts=receipts,
        ).mount_on(self.app)
        Page(ports, driving, StationSearch(ports.http, settings), receipts, public_url=self.host.base_url).mount_on(
            self.app
        )
        CheckPage(ports).mount_on(self.app)
        RetailInvoiceAPI(ports, access).mount_on(self.app)

    async def run(self, stop: asyncio.Event) -> None:
        """Check CDRs, move money, send deliveries, watch commands and deadlines until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.host.run(stop))
            tasks.create_task(self.checking.run(stop))
            tasks.create_task(self._payments.run(stop))
            tasks.create_task(self.unpaid.run(stop))
            tasks.create_task(self._commanding.run(stop))
            sweeping = tasks.create_task(self._sweep_for_ever())
            await stop.wait()
            sweeping.cancel()

    async def backlog(self) -> int:
        """Count deliveries to send, payments to move and commands without a result."""
        return await self._payments.pending() + await self.host.pending() + await self._commanding.in_flight()

    async def sweep(self) -> None:
        """Decide on CDRs whose time is over, end unused quotes, silent charges and restrictions."""
        async with self._ports.units.begin() as unit:
            parties = await hosted_msps(unit)
        for emsp_id in parties:
            waited = await self.checking.end_waiting(emsp_id)
            deemed = await self.checking.deem_accepted(emsp_id)
            await self.checking.end_unanswered(emsp_id)
            expired = await self._quoting.expire_unused(emsp_id)
            silent = await self._silent_charges.end(emsp_id)
            await self._erasing.sweep(emsp_id)
            await self.reconciliations.look_again(emsp_id)
            if waited or deemed or expired or silent:
                _log.debug("swept", emsp=emsp_id.code, waited=waited, deemed=deemed, expired=expired, silent=silent)
        # It knows no parties: only once the restrictions of every MSP have been counted anew.
        await self._ports.vault.erase_due()

    async def _look_again(self, emsp_id: PartyId, cpo_id: PartyId, session_id: str) -> None:
        await self.checking.look_again(emsp_id, cpo_id, session_id)

    async def _sweep_for_ever(self) -> None:
        while True:
            await self._ports.clock.sleep_until(self._ports.clock.now() + SWEEP)
            try:
                await self.sweep()
            except Unavailable as error:
                _log.warning("sweep_failed", reason=str(error))

    async def _backlog_route(self, request: Request) -> Response:
        await self._access.internal(request)
        return answer({"pending": await self.backlog()})


def build(settings: Settings, ports: Ports) -> DriverMobility:
    """Put the service together; nothing runs yet."""
    return DriverMobility(settings, ports)
