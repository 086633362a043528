"""What an MSP's drivers were billed and paid, by currency; for the audit, the demo and the account statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.retail_account import RetailAccount
from emobility.ports.unit_of_work import UnitOfWork, Units
from services.driver_mobility.pages import every
from services.driver_mobility.records import (
    ACCOUNT,
    BILL,
    PAYMENT_ORDER,
    BillRecord,
    PaymentKind,
    PaymentOrder,
    PaymentState,
)

READS_MAX: Final = 5
"""How often the ledger is read before a difference counts."""


class AccountsDiffer(AssertionError):
    """Accounts are not the sums of their bills and payments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailTotals:
    """Sums over all drivers of an MSP in one currency, in ten-thousandths.

    `billed_e4` is net of credits, so billed = paid + outstanding; `credited_e4` says how much was taken back.
    """

    currency: str
    billed_e4: int
    credited_e4: int
    paid_e4: int
    outstanding_e4: int
    bills: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One movement of an account: a bill, a credit or a payment (paid: negative), in ten-thousandths."""

    at: datetime
    kind: str
    reference: str
    amount_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStatement:
    """A driver's account in one currency with every movement; they sum to what is outstanding."""

    account: RetailAccount
    lines: tuple[StatementLine, ...]

    @property
    def billed_e4(self) -> int:
        """Billed, net of credits."""
        return self.account.billed_e4 - self.account.credited_e4


async def retail_ledger(units: Units, emsp_id: PartyId) -> Mapping[str, RetailTotals]:
    """Return an MSP's totals by currency, from the bills and payments themselves.

    What is billed and paid while pages are read makes them differ for a moment: only what stays is wrong.

    Raises:
        AccountsDiffer: an account says otherwise than the bills and payments it is the sum of.
    """
    of_msp = {"party_id": emsp_id}
    for reads_left in reversed(range(READS_MAX)):
        async with units.begin() as unit:
            bills = await every(unit, BILL, of_msp)
            orders = await every(unit, PAYMENT_ORDER, of_msp)
            accounts = await every(unit, ACCOUNT, of_msp)
        currencies = sorted({bill.currency for bill in bills} | {account.currency for account in accounts})
        try:
            return {currency: _totals(currency, bills, orders, accounts) for currency in currencies}
        except AccountsDiffer:
            if not reads_left:
                raise
    raise AssertionError("READS_MAX is at least one")


def _totals(
    currency: str, bills: Sequence[BillRecord], orders: Sequence[PaymentOrder], accounts: Sequence[RetailAccount]
) -> RetailTotals:
    of_currency = [bill for bill in bills if bill.currency == currency]
    billed_e4 = sum(bill.total_incl_e4 for bill in of_currency)
    credited_e4 = sum(bill.credited_incl_e4 for bill in of_currency)
    paid_e4 = sum(_paid_e4(order) for order in orders if order.currency == currency)
    booked = [account for account in accounts if account.currency == currency]
    sums = (
        sum(account.billed_e4 for account in booked),
        sum(account.credited_e4 for account in booked),
        sum(account.paid_e4 for account in booked),
    )
    if sums != (billed_e4, credited_e4, paid_e4):
        raise AccountsDiffer(f"accounts sum to {sums}, bills and payments to {(billed_e4, credited_e4, paid_e4)}")
    return RetailTotals(
        currency=currency,
        billed_e4=billed_e4 - credited_e4,
        credited_e4=credited_e4,
        paid_e4=paid_e4,
        outstanding_e4=sum(account.outstanding_e4 for account in booked),
        bills=len(of_currency),
    )


async def statements_of(unit: UnitOfWork, emsp_id: PartyId, driver_id: str) -> list[AccountStatement]:
    """Return a driver's accounts with their movements, oldest first."""
    where = {"party_id": emsp_id, "driver_id": driver_id}
    accounts = await unit.table(ACCOUNT).select(where, order_by=("currency",))
    bills = await unit.table(BILL).select(where, order_by=("billed_at",))
    orders = await unit.table(PAYMENT_ORDER).select(where, order_by=("ordered_at",))
    return [AccountStatement(account=account, lines=_lines(account.currency, bills, orders)) for account in accounts]


def _lines(currency: str, bills: Sequence[BillRecord], orders: Sequence[PaymentOrder]) -> tuple[StatementLine, ...]:
    lines = []
    for bill in bills:
        if bill.currency != currency:
            continue
        lines.append(
            StatementLine(at=bill.billed_at, kind="bill", reference=bill.bill_id, amount_e4=bill.total_incl_e4)
        )
        if bill.credited_incl_e4:
            credit_e4 = -bill.credited_incl_e4
            lines.append(StatementLine(at=bill.billed_at, kind="credit", reference=bill.bill_id, amount_e4=credit_e4))
    for order in orders:
        if order.currency == currency and _paid_e4(order):
            kind = "refund" if order.kind is PaymentKind.REFUND else "payment"
            lines.append(
                StatementLine(at=order.ordered_at, kind=kind, reference=order.bill_id or "", amount_e4=-_paid_e4(order))
            )
    return tuple(sorted(lines, key=lambda line: (line.at, line.reference, line.kind)))


def _paid_e4(order: PaymentOrder) -> int:
    """What an order moved from the driver to the MSP, in ten-thousandths."""
    if order.state is not PaymentState.DONE or order.kind is PaymentKind.RELEASE:
        return 0
    return -order.amount_e4 if order.kind is PaymentKind.REFUND else order.amount_e4
