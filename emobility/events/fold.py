"""From a station's events to its transactions: the pure fold that the back office and the audit share."""

from __future__ import annotations

from typing import TypeAlias

from emobility.domain.identifiers import PartyId
from emobility.domain.transaction import (
    AuthorizationNote,
    Report,
    ReportKind,
    Transaction,
    empty,
    with_authorization,
    with_report,
)
from emobility.events.charging import AuthorizationDecided, TransactionEnded, TransactionStarted, TransactionUpdated

TransactionReport: TypeAlias = TransactionStarted | TransactionUpdated | TransactionEnded
TransactionKey: TypeAlias = tuple[PartyId, str, str]


def transaction_key(event: TransactionReport | AuthorizationDecided) -> TransactionKey | None:
    """Return party, station and transaction id; None for a decision that names no transaction."""
    if event.transaction_id is None:
        return None
    return (event.party_id, event.charging_station_id, event.transaction_id)


def apply(transaction: Transaction | None, event: TransactionReport | AuthorizationDecided) -> Transaction:
    """Return the transaction with what `event` adds; the same events in any order, repeated or not, give the same.

    Raises:
        AssertionError: the event belongs to another transaction.
    """
    key = transaction_key(event)
    if key is None:
        raise AssertionError("a decision without a transaction belongs to no transaction")
    if transaction is None:
        transaction = empty(party_id=key[0], charging_station_id=key[1], transaction_id=key[2])
    elif (transaction.party_id, transaction.charging_station_id, transaction.transaction_id) != key:
        raise AssertionError(f"{key} is not {transaction.transaction_id}")
    if isinstance(event, AuthorizationDecided):
        return with_authorization(transaction, _note_of(event))
    return with_report(transaction, _report_of(event))


def _note_of(event: AuthorizationDecided) -> AuthorizationNote:
    return AuthorizationNote(
        authorization_id=event.authorization_id,
        subject=event.subject,
        is_accepted=event.is_accepted,
        reason=event.reason,
        decided_at=event.decided_at,
        authorization_reference=event.authorization_reference,
    )


def _report_of(event: TransactionReport) -> Report:
    match event:
        case TransactionStarted():
            return Report(
                kind=ReportKind.STARTED,
                occurred_at=event.occurred_at,
                seq_no=event.seq_no,
                is_offline=event.is_offline,
                readings=event.readings,
                # 0 names no EVSE: a driver may be identified before any is known (OCPP 2.0.1, E01.FR.16).
                ocpp_evse_id=event.ocpp_evse_id or None,
                connector_id=event.connector_id if event.ocpp_evse_id else None,
                id_token=event.id_token,
                identified_by=event.id_token_kind.value,
                remote_start_id=event.remote_start_id,
                charging_state=event.charging_state,
            )
        case TransactionUpdated():
            return Report(
                kind=ReportKind.UPDATED,
                occurred_at=event.occurred_at,
                seq_no=event.seq_no,
                is_offline=event.is_offline,
                readings=event.readings,
                ocpp_evse_id=event.ocpp_evse_id,
                connector_id=event.connector_id,
                id_token=event.id_token,
                identified_by=event.id_token_kind.value,
                charging_state=event.charging_state,
                trigger=event.trigger,
            )
        case TransactionEnded():
            return Report(
                kind=ReportKind.ENDED,
                occurred_at=event.occurred_at,
                seq_no=event.seq_no,
                is_offline=event.is_offline,
                readings=event.readings,
                id_token=event.id_token,
                stopped_reason=event.stopped_reason,
            )
