"""TransactionEvent (OCPP 2.1): as in 2.0.1, with what a station that calculates by itself says it costs (I12)."""

from __future__ import annotations

from typing import Any

from charge_point_gateway.message import Context, Fact, PersonalText, canonical_text, moment, whole
from charge_point_gateway.ocpp201.transaction_event import TransactionEvent as TransactionEvent201
from emobility.events.station_told import StationCostCalculated
from emobility.protocols.station_control.told import cost_of


class TransactionEvent(TransactionEvent201):
    """The cost is a fact of its own: what the transaction was does not depend on it."""

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """The details of the cost, too."""
        personal = super().personal(payload, context)
        return (*personal, _details(payload, context)) if "costDetails" in payload else personal

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The transaction's event, and the cost with the number of the event that told it."""
        facts = super().facts(payload, context)
        if "costDetails" not in payload:
            return facts
        transaction_id, seq_no = payload["transactionInfo"]["transactionId"], whole(payload["seqNo"])
        cost = cost_of(payload["costDetails"])
        event = StationCostCalculated(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            ocpp_version=context.ocpp_version,
            payload=context.sealed.get(_details(payload, context)),
            transaction_id=transaction_id,
            seq_no=seq_no,
            occurred_at=moment(payload["timestamp"]),
            currency=cost.currency,
            total_excl=cost.total_excl,
            total_incl=cost.total_incl,
            has_failed=cost.has_failed,
        )
        return (*facts, Fact(f"{context.station_key}/{transaction_id}/{seq_no}/cost", event))


def _details(payload: dict[str, Any], context: Context) -> PersonalText:
    return PersonalText(canonical_text(payload["costDetails"]), context.station_key)
