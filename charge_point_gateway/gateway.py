"""The gateway as one object: admits stations, serves their connections, sends them commands, drains.

It knows no transport: a WebSocket server and a simulation in memory hand it sockets alike, through the same
authentication.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog
from fastapi import FastAPI

from charge_point_gateway.admission import AdmissionRates, BootAdmission, ConnectionAdmission
from charge_point_gateway.api import build_app
from charge_point_gateway.certificates import Authority
from charge_point_gateway.commands import NotOneCommand, execute, only_part
from charge_point_gateway.connection import Budget, Limits
from charge_point_gateway.gateway_leases import GatewayLeases
from charge_point_gateway.group_commit import GroupCommit
from charge_point_gateway.message_log import MessageLog
from charge_point_gateway.metrics import GatewayMetrics
from charge_point_gateway.password_rotation import PasswordRotation
from charge_point_gateway.presence import PresenceBook, StationOwnedElsewhere, StationPresenceRow
from charge_point_gateway.quirks import QuirkBook
from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.security import (
    RefusalReason,
    RotationRefused,
    SecurityProfile,
    StationAuthenticator,
    StationIdentity,
    StationRefused,
    identity_from_path,
)
from charge_point_gateway.signing_service import SigningService
from charge_point_gateway.station_certificates import StationCertificateRow, StationCertificates
from charge_point_gateway.station_session import SessionServices, StationSession
from charge_point_gateway.transaction_numbers import TransactionNumbers
from charge_point_gateway.vehicle_certificates import VehicleCertificates, VehicleTrust
from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.authorizer import AuthorizationStatus
from emobility.ports.frames import FrameSocket
from emobility.ports.http import EgressRefused
from emobility.ports.ports import Ports
from emobility.protocols.station_control.client import (
    GatewayRefused,
    GatewayUnavailable,
    GatewayUnreachable,
    HttpAuthorizer,
    StationControlClient,
)
from emobility.protocols.station_control.messages import (
    CommandOutcome,
    CommandResult,
    CredentialRotation,
    StationCommand,
)
from emobility.protocols.station_control.questions import HttpStationQuestions
from emobility.runtime.access import Access
from emobility.runtime.settings import Settings

CLAIM_ATTEMPTS_MAX: Final = 3
READY_TIMEOUT_S: Final = 2.0
NOBODY: Final = StationIdentity(PartyId("XX-000"), "nobody")
"""A station that is never there, looked up to see whether the database answers."""
BEGUN_MAX: Final = 128
"""Peers that wait to be looked up or owned before another connection is taken: no peer waits for long."""
ROOM_LOOK_S: Final = 0.01
CLAIMS_AT_ONCE_MAX: Final = 64
"""Stations that become owned at once; one whose old owner is pinged waits for that, too."""
CONNECTIONS_MAX: Final = 20_000
"""Stations one gateway holds; more are told to come back (1013)."""
FULL_RETRY_S: Final = 10.0
"""When a station may ask again that a full or leaving gateway sent away, and a little more."""
REVOCATIONS_READ_EVERY_S: Final = 5.0
REVOCATION_OVERLAP: Final = timedelta(minutes=1)
"""How far gateways' clocks may be apart when one reads what another revoked."""
_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How a gateway behaves; every bound has its name."""

    limits: Limits = field(default_factory=Limits)
    heartbeat_interval_s: int = 300
    probe_timeout_s: float = 5.0
    """How long an owner may take to answer the ping that a second connection of its identity provokes."""
    admission: AdmissionRates = field(default_factory=AdmissionRates)
    drain_timeout_s: float = 10.0
    """How long the last calls in progress may take to finish once all connections were to be closed."""
    drain_spread_s: float = 2.0
    """Connections are closed spread over at least this time, so that not all stations reconnect at once."""
    drain_closes_per_s: float = 400.0
    """And no more of them each second: the gateways that go on have to take the stations in."""
    answer_when_unavailable: AuthorizationStatus = AuthorizationStatus.INVALID
    """What a station is told when the back office can't be asked.

    OCPP 1.6 section 4.8 (and C01 of 2.0.1) has the central system verify every token; one that can't be verified is
    not accepted. ACCEPTED lets drivers charge during an outage, at the operator's risk; the transaction is stored in
    either case.
    """


@dataclass(frozen=True, slots=True)
class Admission:
    """A peer that has authenticated and may now open its socket."""

    identity: StationIdentity
    version: OCPPVersion
    profile: SecurityProfile = SecurityProfile.BASIC
    serial_number: str | None = None
    """Of the certificate it showed, in hex."""


class GatewayService:
    """See the module. `app` is its HTTP API; `run` its background work."""

    def __init__(
        self,
        settings: Settings,
        ports: Ports,
        options: GatewayOptions | None = None,
        authority: Authority | None = None,
        vehicle_trust: VehicleTrust | None = None,
    ) -> None:
        """Build from ports; nothing runs yet."""
        self.options = options or GatewayOptions()
        self.metrics = GatewayMetrics()
        self._ports = ports
        self._internal_token = settings.internal_token.get_secret_value()
        self._sessions: dict[StationIdentity, StationSession] = {}
        self._parked: set[StationIdentity] = set()
        self._claims_waiting = 0
        self._claiming = asyncio.Semaphore(CLAIMS_AT_ONCE_MAX)
        self._budgets: OrderedDict[StationIdentity, Budget] = OrderedDict()
        self._serving: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._commands_in_flight = 0
        self._group_commit = GroupCommit(ports.event_log)
        self.metrics.commit_pending.set_function(lambda: self._group_commit.pending)
        self._presence = PresenceBook(
            ports.units, ports.clock, gateway_url=settings.gateway_api_url, gateway_run=ports.randomness.uuid()
        )
        self._leases = GatewayLeases(ports.units, ports.timer, self._presence, on_lost=self._reclaim)
        self._admission = ConnectionAdmission(ports.timer, ports.randomness, self.options.admission)
        self._numbers = TransactionNumbers(ports.units, ports.timer)
        self.authenticator = StationAuthenticator(
            ports.units, ports.timer, ports.clock, master_key=settings.master_key_bytes
        )
        self._rotation = PasswordRotation(self.authenticator, ports.clock, ports.randomness, send=self.command)
        self.certificates = StationCertificates(
            ports.units,
            ports.clock,
            ports.randomness,
            authority=authority,
            valid_days=settings.gateway_ca_valid_days,
            signing_service=_signing_service(settings, ports),
        )
        self.own_certificates: Mapping[str, datetime] = {}
        """When each of our own files of certificates ends, by its kind; the TLS side knows."""
        self.on_revoked: Callable[[], Awaitable[object]] | None = None
        """Has the TLS side take our CA's new revocation list."""
        ports.http.allow_origin(settings.business_url)
        operations_url = f"{settings.business_url.rstrip('/')}/operations"
        authorizer = HttpAuthorizer(ports.http, operations_url=operations_url, internal_token=self._internal_token)
        questions = HttpStationQuestions(ports.http, operations_url=operations_url, internal_token=self._internal_token)
        retention = timedelta(days=settings.station_retention_days)
        self.message_log = MessageLog(ports.units, ports.clock, ports.timer, retention=retention)
        self.quirks = QuirkBook(ports.units, ports.clock, ports.timer)
        self._services = SessionServices(
            clock=ports.clock,
            timer=ports.timer,
            randomness=ports.randomness,
            vault=ports.vault,
            authorizer=authorizer,
            questions=questions,
            group_commit=self._group_commit,
            numbers=self._numbers,
            certificates=self.certificates,
            vehicle_certificates=VehicleCertificates(
                ports.http,
                ports.clock,
                ports.randomness,
                trust=vehicle_trust or VehicleTrust(),
                is_untold_accepted=settings.contract_ocsp_unreachable == "accept",
                provisioning_url=settings.contract_provisioning_url,
            ),
            metrics=self.metrics,
            message_log=self.message_log,
            quirks=self.quirks,
            presence=self._presence,
            boots=BootAdmission(ports.timer, ports.randomness, self.options.admission),
            limits=self.options.limits,
            heartbeat_interval_s=self.options.heartbeat_interval_s,
            answer_when_unavailable=self.options.answer_when_unavailable,
        )
        self.app: FastAPI = build_app(self, Access(settings.internal_token).internal)

    # -- stations -----------------------------------------------------------------------------------------------------

    async def admit(
        self,
        *,
        path: str,
        username: str | None,
        password: str | None,
        subprotocols: tuple[str, ...],
        address: str,
        is_encrypted: bool = False,
        certificate: bytes | None = None,
    ) -> Admission:
        """Authenticate a peer that wants a connection. Raises `StationRefused`, `Unavailable`.

        Args:
            path: Of the request; it names the station.
            username: Of basic authentication.
            password: Likewise.
            subprotocols: What the peer offers, its favourite first.
            address: Where it comes from.
            is_encrypted: It came over TLS.
            certificate: The one it showed, in DER, verified by OpenSSL.
        """
        profile, serial_number = SecurityProfile.BASIC, None
        if is_encrypted:
            profile = SecurityProfile.TLS_BASIC if certificate is None else SecurityProfile.TLS_CERTIFICATE
        try:
            self._refuse_when_full()
            self._admission.refuse_address(address)
            async with self._admission.turn(address):
                if certificate is not None:
                    serial_number = await self.certificates.check(identity_from_path(path), certificate)
                identity, version = await self.authenticator.authenticate(
                    path=path,
                    username=username,
                    password=password,
                    subprotocols=subprotocols,
                    address=address,
                    profile=profile,
                )
            self._admission.refuse_station(identity)
        except StationRefused as refused:
            self.metrics.auth_failures.labels(refused.reason.value).inc()
            _LOG.warning("station_refused", reason=refused.reason.value, address=address, station=_named(path))
            raise
        return Admission(identity, version, profile, serial_number)

    def _refuse_when_full(self) -> None:
        if self._is_draining or len(self._serving) >= CONNECTIONS_MAX:
            reason = RefusalReason.DRAINING if self._is_draining else RefusalReason.BUSY
            raise self._admission.refused(reason, 503, FULL_RETRY_S)

    async def has_room(self) -> None:
        """Return when another peer may begin: few wait for the database. Whoever dials and is silent is not counted."""
        while self._admission.waiting + self._claims_waiting >= BEGUN_MAX:
            await self._ports.timer.sleep(ROOM_LOOK_S)

    async def serve(self, admission: Admission, socket: FrameSocket) -> None:
        """Serve an admitted station's socket until it closes."""
        identity = admission.identity
        if identity in self._parked:
            await self._refuse_second(identity, socket)
            return
        session = StationSession(identity, admission.version, socket, self._services, self._budget_of(identity))
        session.certificate_serial_number = admission.serial_number
        self._parked.add(identity)
        try:
            async with self._turn_to_claim():
                is_owner = await self._take(session)
        except Unavailable:
            self.metrics.connections.labels("unavailable").inc()
            await socket.close(1013, "try again later")
            return
        finally:
            self._parked.discard(identity)
        if not is_owner:
            await self._refuse_second(identity, socket)
            return
        if self._is_draining:  # it was admitted before, and is not among those that are being closed
            await self._leave(session)
            await session.leave()
            return
        active = self.metrics.connections_active.labels(admission.version.value, str(admission.profile.value))
        self.metrics.connections.labels("accepted").inc()
        active.inc()
        try:
            await session.run()
        finally:
            active.dec()
            await self._leave(session)

    @asynccontextmanager
    async def _turn_to_claim(self) -> AsyncIterator[None]:
        self._claims_waiting += 1
        try:
            await self._claiming.acquire()
        finally:
            self._claims_waiting -= 1
        try:
            yield
        finally:
            self._claiming.release()

    def _budget_of(self, identity: StationIdentity) -> Budget:
        budget = self._budgets.get(identity)
        if budget is None:
            budget = self._budgets[identity] = Budget(self.options.limits, now_s=self._ports.timer.monotonic_s())
            if len(self._budgets) > CONNECTIONS_MAX:
                self._budgets.popitem(last=False)
        self._budgets.move_to_end(identity)
        return budget

    async def accept(
        self,
        *,
        path: str,
        username: str,
        password: str,
        subprotocols: tuple[str, ...],
        socket: FrameSocket,
        address: str = "in-process",
    ) -> str:
        """Admit a peer whose socket is open already and serve it in the background; return its subprotocol.

        Raises:
            StationRefused: as `admit` does; the socket was not read.
        """
        admission = await self.admit(
            path=path, username=username, password=password, subprotocols=subprotocols, address=address
        )
        task = asyncio.create_task(self.serve(admission, socket))
        self.track(task)
        return admission.version.subprotocol

    def track(self, task: asyncio.Task[None]) -> None:
        """Count a task that serves a station, so that draining waits for it."""
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _take(self, session: StationSession) -> bool:
        """Become the station's owner, unless its present owner is alive."""
        identity = session.identity
        for _ in range(CLAIM_ATTEMPTS_MAX):
            row = await self._presence.find(identity)
            old = self._sessions.get(identity)
            if old is not None:
                if await old.is_alive(timeout_s=self.options.probe_timeout_s):
                    return False
                self._evict(old)
            elif row is not None and row.is_online and row.gateway_url != self._presence.gateway_url:
                if await self._is_alive_elsewhere(row):
                    return False
                self.metrics.duplicate_identity.labels("taken_over").inc()
            try:
                session.fence = await self._presence.claim(
                    identity, session.version, seen_fence=row.fence if row is not None else 0
                )
            except StationOwnedElsewhere:
                continue
            if row is not None:
                session.tolerating.knows(row.make)
            self._sessions[identity] = session
            return True
        return False

    def _evict(self, old: StationSession) -> None:
        self.metrics.duplicate_identity.labels("evicted").inc()
        _LOG.warning("silent_connection_evicted", station=old.identity.key, fence=old.fence)
        if self._sessions.get(old.identity) is old:
            del self._sessions[old.identity]
        self.track(asyncio.create_task(old.close(1001, "another connection took over")))

    async def _refuse_second(self, identity: StationIdentity, socket: FrameSocket) -> None:
        self.metrics.connections.labels("duplicate").inc()
        self.metrics.duplicate_identity.labels("refused").inc()
        _LOG.error("second_connection_refused", station=identity.key)
        await socket.close(1008, "this station is connected")

    async def _is_alive_elsewhere(self, row: StationPresenceRow) -> bool:
        try:
            async with asyncio.timeout(self.options.probe_timeout_s * 2):
                return await self._peer(row).is_alive(row.party_id, row.charging_station_id, fence=row.fence)
        except (GatewayUnavailable, GatewayRefused, EgressRefused, TimeoutError) as error:
            _LOG.warning("owner_does_not_answer", gateway=row.gateway_url, error=type(error).__name__)
            return False

    def _peer(self, row: StationPresenceRow) -> StationControlClient:
        # The address comes from our own database, written by a gateway of ours.
        self._ports.http.allow_origin(row.gateway_url)
        return StationControlClient(self._ports.http, gateway_url=row.gateway_url, internal_token=self._internal_token)

    async def _leave(self, session: StationSession) -> None:
        if self._sessions.get(session.identity) is session:
            del self._sessions[session.identity]
        try:
            await self._presence.release(session.identity, session.fence)
        except Unavailable:
            _LOG.warning("presence_not_released", station=session.identity.key, fence=session.fence)

    async def _reclaim(self) -> None:
        """Take back what others released while they took this gateway for dead; close what they took."""
        for session in list(self._sessions.values()):
            fence = await self._presence.reclaim(session.identity, session.fence)
            if fence is not None:
                session.fence = fence
            else:
                self._evict(session)

    # -- commands -----------------------------------------------------------------------------------------------------

    async def command(
        self, identity: StationIdentity, command: StationCommand, *, is_forwarded: bool = False
    ) -> CommandOutcome:
        """Have a station's owner send it a command.

        Args:
            identity: The station.
            command: Exactly one command.
            is_forwarded: Another gateway sent it here; it is not sent on again.

        Raises:
            NotOneCommand: the command is not one.
        """
        part = only_part(command)
        row = await self._presence.find(identity)
        if row is None or not row.is_online:
            return CommandOutcome(result=CommandResult.STATION_OFFLINE)
        if row.gateway_url != self._presence.gateway_url:
            return await self._forwarded(row, command, is_forwarded=is_forwarded)
        session = self._sessions.get(identity)
        if session is None or session.fence != row.fence:
            return CommandOutcome(result=CommandResult.STATION_OFFLINE)
        start = command.start_transaction if session.version is OCPPVersion.V16 else None
        # Before the command: the StartTransaction may overtake the station's answer.
        if start is not None:
            self._numbers.expect(identity.party_id, identity.charging_station_id, start)
        self._commands_in_flight += 1
        outcome = None
        try:
            outcome = await execute(session, part, timeout_s=command.timeout_s)
            return outcome
        finally:
            self._commands_in_flight -= 1
            if start is not None and (outcome is None or outcome.result is not CommandResult.ACCEPTED):
                self._numbers.expect_no_longer(identity.party_id, identity.charging_station_id, start)

    async def _forwarded(
        self, row: StationPresenceRow, command: StationCommand, *, is_forwarded: bool
    ) -> CommandOutcome:
        if is_forwarded:
            return CommandOutcome(result=CommandResult.STATION_OFFLINE)
        try:
            return await self._peer(row).command(row.party_id, row.charging_station_id, command, is_forwarded=True)
        except (GatewayUnreachable, GatewayRefused):
            return CommandOutcome(result=CommandResult.STATION_OFFLINE)
        except GatewayUnavailable:  # it may have sent the command before it died
            return CommandOutcome(result=CommandResult.TIMED_OUT)

    async def rotate_password(self, identity: StationIdentity, correlation_id: str) -> CredentialRotation:
        """Give a connected station a new password (`password_rotation`). Raises `RotationRefused`."""
        row = await self._presence.find(identity)
        if row is None or not row.is_online:
            raise RotationRefused("the station is not connected")
        return await self._rotation.rotate(identity, OCPPVersion(row.ocpp_version), correlation_id=correlation_id)

    async def probe(self, identity: StationIdentity, fence: int) -> bool:
        """Tell another gateway whether this one still owns the station, and the station answers."""
        session = self._sessions.get(identity)
        if session is None or session.fence != fence:
            return False
        return await session.is_alive(timeout_s=self.options.probe_timeout_s)

    @property
    def presence(self) -> PresenceBook:
        """Presence rows, for the API."""
        return self._presence

    # -- process ------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Work that is under way: events not durable yet, messages and commands in progress."""
        busy = sum(1 for session in self._sessions.values() if not session.is_idle)
        return self._group_commit.pending + busy + self._commands_in_flight + len(self._parked)

    async def is_ready(self) -> bool:
        """Tell whether stations may be sent here: the database answers and nothing drains."""
        if self._is_draining:
            return False
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._presence.find(NOBODY)
        except (Unavailable, TimeoutError):
            return False
        return True

    async def run(self, stop: asyncio.Event) -> None:
        """Make events durable until `stop` is set; then drain: finish what is in progress and close in waves."""
        commit_stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._group_commit.run(commit_stop))
            watching = None if not self.certificates.may_issue else tasks.create_task(self._watch_revocations())
            logging = tasks.create_task(self.message_log.run(commit_stop))
            looking = tasks.create_task(self.quirks.run())
            leasing = tasks.create_task(self._leases.run())
            await stop.wait()
            if watching is not None:
                watching.cancel()
            await self._drain()
            commit_stop.set()
            logging.cancel()
            looking.cancel()
            leasing.cancel()
        with contextlib.suppress(Unavailable):
            await self.message_log.store()
            await self._leases.end()

    async def _watch_revocations(self) -> None:
        """Close connections whose certificates were revoked through another gateway; until cancelled."""
        since = self._ports.clock.now()
        while True:
            await self._ports.timer.sleep(REVOCATIONS_READ_EVERY_S)
            try:
                revoked = await self.certificates.revoked_since(since - REVOCATION_OVERLAP)
            except Unavailable:
                continue
            since = self._ports.clock.now()
            for row in revoked:
                await self._dismiss_certificate(row)

    async def revoke(self, identity: StationIdentity, serial_number: str) -> StationCertificateRow:
        """Revoke a certificate of our own CA and close what it has opened. Raises `NoSuchCertificate`."""
        row = await self.certificates.revoke(identity, serial_number)
        await self._dismiss_certificate(row)
        if self.on_revoked is not None:
            await self.on_revoked()
        return row

    async def _dismiss_certificate(self, row: StationCertificateRow) -> None:
        """Close the connection that a certificate has opened here, if there is one."""
        session = self._sessions.get(StationIdentity(row.party_id, row.charging_station_id))
        if session is not None and session.certificate_serial_number == row.serial_number:
            await session.close(1008, "the certificate was revoked")

    async def _drain(self) -> None:
        self._is_draining = True
        sessions = list(self._sessions.values())
        spread_s = max(self.options.drain_spread_s, len(sessions) / self.options.drain_closes_per_s)
        step_s = spread_s / max(1, len(sessions))
        try:
            async with asyncio.timeout(spread_s + self.options.drain_timeout_s):
                await asyncio.gather(*(self._dismiss(session, n * step_s) for n, session in enumerate(sessions)))
                if self._serving:
                    await asyncio.wait(self._serving)
        except TimeoutError:
            _LOG.warning("drain_cut_short", connections=len(self._serving))
            for task in list(self._serving):
                task.cancel()

    async def _dismiss(self, session: StationSession, after_s: float) -> None:
        await self._ports.timer.sleep(after_s)
        await session.leave()


def _signing_service(settings: Settings, ports: Ports) -> SigningService | None:
    if settings.gateway_signing_url is None or settings.gateway_client_ca_file is None:
        return None
    return SigningService(
        ports.http,
        url=settings.gateway_signing_url,
        token=settings.gateway_signing_token.get_secret_value(),
        client_ca_file=settings.gateway_client_ca_file,
    )


def _named(path: str) -> str | None:
    """Return which station a path names, for the log; None: none that could be one."""
    try:
        return identity_from_path(path).key
    except StationRefused:
        return None


def build(
    settings: Settings,
    ports: Ports,
    options: GatewayOptions | None = None,
    authority: Authority | None = None,
    vehicle_trust: VehicleTrust | None = None,
) -> GatewayService:
    """Return the gateway, built but not running; `authority` signs its stations' certificates."""
    return GatewayService(settings, ports, options, authority, vehicle_trust)


__all__ = ["Admission", "GatewayOptions", "GatewayService", "NotOneCommand", "StationRefused", "build"]
