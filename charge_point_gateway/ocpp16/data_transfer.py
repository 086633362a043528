"""DataTransfer: vendor data (OCPP 1.6, 4.3), kept sealed and unread; no vendor is known here, as the answer says."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Fact, Message, PersonalText, canonical_text, rfc3339
from emobility.events.charging import DataTransferred


class DataTransfer(Message):
    """Both versions have the same message; in 2.0.1 `data` may be any JSON value."""

    action: ClassVar[str] = "DataTransfer"

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """Nobody knows what the data say, so they are treated as personal."""
        return (_data(payload, context),) if payload.get("data") is not None else ()

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The data came now."""
        event = DataTransferred(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            vendor_id=payload["vendorId"],
            message_id=payload.get("messageId"),
            payload=None if payload.get("data") is None else context.sealed.get(_data(payload, context)),
            occurred_at=context.now,
        )
        return (Fact(f"{context.station_key}/data/{rfc3339(context.now)}/{context.message_id}", event),)

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """The data are kept, and no implementation for the vendor exists."""
        return {"status": "UnknownVendorId"}


def _data(payload: dict[str, Any], context: Context) -> PersonalText:
    data = payload["data"]
    return PersonalText(data if isinstance(data, str) else canonical_text(data), context.station_key)
