"""OCPP 2.1, block C: drivers who pay at the station, without a contract."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context
from charge_point_gateway.notice import Notice


class NotifySettlement(Notice):
    """What a payment terminal took, or could not take (C21, C22)."""

    action: ClassVar[str] = "NotifySettlement"


class NotifyWebPaymentStarted(Notice):
    """A driver opened the payment page that the station's QR code names (C25)."""

    action: ClassVar[str] = "NotifyWebPaymentStarted"


class VatNumberValidation(Notice):
    """A driver wants an invoice for a company (C23); Rejected: no register of VAT numbers is connected."""

    action: ClassVar[str] = "VatNumberValidation"

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """The number comes back, as the standard has it."""
        del context
        evse = {"evseId": payload["evseId"]} if "evseId" in payload else {}
        return {"vatNumber": payload["vatNumber"], "status": "Rejected", **evse}
