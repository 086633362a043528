"""The CPO back office: stations, authorisation, transactions to sessions, wholesale prices, CDRs, quarantine.

Mounted at `/operations`: the gateway's question at `/station_control/authorize`, each hosted CPO's OCPI below
`/{party}/ocpi`, its operator's API below `/{party}`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.retention import RetentionTerms
from emobility.events.charging import CHARGING
from emobility.ports.ports import Ports
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.agreement_exchange import AgreementExchange
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.invoice_reconciliation import Reconciliations
from emobility.protocols.ocpi.peers import Peer
from emobility.protocols.ocpi.v221 import ConnectionStatus, InterfaceRole, ModuleID
from emobility.protocols.station_control.client import StationControlClient
from emobility.protocols.station_control.questions import questions_router
from emobility.protocols.station_control.server import authorize_router
from emobility.protocols.vies import ViesRegister
from emobility.runtime.access import Access
from emobility.runtime.agreement_page import agreement_pages
from emobility.runtime.reconciliation_page import reconciliation_pages
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import Metrics, health_routes
from services.charging_operations.ad_hoc_api import AdHocAPI
from services.charging_operations.ad_hoc_page import AdHocPage
from services.charging_operations.ad_hoc_retention import AdHocRetention
from services.charging_operations.ad_hoc_sales import AdHocDesk
from services.charging_operations.ad_hoc_work import WATCH_INTERVAL as AD_HOC_INTERVAL
from services.charging_operations.ad_hoc_work import AdHocWorker
from services.charging_operations.agreement_api import AgreementAPI, CPORegister
from services.charging_operations.agreements import AgreementDesk
from services.charging_operations.authorization_api import AuthorizationAPI
from services.charging_operations.authorizing import AuthorizationDesk
from services.charging_operations.bulk_api import BulkAPI
from services.charging_operations.bulk_commands import BulkDesk
from services.charging_operations.cdrs import CDRDesk
from services.charging_operations.certificate_watch import WATCH_INTERVAL as CERTIFICATE_INTERVAL
from services.charging_operations.certificate_watch import CertificateWatch
from services.charging_operations.charging_commands import ChargingCommandBook
from services.charging_operations.charging_notices import ChargingNoticeDesk
from services.charging_operations.charging_profiles import ChargingProfileDesk
from services.charging_operations.claim_api import ClaimAPI
from services.charging_operations.claims import ClaimDesk
from services.charging_operations.commands import CommandDesk
from services.charging_operations.concurrency import ConcurrencyDesk
from services.charging_operations.credits import CreditDesk
from services.charging_operations.device_model import DeviceModelDesk
from services.charging_operations.expired_reservations import ExpiryDesk
from services.charging_operations.exposure import ExposureDesk
from services.charging_operations.firmware_api import FirmwareAPI
from services.charging_operations.firmware_campaigns import ADVANCE_INTERVAL, CampaignDesk
from services.charging_operations.import_api import ImportAPI
from services.charging_operations.importing import ImportDesk
from services.charging_operations.installed_certificates import InstalledCertificateDesk
from services.charging_operations.invoicing import CPOBooks, Invoicing, InvoicingAPI
from services.charging_operations.load_groups import LoadGroupDesk
from services.charging_operations.load_management import LoadDesk
from services.charging_operations.local_list_sending import LocalListSender
from services.charging_operations.local_lists import LocalListDesk
from services.charging_operations.meter_key_api import MeterKeyAPI
from services.charging_operations.metered_intervals import IntervalAPI
from services.charging_operations.metrics import OperationsMetrics
from services.charging_operations.ocpi_modules import TOLD, OCPIModules
from services.charging_operations.office import GROUP, Limits, Office
from services.charging_operations.opening import Opening
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.own_tokens import OwnTokenDesk
from services.charging_operations.public_completeness import CompletenessAPI
from services.charging_operations.publishing import Publisher
from services.charging_operations.quarantine import QuarantineDesk
from services.charging_operations.quirk_api import QuirkAPI
from services.charging_operations.reservation_api import ReservationAPI
from services.charging_operations.reservations import ReservationDesk
from services.charging_operations.routes import RouteTable, answer
from services.charging_operations.running_costs import COST_INTERVAL
from services.charging_operations.security_api import SecurityAPI
from services.charging_operations.security_profiles import ProfileDesk
from services.charging_operations.sessions import SessionDesk
from services.charging_operations.smart_charging_api import SmartChargingAPI
from services.charging_operations.station_api import StationAPI
from services.charging_operations.station_history import WATCH_INTERVAL, HistoryDesk
from services.charging_operations.station_tasks import TaskDesk
from services.charging_operations.station_told import told_desk
from services.charging_operations.stations import StationDesk
from services.charging_operations.tariffs import TariffDesk
from services.charging_operations.terminal_api import TerminalAPI
from services.charging_operations.terminals import TerminalDesk
from services.charging_operations.timeline_api import TimelineAPI
from services.charging_operations.told_api import ToldAPI
from services.charging_operations.transaction_api import TransactionAPI
from services.charging_operations.uptime import UptimeDesk
from services.charging_operations.variable_settings import SettingDesk
from services.charging_operations.vat_numbers import VATNumberDesk
from services.charging_operations.wanted_api import WantedAPI

SERVICE: Final = "operations"

_log = structlog.get_logger(__name__)


class ChargingOperations:
    """The back office, built but not yet running."""

    def __init__(self, settings: Settings, ports: Ports, *, limits: Limits) -> None:
        internal_token = settings.internal_token.get_secret_value()
        ports.http.allow_origin(settings.gateway_api_url)
        self.metrics = Metrics()
        self.modules = OCPIModules(ports=ports)
        self.host = OCPIHost(
            ports,
            service=SERVICE,
            base_url=f"{settings.public_url.rstrip('/')}/{SERVICE}",
            interfaces=self.modules.interfaces(),
        )
        self.office = Office(
            ports=ports,
            host=self.host,
            stations=StationControlClient(
                ports.http, gateway_url=settings.gateway_api_url, internal_token=internal_token
            ),
            limits=limits,
            metrics=OperationsMetrics(self.metrics),
        )
        register = (
            None if settings.vat_register_url is None else ViesRegister(ports.http, url=settings.vat_register_url)
        )
        self.told = told_desk(self.office, VATNumberDesk(office=self.office, register=register))
        self._retention_terms = RetentionTerms(vouchers_years=settings.fiscal_retention_years)
        self._build_desks()
        access = Access(settings.internal_token, units=ports.units, master_key=settings.master_key_bytes)
        self.app = self._build_app(access)
        self.app.router.routes += agreement_pages(self.exchange, access, settings)
        self.app.router.routes += reconciliation_pages(self.reconciliations, access, settings)

    def _build_desks(self) -> None:
        office = self.office
        publisher = Publisher(office=office)
        self.stations = StationDesk(office=office, publisher=publisher)
        self.tariffs = TariffDesk(office=office, publisher=publisher)
        self.agreements = AgreementDesk(office=office, publisher=publisher)
        self.exchange = AgreementExchange(
            ports=office.ports, deliveries=self.host.deliveries, register=CPORegister(desk=self.agreements)
        )
        self.host.add_interface(self.exchange.interface())
        self.reconciliations = Reconciliations(ports=office.ports, deliveries=office.host.deliveries, books=CPOBooks())
        for interface in self.reconciliations.interfaces():
            self.host.add_interface(interface)
        self.invoicing = Invoicing(office=office, reconciliations=self.reconciliations)
        self.own_tokens = OwnTokenDesk(office=office)
        self.claims = ClaimDesk(office=office, stations=self.stations)
        self.concurrency = ConcurrencyDesk(office=office)
        self.local_lists = LocalListDesk(office=office, sender=LocalListSender(office=office))
        self.exposure = ExposureDesk(office=office)
        self.authorization = AuthorizationDesk(office=office, concurrency=self.concurrency, exposure=self.exposure)
        cdrs, opening = CDRDesk(office=office), Opening(office=office)
        self.ad_hoc = AdHocDesk(office=office)
        self.ad_hoc_worker = AdHocWorker(office=office, desk=self.ad_hoc)
        self.terminals = TerminalDesk(office=office, ad_hoc=self.ad_hoc)
        self.host.add_interface(self.terminals.interface())
        self.ad_hoc_retention = AdHocRetention(office=office, terms=self._retention_terms)
        expiries = ExpiryDesk(office=office, cdrs=cdrs)
        self.reservations = ReservationDesk(office=office, publisher=publisher, expiries=expiries)
        self.commands = CommandDesk(
            office=office, reservations=self.reservations, terminals=self.terminals, exposure=self.exposure
        )
        self.quarantine = QuarantineDesk(office=office, cdrs=cdrs, opening=opening)
        self.credits = CreditDesk(office=office, cdrs=cdrs, quarantine=self.quarantine)
        self.device_model = DeviceModelDesk(office=office)
        self.history = HistoryDesk(office=office)
        self.certificates = CertificateWatch(office=office)
        book = ChargingCommandBook(office=office)
        self.charging = ChargingProfileDesk(office=office, book=book)
        self.bulk = BulkDesk(office=office, charging=self.charging)
        self.load = LoadDesk(office=office, book=book)
        self.tasks = TaskDesk(office=office)
        self.campaigns = CampaignDesk(office=office, tasks=self.tasks)
        self.sessions = SessionDesk(
            office=office,
            stations=self.stations,
            device_model=self.device_model,
            history=self.history,
            charging_notices=ChargingNoticeDesk(office=office),
            load=self.load,
            claims=self.claims,
            campaigns=self.campaigns,
            ad_hoc=self.ad_hoc,
            cdrs=cdrs,
            opening=opening,
            quarantine=self.quarantine,
            told=self.told,
            reservations=self.reservations,
            local_lists=self.local_lists,
        )
        self.modules.publisher = publisher
        self.modules.commands = self.commands
        self.host.on_connected(self._find_subscribers)

    def _build_app(self, access: Access) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.router.routes += health_routes(self.metrics)

        async def backlog(request: Request) -> Response:
            await access.internal(request)
            return answer({"pending": await self.backlog()})

        app.add_api_route("/internal/backlog", backlog, methods=["GET"])
        app.include_router(authorize_router(self.authorization, access.internal))
        app.include_router(questions_router(self.charging, self.told, access.internal))
        self.host.mount_on(app, authorize=access.party)
        operator = OperatorAPI(
            office=self.office,
            stations=self.stations,
            tariffs=self.tariffs,
            agreements=self.agreements,
            quarantine=self.quarantine,
            credits=self.credits,
            charging=self.charging,
            modules=self.modules,
        )
        self.routes = RouteTable(app=app, access=access)
        self.routes.open()
        operator.mount_on(self.routes)
        StationAPI(
            operator=operator,
            device_model=self.device_model,
            settings=SettingDesk(office=self.office),
            uptime=UptimeDesk(office=self.office),
        ).mount_on(self.routes)
        CompletenessAPI(operator=operator, publisher=self.stations.publisher).mount_on(self.routes)
        AgreementAPI(exchange=self.exchange).mount_on(self.routes)
        InvoicingAPI(invoicing=self.invoicing, reconciliations=self.reconciliations).mount_on(self.routes)
        ClaimAPI(operator=operator, desk=self.claims).mount_on(self.routes)
        imports = ImportAPI(
            operator=operator,
            desk=ImportDesk(office=self.office, stations=self.stations, own_tokens=self.own_tokens),
            own_tokens=self.own_tokens,
        )
        imports.mount_on(self.routes)
        BulkAPI(operator=operator, desk=self.bulk).mount_on(self.routes)
        TransactionAPI(operator=operator).mount_on(self.routes)
        SecurityAPI(
            operator=operator,
            profiles=ProfileDesk(office=self.office),
            installed=InstalledCertificateDesk(office=self.office),
            watch=self.certificates,
        ).mount_on(self.routes)
        ToldAPI(operator=operator, told=self.told).mount_on(self.routes)
        WantedAPI(operator=operator, told=self.told, device_model=self.device_model).mount_on(self.routes)
        groups = LoadGroupDesk(office=self.office, load=self.load)
        SmartChargingAPI(operator=operator, charging=self.charging, groups=groups).mount_on(self.routes)
        QuirkAPI(operator=operator).mount_on(self.routes)
        TimelineAPI(operator=operator).mount_on(self.routes)
        AuthorizationAPI(
            operator=operator, concurrency=self.concurrency, local_lists=self.local_lists, exposure=self.exposure
        ).mount_on(self.routes)
        IntervalAPI(operator=operator).mount_on(self.routes)
        ReservationAPI(operator=operator, reservations=self.reservations).mount_on(self.routes)
        AdHocAPI(
            operator=operator, desk=self.ad_hoc, retention=self.ad_hoc_retention, public_url=self.host.base_url
        ).mount_on(self.routes)
        MeterKeyAPI(office=self.office, imports=imports).mount_on(self.routes)
        AdHocPage(ports=self.office.ports, desk=self.ad_hoc).mount_on(app)
        TerminalAPI(desk=self.terminals).mount_on(self.routes)
        FirmwareAPI(operator=operator, tasks=self.tasks, campaigns=self.campaigns).mount_on(self.routes)
        return app

    async def run(self, stop: asyncio.Event) -> None:
        """Consume the log, send deliveries and commands, look for what is overdue, until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.office.ports.event_log.consume(GROUP, [CHARGING], self.sessions.handle, stop=stop))
            tasks.create_task(self.exposure.run(stop))
            tasks.create_task(self.host.run(stop))
            tasks.create_task(self.commands.run(stop))
            tasks.create_task(self.ad_hoc_worker.run(stop))
            tasks.create_task(self.bulk.run(stop))
            tasks.create_task(self.local_lists.run(stop))
            limits = self.office.limits
            watches = (
                tasks.create_task(
                    self._again_and_again(self._give_up_waiting, self._business_time(limits.sweep_interval))
                ),
                tasks.create_task(self._again_and_again(self.history.watch, self._real_time(WATCH_INTERVAL))),
                tasks.create_task(self._again_and_again(self.told.costs.tell_all, self._real_time(COST_INTERVAL))),
                tasks.create_task(self._again_and_again(self.told.sweep, self._business_time(limits.sweep_interval))),
                tasks.create_task(
                    self._again_and_again(self.ad_hoc_retention.sweep, self._business_time(limits.sweep_interval))
                ),
                tasks.create_task(
                    self._again_and_again(self.invoicing.issue_due, self._business_time(limits.sweep_interval))
                ),
                tasks.create_task(self._again_and_again(self.load.balance, self.load.rest)),
                tasks.create_task(self._again_and_again(self.claims.watch, self._real_time(WATCH_INTERVAL))),
                tasks.create_task(self._again_and_again(self.reservations.watch, self._real_time(WATCH_INTERVAL))),
                tasks.create_task(self._again_and_again(self.campaigns.advance, self._real_time(ADVANCE_INTERVAL))),
                tasks.create_task(self._again_and_again(self.ad_hoc_worker.watch, self._real_time(AD_HOC_INTERVAL))),
                tasks.create_task(self._again_and_again(self.certificates.look, self._real_time(CERTIFICATE_INTERVAL))),
            )
            await stop.wait()
            for watch in watches:
                watch.cancel()

    async def backlog(self) -> int:
        """Count what has to be sent or answered yet, beyond the lag of the consumer."""
        queues = (self.host, self.commands, self.bulk, self.ad_hoc_worker)
        return sum([await queue.pending() for queue in queues])

    def _business_time(self, interval: timedelta) -> Callable[[], Awaitable[None]]:
        clock = self.office.ports.clock
        return lambda: clock.sleep_until(clock.now() + interval)

    def _real_time(self, interval: timedelta) -> Callable[[], Awaitable[None]]:
        """What asks another process, or a clock that is stepped through days would ask thousands of times."""
        return lambda: self.office.ports.timer.sleep(interval.total_seconds())

    async def _again_and_again(self, look: Callable[[], Awaitable[None]], rest: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                try:
                    await look()
                except Unavailable as error:
                    _log.warning("sweep_failed", look=look.__name__, reason=str(error))
                await rest()

    async def _give_up_waiting(self) -> None:
        """Quarantine what is overdue, each transaction in a unit of its own: one that fails holds up no other."""
        await self.own_tokens.expire()
        async with self.office.ports.units.begin() as unit:
            overdue = await self.sessions.overdue(unit)
        for record in overdue:
            try:
                async with self.office.ports.units.begin() as unit:
                    await self.sessions.give_up_waiting(unit, record)
                    await unit.commit()
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - a broken transaction stays open and is seen in the log
                _log.error("overdue_transaction_failed", correlation_id=record.correlation_id, exc_info=error)

    async def _find_subscribers(self, own_party: PartyId, peer: Peer) -> None:
        """Ask a hub who is connected: navigation providers are told of our locations without asking for it."""
        if (ModuleID.HUBCLIENTINFO.value, InterfaceRole.SENDER) not in peer.endpoint_urls():
            return
        correlation_id = self.office.ports.randomness.uuid()
        try:
            client = await self.host.client(peer)
            infos = [
                info
                async for info in client.list_all(
                    ModuleID.HUBCLIENTINFO.value,
                    InterfaceRole.SENDER,
                    v221.ClientInfo,
                    to_party=None,
                    correlation_id=correlation_id,
                )
            ]
        except (Unavailable, RuleBroken) as error:
            _log.warning("client_info_failed", peer=peer.peer_id, reason=str(error))
            return
        async with self.office.ports.units.begin() as unit:
            for info in infos:
                if info.role in TOLD and info.status is ConnectionStatus.CONNECTED:
                    await self.modules.subscribe(unit, own_party, info.owner, correlation_id=correlation_id)
            await unit.commit()


def build(settings: Settings, ports: Ports, *, limits: Limits | None = None) -> ChargingOperations:
    """Build the back office."""
    by_settings = Limits(told_retention=timedelta(days=settings.station_retention_days))
    return ChargingOperations(settings, ports, limits=limits or by_settings)
