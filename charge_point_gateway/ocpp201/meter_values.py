"""MeterValues: what the meter of an EVSE shows outside any transaction (OCPP 2.0.1, J01)."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Fact, Message, PersonalText, content_key, whole
from charge_point_gateway.meter_values import readings_of, signed_texts
from charge_point_gateway.ocpp201.meter_samples import latest, samples_of, signed_samples_of
from emobility.events.charging import EVSEMetered


class MeterValues(Message):
    """Durable; the idempotency key is the whole content."""

    action: ClassVar[str] = "MeterValues"

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """The signed records, sealed under the station: outside a transaction they belong to no driver."""
        return signed_texts(signed_samples_of(payload["meterValue"]), f"{context.station_key}/evse")

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """One event with all readings; it occurred when the last of them was taken."""
        samples = samples_of(payload["meterValue"])
        event = EVSEMetered(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            ocpp_evse_id=whole(payload["evseId"]),
            occurred_at=latest(payload["meterValue"]),
            readings=readings_of(samples, context.sealed, f"{context.station_key}/evse"),
        )
        return (Fact(f"{context.station_key}/meter/{content_key('MeterValues', payload)}", event),)
