"""BatterySwap (OCPP 2.1, S03, S04): batteries went into, or came out of, a swap station; durable, for they cost money.

The message has no number and no time. Its content tells it from every other one: request id, event and what the
batteries were like.
"""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, PersonalText
from charge_point_gateway.notice import Told
from charge_point_gateway.ocpp201.id_token import kind_of
from emobility.events.station_told import BatterySwapReported
from emobility.protocols.station_control.told import swap_of


class BatterySwap(Told):
    """Kept with its driver; `requestId` joins what goes in and what comes out."""

    action: ClassVar[str] = "BatterySwap"
    event = BatterySwapReported

    def identifiers(self, payload: dict[str, Any]) -> tuple[str, ...]:
        """The batteries."""
        return tuple(each["serialNumber"] for each in payload["batteryData"])

    def identifier(self, payload: dict[str, Any], context: Context) -> str:
        """The driver's token; NoAuthorization comes with an empty one."""
        return payload["idToken"]["idToken"] or context.station_key

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """The whole, and the token where there is one."""
        whole = super().personal(payload, context)
        return (*whole, self._token(payload, context)) if payload["idToken"]["idToken"] else whole

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Which swap, what happened, and each battery."""
        swap = swap_of(payload)
        return {
            "request_id": swap.request_id,
            "swap_event": swap.swap_event,
            "batteries": swap.batteries,
            "id_token": context.sealed.get(self._token(payload, context)),
            "id_token_kind": kind_of(payload["idToken"]),
        }

    def _token(self, payload: dict[str, Any], context: Context) -> PersonalText:
        return PersonalText(payload["idToken"]["idToken"], self.identifier(payload, context))
