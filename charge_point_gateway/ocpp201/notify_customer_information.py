"""NotifyCustomerInformation (OCPP 2.0.1, N09): what a station keeps of a customer, page by page."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context
from charge_point_gateway.notice import Told
from emobility.events.station_told import CustomerInformationReported
from emobility.protocols.station_control.told import whole_of


class NotifyCustomerInformation(Told):
    """Sealed under the station, for the page does not say whom it is about."""

    action: ClassVar[str] = "NotifyCustomerInformation"
    event = CustomerInformationReported

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Which page of which question."""
        return {
            "request_id": whole_of(payload["requestId"]),
            "seq_no": whole_of(payload["seqNo"]),
            "is_last": not payload.get("tbc", False),
        }
