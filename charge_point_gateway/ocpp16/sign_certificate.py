"""SignCertificate (OCPP 1.6 security white paper, A02; 2.0.1, A02): a station has made a key of its own."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar, Final

from charge_point_gateway.message import Context
from charge_point_gateway.notice import Notice

FOR_US: Final = "ChargingStationCertificate"
"""The certificateType of 2.x for the connection to us. What a vehicle is shown, a V2G CA signs."""
_TOLD_APART_BY: Final = ("certificateType", "requestId")


class SignCertificate(Notice):
    """All versions have the same message. Accepted, with a CertificateSigned to come, if a CA of ours has signed it."""

    action: ClassVar[str] = "SignCertificate"

    def request_to_sign(self, payload: dict[str, Any]) -> str | None:
        """The CSR, if it is for the connection to us."""
        csr: str = payload["csr"]
        return csr if payload.get("certificateType", FOR_US) == FOR_US else None

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Rejected where no CA is configured or the CSR breaks a rule."""
        return {"status": "Rejected" if context.certificate_chain is None else "Accepted"}

    def call_back(self, payload: dict[str, Any], context: Context) -> tuple[str, dict[str, Any]] | None:
        """The certificate, with what the station told it apart by (2.0.1: A02.FR.14; 2.1: requestId)."""
        if context.certificate_chain is None:
            return None
        told: dict[str, Any] = {name: payload[name] for name in _TOLD_APART_BY if name in payload}
        return "CertificateSigned", {"certificateChain": context.certificate_chain, **told}
