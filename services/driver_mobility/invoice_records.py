"""Rows of invoices to drivers, and of drivers who wait because a payment failed; every key begins with the MSP."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.invoicing.invoice import Invoice, TradeParty
from emobility.domain.personal import Sealed
from emobility.ports.stores import TableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SellerRecord:
    """How an MSP stands on its drivers' invoices; `time_zone` says when its months end."""

    party_id: PartyId
    company: TradeParty
    time_zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailInvoiceRecord:
    """An invoice of a driver's month, or a credit note for bills that were withdrawn after it.

    Attributes:
        month: As in 2026-11; of a credit note the one it takes back from.
        exact_e4: Gross sum of its bills, in ten-thousandths; below zero in a credit note.
        carried_e4: With it, cents and `residue_e4` (`domain/banking/payout.in_cents`).
        gross_cents: Below zero in a credit note.
        buyer: The driver's name; `invoice` has their number in its place.
    """

    party_id: PartyId
    number: str
    driver_id: str
    currency: str
    month: str
    is_credit: bool
    bills: tuple[str, ...]
    exact_e4: int
    carried_e4: int
    gross_cents: int
    residue_e4: int
    buyer: Sealed
    invoice: Invoice
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicedBill:
    """The documents that a bill stands on: one invoice, and if it was withdrawn after that, one credit note."""

    party_id: PartyId
    bill_id: str
    invoice_number: str
    credit_number: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceAccount:
    """The part of a cent that a driver's documents in one currency carry on."""

    party_id: PartyId
    driver_id: str
    currency: str
    residue_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpaidBlock:
    """A driver whose payment failed: these tokens were valid before, and are again when it is paid."""

    party_id: PartyId
    driver_id: str
    token_subjects: tuple[str, ...]
    blocked_at: datetime


SELLER: Final = TableSpec(name="emsp_seller", record=SellerRecord, key=("party_id",))
RETAIL_INVOICE: Final = TableSpec(name="emsp_invoice", record=RetailInvoiceRecord, key=("party_id", "number"))
INVOICED_BILL: Final = TableSpec(name="emsp_invoiced_bill", record=InvoicedBill, key=("party_id", "bill_id"))
INVOICE_ACCOUNT: Final = TableSpec(
    name="emsp_invoice_account", record=InvoiceAccount, key=("party_id", "driver_id", "currency")
)
UNPAID_BLOCK: Final = TableSpec(name="emsp_unpaid_block", record=UnpaidBlock, key=("party_id", "driver_id"))
