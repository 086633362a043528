"""MeterValues: what the meter shows, inside a transaction or outside (OCPP 1.6, 4.7)."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Fact, Message, PersonalText, content_key, whole
from charge_point_gateway.meter_values import readings_of, signed_texts
from charge_point_gateway.ocpp16.meter_samples import samples_of
from charge_point_gateway.ocpp16.stop_transaction import identifier_of, number_of, unknown_transaction
from emobility.events.charging import EVSEMetered, TransactionUpdated


class MeterValues(Message):
    """Durable; the idempotency key is the whole content, for 1.6 numbers nothing."""

    action: ClassVar[str] = "MeterValues"

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """The signed records."""
        return signed_texts(samples_of(payload["meterValue"]), identifier_of(payload, context))

    def number_named(self, payload: dict[str, Any]) -> int | None:
        """Return the number of the transaction."""
        return number_of(payload)

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """One event with all readings; it occurred when the last of them was taken.

        With -1 or 0 as transaction, as stations write that have none, the values are the EVSE's.
        """
        samples = samples_of(payload["meterValue"])
        readings = readings_of(samples, context.sealed, identifier_of(payload, context))
        occurred_at = max(sample.at for sample in samples)
        evse = whole(payload["connectorId"])
        key = content_key("MeterValues", payload)
        number = number_of(payload)
        if number is None:
            metered = EVSEMetered(
                party_id=context.party_id,
                charging_station_id=context.charging_station_id,
                ocpp_evse_id=evse,
                occurred_at=occurred_at,
                readings=readings,
            )
            return (Fact(f"{context.station_key}/meter/{key}", metered),)
        transaction_id = str(number) if context.is_number_given else unknown_transaction(number)
        updated = TransactionUpdated(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            transaction_id=transaction_id,
            occurred_at=occurred_at,
            readings=readings,
            ocpp_evse_id=evse,
            connector_id=1,
        )
        return (Fact(f"{context.station_key}/{transaction_id}/meter/{key}", updated),)
