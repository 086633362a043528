"""BootNotification: a station started (OCPP 1.6, 4.2).

Its credentials are checked already, so it is accepted as soon as there is room.
"""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.admission import BootStatus
from charge_point_gateway.message import Context, Fact, Message, boot_answer, rfc3339
from emobility.events.charging import StationBooted


class BootNotification(Message):
    """Tells the time and how often to send heartbeats."""

    action: ClassVar[str] = "BootNotification"

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The station booted now; one that is not accepted yet will say so again."""
        if context.boot.status is not BootStatus.ACCEPTED:
            return ()
        event = StationBooted(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            ocpp_version=context.ocpp_version,
            vendor=payload["chargePointVendor"],
            model=payload["chargePointModel"],
            booted_at=context.now,
            serial_number=payload.get("chargePointSerialNumber"),
            firmware_version=payload.get("firmwareVersion"),
        )
        return (Fact(f"{context.station_key}/boot/{rfc3339(context.now)}/{context.message_id}", event),)

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Accepted, or when to ask again."""
        return boot_answer(context)
