"""Authorize: a driver identified (OCPP 2.0.1, C01-C07)."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.inquiries import ContractShown, ContractVerdict
from charge_point_gateway.message import Context, Message, Question, id_token_info
from charge_point_gateway.ocpp201.id_token import kind_of


class Authorize(Message):
    """Asks the back office; no event, for nothing has happened yet.

    A contract certificate that is not accepted ends it before that (C07): Expired or Invalid, with what is wrong.
    """

    action: ClassVar[str] = "Authorize"

    def identifiers(self, payload: dict[str, Any]) -> tuple[str, ...]:
        """The token."""
        return (payload["idToken"]["idToken"],)

    def inquiry(self, payload: dict[str, Any]) -> ContractShown | None:
        """Have a contract certificate verified, if the station shows one or its hashes."""
        certificate, hash_data = payload.get("certificate"), payload.get("iso15118CertificateHashData", ())
        if certificate is None and not hash_data:
            return None
        emaid = payload["idToken"]["idToken"]
        return ContractShown(emaid=emaid, certificate=certificate, hash_data=tuple(hash_data))

    def question(self, payload: dict[str, Any], context: Context) -> Question | None:
        """Ask whether this token may charge here."""
        if _refusal(context) is not None:
            return None
        id_token = payload["idToken"]
        return Question(id_token=id_token["idToken"], kind=kind_of(id_token))

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Return the decision, and what became of a contract certificate."""
        refusal = _refusal(context)
        if refusal is not None:
            status = "Expired" if refusal == "CertificateExpired" else "Invalid"
            return {"idTokenInfo": {"status": status}, "certificateStatus": refusal}
        assert context.answer is not None
        response: dict[str, Any] = {"idTokenInfo": id_token_info(context.answer, now=context.now)}
        if isinstance(context.finding, ContractVerdict):
            response["certificateStatus"] = context.finding.status
        return response


def _refusal(context: Context) -> str | None:
    finding = context.finding
    return finding.status if isinstance(finding, ContractVerdict) and finding.status != "Accepted" else None
