"""Paying at a 2.1 station without a contract (C18 to C25): web payment, settlement by a terminal, VAT numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station


class AdHocPayment(Concept):
    """`web_payments`: EVSEs whose driver pays in a browser now, with the seconds they have."""

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.web_payments: dict[int, int] = {}
        self.companies: dict[str, Payload] = {}

    def commands(self) -> Commands:
        """The CSMS says that a driver pays in a browser."""
        return {"NotifyWebPaymentStarted": self._web_payment}

    def settle(self, *, transaction_id: str | None, psp_ref: str, amount: str, receipt_id: str) -> None:
        """The terminal was paid."""
        told: Payload = {
            "pspRef": psp_ref,
            "status": "Settled",
            "settlementAmount": float(amount),
            "settlementTime": self.station.timestamp(),
            "receiptId": receipt_id,
        }
        if transaction_id is not None:
            told["transactionId"] = transaction_id
        self.station.tell("NotifySettlement", told)

    def ask_company(self, vat_number: str, evse_id: int) -> None:
        """A driver typed a VAT number for the receipt."""

        def answered(answer: Payload) -> None:
            self.companies[vat_number] = answer

        self.station.request(
            "VatNumberValidation", lambda: {"vatNumber": vat_number, "evseId": evse_id}, on_answer=answered
        )

    def _web_payment(self, payload: Payload) -> Reply:
        self.web_payments[payload["evseId"]] = payload["timeout"]
        return Reply(payload={})
