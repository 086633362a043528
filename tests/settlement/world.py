"""A settlement under test, in memory and on PostgreSQL; back offices are played by the facts they put into the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, open_memory
from emobility.adapters.memory.reconciliation import MemoryReconciliation
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.postgres import open_postgres
from emobility.adapters.postgres.reconciliation import PostgresReconciliation
from emobility.adapters.signing import Ed25519Signer
from emobility.domain.agreement import (
    RoamingAgreement,
    SettlementMode,
    SignedMeterPolicy,
    StatementPeriod,
    TaxRegime,
)
from emobility.domain.batch.hashing import keccak256
from emobility.domain.cdr import CDR, credit_of
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.events.cdr import AgreementSigned, CDRAccepted
from emobility.events.event import Envelope, Event, LoggedEvent
from emobility.events.settlement import SETTLEMENT
from emobility.ports.ports import Ports
from emobility.runtime.telemetry import Metrics
from services.settlement.closing import Closing
from services.settlement.intake import Intake
from services.settlement.metrics import SettlementMetrics
from services.settlement.records import LEAF, OPENING, STATEMENT, LeafRecord, StatementRecord
from tests.domain.test_cdr import ORIGINAL

T0: Final = datetime(2022, 3, 28, 8, 0, tzinfo=UTC)
"""A Monday, the day after clocks changed."""
CPO: Final = PartyId("NL-TUL")
MSP: Final = PartyId("NL-ZON")
MASTER_KEY: Final = bytes(range(32))


def terms(cpo_id: PartyId = CPO, emsp_id: PartyId = MSP, **changes: Any) -> RoamingAgreement:
    made = RoamingAgreement(
        agreement_id=f"{cpo_id.party_id}-{emsp_id.party_id}-1",
        version=1,
        cpo_id=cpo_id,
        emsp_id=emsp_id,
        valid_from=T0 - timedelta(days=30),
        valid_until=None,
        currency="EUR",
        tariff_ids=("W1",),
        tax_regime=TaxRegime.DOMESTIC,
        cdr_deadline_h=48,
        dispute_period_h=72,
        statement_period=StatementPeriod.WEEKLY,
        time_zone="Europe/Amsterdam",
        payment_terms_d=14,
        settlement_mode=SettlementMode.PREFUNDED,
        credit_limit_e4=0,
        signed_meter_policy=SignedMeterPolicy.NOT_REQUIRED,
        cpo_signature="aa",
        emsp_signature="bb",
    )
    return replace(made, **changes)


def signed(agreement: RoamingAgreement, *, holder: PartyId | None = None) -> AgreementSigned:
    return AgreementSigned(
        agreement_id=agreement.agreement_id,
        cpo_id=agreement.cpo_id,
        emsp_id=agreement.emsp_id,
        holder=holder or agreement.emsp_id,
        agreement=agreement,
        signed_at=T0,
    )


def a_cdr(cdr_id: str, cost_e4: int = 15_000, *, wh: int = 5_000, cpo_id: PartyId = CPO, **changes: Any) -> CDR:
    made = replace(
        ORIGINAL,
        party_id=cpo_id,
        cdr_id=cdr_id,
        session_id=cdr_id,
        total_cost=Price(excl_e4=cost_e4),
        total_energy_import_wh=wh,
        ended_at=T0,
    )
    return replace(made, **changes)


def a_credit(original: CDR) -> CDR:
    return credit_of(original, cdr_id=f"{original.cdr_id}-C1", issued_at=T0, remark="taken back")


def accepted(
    cdr: CDR, *, at: datetime = T0, agreement: RoamingAgreement | None = None, commitment: bytes | None = b""
) -> CDRAccepted:
    under = agreement or terms(cdr.party_id)
    return CDRAccepted(
        agreement_id=under.agreement_id,
        cpo_id=under.cpo_id,
        emsp_id=under.emsp_id,
        cdr=cdr,
        accepted_at=at,
        commitment=keccak256(cdr.cdr_id.encode()) if commitment == b"" else commitment,
    )


@dataclass(frozen=True)
class World:
    """The parts of the settlement over one store."""

    ports: Ports
    clock: VirtualClock
    intake: Intake
    closing: Closing

    async def take(self, *events: Event) -> None:
        """Have a batch of events handled in one unit, as the log would."""
        async with self.ports.units.begin() as unit:
            await self.intake.handle(unit, logged(events))
            await unit.commit()

    async def sign(self, *agreements: RoamingAgreement) -> None:
        """Have both parties of agreements, hosted here, sign them, and open them without asking a chain."""
        for each in agreements:
            await self.take(signed(each, holder=each.cpo_id), signed(each, holder=each.emsp_id))
        async with self.ports.units.begin() as unit:
            for opening in await unit.table(OPENING).select():
                name = f"{opening.cpo_id}/{opening.agreement_id}/{opening.version}"
                await unit.table(OPENING).put(replace(opening, book_agreement=keccak256(name.encode())[:8]))
            await unit.commit()

    async def leaves(self) -> list[LeafRecord]:
        async with self.ports.units.begin() as unit:
            return await unit.table(LEAF).select()

    async def statements(self) -> list[StatementRecord]:
        async with self.ports.units.begin() as unit:
            return await unit.table(STATEMENT).select()

    async def told(self, kind: type[Event] = Event) -> list[Any]:
        """Return the settlement's own facts, of one kind or all."""
        events = [logged.envelope.event async for logged in self.ports.event_log.read([SETTLEMENT])]
        return [event for event in events if isinstance(event, kind)]


def logged(events: Iterable[Event]) -> Sequence[LoggedEvent]:
    return [
        LoggedEvent(
            topic=event.topic,
            partition=0,
            offset=place,
            envelope=Envelope(event=event, event_id=f"e{place}", correlation_id="c", recorded_at=T0),
        )
        for place, event in enumerate(events)
    ]


@asynccontextmanager
async def open_world(dsn: str | None = None, *, seed: int = 1) -> AsyncIterator[World]:
    """Open a settlement in memory, or over a database."""
    clock, randomness = VirtualClock(T0), SeededRandomness(seed)
    async with AsyncExitStack() as stack:
        opening: Any = open_memory(master_key=MASTER_KEY, clock=clock, randomness=randomness)
        if dsn is not None:
            opening = open_postgres(dsn, master_key=MASTER_KEY, clock=clock, randomness=randomness)
        stores = await stack.enter_async_context(opening)
        ports = Ports(
            clock=clock,
            timer=LoopTimer(),
            randomness=randomness,
            event_log=stores.event_log,
            units=stores.units,
            vault=stores.vault,
            http=MemoryHttp(),
            signer=Ed25519Signer(MASTER_KEY),
            payments=SandboxPayments(stores.units),
            reconciliation=(MemoryReconciliation if dsn is None else PostgresReconciliation)(stores.units),
        )
        metrics = SettlementMetrics(Metrics())
        yield World(ports=ports, clock=clock, intake=Intake(ports, metrics), closing=Closing(ports, metrics))
