"""TransactionEvent: a transaction started, went on or ended (OCPP 2.0.1, E01-E15).

The station numbers a transaction's events, and sends those that happened offline later: seqNo decides the order, not
arrival. (party, station, transaction, seqNo) is one fact however often it comes.
"""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar, Final

from charge_point_gateway.message import (
    Context,
    Fact,
    Message,
    PersonalText,
    Question,
    id_token_info,
    moment,
    optional_whole,
    whole,
)
from charge_point_gateway.meter_values import readings_of, signed_texts
from charge_point_gateway.ocpp201.id_token import kind_of, presented
from charge_point_gateway.ocpp201.meter_samples import samples_of, signed_samples_of
from emobility.domain.meter import MeterReading
from emobility.domain.transaction import STOP_AUTHORIZED
from emobility.events.charging import IdTokenKind, TransactionEnded, TransactionStarted, TransactionUpdated
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationStatus

UNKNOWN_EVSE: Final = 0
"""The EVSE of a Started event that names none (E01.FR.16 asks for it in the first event after it is known)."""


class TransactionEvent(Message):
    """Durable; an id token in it is put to the back office unless the transaction is over."""

    action: ClassVar[str] = "TransactionEvent"

    def identifiers(self, payload: dict[str, Any]) -> tuple[str, ...]:
        """The transaction and the token."""
        id_token = presented(payload)
        tokens = () if id_token is None else (id_token["idToken"],)
        return (payload["transactionInfo"]["transactionId"], *tokens)

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """The token and the signed records."""
        texts: tuple[PersonalText, ...] = ()
        if "meterValue" in payload:
            signed = signed_samples_of(payload["meterValue"])
            texts = signed_texts(signed, _identifier(payload, context)) if signed else ()
        id_token = presented(payload)
        return texts if id_token is None else (_token(id_token), *texts)

    def question(self, payload: dict[str, Any], context: Context) -> Question | None:
        """Ask about the token; the end of a charge can't be refused, so nobody is asked then."""
        id_token = presented(payload)
        if id_token is None or payload["eventType"] == "Ended":
            return None
        evse = payload.get("evse", {})
        info = payload["transactionInfo"]
        return Question(
            id_token=id_token["idToken"],
            kind=kind_of(id_token),
            ocpp_evse_id=optional_whole(evse.get("id")),
            connector_id=optional_whole(evse.get("connectorId")),
            transaction_id=info["transactionId"],
            remote_start_id=optional_whole(info.get("remoteStartId")),
            is_stop=payload["triggerReason"] == STOP_AUTHORIZED,
            began_at=moment(payload["timestamp"]),
        )

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """One event, by its type."""
        transaction_id = payload["transactionInfo"]["transactionId"]
        seq_no = whole(payload["seqNo"])
        event = _EVENTS[payload["eventType"]](payload, context, transaction_id, seq_no)
        return (Fact(f"{context.station_key}/{transaction_id}/{seq_no}", event),)

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """A decision where a token came, else nothing. Who needs none is accepted (C02); nobody is billed for it."""
        if "idToken" not in payload:
            return {}
        answer = context.answer or AuthorizationAnswer(status=AuthorizationStatus.ACCEPTED, reason="nobody is asked")
        return {"idTokenInfo": id_token_info(answer, now=context.now)}


def _base(payload: dict[str, Any], context: Context, transaction_id: str, seq_no: int) -> dict[str, Any]:
    readings: tuple[MeterReading, ...] = ()
    if "meterValue" in payload:
        readings = readings_of(samples_of(payload["meterValue"]), context.sealed, _identifier(payload, context))
    id_token = presented(payload)
    return {
        "party_id": context.party_id,
        "charging_station_id": context.charging_station_id,
        "transaction_id": transaction_id,
        "occurred_at": moment(payload["timestamp"]),
        "seq_no": seq_no,
        "is_offline": payload.get("offline", False),
        "readings": readings,
        "reservation_id": optional_whole(payload.get("reservationId")),
        "id_token": None if id_token is None else context.sealed.get(_token(id_token)),
    }


def _started(payload: dict[str, Any], context: Context, transaction_id: str, seq_no: int) -> TransactionStarted:
    evse = payload.get("evse", {})
    info = payload["transactionInfo"]
    return TransactionStarted(
        **_base(payload, context, transaction_id, seq_no),
        ocpp_evse_id=whole(evse.get("id", UNKNOWN_EVSE)),
        connector_id=whole(evse.get("connectorId", 1)),
        id_token_kind=kind_of(payload["idToken"]) if "idToken" in payload else IdTokenKind.NONE,
        remote_start_id=optional_whole(info.get("remoteStartId")),
        charging_state=info.get("chargingState"),
    )


def _updated(payload: dict[str, Any], context: Context, transaction_id: str, seq_no: int) -> TransactionUpdated:
    evse = payload.get("evse", {})
    return TransactionUpdated(
        **_base(payload, context, transaction_id, seq_no),
        trigger=payload["triggerReason"],
        charging_state=payload["transactionInfo"].get("chargingState"),
        id_token_kind=kind_of(payload["idToken"]) if "idToken" in payload else IdTokenKind.NONE,
        ocpp_evse_id=optional_whole(evse.get("id")),
        connector_id=optional_whole(evse.get("connectorId")),
    )


def _ended(payload: dict[str, Any], context: Context, transaction_id: str, seq_no: int) -> TransactionEnded:
    return TransactionEnded(
        **_base(payload, context, transaction_id, seq_no),
        stopped_reason=payload["transactionInfo"].get("stoppedReason", "Local"),
    )


_EVENTS = {"Started": _started, "Updated": _updated, "Ended": _ended}


def _token(id_token: dict[str, Any]) -> PersonalText:
    text = id_token["idToken"]
    return PersonalText(text, text or "nobody")


def _identifier(payload: dict[str, Any], context: Context) -> str:
    """Return under what signed records are sealed: the transaction, which every message of it knows."""
    return f"{context.station_key}/{payload['transactionInfo']['transactionId']}"
