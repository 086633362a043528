"""StopTransaction: a charge ended (OCPP 1.6, 4.10).

It is acknowledged and kept whatever its transaction id: a station that started offline sends -1 or 0, and would
repeat a refused message for ever. The back office decides what it belongs to; the key is scoped by party and station,
so no station ends another's transaction (CVE-2026-28230).
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

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The transaction ended at the station's time; transactionData comes before the last register value."""
        transaction_id = _transaction_id(payload["transactionId"])
        meter_stop = whole(payload["meterStop"])
        occurred_at = moment(payload["timestamp"])
        id_tag = payload.get("idTag")
        end = register_reading(meter_stop, at=occurred_at, context=ReadingContext.TRANSACTION_END)
        event = TransactionEnded(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            transaction_id=str(transaction_id),
            occurred_at=occurred_at,
            readings=(*readings_of(_samples(payload), context.sealed, identifier_of(payload, context)), end),
            stopped_reason=payload.get("reason", "Local"),
            id_token=None if id_tag is None else context.sealed.get(PersonalText(id_tag, id_tag)),
        )
        key = content_key(transaction_id, rfc3339(occurred_at), meter_stop)
        return (Fact(f"{context.station_key}/{transaction_id}/stop/{key}", event),)


def identifier_of(payload: dict[str, Any], context: Context) -> str:
    """Return under what signed records of a message are sealed: its transaction, which every message of it knows."""
    return f"{context.station_key}/{payload.get('transactionId', 'evse')}"


def _transaction_id(value: Any) -> int | str:
    """Return the id; of one that no system gave out, for it is beyond all numbers, a text that is the same each time.

    It is unknown, and acknowledged like any unknown one.
    """
    if abs(value) <= WHOLE_NUMBER_MAX:
        return whole(value)
    return f"beyond-{content_key(str(value))[:24]}"


def _samples(payload: dict[str, Any]) -> list[Sample]:
    return samples_of(payload.get("transactionData", ()))
