"""NotifyEVChargingNeeds (OCPP 2.0.1, K15; 2.1, K15-K18 and Q01): an EV tells what it needs."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, whole
from charge_point_gateway.notice import Notice
from emobility.ports.station_questions import ChargingAdvice, ChargingQuestion, StationQuestion


class NotifyEVChargingNeeds(Notice):
    """Accepted where a load group manages the EVSE: a TxProfile follows. Else the EV charges by the one it has."""

    action: ClassVar[str] = "NotifyEVChargingNeeds"
    no_profile: ClassVar[str] = "Rejected"
    """How the version says that no profile will follow."""

    def station_question(self, payload: dict[str, Any], context: Context) -> StationQuestion | None:
        """Whether a profile will follow."""
        return ChargingQuestion(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            evse_with_needs=whole(payload["evseId"]),
        )

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """What the back office said; when it is away, that no profile will follow."""
        is_accepted = isinstance(context.told, ChargingAdvice) and context.told.is_accepted
        return {"status": "Accepted" if is_accepted else self.no_profile}
