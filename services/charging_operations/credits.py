"""Corrections: a credit takes a CDR back whole, a replacement may follow. Disputes received are answered this way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emobility.domain.cdr import CDR
from emobility.domain.charging_periods import whole_second, without_time
from emobility.domain.identifiers import PartyId
from emobility.domain.session import ChargingPeriod
from emobility.domain.transaction import Metered
from emobility.domain.transaction_faults import Fault, FaultReason
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.mapping import NOT_AVAILABLE
from services.charging_operations.cdrs import CDRDesk, billable_periods
from services.charging_operations.office import NotFound, NotUnderstood, Office
from services.charging_operations.proof import remark_of
from services.charging_operations.quarantine import QuarantineDesk, proven_part
from services.charging_operations.records import (
    CDRS,
    DISPUTE,
    SESSION,
    TRANSACTION,
    CDRRecord,
    SessionRecord,
    TransactionRecord,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What is billed instead: corrected periods, or less energy, or (neither given) what the reports now say.

    Never more energy than the CDR that is credited: more must come out of quarantine, where it was proven. And no time
    where that CDR bills energy alone, whatever the periods say: no meter vouches for it.
    """

    periods: tuple[ChargingPeriod, ...] | None = None
    energy_import_wh: int | None = None
    energy_export_wh: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditRequest:
    """Why a CDR is taken back and by whom; without a replacement its energy is waived."""

    reason: str
    who: str = "operator"
    replacement: Replacement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditDesk:
    """Credits CDRs."""

    office: Office
    cdrs: CDRDesk
    quarantine: QuarantineDesk

    async def credit(
        self, unit: UnitOfWork, party_id: PartyId, cdr_id: str, request: CreditRequest, *, correlation_id: str
    ) -> tuple[CDR, CDR | None]:
        """Return the credit and the replacement.

        Raises:
            NotFound: the CPO issued no such CDR.
            NotAllowedNow: it was credited before.
            CreditOfACredit: it is a credit.
            NotUnderstood: no reason is given, or the replacement holds more energy than the CDR.
        """
        seen = await unit.table(CDRS).get(party_id, cdr_id)
        if seen is not None and seen.session_id.startswith(NOT_AVAILABLE):
            return await self._credit_expiry(unit, seen, request, correlation_id=correlation_id), None
        session = await unit.table(SESSION).get(party_id, seen.session_id) if seen else None
        if session is None:
            raise NotFound(f"no CDR {cdr_id}")
        if not request.reason.strip():
            raise NotUnderstood("a credit says why")
        # In the order of a late report: transaction, session, CDRs. Neither waits for the other for ever.
        record = await unit.table(TRANSACTION).get_for_update(
            party_id, session.charging_station_id, session.transaction_id
        )
        if record is None:
            raise AssertionError(f"session {session.session_id} has no transaction")
        session = await unit.table(SESSION).get_for_update(party_id, session.session_id)
        original = await unit.table(CDRS).get_for_update(party_id, cdr_id)
        assert session is not None, f"the session of CDR {cdr_id} is gone"
        assert original is not None, f"CDR {cdr_id} is gone"
        periods = _replacing(request.replacement, original, session, record)
        credit = await self.cdrs.credit(
            unit, session, original, remark=request.reason[:255], correlation_id=correlation_id
        )
        issued = None
        if periods is not None:
            remark = f"replaces {cdr_id}: {request.reason}"
            same_energy = sum(period.energy_import_wh for period in periods) == original.energy_import_wh
            issued = await self.cdrs.issue(
                unit,
                session,
                periods,
                ended_at=original.cdr.ended_at,
                signed_data=original.cdr.signed_data if same_energy else None,
                correlation_id=correlation_id,
                remark=remark_of(remark, is_energy_alone=original.cdr.is_energy_alone),
            )
        await self.quarantine.take_back(
            unit,
            record,
            Fault(reason=FaultReason.CDR_CREDITED, detail=f"{cdr_id}: {request.reason}"),
            credited=Metered(import_wh=original.energy_import_wh, export_wh=original.energy_export_wh),
            replaced=Metered(
                import_wh=issued.total_energy_import_wh if issued else 0,
                export_wh=issued.total_energy_export_wh if issued else 0,
            ),
            who=request.who,
            correlation_id=correlation_id,
        )
        await self._answer_dispute(unit, original, credit)
        return credit, issued

    async def _credit_expiry(
        self, unit: UnitOfWork, seen: CDRRecord, request: CreditRequest, *, correlation_id: str
    ) -> CDR:
        """Take back what a reservation that expired was billed: there is no session, no energy and no replacement."""
        if not request.reason.strip():
            raise NotUnderstood("a credit says why")
        original = await unit.table(CDRS).get_for_update(seen.party_id, seen.cdr_id)
        assert original is not None, f"CDR {seen.cdr_id} is gone"
        if request.replacement is not None:
            raise NotUnderstood("a reservation that expired is taken back whole: there is nothing to bill instead")
        credit = await self.cdrs.credit(
            unit, original, original, remark=request.reason[:255], correlation_id=correlation_id
        )
        await self._answer_dispute(unit, original, credit)
        return credit

    async def _answer_dispute(self, unit: UnitOfWork, original: CDRRecord, credit: CDR) -> None:
        dispute = await unit.table(DISPUTE).get_for_update(original.party_id, original.emsp_id, original.cdr_id)
        if dispute is not None:
            await unit.table(DISPUTE).put(replace(dispute, answer=credit.cdr_id))


def _replacing(
    replacement: Replacement | None, original: CDRRecord, session: SessionRecord, record: TransactionRecord
) -> tuple[ChargingPeriod, ...] | None:
    if replacement is None:
        return None
    if replacement.periods is not None:
        _refuse_disorder(replacement.periods, original)
        periods = replacement.periods
    else:
        energy = Metered(
            import_wh=_given(replacement.energy_import_wh, original.energy_import_wh),
            export_wh=_given(replacement.energy_export_wh, original.energy_export_wh),
        )
        _refuse_more(energy, original)
        whole = billable_periods(session, record.transaction)
        periods = proven_part(whole, energy)
        if whole_second(record.last_at) != original.cdr.ended_at:
            periods = proven_part(original.cdr.periods, energy)
    _refuse_more(
        Metered(
            import_wh=sum(period.energy_import_wh for period in periods),
            export_wh=sum(period.energy_export_wh for period in periods),
        ),
        original,
    )
    return without_time(periods) if original.cdr.is_energy_alone else periods


def _given(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _refuse_more(energy: Metered, original: CDRRecord) -> None:
    is_less_than_nothing = energy.import_wh < 0 or energy.export_wh < 0
    if (
        is_less_than_nothing
        or energy.import_wh > original.energy_import_wh
        or energy.export_wh > original.energy_export_wh
    ):
        raise NotUnderstood(
            f"a replacement of {original.cdr_id} holds at most {original.energy_import_wh} Wh in and "
            f"{original.energy_export_wh} Wh out"
        )


def _refuse_disorder(periods: tuple[ChargingPeriod, ...], original: CDRRecord) -> None:
    starts = [period.started_at for period in periods]
    if not starts or sorted(set(starts)) != starts:
        raise NotUnderstood("periods follow each other, each from its own moment")
    if starts[0] < original.cdr.started_at or starts[-1] > original.cdr.ended_at:
        raise NotUnderstood("a period lies outside the session")
    if any(min(p.energy_import_wh, p.energy_export_wh, p.charging_s, p.parking_s) < 0 for p in periods):
        raise NotUnderstood("a period holds less than no energy or time")
