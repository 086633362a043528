"""What operators see of a transaction: its reports in order, what is missing or contradicts, and what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading, ReadingContext
from emobility.domain.transaction import AuthorizationNote, Report, ReportKind, Transaction, sequence_gaps
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.office import NotFound
from services.charging_operations.quarantine import quarantine_of
from services.charging_operations.records import (
    CDRS,
    DISPUTE,
    SESSION,
    TRANSACTION,
    CDRRecord,
    DisputeRecord,
    QuarantineRecord,
    SessionRecord,
    TransactionRecord,
    TransactionState,
    session_id_for,
)
from services.charging_operations.shown import CDRShown, SessionShown, shown_cdr, shown_session

GAPS_SHOWN_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingReports:
    """A stretch of sequence numbers that never came, both ends included."""

    first_seq_no: int
    last_seq_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionShown:
    """A transaction; energy in Wh. `first_at` and `last_at` are the station's times."""

    charging_station_id: str
    transaction_id: str
    state: TransactionState
    ocpp_evse_id: int | None
    session_id: str | None
    first_at: datetime
    last_at: datetime
    has_ended: bool
    metered_import_wh: int
    metered_export_wh: int
    updated_at: datetime
    missing: tuple[MissingReports, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingShown:
    """What a meter said at one moment: registers in Wh, power in W; `is_signed`: with a signed record."""

    at: datetime
    context: ReadingContext
    import_wh: int | None
    export_wh: int | None
    power_w: int | None
    soc_percent: int | None
    is_signed: bool
    fault: str | None
    note: str | None
    """What a quirk profile of the station changed in what it means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportShown:
    """One report of the station. `is_conflicting`: another one claims its place with other content."""

    kind: ReportKind
    occurred_at: datetime
    seq_no: int | None
    is_offline: bool
    is_conflicting: bool
    ocpp_evse_id: int | None
    connector_id: int | None
    has_id_token: bool
    identified_by: str
    remote_start_id: int | None
    charging_state: str | None
    stopped_reason: str | None
    trigger: str | None
    readings: tuple[ReadingShown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionDetail:
    """A transaction whole: `reports` in the order that counts, and all that was made of it."""

    transaction: TransactionShown
    reports: tuple[ReportShown, ...]
    authorizations: tuple[AuthorizationNote, ...]
    session: SessionShown | None
    cdrs: tuple[CDRShown, ...]
    quarantine: tuple[QuarantineRecord, ...]
    disputes: tuple[DisputeRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionFile:
    """The rows of one transaction."""

    record: TransactionRecord
    session: SessionRecord | None
    cdrs: tuple[CDRRecord, ...]
    quarantine: tuple[QuarantineRecord, ...]
    disputes: tuple[DisputeRecord, ...]


async def transaction_file(
    unit: UnitOfWork, party_id: PartyId, station_id: str, transaction_id: str
) -> TransactionFile:
    """Return all rows of a transaction. Raises `NotFound`."""
    record = await unit.table(TRANSACTION).get(party_id, station_id, transaction_id)
    if record is None:
        raise NotFound(f"station {station_id} has no transaction {transaction_id}")
    session_id = session_id_for(record)
    cdrs = await unit.table(CDRS).select({"party_id": party_id, "session_id": session_id}, order_by=("last_updated",))
    ids = tuple(row.cdr_id for row in cdrs)
    disputes = await unit.table(DISPUTE).select({"party_id": party_id, "cdr_id": ids}) if ids else []
    return TransactionFile(
        record=record,
        session=await unit.table(SESSION).get(party_id, session_id),
        cdrs=tuple(cdrs),
        quarantine=tuple(await quarantine_of(unit, record)),
        disputes=tuple(disputes),
    )


def shown_transaction(row: TransactionRecord) -> TransactionShown:
    """Return a transaction without its reports."""
    return TransactionShown(
        charging_station_id=row.charging_station_id,
        transaction_id=row.transaction_id,
        state=row.state,
        ocpp_evse_id=row.ocpp_evse_id,
        session_id=row.session_id,
        first_at=row.first_at,
        last_at=row.last_at,
        has_ended=row.has_ended,
        metered_import_wh=row.metered_import_wh,
        metered_export_wh=row.metered_export_wh,
        updated_at=row.updated_at,
        missing=missing_reports(row.transaction),
    )


def shown_detail(file: TransactionFile) -> TransactionDetail:
    """Return a transaction whole, without tokens and signed records."""
    return TransactionDetail(
        transaction=shown_transaction(file.record),
        reports=shown_reports(file.record.transaction),
        authorizations=file.record.transaction.authorizations,
        session=shown_session(file.session) if file.session else None,
        cdrs=tuple(shown_cdr(row) for row in file.cdrs),
        quarantine=file.quarantine,
        disputes=file.disputes,
    )


def missing_reports(transaction: Transaction) -> tuple[MissingReports, ...]:
    """Return the first `GAPS_SHOWN_MAX` stretches of numbers that no report carries."""
    gaps = sequence_gaps(transaction)[:GAPS_SHOWN_MAX]
    return tuple(MissingReports(first_seq_no=gap.start, last_seq_no=gap.stop - 1) for gap in gaps)


def shown_reports(transaction: Transaction) -> tuple[ReportShown, ...]:
    """Return all reports in order, without tokens."""
    places = Counter(place for report in transaction.reports for place in _places(report))
    return tuple(
        ReportShown(
            kind=report.kind,
            occurred_at=report.occurred_at,
            seq_no=report.seq_no,
            is_offline=report.is_offline,
            is_conflicting=any(places[place] > 1 for place in _places(report)),
            ocpp_evse_id=report.ocpp_evse_id,
            connector_id=report.connector_id,
            has_id_token=report.id_token is not None,
            identified_by=report.identified_by,
            remote_start_id=report.remote_start_id,
            charging_state=report.charging_state,
            stopped_reason=report.stopped_reason,
            trigger=report.trigger,
            readings=tuple(shown_reading(reading) for reading in report.readings),
        )
        for report in transaction.reports
    )


def shown_reading(reading: MeterReading) -> ReadingShown:
    """Return a reading without its signed record, which may name the driver."""
    return ReadingShown(
        at=reading.at,
        context=reading.context,
        import_wh=reading.import_wh,
        export_wh=reading.export_wh,
        power_w=reading.power_w,
        soc_percent=reading.soc_percent,
        is_signed=reading.signed_record is not None,
        fault=reading.fault,
        note=reading.note,
    )


def _places(report: Report) -> list[ReportKind | int]:
    """Return what only one report of a transaction may be or have, as `has_conflict` reads it."""
    places: list[ReportKind | int] = [] if report.kind is ReportKind.UPDATED else [report.kind]
    return places if report.seq_no is None else [*places, report.seq_no]
