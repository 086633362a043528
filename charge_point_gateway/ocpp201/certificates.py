"""OCPP 2.0.1, block M: what vehicles and stations ask about certificates. Kept as notices, and answered."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from base64 import b64encode
from typing import Any, ClassVar, Final

from charge_point_gateway.inquiries import (
    ChainStatusAsked,
    ChainStatusFound,
    ContractProvided,
    ContractWanted,
    StatusAsked,
)
from charge_point_gateway.message import Context
from charge_point_gateway.notice import Notice

OCSP_RESULT_CHARACTERS_MAX: Final = {"2.0.1": 5_500, "2.1": 18_000}
"""Of GetCertificateStatusResponse, by version."""


class Get15118EVCertificate(Notice):
    """An EV wants a contract certificate (M01, M02); Failed where no provisioning service gives one."""

    action: ClassVar[str] = "Get15118EVCertificate"

    def inquiry(self, payload: dict[str, Any]) -> ContractWanted:
        """Ask the contract provisioning service."""
        return ContractWanted(payload)

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """What the service said."""
        finding = context.finding
        provided = finding.payload if isinstance(finding, ContractProvided) else None
        return provided or {"status": "Failed", "exiResponse": ""}


class GetCertificateStatus(Notice):
    """A station wants the OCSP response about a certificate (M06).

    Accepted says that there is a verified one, whatever it says; Failed, that none was had or it is too long.
    """

    action: ClassVar[str] = "GetCertificateStatus"

    def inquiry(self, payload: dict[str, Any]) -> ChainStatusAsked:
        """Ask its responder."""
        asked = payload["ocspRequestData"]
        return ChainStatusAsked((StatusAsked(hash_data=asked, source="OCSP", urls=(asked["responderURL"],)),))

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """The responder's answer: DER, in base64."""
        der = context.finding.statuses[0].der if isinstance(context.finding, ChainStatusFound) else b""
        result = b64encode(der).decode()
        if 0 < len(result) <= OCSP_RESULT_CHARACTERS_MAX.get(context.ocpp_version, 0):
            return {"status": "Accepted", "ocspResult": result}
        return {"status": "Failed"}
