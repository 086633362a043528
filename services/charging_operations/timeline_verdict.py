"""Why did this session fail? One sentence from the rows of its timeline, and a word for machines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.charging_station import EVSEStatus
from emobility.domain.transaction import sequence_gaps
from emobility.domain.transaction_faults import GAPS_TOLD, FaultReason
from services.charging_operations.records import (
    AuthorizationRecord,
    QuarantineRecord,
    QuarantineState,
    TransactionState,
)
from services.charging_operations.stations import STATUS_OF
from services.charging_operations.timeline import History, energy, moment, numbers, reason_in_words
from services.charging_operations.transactions import TransactionFile

_OUT_OF_USE: Final = frozenset({EVSEStatus.INOPERATIVE, EVSEStatus.OUTOFORDER})


class Outcome(StrEnum):
    """What became of it."""

    BILLED = "BILLED"
    DISPUTED = "DISPUTED"
    CREDITED = "CREDITED"
    """It was billed, taken back and not billed again."""
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    """It ended; a report that is missing holds it up."""
    QUARANTINED = "QUARANTINED"
    RESOLVED = "RESOLVED"
    REFUSED = "REFUSED"
    NOT_STARTED = "NOT_STARTED"
    """A driver was let in, and no transaction began."""
    NOTHING_TRIED = "NOTHING_TRIED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of it, and in a sentence why."""

    outcome: Outcome
    why: str


def verdict_of(history: History) -> Verdict:
    """Judge the last thing that was tried."""
    file = max(history.files, key=lambda each: each.record.first_at, default=None)
    tried = max(history.authorizations, key=lambda each: each.decided_at, default=None)
    if file is not None and (tried is None or _is_of(tried, file) or tried.decided_at <= file.record.first_at):
        return _of_transaction(file, history)
    if tried is None:
        return Verdict(outcome=Outcome.NOTHING_TRIED, why=f"nobody tried to charge{_hindrance(history, None)}")
    if not tried.is_accepted:
        return Verdict(outcome=Outcome.REFUSED, why=reason_in_words(tried.reason, tried.emsp_id))
    begin = f"a driver was let in at {moment(tried.decided_at)}, and no transaction began"
    return Verdict(outcome=Outcome.NOT_STARTED, why=begin + _hindrance(history, tried.ocpp_evse_id))


def _is_of(decision: AuthorizationRecord, file: TransactionFile) -> bool:
    record = file.record
    if decision.transaction_id is not None:
        return decision.transaction_id == record.transaction_id
    return decision.token_subject == record.token_subject


def _of_transaction(file: TransactionFile, history: History) -> Verdict:
    judge = {
        TransactionState.OPEN: _open,
        TransactionState.BILLED: _billed,
        TransactionState.QUARANTINED: _quarantined,
        TransactionState.RESOLVED: _resolved,
        TransactionState.DISMISSED: _dismissed,
    }[file.record.state]
    return judge(file, history)


def _open(file: TransactionFile, history: History) -> Verdict:
    record = file.record
    metered = energy(record.metered_import_wh, record.metered_export_wh)
    if record.has_ended:
        return Verdict(
            outcome=Outcome.WAITING,
            why=f"it ended at {moment(record.last_at)} with {metered}, but {_missing(file)}{_offline(history)}",
        )
    refusal = _refusal(file, history)
    if file.session is None and refusal is not None:
        return Verdict(outcome=Outcome.REFUSED, why=f"{refusal}; the transaction is still open, with {metered}")
    late = f", and {_missing(file)}" if sequence_gaps(record.transaction) else ""
    why = f"it runs since {moment(record.first_at)}, {metered} until {moment(record.last_at)}{late}{_offline(history)}"
    return Verdict(outcome=Outcome.RUNNING, why=why)


def _billed(file: TransactionFile, _: History) -> Verdict:
    quarrel = next((row for row in file.disputes if row.answer is None), None)
    if quarrel is not None:
        why = f"it was billed, and {quarrel.emsp_id} disputes CDR {quarrel.cdr_id}: {quarrel.reason}, {quarrel.detail}"
        return Verdict(outcome=Outcome.DISPUTED, why=why)
    standing = [row for row in file.cdrs if not row.is_credit and row.credited_by is None]
    told = [
        f"{energy(row.energy_import_wh, row.energy_export_wh)} to {row.emsp_id} in {row.cdr_id}" for row in standing
    ]
    return Verdict(outcome=Outcome.BILLED, why=f"it did not fail: billed {', '.join(told)}")


def _quarantined(file: TransactionFile, history: History) -> Verdict:
    waiting = [row for row in file.quarantine if row.state is QuarantineState.OPEN]
    wh = sum(row.energy_import_wh for row in waiting), sum(row.energy_export_wh for row in waiting)
    causes = dict.fromkeys(_cause(reason, detail, file, history) for row in waiting for reason, detail in _told(row))
    return Verdict(outcome=Outcome.QUARANTINED, why=f"{'; '.join(causes)}: {energy(*wh)} wait in quarantine")


def _resolved(file: TransactionFile, _: History) -> Verdict:
    taken_back = [row for row in file.cdrs if row.is_credit]
    if taken_back:
        why = f"its CDR was taken back: {taken_back[-1].cdr.remark}"
        return Verdict(outcome=Outcome.CREDITED, why=why)
    last = max(file.quarantine, key=lambda row: row.resolved_at or row.quarantined_at, default=None)
    if last is None:
        return Verdict(outcome=Outcome.RESOLVED, why="it was resolved without a CDR")
    why = f"{', '.join(last.reasons)}; {last.resolved_by} made it {last.state}: {last.resolved_why}"
    return Verdict(outcome=Outcome.RESOLVED, why=why)


def _dismissed(file: TransactionFile, history: History) -> Verdict:
    why = _refusal(file, history) or "nobody was asked whether the driver may charge"
    return Verdict(outcome=Outcome.REFUSED, why=f"{why}; nothing flowed")


def _told(row: QuarantineRecord) -> list[tuple[str, str]]:
    return list(zip(row.reasons, row.details, strict=False))


def _cause(reason: str, detail: str, file: TransactionFile, history: History) -> str:
    if reason == FaultReason.SEQUENCE_GAP:
        return _missing(file) + _offline(history)
    if reason == FaultReason.NO_AUTHORIZATION:
        return _refusal(file, history) or reason_in_words(detail)
    return f"{reason}: {detail}"


def _refusal(file: TransactionFile, history: History) -> str | None:
    """Return why the driver was refused, in words; None: the driver was not, as far as we know."""
    own = [row for row in history.authorizations if _is_of(row, file)]
    if not own or any(row.is_accepted for row in own):
        return None
    last = max(own, key=lambda row: row.decided_at)
    return reason_in_words(last.reason, last.emsp_id)


def _missing(file: TransactionFile) -> str:
    transaction = file.record.transaction
    gaps = sequence_gaps(transaction)
    if not gaps:
        return "its start never came" if transaction.started is None else "a report is missing"
    count = sum(len(gap) for gap in gaps)
    told = ", ".join(numbers(gap) for gap in gaps[:GAPS_TOLD])
    return f"{count} report{'s' if count > 1 else ''} missing (seq_no {told})"


def _offline(history: History) -> str:
    """Return when the station went away, if it did."""
    ended = [row.began_at for row in history.connections if not row.is_online]
    if not ended:
        return ""
    came_back = any(row.is_online and row.began_at > ended[-1] for row in history.connections)
    return f"; the station went offline at {moment(ended[-1])}{'' if came_back else ' and has not come back'}"


def _hindrance(history: History, evse_id: int | None) -> str:
    """Return what may have kept a transaction from beginning."""
    newest: dict[tuple[int, int], tuple[datetime, str]] = {}
    for row in sorted(history.statuses, key=lambda row: row.began_at):
        if evse_id in (None, row.ocpp_evse_id) or row.ocpp_evse_id == 0:
            newest[row.ocpp_evse_id, row.connector_id] = (row.began_at, row.status)
    broken = [
        f"{f'EVSE {evse}' if evse else 'the station'} is {status} since {moment(at)}"
        for (evse, _), (at, status) in newest.items()
        if STATUS_OF.get(status) in _OUT_OF_USE
    ]
    return "".join(f"; {each}" for each in broken) + _offline(history)
