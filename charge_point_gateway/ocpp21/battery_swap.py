"""BatterySwap (OCPP 2.1, S01-S04): batteries went into, or came out of, a swapping station."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context
from charge_point_gateway.notice import Notice


class BatterySwap(Notice):
    """Kept with its driver; `requestId` joins what goes in and what comes out."""

    action: ClassVar[str] = "BatterySwap"
    is_told_once: ClassVar[bool] = True

    def identifier(self, payload: dict[str, Any], context: Context) -> str:
        """The driver's token; NoAuthorization comes with an empty one."""
        return payload["idToken"]["idToken"] or context.station_key
