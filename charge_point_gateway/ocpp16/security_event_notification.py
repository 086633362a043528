"""SecurityEventNotification (OCPP 1.6 security white paper, 5.x; 2.0.1, A04): durable, for it may be evidence."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Fact, Message, content_key, moment
from emobility.events.charging import SecurityEventReported


class SecurityEventNotification(Message):
    """Both versions have the same message."""

    action: ClassVar[str] = "SecurityEventNotification"

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The event as the station words it."""
        event = SecurityEventReported(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            security_event=payload["type"],
            occurred_at=moment(payload["timestamp"]),
            tech_info=payload.get("techInfo"),
        )
        return (Fact(f"{context.station_key}/security/{content_key(payload)}", event),)
