"""OCPP 2.1, block M: certificates, where 2.1 differs from 2.0.1."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.inquiries import ChainStatusAsked, ChainStatusFound, StatusAsked, StatusFound
from charge_point_gateway.message import Context, rfc3339
from charge_point_gateway.notice import Notice


class GetCertificateChainStatus(Notice):
    """A station asks which certificates of a chain are revoked, by OCSP or by list (M07)."""

    action: ClassVar[str] = "GetCertificateChainStatus"

    def inquiry(self, payload: dict[str, Any]) -> ChainStatusAsked:
        """Ask for each, at the addresses that it names."""
        return ChainStatusAsked(
            tuple(
                StatusAsked(hash_data=each["certificateHashData"], source=each["source"], urls=tuple(each["urls"]))
                for each in payload["certificateStatusRequests"]
            )
        )

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """One status for each; Failed where nobody could tell: ask again any time."""
        asked, finding = payload["certificateStatusRequests"], context.finding
        failed = (StatusFound(status="Failed", next_update=context.now),) * len(asked)
        found = finding.statuses if isinstance(finding, ChainStatusFound) else failed
        return {"certificateStatus": [_status(*each) for each in zip(asked, found, strict=True)]}


def _status(request: dict[str, Any], found: StatusFound) -> dict[str, Any]:
    return {
        "certificateHashData": request["certificateHashData"],
        "source": request["source"],
        "status": found.status,
        "nextUpdate": rfc3339(found.next_update),
    }
