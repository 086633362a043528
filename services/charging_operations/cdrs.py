"""Sessions and CDRs on their way out: priced, numbered, made facts, and owed to the eMSP.

A CDR's number is the session's id; credits and replacements add `-C1`, `-R1` and so on. Of a session at most one CDR
stands uncredited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from emobility.domain.cdr import CDR, CDRLocation, SignedMeterData, credit_of
from emobility.domain.charging_periods import charging_periods, whole_second
from emobility.domain.charging_station import Connector
from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.domain.session import ChargingPeriod, SessionStatus
from emobility.domain.tariff.merging import merge_alike
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.priced import PricedSession
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.rounding import rounding_policy
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.transaction import Transaction
from emobility.domain.transaction_faults import Fault, FaultReason
from emobility.events import codec
from emobility.events.cdr import CDRIssued, SessionChanged
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.mapping import NOT_AVAILABLE, cdr_to_ocpi, owner_path, session_to_ocpi
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.charging_operations.office import NotAllowedNow, Office
from services.charging_operations.records import CDRS, SESSION, CDRRecord, SessionRecord
from services.charging_operations.stations import KnownEVSE

PERIODS_UNMERGED_MAX: Final = 1_000
"""A session of more charging periods is told in fewer: one per quarter of an hour and price."""
CDR_BYTES_MAX: Final = 900_000
"""Encoded content of a CDR; leaves `EVENT_BYTES_MAX` room for the rest of the event, at whoever receives it too."""


def billable_periods(record: SessionRecord, transaction: Transaction) -> tuple[ChargingPeriod, ...]:
    """Return the periods so far, cut where the frozen tariff changes its price; very many are merged where it can't."""
    time_zone = record.location.time_zone
    return periods_under(record.tariff, transaction, time_zone=time_zone, reserved=_reserved(record, transaction))


def periods_under(
    tariff: Tariff, transaction: Transaction, *, time_zone: str, reserved: tuple[ChargingPeriod, ...] = ()
) -> tuple[ChargingPeriod, ...]:
    """Return the time `reserved` and a transaction's periods so far, cut and merged as `billable_periods` says."""
    ended_at = whole_second(transaction.last_at)
    whole = (*reserved, *charging_periods(transaction))
    periods = split_at_price_changes(tariff, whole, ended_at=ended_at, time_zone=time_zone)
    if len(periods) > PERIODS_UNMERGED_MAX:
        periods = merge_alike(tariff, periods, ended_at=ended_at, time_zone=time_zone)
    return tuple(periods)


def _reserved(record: SessionRecord, transaction: Transaction) -> tuple[ChargingPeriod, ...]:
    """The time for which the EVSE was held before (OCPI 2.2.1, 10.4.2 RESERVATION_TIME)."""
    reserved_from, until = record.session.reserved_from, whole_second(transaction.first_at)
    if reserved_from is None or reserved_from >= until:
        return ()
    reserved_s = (until - reserved_from) // timedelta(seconds=1)
    return (
        ChargingPeriod(started_at=reserved_from, energy_import_wh=0, charging_s=0, parking_s=0, reserved_s=reserved_s),
    )


def delivery_key(session_id: str) -> str:
    """Return the key of a session's messages: no CDR overtakes its session, no credit its original."""
    return f"session/{session_id}"


def place_of(known: KnownEVSE, connector: Connector) -> CDRLocation:
    """Return where a charge takes place, as it is frozen into the CDR."""
    location = known.location
    return CDRLocation(
        location_id=location.location_id,
        name=location.name,
        address=location.address,
        city=location.city,
        postal_code=location.postal_code,
        country=location.country,
        latitude=location.latitude,
        longitude=location.longitude,
        time_zone=location.time_zone,
        evse_uid=known.evse.evse_uid,
        emi3_id=known.evse.emi3_id,
        connector_id=connector.connector_id,
        connector_standard=connector.standard,
        power_type=connector.power_type,
    )


def too_large(
    record: SessionRecord, periods: Sequence[ChargingPeriod], signed_data: SignedMeterData | None = None
) -> Fault | None:
    """Return the fault of a session whose CDR would be larger than its receiver has to take."""
    content = (replace(record.session, periods=()), record.location, record.tariff, periods, signed_data)
    taken = len(codec.encode(content))
    if taken <= CDR_BYTES_MAX:
        return None
    detail = f"{len(periods)} periods, the tariff and the signed records take {taken} bytes, more than {CDR_BYTES_MAX}"
    return Fault(reason=FaultReason.CDR_TOO_LARGE, detail=detail)


def priced(record: SessionRecord, periods: Sequence[ChargingPeriod], ended_at: datetime) -> PricedSession:
    """Price periods by the tariff and the rounding frozen at the start. Raises as `price_session` does."""
    return price_session(
        record.tariff,
        periods,
        ended_at=ended_at,
        time_zone=record.location.time_zone,
        rounding=rounding_policy(record.session.rounding_policy),
    )


class Billed(Protocol):
    """What CDRs are issued for: a session, or a reservation that never became one."""

    @property
    def party_id(self) -> PartyId:
        """The CPO."""

    @property
    def session_id(self) -> str:
        """Its name; of a reservation `#NA/` and the id of its first CDR."""

    @property
    def emsp_id(self) -> PartyId:
        """Who is billed."""

    @property
    def agreement_id(self) -> str:
        """Under which agreement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRDesk:
    """Issues and credits CDRs, and tells of sessions."""

    office: Office

    async def session_changed(
        self,
        unit: UnitOfWork,
        record: SessionRecord,
        periods: Sequence[ChargingPeriod],
        *,
        ended_at: datetime,
        status: SessionStatus,
        correlation_id: str,
    ) -> SessionRecord:
        """Store, make a fact and push the session as it stands now."""
        now = self.office.now()
        # Only what is neither billed nor priced can be too large; the eMSP is told of it without its periods.
        told = () if too_large(record, periods) else tuple(periods)
        try:
            total_cost = priced(record, periods, ended_at).total
        except EmobilityError:
            # A session that can't be priced is quarantined when it ends; until then it has no cost to tell.
            total_cost = None
        session = replace(
            record.session,
            ended_at=None if status is SessionStatus.ACTIVE else ended_at,
            energy_import_wh=sum(period.energy_import_wh for period in periods),
            energy_export_wh=sum(period.energy_export_wh for period in periods),
            periods=told,
            total_cost=total_cost,
            status=status,
            last_updated=now,
        )
        changed = replace(record, session=session, revision=record.revision + 1, last_updated=now, pushed_at=now)
        await unit.table(SESSION).put(changed)
        event_id = f"session/{record.party_id}/{record.session_id}/{changed.revision}"
        # While it runs its periods would stand in the log again and again, up to here each time.
        fact = SessionChanged(session=replace(session, periods=()) if status is SessionStatus.ACTIVE else session)
        unit.emit(self.office.fact(fact, event_id=event_id, correlation_id=correlation_id))
        await self.office.host.deliveries.enqueue(
            unit,
            own_party=record.party_id,
            to_party=record.emsp_id,
            method="PUT",
            module=ModuleID.SESSIONS.value,
            interface_role=InterfaceRole.RECEIVER,
            path=owner_path(record.party_id, record.session_id),
            object_key=delivery_key(record.session_id),
            body=await session_to_ocpi(session, self.office.ports.vault.evidence),
            correlation_id=correlation_id,
            subject=session.token.uid.subject,
        )
        return changed

    async def issue(
        self,
        unit: UnitOfWork,
        record: SessionRecord,
        periods: Sequence[ChargingPeriod],
        *,
        ended_at: datetime,
        signed_data: SignedMeterData | None,
        correlation_id: str,
        remark: str | None = None,
    ) -> CDR:
        """Close the session with a CDR over `periods`.

        Raises:
            NotAllowedNow: an uncredited CDR of the session stands, or it would be larger than `CDR_BYTES_MAX`.
            MalformedInput, RuleBroken: the periods can't be priced.
        """
        if await live_cdr(unit, record) is not None:
            raise NotAllowedNow(f"session {record.session_id} has a CDR that was not credited")
        if fault := too_large(record, periods, signed_data):
            raise NotAllowedNow(f"session {record.session_id} can't be billed: {fault.detail}")
        # What the eMSP saw of the session and what it is charged must agree, so the session is told first.
        record = await self.session_changed(
            unit,
            record,
            periods,
            ended_at=ended_at,
            status=SessionStatus.COMPLETED,
            correlation_id=correlation_id,
        )
        cost = priced(record, periods, ended_at)
        session = record.session
        cdr = CDR(
            party_id=record.party_id,
            cdr_id=await self._next_id(unit, record, "R"),
            session_id=record.session_id,
            started_at=min(session.started_at, *(period.started_at for period in periods)),
            ended_at=ended_at,
            token=session.token,
            auth_method=session.auth_method,
            authorization_reference=session.authorization_reference,
            location=record.location,
            currency=session.currency,
            tariff=record.tariff,
            tariff_hash=session.tariff_hash,
            periods=tuple(periods),
            total_cost=cost.total,
            total_fixed_cost=cost.fixed,
            total_energy_cost=cost.energy,
            total_time_cost=cost.time,
            total_parking_cost=cost.parking,
            total_reservation_cost=cost.reservation,
            total_energy_import_wh=session.energy_import_wh,
            total_energy_export_wh=session.energy_export_wh,
            total_charging_s=sum(period.charging_s for period in periods),
            total_parking_s=sum(period.parking_s for period in periods),
            signed_data=signed_data,
            issued_at=self.office.now(),
            remark=remark,
            rounding_policy=session.rounding_policy,
        )
        self.office.metrics.billed(cdr.total_energy_import_wh)
        await self.send(unit, record, cdr, correlation_id=correlation_id)
        return cdr

    async def credit(
        self, unit: UnitOfWork, record: Billed, original: CDRRecord, *, remark: str, correlation_id: str
    ) -> CDR:
        """Take a CDR back whole.

        Raises:
            NotAllowedNow: it was credited before.
            CreditOfACredit: it is a credit.
        """
        if original.credited_by is not None:
            raise NotAllowedNow(f"CDR {original.cdr_id} was credited by {original.credited_by}")
        credit = credit_of(
            original.cdr,
            cdr_id=await self._next_id(unit, record, "C"),
            issued_at=self.office.now(),
            remark=remark,
        )
        await unit.table(CDRS).put(replace(original, credited_by=credit.cdr_id))
        await self.send(unit, record, credit, correlation_id=correlation_id)
        return credit

    async def _next_id(self, unit: UnitOfWork, record: Billed, letter: str) -> str:
        issued = await cdrs_of(unit, record)
        name = record.session_id.removeprefix(f"{NOT_AVAILABLE}/")
        if not issued:
            return name
        same = [each for each in issued if each.is_credit == (letter == "C")]
        # The first CDR of a session bears no suffix, so replacements count from the second on.
        return f"{name}-{letter}{len(same) if letter == 'R' else len(same) + 1}"

    async def send(self, unit: UnitOfWork, record: Billed, cdr: CDR, *, correlation_id: str) -> None:
        """Store a CDR, make it a fact and owe it to the eMSP."""
        await unit.table(CDRS).insert(
            CDRRecord(
                party_id=record.party_id,
                cdr_id=cdr.cdr_id,
                session_id=record.session_id,
                emsp_id=record.emsp_id,
                agreement_id=record.agreement_id,
                is_credit=cdr.is_credit,
                credited_by=None,
                energy_import_wh=cdr.total_energy_import_wh,
                energy_export_wh=cdr.total_energy_export_wh,
                cdr=cdr,
                last_updated=cdr.issued_at,
            )
        )
        fact = CDRIssued(agreement_id=record.agreement_id, cpo_id=record.party_id, emsp_id=record.emsp_id, cdr=cdr)
        event_id = f"cdr/{record.party_id}/{cdr.cdr_id}"
        unit.emit(self.office.fact(fact, event_id=event_id, correlation_id=correlation_id))
        await self.office.host.deliveries.enqueue(
            unit,
            own_party=record.party_id,
            to_party=record.emsp_id,
            method="POST",
            module=ModuleID.CDRS.value,
            interface_role=InterfaceRole.RECEIVER,
            path="",
            object_key=delivery_key(record.session_id),
            body=await cdr_to_ocpi(cdr, self.office.ports.vault.evidence),
            correlation_id=correlation_id,
            is_replaceable=False,
            subject=cdr.token.uid.subject,
        )


async def cdrs_of(unit: UnitOfWork, record: Billed) -> list[CDRRecord]:
    """Return all CDRs and credits of a session, oldest first."""
    return await unit.table(CDRS).select(
        {"party_id": record.party_id, "session_id": record.session_id}, order_by=("last_updated",)
    )


async def live_cdr(unit: UnitOfWork, record: Billed) -> CDRRecord | None:
    """Return the one CDR of a session that stands uncredited."""
    live = [each for each in await cdrs_of(unit, record) if not each.is_credit and each.credited_by is None]
    if len(live) > 1:
        raise AssertionError(f"session {record.session_id} has {len(live)} live CDRs")
    return live[0] if live else None
