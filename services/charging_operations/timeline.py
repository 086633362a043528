"""One ordered list of all that happened around a charge, each with a sentence why: from rows alone, without I/O.

`timeline_verdict.py` says in one sentence what became of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Final

from emobility.domain.authorization import DecisionReason
from emobility.domain.identifiers import PartyId
from emobility.domain.money import decimal_from_e4
from emobility.domain.transaction import Report, ReportKind, Transaction
from services.charging_operations.records import (
    AuthorizationRecord,
    CDRRecord,
    CommandRecord,
    DisputeRecord,
    QuarantineRecord,
    QuarantineState,
    SessionRecord,
)
from services.charging_operations.station_boots import StationBootRecord
from services.charging_operations.station_calls import StationCallRecord
from services.charging_operations.station_records import StationConnectionRecord, StationStatusRecord
from services.charging_operations.transactions import TransactionFile

_WORDS: Final[dict[str, str]] = {
    DecisionReason.COMMANDED: "the MSP itself asked for the start",
    DecisionReason.EMSP_ALLOWED: "the MSP allowed the token",
    DecisionReason.EMSP_BLOCKED: "the MSP refused the token: BLOCKED",
    DecisionReason.EMSP_EXPIRED: "the MSP refused the token: EXPIRED",
    DecisionReason.EMSP_NO_CREDIT: "the MSP refused the token: NO_CREDIT",
    DecisionReason.EMSP_NOT_ALLOWED: "the MSP refused the token: NOT_ALLOWED",
    DecisionReason.EMSP_TOKEN_UNKNOWN: "the MSP does not know the token",
    DecisionReason.EMSP_UNREACHABLE: "the MSP did not answer, and the token may not be decided without it",
    DecisionReason.NO_AGREEMENT: "there is no agreement in force with the token's MSP",
    DecisionReason.CONCURRENT_TX: "the token charges elsewhere already",
    DecisionReason.CREDIT_LINE_EXCEEDED: "the MSP has as much open with the CPO as the two agreed on",
    DecisionReason.MASTER_PASS: "the token may stop any charge",
    DecisionReason.MASTER_PASS_STARTS_NOTHING: "the token stops any charge and starts none",
    DecisionReason.STOPS_ITS_OWN: "the token, or one of its group, stops its own charge",
    DecisionReason.REAL_TIME_ONLY: "the station was offline, and the token may be decided in real time only",
    DecisionReason.TOKEN_INVALID: "the MSP had declared the token invalid",
    DecisionReason.TOKEN_UNKNOWN: "no MSP told us of the token",
    DecisionReason.WHITELISTED: "the token is on its MSP's whitelist",
    DecisionReason.WHITELISTED_OFFLINE: "its MSP's whitelist lets the token charge where nobody can be asked",
}


_OWN_WORDS: Final[dict[str, str]] = {
    DecisionReason.TOKEN_INVALID: "it is a card of the CPO's own that is blocked or has ended",
    DecisionReason.WHITELISTED: "it is a card of the CPO's own",
    DecisionReason.WHITELISTED_OFFLINE: "it is a card of the CPO's own",
}


class EntryKind(StrEnum):
    """What an entry is about. The order is the one of entries of the same moment."""

    CONNECTION = "CONNECTION"
    BOOT = "BOOT"
    STATUS = "STATUS"
    COMMAND = "COMMAND"
    AUTHORIZATION = "AUTHORIZATION"
    GAP = "GAP"
    REPORT = "REPORT"
    SESSION = "SESSION"
    QUARANTINE = "QUARANTINE"
    CDR = "CDR"
    DISPUTE = "DISPUTE"


_RANK: Final = {kind: rank for rank, kind in enumerate(EntryKind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that happened; `reference` names the row that tells more."""

    at: datetime
    kind: EntryKind
    why: str
    ocpp_evse_id: int | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Rows of a station, or of a transaction and what was around it; `commands` came from eMSPs, `calls` from us."""

    connections: tuple[StationConnectionRecord, ...] = ()
    boots: tuple[StationBootRecord, ...] = ()
    statuses: tuple[StationStatusRecord, ...] = ()
    authorizations: tuple[AuthorizationRecord, ...] = ()
    commands: tuple[CommandRecord, ...] = ()
    calls: tuple[StationCallRecord, ...] = ()
    files: tuple[TransactionFile, ...] = ()


def entries_of(history: History) -> tuple[Entry, ...]:
    """Return everything in the order of its time."""
    entries = [
        *map(_connection, history.connections),
        *map(_boot, history.boots),
        *map(_status, history.statuses),
        *map(_authorization, history.authorizations),
        *map(_command, history.commands),
        *map(_call, history.calls),
        *(entry for file in history.files for entry in _of_transaction(file)),
    ]
    return tuple(sorted(entries, key=lambda entry: (entry.at, _RANK[entry.kind])))


def reason_in_words(reason: str, emsp_id: PartyId | None = None) -> str:
    """Return why somebody was let in or refused; a reason that has no words yet is shown as it is."""
    words = _WORDS.get(reason, reason.lower().replace("_", " "))
    return words if emsp_id is None else words.replace("the MSP", f"the MSP {emsp_id}", 1)


def decision_in_words(row: AuthorizationRecord) -> str:
    """Return why a driver was let in or refused; a CPO's own card has no MSP that could have said anything."""
    own = _OWN_WORDS.get(row.reason) if row.emsp_id == row.party_id else None
    return own or reason_in_words(row.reason, row.emsp_id)


def moment(at: datetime) -> str:
    """Return a moment as people read it."""
    return at.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")


def energy(import_wh: int, export_wh: int = 0) -> str:
    """Return energy for people."""
    return f"{import_wh:,} Wh" + (f" in and {export_wh:,} Wh out" if export_wh else "")


def numbers(gap: range) -> str:
    """Return the numbers of a gap in words."""
    return str(gap.start) if len(gap) == 1 else f"{gap.start} to {gap.stop - 1}"


def _connection(row: StationConnectionRecord) -> Entry:
    why = "the station connected" if row.is_online else "the station's connection ended"
    return Entry(at=row.began_at, kind=EntryKind.CONNECTION, why=why)


def _boot(row: StationBootRecord) -> Entry:
    what = f"{row.vendor} {row.model}, firmware {row.firmware_version or 'unknown'}, OCPP {row.ocpp_version}"
    return Entry(
        at=row.heard_at,
        kind=EntryKind.BOOT,
        why=f"the station started up ({row.reason or 'it does not say why'}): {what}",
        reference=row.boot_id,
    )


def _status(row: StationStatusRecord) -> Entry:
    error = None if row.error_code in (None, "NoError") else f"error {row.error_code}"
    vendor = row.vendor_error_code and f"vendor's code {row.vendor_error_code}"
    told = ", ".join(part for part in (error, vendor, row.info) if part)
    place = f"EVSE {row.ocpp_evse_id}, connector {row.connector_id}" if row.ocpp_evse_id else "the station itself"
    return Entry(
        at=row.began_at,
        kind=EntryKind.STATUS,
        why=f"{place} is {row.status}" + (f" ({told})" if told else ""),
        ocpp_evse_id=row.ocpp_evse_id,
        reference=row.status_id,
    )


def _authorization(row: AuthorizationRecord) -> Entry:
    decided = "a driver may charge" if row.is_accepted else f"a driver is refused ({row.status})"
    return Entry(
        at=row.decided_at,
        kind=EntryKind.AUTHORIZATION,
        why=f"{decided}: {decision_in_words(row)}",
        ocpp_evse_id=row.ocpp_evse_id,
        reference=row.authorization_id,
    )


def _command(row: CommandRecord) -> Entry:
    became = f"; it came to {row.result}" if row.result else ""
    return Entry(
        at=row.received_at,
        kind=EntryKind.COMMAND,
        why=f"{row.emsp_id} sent {row.kind}, which was {row.response}{became}",
        ocpp_evse_id=row.ocpp_evse_id,
        reference=row.command_id,
    )


def _call(row: StationCallRecord) -> Entry:
    became = "nobody knows whether it got there" if row.result is None else row.result
    said = f" ({row.detail})" if row.detail and row.detail.casefold() != became.casefold() else ""
    return Entry(
        at=row.asked_at, kind=EntryKind.COMMAND, why=f"we called {row.action}: {became}{said}", reference=row.call_id
    )


def _of_transaction(file: TransactionFile) -> Iterator[Entry]:
    yield from _reports(file.record.transaction)
    if file.session is not None:
        yield _session(file.session)
    for row in file.quarantine:
        yield from _quarantine(row)
    yield from map(_cdr, file.cdrs)
    yield from map(_dispute, file.disputes)


def _reports(transaction: Transaction) -> Iterator[Entry]:
    """Yield the reports in order; stretches that only carry meter values are told as one."""
    reports = transaction.reports
    run: list[Report] = []
    for earlier, report in pairwise((None, *reports)):
        assert report is not None
        gap = _gap_between(earlier, report)
        is_told_apart = gap is not None or not _only_values(earlier, report)
        if run and is_told_apart:
            yield _run(run, transaction)
            run = []
        if gap is not None:
            yield Entry(at=report.occurred_at, kind=EntryKind.GAP, why=f"seq_no {numbers(gap)} never came")
        if is_told_apart:
            yield _report(report, transaction)
        else:
            run.append(report)
    if run:
        yield _run(run, transaction)


def _gap_between(earlier: Report | None, report: Report) -> range | None:
    if report.seq_no is None:
        return None
    before = -1 if earlier is None or earlier.seq_no is None else earlier.seq_no
    return range(before + 1, report.seq_no) if report.seq_no > before + 1 else None


def _only_values(earlier: Report | None, report: Report) -> bool:
    return (
        report.kind is ReportKind.UPDATED
        and report.id_token is None
        and (report.charging_state is None or (earlier is not None and report.charging_state == earlier.charging_state))
        and (earlier is None or report.is_offline == earlier.is_offline)
    )


def _run(run: Sequence[Report], transaction: Transaction) -> Entry:
    if len(run) == 1:
        return _report(run[0], transaction)
    return Entry(
        at=run[0].occurred_at,
        kind=EntryKind.REPORT,
        why=f"{len(run)} reports until {moment(run[-1].occurred_at)}{_registers(run)}{_late(run[0])}",
        ocpp_evse_id=transaction.ocpp_evse_id,
        reference=transaction.transaction_id,
    )


def _report(report: Report, transaction: Transaction) -> Entry:
    name = transaction.transaction_id
    what = {
        ReportKind.STARTED: f"transaction {name} began",
        ReportKind.UPDATED: f"transaction {name} goes on",
        ReportKind.ENDED: f"transaction {name} ended",
    }[report.kind]
    told = [
        f"reason {report.stopped_reason}" if report.stopped_reason else "",
        f"because of {report.trigger}" if report.trigger else "",
        report.charging_state or "",
        f"a driver identified by {report.identified_by}" if report.id_token is not None else "",
    ]
    said = "".join(f", {part}" for part in told if part)
    return Entry(
        at=report.occurred_at,
        kind=EntryKind.REPORT,
        why=f"{what}{said}{_registers([report])}{_late(report)}",
        ocpp_evse_id=report.ocpp_evse_id or transaction.ocpp_evse_id,
        reference=name,
    )


def _registers(reports: Sequence[Report]) -> str:
    values = [each.import_wh for report in reports for each in report.readings if each.import_wh is not None]
    if not values:
        return ", no meter values"
    return f", register {values[0]:,} Wh" + (f" to {values[-1]:,} Wh" if values[-1] != values[0] else "")


def _late(report: Report) -> str:
    return "; told later, for the station was offline" if report.is_offline else ""


def _session(row: SessionRecord) -> Entry:
    session = row.session
    return Entry(
        at=session.started_at,
        kind=EntryKind.SESSION,
        why=f"a session of {row.emsp_id} under agreement {row.agreement_id}, now {session.status}",
        reference=row.session_id,
    )


def _quarantine(row: QuarantineRecord) -> Iterator[Entry]:
    reasons = "; ".join(f"{reason}: {detail}" for reason, detail in zip(row.reasons, row.details, strict=False))
    yield Entry(
        at=row.quarantined_at,
        kind=EntryKind.QUARANTINE,
        why=f"{energy(row.energy_import_wh, row.energy_export_wh)} went into quarantine: {reasons}",
        reference=row.quarantine_id,
    )
    if row.state is not QuarantineState.OPEN and row.resolved_at is not None:
        yield Entry(
            at=row.resolved_at,
            kind=EntryKind.QUARANTINE,
            why=f"the quarantine was {row.state} by {row.resolved_by}: {row.resolved_why}",
            reference=row.quarantine_id,
        )


def _cdr(row: CDRRecord) -> Entry:
    cdr = row.cdr
    what = f"a credit of CDR {cdr.credit_reference_id}" if row.is_credit else "the CDR"
    cost = f"{decimal_from_e4(cdr.total_cost.excl_e4):f} {cdr.currency} net"
    remark = f": {cdr.remark}" if cdr.remark else ""
    return Entry(
        at=cdr.issued_at,
        kind=EntryKind.CDR,
        why=f"{what} was issued to {row.emsp_id}, {energy(row.energy_import_wh, row.energy_export_wh)}, {cost}{remark}",
        reference=row.cdr_id,
    )


def _dispute(row: DisputeRecord) -> Entry:
    answered = f"; answered by {row.answer}" if row.answer else ""
    return Entry(
        at=row.received_at,
        kind=EntryKind.DISPUTE,
        why=f"{row.emsp_id} disputes CDR {row.cdr_id}: {row.reason}, {row.detail}{answered}",
        reference=row.cdr_id,
    )
