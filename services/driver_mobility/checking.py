"""The consumer that decides on CDRs: verified, accepted and billed, or disputed with the reason sent to the CPO.

Group `driver_mobility` on topic `cdrs`. The CDR's row decides what is still to be done, so an event that comes twice
has no second effect. One that overtook what it needs (a credit its original, a replacement the credit or the session)
waits and is looked at again when more arrives, so the order of arrival decides nothing; it is disputed before the
agreement's dispute period ends. What nobody looked at by then counts as accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.agreement import answer_due_at
from emobility.domain.cdr_check import (
    ARRIVAL_FAULTS,
    EVSE_SLACK,
    CDRDecision,
    CDRFault,
    CDRFinding,
    CDRVerdict,
    EarlierCDR,
    SignatureVerdict,
    check_cdr,
)
from emobility.domain.clause import clause_broken, clause_of, clause_of_acceptance
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.events.cdr import CDRS as CDR_TOPIC
from emobility.events.cdr import CDRAccepted, CDRReceived, CDRWithdrawn
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.deliveries import Deliveries
from emobility.runtime.telemetry import Metrics
from services.driver_mobility.billing import bill_cdr, credit_cdr
from services.driver_mobility.disputing import Disputes, agreement_of
from services.driver_mobility.evidence import keep_evidence
from services.driver_mobility.facts import fact
from services.driver_mobility.metering import SignedRecordReused, signature_verdict, use_up
from services.driver_mobility.quoting import end_unbilled
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
from services.driver_mobility.session_quotes import frozen_hashes
from services.driver_mobility.sweeping import deal_with_each
from services.driver_mobility.terms import known_tariffs, tariff_versions

GROUP: Final = "driver_mobility"
LAST_LOOK: Final = timedelta(hours=1)
"""How long before its dispute period ends a CDR that waits is disputed: some sweeps and the delivery fit in between."""
NEVER_DEEMED: Final = frozenset(
    {
        CDRFault.NO_AGREEMENT_IN_FORCE,
        CDRFault.NOT_PRICEABLE,
        CDRFault.SESSION_CHARGED_TWICE,
        CDRFault.METER_RECORD_REUSED,
        CDRFault.TOKEN_UNKNOWN,
    }
)
"""What silence does not make owed: no agreement says so, there is no amount, it was charged before, or nobody drove."""

BY_OPERATOR: Final = "the word of the MSP's operator"
"""What the acceptance of a disputed CDR rests on."""

SessionKey = tuple[PartyId, PartyId, str]
"""MSP, CPO and the CPO's number of a session."""


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
        self._disputes = Disputes(ports, deliveries)
        self._verdicts = metrics.counter(
            "cdr_verdicts_total", "CDRs decided on, by decision and first fault.", ("decision", "fault")
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set."""
        await self._ports.event_log.consume(GROUP, [CDR_TOPIC], self.handle, stop=stop)

    async def handle(self, unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        """Decide on each CDR that an MSP hosted here received, and on what waited for it."""
        for logged in batch:
            event = logged.envelope.event
            if isinstance(event, CDRReceived):
                session = event.emsp_id, event.cpo_id, event.cdr.session_id
                await self._look(unit, session, logged.envelope.correlation_id, arrived=event.cdr.cdr_id)

    async def look_again(self, emsp_id: PartyId, cpo_id: PartyId, session_id: str) -> None:
        """Decide on what waited for the session, which was pushed just now. No unit may be open."""
        async with self._ports.units.begin() as unit:
            await self._look(unit, (emsp_id, cpo_id, session_id), self._ports.randomness.uuid())
            await unit.commit()

    async def _look(
        self, unit: UnitOfWork, session: SessionKey, correlation_id: str, *, arrived: str | None = None
    ) -> None:
        """Decide on the CDR that arrived and on what waits of its session.

        Credits come first: one that waited for the original takes it back before it is billed, and makes room for the
        replacement.
        """
        locked = await _lock_cdrs_of(unit, session)
        for each in sorted(locked, key=lambda row: (not row.cdr.is_credit, row.received_at, row.cdr_id)):
            record = await self._record(unit, each.party_id, each.cpo_id, each.cdr_id)
            if _waits(record) or (record.cdr_id == arrived and record.state is CDRState.RECEIVED):
                await self._decide(unit, record, correlation_id)

    async def _decide(self, unit: UnitOfWork, record: CDRRecord, correlation_id: str) -> None:
        verdict, proven = await self._verify(unit, record)
        if verdict.decision is CDRDecision.ACCEPT:
            await self._disputes.resolve(unit, record, resolution="what it had overtaken arrived")
            accepted = replace(record, findings=(), clause=verdict.clause)
            await self._accept(unit, accepted, proven=proven, correlation_id=correlation_id)
        elif record.state is CDRState.DISPUTED:
            return
        elif verdict.decision is CDRDecision.WAIT:
            waits = replace(record, state=CDRState.WAITING, findings=verdict.findings, clause=verdict.clause)
            await unit.table(CDRS).put(waits)
            return
        else:
            await self._disputes.raise_over(
                unit, record, verdict.findings, correlation_id=correlation_id, repriced=verdict.repriced
            )
        first_fault = verdict.faults[0].value if verdict.faults else "NONE"
        self._verdicts.labels(decision=verdict.decision.value, fault=first_fault).inc()

    async def _verify(self, unit: UnitOfWork, record: CDRRecord) -> tuple[CDRVerdict, Sequence[str]]:
        """Return the verdict, and what the meter signed by its hashes."""
        cdr, emsp_id = record.cdr, record.party_id
        agreement = await agreement_of(unit, record)
        versions = await tariff_versions(unit, emsp_id, cdr.party_id, cdr.tariff.tariff_id)
        session = await unit.table(SESSION).get(emsp_id, cdr.party_id, cdr.session_id)
        quote = await quote_of_cdr(unit, record)
        signed = await signature_verdict(
            unit, self._ports.vault, emsp_id, cdr, retail=None if quote is None else quote.quote.tariff
        )
        verdict = check_cdr(
            cdr,
            agreement=agreement,
            known_tariffs=known_tariffs(versions, cdr.charging_started_at),
            frozen_hashes=() if quote is None else await frozen_hashes(unit, quote, cdr),
            session=None if session is None else session.session,
            earlier_cdrs=await self._earlier(unit, record),
            signature_verdict=signed.verdict,
            received_at=record.received_at,
            may_wait=self._ports.clock.now() < record.decide_by - LAST_LOOK,
        )
        if cdr.is_credit or quote is not None:
            return verdict, signed.hashes
        unknown = CDRFinding(
            fault=CDRFault.TOKEN_UNKNOWN,
            detail="the token is no token of this MSP",
            clause=clause_broken(CDRFault.TOKEN_UNKNOWN, agreement),
        )
        findings = (*verdict.findings, unknown)
        clause = findings[0].clause or verdict.clause
        return replace(verdict, decision=CDRDecision.DISPUTE, findings=findings, clause=clause), signed.hashes

    async def _earlier(self, unit: UnitOfWork, record: CDRRecord) -> list[EarlierCDR]:
        """Return CDRs of the same session, of the same token or EVSE at that time, and a credit's original."""
        table = unit.table(CDRS)
        same_session = await table.select(
            {"party_id": record.party_id, "cpo_id": record.cpo_id, "session_id": record.session_id}
        )
        same_token = await table.select(
            {"party_id": record.party_id, "token_subject": record.token_subject},
            since=("ended_at", record.started_at),
            before=("started_at", record.ended_at),
        )
        same_evse = await table.select(
            {"party_id": record.party_id, "cpo_id": record.cpo_id, "evse_uid": record.cdr.location.evse_uid},
            since=("ended_at", record.started_at + EVSE_SLACK),
            before=("started_at", record.ended_at),
        )
        found = {(row.cpo_id, row.cdr_id): row for row in (*same_session, *same_token, *same_evse)}
        return [
            EarlierCDR(cdr=row.cdr, is_credited=row.credited_by is not None)
            for key, row in found.items()
            if key != (record.cpo_id, record.cdr_id) and _stands_before(row, record)
        ]

    async def _accept(
        self,
        unit: UnitOfWork,
        record: CDRRecord,
        *,
        proven: Sequence[str],
        correlation_id: str,
        is_deemed: bool = False,
    ) -> None:
        """Accept a CDR; `proven`: what the meter signed, by its hashes."""
        now = self._ports.clock.now()
        accepted = replace(record, state=CDRState.ACCEPTED, is_deemed=is_deemed)
        await unit.table(CDRS).put(accepted)
        if record.cdr.is_credit:
            await self._credit(unit, accepted, correlation_id=correlation_id, at=now)
            return
        await use_up(unit, record.party_id, record.cdr, proven)
        quote = await quote_of_cdr(unit, record)
        if quote is None:
            raise AssertionError(f"CDR {record.cdr_id} was accepted without a driver to bill")
        await self._tell_accepted(unit, accepted, quote, correlation_id=correlation_id, at=now)
        await bill_cdr(unit, quote, record.cdr, correlation_id=correlation_id, at=now)

    async def _credit(self, unit: UnitOfWork, record: CDRRecord, *, correlation_id: str, at: datetime) -> None:
        """Match a credit with its original: the bill is taken back, a dispute over it ends."""
        original = await unit.table(CDRS).get_for_update(record.party_id, record.cpo_id, record.cdr.credit_reference_id)
        if original is None:
            raise AssertionError(f"credit {record.cdr_id} was accepted without its original")
        quote = await quote_of_cdr(unit, original)
        if original.state is CDRState.ACCEPTED:
            await self._tell_accepted(unit, record, quote, correlation_id=correlation_id, at=at)
        else:
            unit.emit(_withdrawn(record, correlation_id=correlation_id, at=at))
        await unit.table(CDRS).put(replace(original, state=CDRState.CREDITED, credited_by=record.cdr_id))
        await self._disputes.resolve(unit, original, resolution=f"credited by {record.cdr_id}")
        if quote is not None:
            await end_unbilled(unit, quote, reason="the charge was taken back", at=at)
        await credit_cdr(
            unit,
            original.cdr,
            emsp_id=record.party_id,
            credit_id=record.cdr_id,
            correlation_id=correlation_id,
            at=at,
        )

    async def _tell_accepted(
        self, unit: UnitOfWork, record: CDRRecord, quote: QuoteRecord | None, *, correlation_id: str, at: datetime
    ) -> None:
        """Enter the fact that the MSP owes what a CDR says, or that much less where it is a credit."""
        kept = None if quote is None else await keep_evidence(unit, self._ports, quote, record.cdr)
        event = CDRAccepted(
            agreement_id=record.agreement_id,
            cpo_id=record.cpo_id,
            emsp_id=record.party_id,
            cdr=record.cdr,
            accepted_at=at,
            is_deemed=record.is_deemed,
            commitment=None if kept is None else kept.record,
            meter=None if kept is None else kept.meter,
        )
        parts = (record.party_id.code, record.cpo_id.code, record.cdr_id)
        unit.emit(fact(event, *parts, correlation_id=correlation_id, at=at))

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
            record = await self._locked_record(unit, emsp_id, cpo_id, cdr_id)
            if record.state not in _UNDECIDED | {CDRState.DISPUTED} or record.cdr.is_credit:
                raise AlreadyDecided(f"CDR {cdr_id} is {record.state}")
            if await quote_of_cdr(unit, record) is None:
                raise AlreadyDecided(f"CDR {cdr_id} belongs to no driver of {emsp_id}")
            await _refuse_second_of_session(unit, record)
            signed = await signature_verdict(unit, self._ports.vault, emsp_id, record.cdr)
            if signed.verdict is SignatureVerdict.REUSED:
                raise SignedRecordReused(f"a signed record of CDR {cdr_id} proved another session")
            await self._disputes.resolve(unit, record, resolution="accepted by the MSP's operator")
            overruled = replace(record, clause=BY_OPERATOR)
            await self._accept(unit, overruled, proven=signed.hashes, correlation_id=self._ports.randomness.uuid())
            await unit.commit()

    async def dispute_by_operator(self, emsp_id: PartyId, cpo_id: PartyId, cdr_id: str, finding: CDRFinding) -> None:
        """Quarrel with a CDR that is not decided yet. Raises `UnknownCDR`, `AlreadyDecided`."""
        async with self._ports.units.begin() as unit:
            record = await self._locked_record(unit, emsp_id, cpo_id, cdr_id)
            if record.state not in _UNDECIDED:
                raise AlreadyDecided(f"CDR {cdr_id} is {record.state}")
            cited = replace(finding, clause=clause_broken(finding.fault, await agreement_of(unit, record)))
            await self._disputes.raise_over(unit, record, (cited,), correlation_id=self._ports.randomness.uuid())
            await unit.commit()

    async def _locked_record(self, unit: UnitOfWork, emsp_id: PartyId, cpo_id: PartyId, cdr_id: str) -> CDRRecord:
        """Return a CDR; what decides on any other of its session waits until this unit ends. Raises `UnknownCDR`."""
        seen = await unit.table(CDRS).get(emsp_id, cpo_id, cdr_id)
        if seen is not None:
            await _lock_cdrs_of(unit, (emsp_id, cpo_id, seen.session_id))
        return await self._record(unit, emsp_id, cpo_id, cdr_id)

    async def _record(self, unit: UnitOfWork, emsp_id: PartyId, cpo_id: PartyId, cdr_id: str) -> CDRRecord:
        record = await unit.table(CDRS).get_for_update(emsp_id, cpo_id, cdr_id)
        if record is None:
            raise UnknownCDR(cdr_id)
        return record

    async def end_waiting(self, emsp_id: PartyId) -> int:
        """Look a last time at what waits and dispute it while its dispute period still runs; return how many."""
        before = self._ports.clock.now() + LAST_LOOK
        async with self._ports.units.begin() as unit:
            due = await unit.table(CDRS).select(
                {"party_id": emsp_id, "state": CDRState.WAITING}, before=("decide_by", before)
            )
        return await deal_with_each(due, self._look_a_last_time, name=_name)

    async def _look_a_last_time(self, row: CDRRecord) -> bool:
        await self.look_again(row.party_id, row.cpo_id, row.session_id)
        return True

    async def end_unanswered(self, emsp_id: PartyId) -> int:
        """Let disputes stand that their CPO did not answer in the time agreed; return how many.

        What is disputed is not owed then; a credit that comes all the same ends the CDR as ever.
        """
        async with self._ports.units.begin() as unit:
            due = await unit.table(DISPUTE).select(
                {"party_id": emsp_id, "resolution": None}, before=("answer_by", self._ports.clock.now())
            )
        return await deal_with_each(due, self._end_unanswered, name=lambda row: f"dispute {row.cpo_id}/{row.cdr_id}")

    async def _end_unanswered(self, row: DisputeRecord) -> bool:
        async with self._ports.units.begin() as unit:
            record = await self._locked_record(unit, row.party_id, row.cpo_id, row.cdr_id)
            agreement = await agreement_of(unit, record)
            due_at = None if agreement is None else answer_due_at(agreement, row.disputed_at)
            if record.state is not CDRState.DISPUTED:
                return False
            if due_at is None or due_at > self._ports.clock.now():
                await self._disputes.set_answer_by(unit, record, due_at)
                await unit.commit()
                return False
            assert agreement is not None, "the time is a term of it"
            why = f"not answered in time, so it is not owed: {clause_of(agreement, 'dispute_answer_h')}"
            await self._disputes.resolve(unit, record, resolution=why)
            await unit.commit()
        return True

    async def deem_accepted(self, emsp_id: PartyId) -> int:
        """Accept what nobody looked at by the end of its dispute period; return how many."""
        async with self._ports.units.begin() as unit:
            due = await unit.table(CDRS).select(
                {"party_id": emsp_id, "state": CDRState.RECEIVED}, before=("decide_by", self._ports.clock.now())
            )
        return await deal_with_each([row for row in due if not row.cdr.is_credit], self._deem_accepted, name=_name)

    async def _deem_accepted(self, row: CDRRecord) -> bool:
        """Accept a CDR, unless its driver would pay twice or can't be billed: no lapse of time makes that owed."""
        async with self._ports.units.begin() as unit:
            record = await self._locked_record(unit, row.party_id, row.cpo_id, row.cdr_id)
            if record.state is not CDRState.RECEIVED:
                return False
            correlation_id = self._ports.randomness.uuid()
            verdict, proven = await self._verify(unit, record)
            never = [finding for finding in verdict.findings if finding.fault in NEVER_DEEMED]
            if never:
                await self._disputes.raise_over(unit, record, tuple(never), correlation_id=correlation_id)
            else:
                agreement = await agreement_of(unit, record)
                clause = clause_of_acceptance(agreement, is_credit=record.cdr.is_credit, is_deemed=True)
                silent = replace(record, clause=clause)
                await self._accept(unit, silent, proven=proven, correlation_id=correlation_id, is_deemed=True)
            await unit.commit()
        return not never


async def quote_of_cdr(unit: UnitOfWork, record: CDRRecord) -> QuoteRecord | None:
    """Return the quote a CDR is billed under, locked; None: its token is nobody's here."""
    return None if record.quote_id is None else await unit.table(QUOTE).get_for_update(record.party_id, record.quote_id)


async def _lock_cdrs_of(unit: UnitOfWork, session: SessionKey) -> list[CDRRecord]:
    """Lock all CDRs of a session, in the order of their ids, so that two who decide on it never wait in a circle."""
    table = unit.table(CDRS)
    emsp_id, cpo_id, session_id = session
    rows = await table.select({"party_id": emsp_id, "cpo_id": cpo_id, "session_id": session_id}, order_by=("cdr_id",))
    locked = [await table.get_for_update(emsp_id, cpo_id, row.cdr_id) for row in rows]
    return [row for row in locked if row is not None]


def _withdrawn(credit: CDRRecord, *, correlation_id: str, at: datetime) -> Envelope:
    """The fact that a credit ended what was never owed."""
    original_id = credit.cdr.credit_reference_id
    assert original_id is not None
    event = CDRWithdrawn(
        agreement_id=credit.agreement_id,
        cpo_id=credit.cpo_id,
        emsp_id=credit.party_id,
        cdr_id=original_id,
        credit_id=credit.cdr_id,
        withdrawn_at=at,
    )
    parts = (credit.party_id.code, credit.cpo_id.code, original_id)
    return fact(event, *parts, correlation_id=correlation_id, at=at)


def _name(record: CDRRecord) -> str:
    return f"CDR {record.cpo_id}/{record.cdr_id} at {record.party_id}"


def _waits(record: CDRRecord) -> bool:
    """Tell whether more arriving may change what was found; a dispute over nothing else was a wait in vain."""
    if record.state is CDRState.DISPUTED:
        return all(finding.fault in ARRIVAL_FAULTS for finding in record.findings)
    return record.state is CDRState.WAITING


_UNDECIDED: Final = frozenset({CDRState.RECEIVED, CDRState.WAITING})


async def _refuse_second_of_session(unit: UnitOfWork, record: CDRRecord) -> None:
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
    is_same_session = (row.cpo_id, row.session_id) == (record.cpo_id, record.session_id)
    if row.state in {CDRState.DISPUTED, CDRState.WAITING} and not is_same_session:
        return False
    return (row.received_at, row.cdr_id) < (record.received_at, record.cdr_id) or row.state is CDRState.ACCEPTED
