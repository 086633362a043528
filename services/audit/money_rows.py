"""What is stored of payments by bank and of invoices, gathered once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from emobility.domain.identifiers import PartyId
from emobility.domain.invoicing.numbering import Series
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.invoice_counter import INVOICE_COUNTER, InvoiceCounter
from services.audit.rows import all_rows
from services.driver_mobility.invoice_records import (
    INVOICE_ACCOUNT,
    INVOICED_BILL,
    RETAIL_INVOICE,
    InvoiceAccount,
    InvoicedBill,
    RetailInvoiceRecord,
)
from services.settlement.guarantee_records import GUARANTEE_CALL, GuaranteeCall
from services.settlement.invoice_records import INVOICE, InvoiceRecord
from services.settlement.money_records import (
    BANK_ENTRY,
    DISCHARGE,
    PAYABLE,
    PAYOUT,
    BankEntryRecord,
    DischargeRecord,
    PayableRecord,
    PayoutRecord,
)
from services.settlement.records import StatementRecord


@dataclass(slots=True, kw_only=True)
class MoneyRows:
    """Rows as they are stored."""

    payables: list[PayableRecord] = field(default_factory=list)
    payouts: list[PayoutRecord] = field(default_factory=list)
    entries: list[BankEntryRecord] = field(default_factory=list)
    discharges: list[DischargeRecord] = field(default_factory=list)
    guarantee_calls: list[GuaranteeCall] = field(default_factory=list)
    invoices: list[InvoiceRecord] = field(default_factory=list)
    retail_invoices: list[RetailInvoiceRecord] = field(default_factory=list)
    invoiced_bills: list[InvoicedBill] = field(default_factory=list)
    invoice_accounts: list[InvoiceAccount] = field(default_factory=list)
    counters: list[InvoiceCounter] = field(default_factory=list)


async def gather_late_payables(unit: UnitOfWork, rows: MoneyRows, statements: Iterable[StatementRecord]) -> None:
    """Add what statements came to while those were read: one that is final was asked for a moment later."""
    known = {_key(row) for row in rows.payables}
    wanted = {_key(statement) for statement in statements}
    rows.payables += [row for row in await all_rows(unit, PAYABLE) if _key(row) in wanted - known]


def _key(row: PayableRecord | StatementRecord) -> tuple[PartyId, str, int, int]:
    return row.cpo_id, row.agreement_id, row.version, row.sequence


async def gather_company_money(unit: UnitOfWork) -> MoneyRows:
    """Read what companies owe each other, pay and invoice, at one moment; nothing of drivers."""
    counters = await all_rows(unit, INVOICE_COUNTER)
    return MoneyRows(
        discharges=await all_rows(unit, DISCHARGE),
        entries=await all_rows(unit, BANK_ENTRY),
        payouts=await all_rows(unit, PAYOUT),
        guarantee_calls=await all_rows(unit, GUARANTEE_CALL),
        invoices=await all_rows(unit, INVOICE),
        payables=await all_rows(unit, PAYABLE),
        counters=[row for row in counters if row.series is not Series.RETAIL],
    )


async def gather_money(unit: UnitOfWork) -> MoneyRows:
    """Read everything; what follows from another row is read before it."""
    return MoneyRows(
        discharges=await all_rows(unit, DISCHARGE),
        entries=await all_rows(unit, BANK_ENTRY),
        payouts=await all_rows(unit, PAYOUT),
        guarantee_calls=await all_rows(unit, GUARANTEE_CALL),
        invoices=await all_rows(unit, INVOICE),
        payables=await all_rows(unit, PAYABLE),
        invoice_accounts=await all_rows(unit, INVOICE_ACCOUNT),
        invoiced_bills=await all_rows(unit, INVOICED_BILL),
        retail_invoices=await all_rows(unit, RETAIL_INVOICE),
        counters=await all_rows(unit, INVOICE_COUNTER),
    )
