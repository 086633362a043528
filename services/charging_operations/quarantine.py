"""Quarantine: energy that can't be trusted waits here with its reasons until someone answers for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from emobility.domain.charging_periods import whole_second
from emobility.domain.identifiers import PartyId
from emobility.domain.session import ChargingPeriod
from emobility.domain.transaction import Metered
from emobility.domain.transaction_faults import Fault, without_clock
from emobility.events.cdr import QuarantineResolved, SessionQuarantined
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.ad_hoc_records import AD_HOC_SALE
from services.charging_operations.cdrs import CDRDesk, billable_periods, live_cdr, too_large
from services.charging_operations.office import NotAllowedNow, NotFound, NotUnderstood, Office
from services.charging_operations.opening import Opening
from services.charging_operations.proof import NOT_SIGNED, Proof, prove, remark_of, use_up
from services.charging_operations.records import (
    CDRS,
    QUARANTINE,
    SESSION,
    TRANSACTION,
    CDRRecord,
    QuarantineRecord,
    QuarantineState,
    SessionRecord,
    TransactionRecord,
    TransactionState,
    session_id_for,
)
from services.charging_operations.stations import evse_at

SENTENCE_CHARACTERS_MAX: Final = 500


class Outcome(StrEnum):
    """What someone decides."""

    BILL = "BILL"
    WAIVE = "WAIVE"
    WRITE_OFF = "WRITE_OFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """A decision, by whom and why.

    With BILL, `proven_import_wh` and `proven_export_wh` (all of it when absent) go into a CDR; the rest becomes what
    `rest` says.
    """

    outcome: Outcome
    who: str
    why: str
    proven_import_wh: int | None = None
    proven_export_wh: int | None = None
    rest: Outcome = Outcome.WAIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineDesk:
    """Keeps the queue."""

    office: Office
    cdrs: CDRDesk
    opening: Opening

    async def enter(
        self,
        unit: UnitOfWork,
        record: TransactionRecord,
        found: Sequence[Fault],
        energy: Metered,
        *,
        correlation_id: str,
    ) -> QuarantineRecord:
        """Put energy of a transaction into the queue."""
        session_id = session_id_for(record)
        row = QuarantineRecord(
            party_id=record.party_id,
            quarantine_id=f"{session_id}-Q{len(await quarantine_of(unit, record)) + 1}",
            session_id=session_id,
            charging_station_id=record.charging_station_id,
            transaction_id=record.transaction_id,
            state=QuarantineState.OPEN,
            reasons=tuple(fault.reason.value for fault in found),
            details=tuple(fault.detail[:SENTENCE_CHARACTERS_MAX] for fault in found),
            energy_import_wh=energy.import_wh,
            energy_export_wh=energy.export_wh,
            quarantined_at=self.office.now(),
        )
        await unit.table(QUARANTINE).insert(row)
        self.office.metrics.quarantined(row.reasons[0] if row.reasons else "NONE", energy.import_wh)
        self._emit_entry(unit, row, correlation_id=correlation_id)
        return row

    async def resolve(
        self,
        unit: UnitOfWork,
        party_id: PartyId,
        quarantine_id: str,
        resolution: Resolution,
        *,
        correlation_id: str,
        proof: Proof | None = None,
    ) -> QuarantineRecord:
        """Decide on a row, once; `proof` is what a CDR out of it shows, None: what the signed records prove now.

        Raises:
            NotFound: there is no such row.
            NotAllowedNow: it was resolved before, or there is nobody to bill.
            NotUnderstood: more is to be billed than waits, or nobody says who and why.
        """
        row = await unit.table(QUARANTINE).get(party_id, quarantine_id)
        if row is not None:
            # The transaction first, as a late report that heals it does: neither waits for the other for ever.
            await unit.table(TRANSACTION).get_for_update(party_id, row.charging_station_id, row.transaction_id)
            row = await unit.table(QUARANTINE).get_for_update(party_id, quarantine_id)
        if row is None:
            raise NotFound(f"no quarantine {quarantine_id}")
        if row.state is not QuarantineState.OPEN:
            raise NotAllowedNow(f"{quarantine_id} is {row.state}")
        resolved = self._resolved(row, resolution)
        if resolution.outcome is Outcome.BILL:
            await self._bill(unit, resolved, proof, correlation_id=correlation_id)
        await self._close(unit, resolved, correlation_id=correlation_id)
        return resolved

    async def take_back(
        self,
        unit: UnitOfWork,
        record: TransactionRecord,
        fault: Fault,
        *,
        credited: Metered,
        replaced: Metered,
        who: str,
        correlation_id: str,
    ) -> QuarantineRecord:
        """Account for the energy of a credited CDR: what no replacement bills again is waived."""
        entered = await self.enter(unit, record, [fault], credited, correlation_id=correlation_id)
        billed = replaced.import_wh or replaced.export_wh
        resolution = Resolution(
            outcome=Outcome.BILL if billed else Outcome.WAIVE,
            who=who,
            why=fault.detail,
            proven_import_wh=replaced.import_wh,
            proven_export_wh=replaced.export_wh,
        )
        resolved = self._resolved(entered, resolution)
        await self._close(unit, resolved, correlation_id=correlation_id)
        return resolved

    def _resolved(self, row: QuarantineRecord, resolution: Resolution) -> QuarantineRecord:
        if not resolution.who.strip() or not resolution.why.strip():
            raise NotUnderstood("a decision names who made it and why")
        if resolution.rest is Outcome.BILL:
            raise NotUnderstood("the rest is waived or written off")
        is_bill = resolution.outcome is Outcome.BILL
        import_wh, export_wh = resolution.proven_import_wh, resolution.proven_export_wh
        billed_import = (row.energy_import_wh if import_wh is None else import_wh) if is_bill else 0
        billed_export = (row.energy_export_wh if export_wh is None else export_wh) if is_bill else 0
        if not (0 <= billed_import <= row.energy_import_wh and 0 <= billed_export <= row.energy_export_wh):
            raise NotUnderstood(f"{row.energy_import_wh} Wh in and {row.energy_export_wh} Wh out wait, not more")
        rest_import, rest_export = row.energy_import_wh - billed_import, row.energy_export_wh - billed_export
        rest = resolution.rest if is_bill else resolution.outcome
        is_waived = rest is Outcome.WAIVE
        state = {
            Outcome.BILL: QuarantineState.BILLED,
            Outcome.WAIVE: QuarantineState.WAIVED,
            Outcome.WRITE_OFF: QuarantineState.WRITTEN_OFF,
        }[resolution.outcome]
        return replace(
            row,
            state=state,
            billed_import_wh=billed_import,
            billed_export_wh=billed_export,
            waived_import_wh=rest_import if is_waived else 0,
            waived_export_wh=rest_export if is_waived else 0,
            written_off_import_wh=0 if is_waived else rest_import,
            written_off_export_wh=0 if is_waived else rest_export,
            resolved_at=self.office.now(),
            resolved_by=resolution.who[:SENTENCE_CHARACTERS_MAX],
            resolved_why=resolution.why[:SENTENCE_CHARACTERS_MAX],
        )

    async def _bill(self, unit: UnitOfWork, row: QuarantineRecord, proof: Proof | None, *, correlation_id: str) -> None:
        record = await unit.table(TRANSACTION).get_for_update(row.party_id, row.charging_station_id, row.transaction_id)
        if record is None:
            raise NotAllowedNow(f"transaction {row.transaction_id} is not known")
        session = await self._session(unit, record)
        standing = await live_cdr(unit, session)
        if proof is None:
            proof = await self._proof(unit, record, standing)
        energy = Metered(import_wh=row.billed_import_wh, export_wh=row.billed_export_wh)
        if standing is not None:
            # One CDR per session: what is proven now is billed together with what was billed before.
            energy = Metered(
                import_wh=energy.import_wh + standing.energy_import_wh,
                export_wh=energy.export_wh + standing.energy_export_wh,
            )
            remark = remark_of(f"replaced: {row.resolved_why}")
            await self.cdrs.credit(unit, session, standing, remark=remark, correlation_id=correlation_id)
        ended_at = whole_second(record.transaction.last_at)
        periods = proof.provable(proven_part(billable_periods(session, record.transaction), energy))
        # Signed records that say another energy, or for which there is no room, would make the CDR one to quarrel with.
        is_shown = energy.import_wh == proof.signed_wh and not too_large(session, periods, proof.signed_data)
        await self.cdrs.issue(
            unit,
            session,
            periods,
            ended_at=ended_at,
            signed_data=proof.signed_data if is_shown else None,
            correlation_id=correlation_id,
            remark=remark_of(f"from quarantine: {row.resolved_why}", is_energy_alone=not proof.is_time_measured),
        )
        await use_up(unit, record, proof)

    async def _proof(self, unit: UnitOfWork, record: TransactionRecord, standing: CDRRecord | None) -> Proof:
        """Return what the signed records prove; where nothing, what the CDR that stands says of time holds."""
        known = await evse_at(unit, record.party_id, record.charging_station_id, record.ocpp_evse_id)
        proof = NOT_SIGNED if known is None else await prove(self.office, unit, record, known.evse, None)
        if proof.signed_data is not None:
            return proof
        return Proof(is_time_measured=standing is None or not standing.cdr.is_energy_alone)

    async def _session(self, unit: UnitOfWork, record: TransactionRecord) -> SessionRecord:
        if fault := without_clock(record.transaction):
            raise NotAllowedNow(f"its time can't be priced: {fault.detail}")
        known = await unit.table(SESSION).get_for_update(record.party_id, session_id_for(record))
        if known is not None:
            return known
        opened = await self.opening.open(unit, record)
        if isinstance(opened, Fault):
            raise NotAllowedNow(f"there is nobody to bill: {opened.reason}, {opened.detail}")
        return opened

    async def _close(self, unit: UnitOfWork, row: QuarantineRecord, *, correlation_id: str) -> None:
        await unit.table(QUARANTINE).put(row)
        record = await unit.table(TRANSACTION).get_for_update(row.party_id, row.charging_station_id, row.transaction_id)
        if record is not None:
            await unit.table(TRANSACTION).put(replace(record, state=await state_of(unit, record)))
        fact = QuarantineResolved(
            party_id=row.party_id,
            session_id=row.session_id,
            outcome=row.state.value,
            billed_wh=row.billed_import_wh,
            waived_wh=row.waived_import_wh,
            written_off_wh=row.written_off_import_wh,
            billed_export_wh=row.billed_export_wh,
            waived_export_wh=row.waived_export_wh,
            written_off_export_wh=row.written_off_export_wh,
            resolved_at=row.resolved_at or self.office.now(),
            resolved_by=row.resolved_by or "",
            quarantine_id=row.quarantine_id,
            why=row.resolved_why,
        )
        event_id = f"quarantine/{row.party_id}/{row.quarantine_id}/resolved"
        unit.emit(self.office.fact(fact, event_id=event_id, correlation_id=correlation_id))

    def _emit_entry(self, unit: UnitOfWork, row: QuarantineRecord, *, correlation_id: str) -> None:
        fact = SessionQuarantined(
            party_id=row.party_id,
            session_id=row.session_id,
            reasons=row.reasons,
            energy_wh=row.energy_import_wh,
            energy_export_wh=row.energy_export_wh,
            quarantined_at=row.quarantined_at,
            quarantine_id=row.quarantine_id,
        )
        event_id = f"quarantine/{row.party_id}/{row.quarantine_id}"
        unit.emit(self.office.fact(fact, event_id=event_id, correlation_id=correlation_id))


def proven_part(periods: Sequence[ChargingPeriod], energy: Metered) -> tuple[ChargingPeriod, ...]:
    """Return the periods with no more energy than is proven: the first of it counts, times stay as they were."""
    import_wh, export_wh = energy.import_wh, energy.export_wh
    kept: list[ChargingPeriod] = []
    for period in periods:
        taken = replace(
            period,
            energy_import_wh=min(period.energy_import_wh, import_wh),
            energy_export_wh=min(period.energy_export_wh, export_wh),
        )
        import_wh -= taken.energy_import_wh
        export_wh -= taken.energy_export_wh
        kept.append(taken)
    if import_wh or export_wh:
        raise AssertionError(f"{energy} is more than the periods hold by {import_wh} and {export_wh} Wh")
    return tuple(kept)


async def quarantine_of(unit: UnitOfWork, record: TransactionRecord) -> list[QuarantineRecord]:
    """Return all rows of a transaction, open and resolved."""
    return await unit.table(QUARANTINE).select(
        {
            "party_id": record.party_id,
            "charging_station_id": record.charging_station_id,
            "transaction_id": record.transaction_id,
        },
        order_by=("quarantined_at",),
    )


async def state_of(unit: UnitOfWork, record: TransactionRecord) -> TransactionState:
    """Return where a closed transaction stands by its rows."""
    if any(row.state is QuarantineState.OPEN for row in await quarantine_of(unit, record)):
        return TransactionState.QUARANTINED
    cdrs = await unit.table(CDRS).select({"party_id": record.party_id, "session_id": session_id_for(record)})
    stands = any(not row.is_credit and row.credited_by is None for row in cdrs)
    return TransactionState.BILLED if stands else TransactionState.RESOLVED


async def unaccounted(unit: UnitOfWork, record: TransactionRecord) -> Metered:
    """Return the metered energy that is neither in a CDR, sold ad hoc, quarantined, waived nor written off."""
    import_wh, export_wh = record.metered_import_wh, record.metered_export_wh
    for row in await quarantine_of(unit, record):
        # What was billed out of quarantine is in a CDR.
        import_wh -= row.energy_import_wh - row.billed_import_wh
        export_wh -= row.energy_export_wh - row.billed_export_wh
    of_session = {"party_id": record.party_id, "session_id": session_id_for(record)}
    for cdr in await unit.table(CDRS).select(of_session):
        sign = -1 if cdr.is_credit else 1
        import_wh -= sign * cdr.energy_import_wh
        export_wh -= sign * cdr.energy_export_wh
    for sale in await unit.table(AD_HOC_SALE).select(of_session):
        if sale.ended_at is not None:
            import_wh -= sale.energy_import_wh
            export_wh -= sale.energy_export_wh
    if import_wh < 0 or export_wh < 0:
        raise AssertionError(
            f"transaction {record.transaction_id} accounts for {-import_wh} Wh in and {-export_wh} Wh out too much"
        )
    return Metered(import_wh=import_wh, export_wh=export_wh)
