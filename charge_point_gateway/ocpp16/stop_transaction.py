"""StopTransaction: a charge ended (OCPP 1.6, 4.10).

It is acknowledged and kept whatever its transaction id: a station that started offline sends -1 or 0, and would
repeat a refused message for ever. A number that was never given to the station - it is another station's, or another
central system's - names a transaction apart, so that it never meets one that is given the number later. The key is
scoped by party and station, so no station ends another's transaction (CVE-2026-28230).
"""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import (
    WHOLE_NUMBER_MAX,
    Context,
    Fact,
    Message,
    PersonalText,
    content_key,
    moment,
    rfc3339,
    whole,
)
from charge_point_gateway.meter_values import Sample, readings_of, signed_texts
from charge_point_gateway.ocpp16.meter_samples import samples_of
from charge_point_gateway.ocpp16.start_transaction import register_reading
from charge_point_gateway.transaction_numbers import FIRST_NUMBER
from emobility.domain.meter import ReadingContext
from emobility.events.charging import TransactionEnded


class StopTransaction(Message):
    """Durable; asks nobody, for the end of a charge can't be refused."""

    action: ClassVar[str] = "StopTransaction"

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """The card, if one was presented, and the signed records."""
        texts = signed_texts(_samples(payload), identifier_of(payload, context))
        id_tag = payload.get("idTag")
        return texts if id_tag is None else (PersonalText(id_tag, id_tag), *texts)

    def number_named(self, payload: dict[str, Any]) -> int | None:
        """Return the number it stops."""
        return number_of(payload)

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The transaction ended at the station's time; transactionData comes before the last register value."""
        meter_stop = whole(payload["meterStop"])
        occurred_at = moment(payload["timestamp"])
        transaction_id = _transaction_id(payload, context)
        id_tag = payload.get("idTag")
        end = register_reading(meter_stop, at=occurred_at, context=ReadingContext.TRANSACTION_END)
        event = TransactionEnded(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            transaction_id=transaction_id,
            occurred_at=occurred_at,
            readings=(*readings_of(_samples(payload), context.sealed, identifier_of(payload, context)), end),
            stopped_reason=payload.get("reason", "Local"),
            id_token=None if id_tag is None else context.sealed.get(PersonalText(id_tag, id_tag)),
        )
        key = content_key(payload["transactionId"], rfc3339(occurred_at), meter_stop)
        return (Fact(f"{context.station_key}/{transaction_id}/stop/{key}", event),)


def identifier_of(payload: dict[str, Any], context: Context) -> str:
    """Return under what signed records of a message are sealed: its transaction, which every message of it knows."""
    return f"{context.station_key}/{payload.get('transactionId', 'evse')}"


def number_of(payload: dict[str, Any]) -> int | None:
    """Return the number a message names; None: it names none, or one that is never given."""
    value = payload.get("transactionId")
    return whole(value) if value is not None and FIRST_NUMBER <= value <= WHOLE_NUMBER_MAX else None


def unknown_transaction(number: int) -> str:
    """Return what a transaction is called whose number was never given to its station."""
    return f"unknown-{number}"


def _transaction_id(payload: dict[str, Any], context: Context) -> str:
    number = number_of(payload)
    if number is not None:
        return str(number) if context.is_number_given else unknown_transaction(number)
    # -1, 0 or beyond all numbers: two of these are two transactions, and each is the same however often it comes.
    key = content_key(payload["transactionId"], payload["timestamp"], payload["meterStop"])
    return f"unnumbered-{key[:24]}"


def _samples(payload: dict[str, Any]) -> list[Sample]:
    return samples_of(payload.get("transactionData", ()))
