"""Rows of invoices between companies. A document begins with its CPO, who sells, and names its MSP, who buys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.invoicing.invoice import Invoice, TradeParty
from emobility.events.settlement import StatementName
from emobility.ports.stores import TableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanyRecord:
    """A company as it stands on invoices."""

    party_id: PartyId
    company: TradeParty
    entered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfBillingRecord:
    """A CPO's word that an MSP makes the invoices in its name (Directive 2006/112/EC art. 224)."""

    cpo_id: PartyId
    emsp_id: PartyId
    is_agreed: bool
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceRecord:
    """A document as it was issued. `issuer`: who made it and counts it; `annex_sha256`: of its CDRs as CSV."""

    cpo_id: PartyId
    number: str
    emsp_id: PartyId
    issuer: PartyId
    statement: StatementName
    statement_hash: bytes
    currency: str
    gross_cents: int
    is_credit: bool
    annex_sha256: str
    invoice: Invoice
    issued_at: datetime


COMPANY: Final = TableSpec(name="settlement_company", record=CompanyRecord, key=("party_id",))
SELF_BILLING: Final = TableSpec(name="settlement_self_billing", record=SelfBillingRecord, key=("cpo_id", "emsp_id"))
INVOICE: Final = TableSpec(
    name="settlement_invoice", record=InvoiceRecord, key=("cpo_id", "number"), unique=(("statement_hash",),)
)
