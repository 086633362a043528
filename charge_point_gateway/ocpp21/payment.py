"""OCPP 2.1, block C: drivers who pay at the station, without a contract."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, PersonalText, optional_whole
from charge_point_gateway.notice import Notice, Told
from emobility.events.station_told import TerminalPaymentReported, WebPaymentStarted
from emobility.ports.station_questions import (
    Company,
    ReceiptAnswer,
    ReceiptQuestion,
    StationQuestion,
    VATNumberAnswer,
    VATNumberQuestion,
)
from emobility.protocols.station_control.told import decimal_of, moment_of, whole_of


class NotifySettlement(Told):
    """What a payment terminal took, or could not take (C21, C22); durable before the response.

    The payment's reference is the id token of its transaction, so it is sealed like one.
    """

    action: ClassVar[str] = "NotifySettlement"
    event = TerminalPaymentReported

    def identifiers(self, payload: dict[str, Any]) -> tuple[str, ...]:
        """The payment and the transaction."""
        return (payload["pspRef"], payload.get("transactionId", ""))

    def identifier(self, payload: dict[str, Any], context: Context) -> str:
        """Who paid is known by the payment."""
        return payload["pspRef"] or context.station_key

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """The whole, and the reference."""
        return (*super().personal(payload, context), self._reference(payload, context))

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """What was paid, when, and for what."""
        return {
            "psp_reference": context.sealed.get(self._reference(payload, context)),
            "status": payload["status"],
            "amount": decimal_of(payload["settlementAmount"]),
            "settled_at": moment_of(payload["settlementTime"]),
            "transaction_id": payload.get("transactionId"),
        }

    def station_question(self, payload: dict[str, Any], context: Context) -> StationQuestion | None:
        """Ask for a receipt."""
        return ReceiptQuestion(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            psp_reference=payload["pspRef"],
            transaction_id=payload.get("transactionId"),
        )

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """The receipt, if there is one."""
        told = context.told
        if not isinstance(told, ReceiptAnswer):
            return {}
        receipt = {"receiptUrl": told.receipt_url, "receiptId": told.receipt_id}
        return {name: text for name, text in receipt.items() if text is not None}

    def _reference(self, payload: dict[str, Any], context: Context) -> PersonalText:
        return PersonalText(payload["pspRef"], self.identifier(payload, context))


class NotifyWebPaymentStarted(Told):
    """A driver opened the payment page that the station's QR code names (C25); nothing tells one from the next."""

    action: ClassVar[str] = "NotifyWebPaymentStarted"
    event = WebPaymentStarted
    is_told_once: ClassVar[bool] = False

    def said(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Where, and until when a payment may come."""
        return {"ocpp_evse_id": whole_of(payload["evseId"]), "timeout_s": whole_of(payload["timeout"])}


class VatNumberValidation(Notice):
    """A driver wants an invoice for a company (C23); kept as it was asked, under the number."""

    action: ClassVar[str] = "VatNumberValidation"

    def identifier(self, payload: dict[str, Any], context: Context) -> str:
        """A sole trader's number names a person."""
        return payload["vatNumber"] or context.station_key

    def station_question(self, payload: dict[str, Any], context: Context) -> StationQuestion | None:
        """Ask the back office."""
        return VATNumberQuestion(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            vat_number=payload["vatNumber"],
            ocpp_evse_id=optional_whole(payload.get("evseId")),
        )

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """The verdict and what it rests on; without one Rejected, for nobody may put a number on a bill unchecked."""
        told = context.told
        if not isinstance(told, VATNumberAnswer):
            told = VATNumberAnswer(is_valid=False, reason_code="NotChecked")
        answer: dict[str, Any] = {
            "vatNumber": payload["vatNumber"],
            "status": "Accepted" if told.is_valid else "Rejected",
            "statusInfo": {"reasonCode": told.reason_code},
        }
        if "evseId" in payload:
            answer["evseId"] = payload["evseId"]
        if told.company is not None:
            answer["company"] = _address(told.company)
        return answer


def _address(company: Company) -> dict[str, str]:
    address = {
        "name": company.name,
        "address1": company.address1,
        "address2": company.address2,
        "city": company.city,
        "postalCode": company.postal_code,
        "country": company.country,
    }
    return {name: text for name, text in address.items() if text is not None}
