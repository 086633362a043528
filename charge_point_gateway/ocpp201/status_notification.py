"""StatusNotification: a connector changed state (OCPP 2.0.1, G01)."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Fact, Message, content_key, moment, rfc3339, whole
from emobility.events.charging import ConnectorStatusChanged


class StatusNotification(Message):
    """Keeps the state as the station worded it."""

    action: ClassVar[str] = "StatusNotification"

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The connector's state changed at the station's time."""
        event = ConnectorStatusChanged(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            ocpp_evse_id=whole(payload["evseId"]),
            connector_id=whole(payload["connectorId"]),
            status=payload["connectorStatus"],
            changed_at=moment(payload["timestamp"]),
        )
        key = content_key(
            "StatusNotification", event.ocpp_evse_id, event.connector_id, event.status, rfc3339(event.changed_at)
        )
        return (Fact(f"{context.station_key}/status/{key}", event),)
