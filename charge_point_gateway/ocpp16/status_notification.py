"""StatusNotification: a connector changed state (OCPP 1.6, 4.9)."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Fact, Message, content_key, moment, rfc3339, whole
from emobility.events.charging import ConnectorStatusChanged


class StatusNotification(Message):
    """Keeps the state as the station worded it; connector 0 is the station itself."""

    action: ClassVar[str] = "StatusNotification"

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The connector's state changed at the station's time, or now if it gave none."""
        evse = whole(payload["connectorId"])
        changed_at = moment(payload["timestamp"]) if "timestamp" in payload else context.now
        event = ConnectorStatusChanged(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            ocpp_evse_id=evse,
            connector_id=0 if evse == 0 else 1,
            status=payload["status"],
            changed_at=changed_at,
            error_code=None if payload["errorCode"] == "NoError" else payload["errorCode"],
            vendor_id=payload.get("vendorId"),
            vendor_error_code=payload.get("vendorErrorCode"),
            info=payload.get("info"),
        )
        vendor = (event.vendor_id, event.vendor_error_code, event.info)
        said = (evse, payload["status"], payload["errorCode"], rfc3339(changed_at), *(vendor if any(vendor) else ()))
        key = content_key("StatusNotification", *said)
        return (Fact(f"{context.station_key}/status/{key}", event),)
