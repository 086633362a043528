"""The settlement as one deployable: `build(settings, ports, access)` gives an ASGI app and its background work.

Without a chain it takes CDRs in and closes nothing. With one that does not answer it waits: charging, roaming and
billing do not depend on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Final

import structlog
from fastapi import FastAPI

from emobility.domain.errors import EmobilityError, Unavailable
from emobility.ports.ports import Ports
from emobility.runtime.access import Access
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import Metrics, health_routes
from services.settlement.acceptances import Acceptances
from services.settlement.access import ChainAccess
from services.settlement.adopting import Adopting
from services.settlement.agreement_words import AgreementWords
from services.settlement.anchoring import Anchoring, take_requests
from services.settlement.answering import Answering
from services.settlement.api import API
from services.settlement.batching import Batching
from services.settlement.closing import Closing, Thresholds
from services.settlement.confidential import Confidential
from services.settlement.confidential_api import ConfidentialAPI
from services.settlement.confidential_signing import ConfidentialSigning
from services.settlement.countersigning import Countersigning
from services.settlement.crash_points import Reached
from services.settlement.discharging import Discharging
from services.settlement.dispute_api import DisputeAPI
from services.settlement.disputing import Disputing
from services.settlement.finality import Finality
from services.settlement.funding import Funding
from services.settlement.guarantee_api import GuaranteeAPI
from services.settlement.guarantees import Guarantees
from services.settlement.intake import Intake
from services.settlement.invoice_api import InvoiceAPI
from services.settlement.lease import Fenced, Lease
from services.settlement.ledger_api import LedgerAPI
from services.settlement.listening import Listening
from services.settlement.metrics import SettlementMetrics
from services.settlement.missing_batches import MissingBatches, MissingBatchesAPI
from services.settlement.money_api import MoneyAPI
from services.settlement.opening import Openings
from services.settlement.payables import follow_final_statements
from services.settlement.records import (
    IN_FLIGHT,
    OPENING,
    TRANSACTION,
)
from services.settlement.registering import Registering, registrations_under_way
from services.settlement.registry_words import RegistryWords
from services.settlement.resolving import Resolving
from services.settlement.restating import Restating
from services.settlement.restating_api import RestatingAPI
from services.settlement.sending import Sending

SERVICE: Final = "settlement"
SWEEP: Final = timedelta(minutes=15)
"""Business time between two looks for periods that are over."""
POLL_S: Final = 0.1
"""Between two looks at the chain while something is on its way."""
IDLE_S: Final = 1.0
"""Between two looks while nothing is."""
BACK_OFF_S_MAX: Final = 30.0
"""Longest wait while the chain does not answer."""
WATCH_S: Final = 10.0
"""Between two looks whether what was final still is; also whether anything moves that no commit of ours set off."""

_log = structlog.get_logger(__name__)


class Settlement:
    """What it serves (`app`), what it does by itself (`run`), what is still under way (`backlog`)."""

    def __init__(
        self,
        settings: Settings,
        ports: Ports,
        access: ChainAccess | None,
        openings: Openings | None,
        reached: Reached,
    ) -> None:
        self._ports = ports
        self.metrics = Metrics()
        metrics = self.counted = SettlementMetrics(self.metrics)
        self.intake = Intake(ports, metrics)
        hours = settings.statement_hours_max
        thresholds = Thresholds(
            cdrs=settings.statement_cdrs_max,
            value_e4=settings.statement_value_e4_max,
            age=None if hours is None else timedelta(hours=hours),
        )
        self.closing = Closing(ports, metrics, reached, thresholds if thresholds != Thresholds() else None)
        if access is not None:
            self.closing.chain_seen.clear()
        self.follower = (
            None if access is None else Follower(ports, access, metrics, reached, openings, closing=self.closing)
        )
        guard = Access(settings.internal_token, units=ports.units, master_key=settings.master_key_bytes)
        self.app = FastAPI(title="Wattroam settlement", openapi_url=None, docs_url=None, redoc_url=None)
        self.app.router.routes += health_routes(self.metrics)
        acceptances = None if access is None else Acceptances(ports, access)
        RegistryWords(ports, access).mount_on(self.app, guard)
        Registering(ports, access, None if openings is None else openings.issuers).mount_on(self.app, guard)
        AgreementWords(ports, access).mount_on(self.app, guard)
        MoneyAPI(ports, guard, None if access is None else Discharging(ports, access)).mount_on(self.app)
        GuaranteeAPI(guard, None if access is None else Guarantees(ports, access)).mount_on(self.app)
        InvoiceAPI(ports, guard).mount_on(self.app)
        DisputeAPI(guard, ports, access).mount_on(self.app)
        RestatingAPI(guard, ports, Restating(ports, access, self.closing, metrics, reached)).mount_on(self.app)
        ConfidentialAPI(guard, ConfidentialSigning(ports, access)).mount_on(self.app)
        MissingBatchesAPI(guard, MissingBatches(ports)).mount_on(self.app)
        if access is not None and access.ledger is not None:
            LedgerAPI(guard, Countersigning(ports, access, access.ledger)).mount_on(self.app)
        API(ports, guard, closing=self.closing, acceptances=acceptances, backlog=self).mount_on(self.app)

    async def run(self, stop: asyncio.Event) -> None:
        """Take CDRs in, close what is due and follow the chain until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.intake.run(stop))
            tasks.create_task(take_requests(self._ports, stop))
            tasks.create_task(follow_final_statements(self._ports, stop))
            if self.follower is not None:
                tasks.create_task(self.follower.run(stop))
            sweeping = tasks.create_task(self._sweep_for_ever())
            await stop.wait()
            sweeping.cancel()

    async def backlog(self) -> int:
        """Count what moves by itself: batches to sign or send, and transactions that are not final.

        In the order in which things move: what moves on meanwhile is counted twice rather than never.
        """
        opening = ready = 0
        if self.follower is not None:
            async with self._ports.units.begin() as unit:
                opening = await unit.table(OPENING).count({"book_agreement": None, "waiting": None})
            ready = await self.follower.batching.ready() + await self.follower.confidential.ready()
        async with self._ports.units.begin() as unit:
            return opening + ready + await unit.table(TRANSACTION).count({"state": IN_FLIGHT, "waiting": None})

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.closing.close_due()
            except Unavailable as error:
                _log.warning("settlement_sweep_failed", reason=str(error))
            await self._ports.clock.sleep_until(self._ports.clock.now() + SWEEP)


class Follower:
    """Brings closed statements to finality, one step after another."""

    def __init__(
        self,
        ports: Ports,
        access: ChainAccess,
        metrics: SettlementMetrics,
        reached: Reached,
        openings: Openings | None = None,
        *,
        closing: Closing | None = None,
    ) -> None:
        self._ports = ports
        self._closing = closing or Closing(ports, metrics)
        self._metrics = metrics
        self.batching = Batching(ports, access, reached)
        self.confidential = Confidential(ports, access, held=lambda: self._closing.held)
        self._finality = Finality(ports, access, metrics)
        self.lease = Lease(ports, lease_s=access.lease_s)
        self._sending = Sending(ports, access, self._finality, reached, lease=self.lease, metrics=metrics)
        self._funding = Funding(ports, access)
        self._discharging = Discharging(ports, access)
        self._disputing = Disputing(ports, access)
        self._answering = Answering(ports, access, metrics)
        self._listening = Listening(ports, access, metrics, self._answering)
        self._openings = openings
        self._restating = Restating(ports, access, self._closing, metrics, reached)
        self._adopting = Adopting(
            ports=ports, access=access, closing=self._closing, metrics=metrics, restating=self._restating
        )
        self._countersigning = None if access.ledger is None else Countersigning(ports, access, access.ledger)
        # The contracts in Python, which a ledger runs by, have no resolver of single CDRs.
        deployer = None if openings is None or access.ledger is not None else openings.deployer
        self._guarantees = Guarantees(ports, access, metrics, deployer=deployer, held=lambda: self._closing.held)
        self._resolving = None if openings is None else Resolving(ports, openings.books, deployer)
        self._anchoring = None if openings is None else Anchoring(ports, access, openings.books, openings.deployer)
        self._watched_at_s: float | None = None
        self._rested: int | None = None
        """Commits of this process when nothing moved; while there are no more, there is nothing to look for."""

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set; what can't go on now is tried again, ever more rarely.

        Whatever the chain or its contracts refuse, this process lives on: CDRs are taken in and closed meanwhile.
        """
        back_off_s = POLL_S
        while not stop.is_set():
            try:
                is_busy = await self.step()
            except Fenced:
                self.lease.lose()
            except EmobilityError as error:
                rule = type(error).__name__
                _log.warning("settlement_waits_for_chain", rule=rule, reason=str(error), wait_s=back_off_s)
                self._metrics.waits(is_waiting=True)
                await self._pause(stop, back_off_s)
                back_off_s = min(2 * back_off_s, BACK_OFF_S_MAX)
            else:
                self._metrics.waits(is_waiting=False)
                back_off_s = POLL_S
                await self._pause(stop, POLL_S if is_busy else IDLE_S)
        await self.lease.give_up()

    async def step(self) -> bool:
        """Do what can be done now, if it is this process that sends; tell whether anything moves.

        Raises:
            Fenced: another process took over.
            ChainUnavailable: the chain does not answer.
            OtherGenesis: it is another chain.
        """
        beats = self.lease.commits
        is_sender = await self.lease.is_held()
        self._metrics.sends(is_sender=is_sender)
        self._closing.stands_by = not is_sender
        if not is_sender:
            return False
        if self._rested is not None:
            self._rested += self.lease.commits - beats  # a beat of the lease is nothing to look at
        if self._openings is not None:
            await self._openings.recognise()  # before another chain is taken for ours
        now_s = self._ports.timer.monotonic_s()
        if self._watched_at_s is None or now_s - self._watched_at_s >= WATCH_S:
            await self._finality.watch()
            self._watched_at_s = now_s
        elif self._rested == self._ports.units.commits:
            return False
        steps = await self._adopting.advance()
        steps += 0 if self._openings is None else await self._openings.advance()
        steps += 0 if self._anchoring is None else await self._anchoring.advance()
        steps += 0 if self._resolving is None else await self._resolving.advance()
        steps += await self._listening.advance()  # who may have told what verdicts took out, before that is asked
        async with self._closing.under_way:
            steps += await self._restating.advance()
            steps += await self.batching.advance() + await self.confidential.advance()
        steps += await self._discharging.advance() + await self._disputing.advance()
        steps += await self._answering.advance() + await self._guarantees.advance()
        steps += await self._sending.advance() + await self._funding.advance()
        async with self._ports.units.begin() as unit:
            moving = await unit.table(TRANSACTION).count({"state": IN_FLIGHT, "waiting": None})
            moving += await registrations_under_way(unit)
        is_busy = steps > 0 or moving > 0
        if not is_busy and self._countersigning is not None:
            await self._countersigning.advance()
        self._rested = None if is_busy else self._ports.units.commits
        return is_busy

    async def _pause(self, stop: asyncio.Event, duration_s: float) -> None:
        waiting = asyncio.ensure_future(self._ports.timer.sleep(duration_s))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (waiting, stopping):
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await each


def build(
    settings: Settings,
    ports: Ports,
    access: ChainAccess | None = None,
    openings: Openings | None = None,
    *,
    reached: Reached = lambda _: None,
) -> Settlement:
    """Put the service together; nothing runs yet.

    Args:
        settings: Ours.
        ports: What every service is given.
        access: The chain and its keys; None: CDRs are taken in, and wait.
        openings: Brings agreements into the contracts; None: somebody else does.
        reached: Told at each crash point.
    """
    return Settlement(settings, ports, access, openings, reached)
