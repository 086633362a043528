"""The consumer that decides on CDRs: verified, accepted and billed, or disputed with the reason sent to the CPO.

Group `driver_mobility` on topic `cdrs`. The CDR's row decides what is still to be done, so an event that comes twice
has no second effect. What nobody decided by the end of the agreement's dispute period counts as accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from emobility.domain.agreement import NoAgreementInForce, RoamingAgreement
from emobility.domain.cdr_check import (
    CDRDecision,
    CDRFault,
    CDRFinding,
    CDRVerdict,
    EarlierCDR,
    check_cdr,
)
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.events.cdr import CDRS as CDR_TOPIC
from emobility.events.cdr import CDRAccepted, CDRDisputed, CDRReceived
from emobility.events.event import LoggedEvent
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.deliveries import Deliveries
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from emobility.runtime.telemetry import Metrics
from services.driver_mobility.billing import bill_cdr, credit_cdr
from services.driver_mobility.facts import fact
from services.driver_mobility.metering import signature_verdict, use_up
from services.driver_mobility.records import (
    CDRS,
    DISPUTE,
    QUOTE,
    SESSION,
    CDRRecord,
    CDRState,
    DisputeRecord,
    QuoteRecord,
)
from services.driver_mobility.terms import agreement_at, known_tariffs, tariff_versions

GROUP: Final = "driver_mobility"
OVERLAP_LOOK_BACK: Final = timedelta(days=31)
"""Earlier CDRs of a token are compared over this stretch; no charge is longer."""
DETAIL_CHARACTERS_MAX: Final = 512

_log = structlog.get_logger(__name__)


class UnknownCDR(RuleBroken):
    """The MSP has no such CDR."""


class AlreadyDecided(RuleBroken):
    """The CDR was accepted or credited before."""


class SessionBilled(RuleBroken):
    """Another CDR of the session is accepted and not credited; a driver pays for a charge once."""


class CDRChecking:
    """Decides on received CDRs, by itself or on an operator's word."""

    def __init__(self, ports: Ports, deliveries: Deliveries, metrics: Metrics) -> None:
        self._ports = ports
        self._deliveries = deliveries
        self._verdicts = metrics.counter(
            "cdr_verdicts_total", "CDRs decided on, by decision and first fault.", ("decision", "fault")
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set."""
        await self._ports.event_log.consume(GROUP, [CDR_TOPIC], self.handle, stop=stop)

    async def handle(self, unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        """Decide on each CDR that an MSP hosted here received."""
        for logged in batch:
            event = logged.envelope.event
            if isinstance(event, CDRReceived):
                await self._decide(unit, event, logged.envelope.correlation_id)

    async def _decide(self, unit: UnitOfWork, event: CDRReceived, correlation_id: str) -> None:
        record = await unit.table(CDRS).get_for_update(event.emsp_id, event.cpo_id, event.cdr.cdr_id)
        if record is None or record.state is not CDRState.RECEIVED:
            return
        verdict = await self._verify(unit, record)
        first_fault = verdict.faults[0].value if verdict.faults else "NONE"
        self._verdicts.labels(decision=verdict.decision.value, fault=first_fault).inc()
        if verdict.decision is CDRDecision.ACCEPT:
            await self._accept(unit, record, correlation_id=correlation_id)
        else:
            await self._dispute(unit, record, verdict.findings, correlation_id=correlation_id)

    async def _verify(self, unit: UnitOfWork, record: CDRRecord) -> CDRVerdict:
        cdr, emsp_id = record.cdr, record.party_id
        agreement = await self._agreement(unit, record)
        versions = await tariff_versions(unit, emsp_id, cdr.party_id, cdr.tariff.tariff_id)
        session = await unit.table(SESSION).get(emsp_id, cdr.party_id, cdr.session_id)
        verdict = check_cdr(
            cdr,
            agreement=agreement,
            known_tariffs=known_tariffs(versions, cdr.started_at),
            session=None if session is None else session.session,
            earlier_cdrs=await self._earlier(unit, record),
            signature_verdict=await signature_verdict(unit, self._ports.vault, emsp_id, cdr),
            received_at=record.received_at,
        )
        if cdr.is_credit or await quote_of_cdr(unit, record) is not None:
            return verdict
        unknown = CDRFinding(fault=CDRFault.TOKEN_UNKNOWN, detail="the token is no token of this MSP")
        return replace(verdict, decision=CDRDecision.DISPUTE, findings=(*verdict.findings, unknown))

    async def _agreement(self, unit: UnitOfWork, record: CDRRecord) -> RoamingAgreement | None:
        try:
            return await agreement_at(unit, record.party_id, record.cpo_id, record.started_at)
        except NoAgreementInForce:
            return None

    async def _earlier(self, unit: UnitOfWork, record: CDRRecord) -> list[EarlierCDR]:
        """Return CDRs of the same session, of the same token around that time, and a credit's original."""
        table = unit.table(CDRS)
        same_session = await table.select(
            {"party_id": record.party_id, "cpo_id": record.cpo_id, "session_id": record.session_id}
        )
        same_token = await table.select(
            {"party_id": record.party_id, "token_subject": record.token_subject},
            since=("started_at", record.started_at - OVERLAP_LOOK_BACK),
            before=("started_at", record.ended_at),
        )
        found = {(row.cpo_id, row.cdr_id): row for row in (*same_session, *same_token)}
        return [
            EarlierCDR(cdr=row.cdr, is_credited=row.credited_by is not None)
            for key, row in found.items()
            if key != (record.cpo_id, record.cdr_id) and _stands_before(row, record)
        ]

    async def _accept(
        self, unit: UnitOfWork, record: CDRRecord, *, correlation_id: str, is_deemed: bool = False
    ) -> None:
        now = self._ports.clock.now()
        if not record.cdr.is_credit:
            await use_up(unit, self._ports.vault, record.party_id, record.cdr)
        await unit.table(CDRS).put(replace(record, state=CDRState.ACCEPTED, is_deemed=is_deemed))
        event = CDRAccepted(
            agreement_id=record.agreement_id,
            cpo_id=record.cpo_id,
            emsp_id=record.party_id,
            cdr=record.cdr,
            accepted_at=now,
            is_deemed=is_deemed,
        )
        parts = (record.party_id.code, record.cpo_id.code, record.cdr_id)
        unit.emit(fact(event, *parts, correlation_id=correlation_id, at=now))
        if record.cdr.is_credit:
            await self._credit(unit, record, correlation_id=correlation_id, at=now)
            return
        quote = await quote_of_cdr(unit, record)
        if quote is None:
            raise AssertionError(f"CDR {record.cdr_id} was accepted without a driver to bill")
        await bill_cdr(unit, quote, record.cdr, correlation_id=correlation_id, at=now)

    async def _credit(self, unit: UnitOfWork, record: CDRRecord, *, correlation_id: str, at: datetime) -> None:
        """Match a credit with its original: the bill is taken back, a dispute over it ends."""
        original = await unit.table(CDRS).get_for_update(record.party_id, record.cpo_id, record.cdr.credit_reference_id)
        if original is None:
            raise AssertionError(f"credit {record.cdr_id} was accepted without its original")
        await unit.table(CDRS).put(replace(original, state=CDRState.CREDITED, credited_by=record.cdr_id))
        await self._resolve(unit, original, resolution=f"credited by {record.cdr_id}")
        await credit_cdr(
            unit,
            original.cdr,
            emsp_id=record.party_id,
            credit_id=record.cdr_id,
            correlation_id=correlation_id,
            at=at,
        )

    async def _resolve(self, unit: UnitOfWork, original: CDRRecord, *, resolution: str) -> None:
        dispute = await unit.table(DISPUTE).get(original.party_id, original.cpo_id, original.cdr_id)
        if dispute is not None:
            await unit.table(DISPUTE).put(replace(dispute, resolution=resolution))

    async def _dispute(
        self, unit: UnitOfWork, record: CDRRecord, findings: tuple[CDRFinding, ...], *, correlation_id: str
    ) -> None:
        now = self._ports.clock.now()
        await unit.table(CDRS).put(replace(record, state=CDRState.DISPUTED, findings=findings))
        dispute = DisputeRecord(
            party_id=record.party_id,
            cpo_id=record.cpo_id,
            cdr_id=record.cdr_id,
            findings=findings,
            disputed_at=now,
            resolution=None,
        )
        await unit.table(DISPUTE).put(dispute)
        first, detail = findings[0], _detail(findings)
        event = CDRDisputed(
            agreement_id=record.agreement_id,
            cpo_id=record.cpo_id,
            emsp_id=record.party_id,
            cdr_id=record.cdr_id,
            reason=first.fault.value,
            detail=detail,
            disputed_at=now,
            expected_e4=first.expected_e4,
            stated_e4=first.stated_e4,
        )
        parts = (record.party_id.code, record.cpo_id.code, record.cdr_id)
        unit.emit(fact(event, *parts, correlation_id=correlation_id, at=now))
        body = v221.Dispute(
            cdr_id=record.cdr_id,
            reason=first.fault.value,
            detail=detail,
            expected_e4=first.expected_e4,
            stated_e4=first.stated_e4,
        )
        await self._deliveries.enqueue(
            unit,
            own_party=record.party_id,
            to_party=record.cpo_id,
            method="POST",
            module=ModuleID.DISPUTES,
            interface_role=InterfaceRole.RECEIVER,
            path="",
            object_key=f"dispute/{record.cdr_id}",
            body=body,
            correlation_id=correlation_id,
            is_replaceable=False,
        )
        _log.warning("cdr_disputed", emsp=record.party_id.code, cpo=record.cpo_id.code, cdr_id=record.cdr_id)

    # An operator's word, and nobody's

    async def accept_by_operator(self, emsp_id: PartyId, cpo_id: PartyId, cdr_id: str) -> None:
        """Withdraw a quarrel and accept what was disputed.

        Raises:
            UnknownCDR: there is none.
            AlreadyDecided: it was accepted or credited before, or is no driver's.
            SessionBilled: another CDR of its session stands.
            SignedRecordReused: its signed records proved another session.
        """
        async with self._ports.units.begin() as unit:
            record = await self._record(unit, emsp_id, cpo_id, cdr_id)
            if record.state not in {CDRState.RECEIVED, CDRState.DISPUTED} or record.cdr.is_credit:
                raise AlreadyDecided(f"CDR {cdr_id} is {record.state}")
            if await quote_of_cdr(unit, record) is None:
                raise AlreadyDecided(f"CDR {cdr_id} belongs to no driver of {emsp_id}")
            await _refuse_second_of_session(unit, record)
            await self._resolve(unit, record, resolution="accepted by the MSP's operator")
            await self._accept(unit, record, correlation_id=self._ports.randomness.uuid())
            await unit.commit()

    async def dispute_by_operator(self, emsp_id: PartyId, cpo_id: PartyId, cdr_id: str, finding: CDRFinding) -> None:
        """Quarrel with a CDR that is not decided yet. Raises `UnknownCDR`, `AlreadyDecided`."""
        async with self._ports.units.begin() as unit:
            record = await self._record(unit, emsp_id, cpo_id, cdr_id)
            if record.state is not CDRState.RECEIVED:
                raise AlreadyDecided(f"CDR {cdr_id} is {record.state}")
            await self._dispute(unit, record, (finding,), correlation_id=self._ports.randomness.uuid())
            await unit.commit()

    async def _record(self, unit: UnitOfWork, emsp_id: PartyId, cpo_id: PartyId, cdr_id: str) -> CDRRecord:
        record = await unit.table(CDRS).get_for_update(emsp_id, cpo_id, cdr_id)
        if record is None:
            raise UnknownCDR(cdr_id)
        return record

    async def deem_accepted(self, emsp_id: PartyId) -> int:
        """Accept what nobody decided by the end of its dispute period; return how many."""
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            due = await unit.table(CDRS).select(
                {"party_id": emsp_id, "state": CDRState.RECEIVED}, before=("decide_by", now)
            )
            deemed = 0
            for row in due:
                record = await self._record(unit, emsp_id, row.cpo_id, row.cdr_id)
                is_open = record.state is CDRState.RECEIVED and not record.cdr.is_credit
                if is_open and await quote_of_cdr(unit, record) is not None:
                    await self._accept(unit, record, correlation_id=self._ports.randomness.uuid(), is_deemed=True)
                    deemed += 1
            await unit.commit()
        return deemed

    async def next_deadline(self, emsp_id: PartyId) -> datetime | None:
        """Return when the earliest undecided CDR counts as accepted."""
        async with self._ports.units.begin() as unit:
            waiting = await unit.table(CDRS).select(
                {"party_id": emsp_id, "state": CDRState.RECEIVED}, order_by=("decide_by",), limit=1
            )
        return waiting[0].decide_by if waiting else None


async def quote_of_cdr(unit: UnitOfWork, record: CDRRecord) -> QuoteRecord | None:
    """Return the quote a CDR is billed under, locked; None: its token is nobody's here."""
    return None if record.quote_id is None else await unit.table(QUOTE).get_for_update(record.party_id, record.quote_id)


async def _refuse_second_of_session(unit: UnitOfWork, record: CDRRecord) -> None:
    """The quote that both are billed under is locked by now, so two accepted at once wait for each other."""
    same_session = await unit.table(CDRS).select(
        {
            "party_id": record.party_id,
            "cpo_id": record.cpo_id,
            "session_id": record.session_id,
            "state": CDRState.ACCEPTED,
        }
    )
    for other in same_session:
        if other.cdr_id != record.cdr_id and not other.cdr.is_credit and other.credited_by is None:
            raise SessionBilled(f"CDR {other.cdr_id} charges session {record.session_id} and is not credited")


def _stands_before(row: CDRRecord, record: CDRRecord) -> bool:
    """Compare with what is owed or may be: of two that exclude each other the one that came first stands."""
    if row.cdr.is_credit or record.cdr.is_credit:
        return True
    if row.state is CDRState.DISPUTED and row.session_id != record.session_id:
        return False
    return (row.received_at, row.cdr_id) < (record.received_at, record.cdr_id) or row.state is CDRState.ACCEPTED


def _detail(findings: Sequence[CDRFinding]) -> str:
    text = "; ".join(f"{finding.fault}: {finding.detail}" for finding in findings)
    return text[:DETAIL_CHARACTERS_MAX]
