"""What an MSP's drivers were billed and paid, by currency; for the audit, the demo and the account statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from emobility.domain.identifiers import PartyId
from emobility.domain.retail_account import RetailAccount
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork, Units
from services.driver_mobility.records import (
    ACCOUNT,
    BILL,
    PAYMENT_ORDER,
    BillRecord,
    PaymentKind,
    PaymentOrder,
    PaymentState,
)


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

    Raises:
        AssertionError: an account says otherwise than the bills and payments it is the sum of.
    """
    async with units.begin() as unit:
        bills = await _all_bills(unit, emsp_id)
        orders = await _all_orders(unit, emsp_id)
        accounts = await unit.table(ACCOUNT).select({"party_id": emsp_id}, order_by=("currency", "driver_id"))
    currencies = dict.fromkeys([*(bill.currency for bill in bills), *(account.currency for account in accounts)])
    return {currency: _totals(currency, bills, orders, accounts) for currency in sorted(currencies)}


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
        raise AssertionError(f"accounts sum to {sums}, bills and payments to {(billed_e4, credited_e4, paid_e4)}")
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


async def _all_bills(unit: UnitOfWork, emsp_id: PartyId) -> list[BillRecord]:
    found: list[BillRecord] = []
    while True:
        page = await unit.table(BILL).select({"party_id": emsp_id}, offset=len(found))
        found += page
        if len(page) < SELECT_ROWS_MAX:
            return found


async def _all_orders(unit: UnitOfWork, emsp_id: PartyId) -> list[PaymentOrder]:
    found: list[PaymentOrder] = []
    while True:
        page = await unit.table(PAYMENT_ORDER).select({"party_id": emsp_id}, offset=len(found))
        found += page
        if len(page) < SELECT_ROWS_MAX:
            return found
