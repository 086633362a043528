"""OCPP 2.1, block M: certificates, where 2.1 differs from 2.0.1."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, rfc3339
from charge_point_gateway.notice import Notice


class GetCertificateChainStatus(Notice):
    """A station asks which certificates of a chain are revoked (M07); no responder is connected."""

    action: ClassVar[str] = "GetCertificateChainStatus"

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Failed, for each that was asked for; ask again any time."""
        asked = payload["certificateStatusRequests"]
        return {"certificateStatus": [_failed(each, context) for each in asked]}


def _failed(request: dict[str, Any], context: Context) -> dict[str, Any]:
    return {
        "certificateHashData": request["certificateHashData"],
        "source": request["source"],
        "status": "Failed",
        "nextUpdate": rfc3339(context.now),
    }
