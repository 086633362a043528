"""Sound books of statements that were invoiced and paid by bank, one thing broken at a time: the rule notices."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from emobility.domain.retail_account import RetailAccount
from emobility.runtime.invoice_counter import INVOICE_COUNTER
from services.audit.books import Books
from services.audit.invoices import check_bank, check_invoices, check_paid_billed_invoiced, check_payables
from services.audit.money_rows import gather_late_payables, gather_money
from services.audit.report import Check
from services.audit.settlement_rows import gather_settlement
from services.driver_mobility.invoice_records import InvoiceAccount, InvoicedBill
from services.driver_mobility.records import PaymentKind
from services.settlement.invoicing import Invoicing
from services.settlement.money_records import PAYABLE
from tests.banking.bank_files import entry
from tests.invoicing.documents import BUYER, SELLER
from tests.mobility.documents import a_bill, a_retail_invoice, an_order
from tests.settlement.bank_desk import TODAY, Desk
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MSP


@pytest.fixture(scope="module")
def settled() -> Books:
    return asyncio.run(paid_by_bank())


async def paid_by_bank() -> Books:
    """Two statements, invoiced, in one payment that arrived in part."""
    async with open_settling() as here:
        desk, invoicing = Desk(here), Invoicing(here.world.ports)
        await desk.open()
        await invoicing.enter_company(CPO, SELLER)
        await invoicing.enter_company(MSP, replace(BUYER, country="NL", vat_id="NL123456782B01"))
        for name, cost_e4 in (("s1", 15_049), ("s2", 10_060)):
            await desk.charge(name, cost_e4)
            await desk.settle()
        await invoicing.issue(CPO)
        await desk.export()
        await desk.arrives(entry((await desk.payout()).end_to_end_id, "2.00", reference="B-1", on=TODAY))
        async with here.world.ports.units.begin() as unit:
            books = Books(settlement=await gather_settlement(unit), money=await gather_money(unit))
            assert await unit.table(INVOICE_COUNTER).count() == 1
        return books


@pytest.fixture
def books(settled: Books) -> Books:
    copied = replace(settled, money=copy.copy(settled.money), settlement=copy.copy(settled.settlement))
    for rows in (copied.money, copied.settlement):
        for each in fields(rows):
            setattr(rows, each.name, copy.copy(getattr(rows, each.name)))
    return copied


def changed(rows: list[Any], at: int = 0, **values: Any) -> None:
    rows[at] = replace(rows[at], **values)


def causes(check: Callable[[Books], Check], books: Books) -> list[str]:
    return [each.cause for each in check(books).differences]


def test_sound_books_break_no_rule(books: Books) -> None:
    checks = [check(books) for check in (check_payables, check_bank, check_invoices)]

    assert [each.differences for each in checks] == [(), (), ()]
    assert all(each.compared for each in checks)


@pytest.mark.parametrize(
    ("broken", "rule", "cause"),
    [
        (lambda b: b.money.payables.pop(), check_payables, "it is final, and nobody is asked for it"),
        (lambda b: changed(b.money.payables, exact_e4=1), check_payables, "the statement says otherwise"),
        (lambda b: changed(b.money.payables, 1, carried_e4=0), check_payables, "residue of the statement before"),
        (lambda b: changed(b.money.payables, net_cents=1), check_payables, "cents and residue differ"),
        (lambda b: b.settlement.statements.pop(), check_payables, "and no statement says so"),
        (lambda b: changed(b.money.payouts, net_cents=1), check_payables, "not what its statements come to"),
        (lambda b: b.money.payouts.pop(), check_payables, "not what its statements come to"),
        (lambda b: b.money.payouts.pop(), check_bank, "the CPO's bank do not add up"),
        (lambda b: b.money.payouts.pop(), check_bank, "its discharges do not add up"),
        (lambda b: changed(b.money.payouts, arrived_cents=1), check_bank, "the CPO's bank do not add up"),
        (lambda b: changed(b.money.payouts, sent_cents=1), check_bank, "the MSP's bank do not add up"),
        (lambda b: changed(b.money.payouts, discharged_e4=1), check_bank, "its discharges do not add up"),
        (lambda b: changed(b.money.payouts, taken_cents=1), check_bank, "more than was taken of the guarantee"),
        (lambda b: changed(b.money.entries, excess_cents=1), check_bank, "the entry is not all booked"),
        (lambda b: changed(b.money.invoices, gross_cents=1), check_invoices, "not what its statement comes to"),
        (lambda b: b.money.invoices.pop(), check_invoices, "the document is gone"),
        (lambda b: changed(b.money.counters, last=3), check_invoices, "a number is missing"),
    ],
)
def test_what_is_broken_is_found(
    books: Books, broken: Callable[[Books], Any], rule: Callable[[Books], Check], cause: str
) -> None:
    broken(books)

    assert any(cause in each for each in causes(rule, books))


def test_an_annex_that_is_not_its_statement_is_found(books: Books) -> None:
    (invoice, *rest) = books.money.invoices
    annex = invoice.invoice.annex
    assert annex is not None
    wrong = replace(invoice, invoice=replace(invoice.invoice, annex=replace(annex, total_e4=1)))
    books.money.invoices = [wrong, *rest]

    assert causes(check_invoices, books) == ["its annex does not add up to its statement"]


async def test_a_payable_that_came_while_statements_were_read_is_no_difference(settled: Books) -> None:
    async with open_settling() as here:
        async with here.world.ports.units.begin() as unit:
            await unit.table(PAYABLE).put(settled.money.payables[0])
            await unit.commit()
        async with here.world.ports.units.begin() as unit:
            rows = replace(settled.money, payables=settled.money.payables[1:])
            await gather_late_payables(unit, rows, settled.settlement.statements)

    assert sorted(row.sequence for row in rows.payables) == [1, 2]


# Drivers


def retail() -> Books:
    """Two bills of 4.3561, paid by card but for the part of a cent; the first is invoiced."""
    first, second = a_bill("b1", 43_561), a_bill("b2", 43_561)
    books = Books(bills=[first, second], payment_orders=[an_order("b1", 43_500), an_order("b2", 43_600)])
    account = RetailAccount(party_id=first.party_id, driver_id=first.driver_id, currency="EUR")
    books.accounts = [replace(account, billed_e4=87_122, paid_e4=87_100, carry_e4=22)]
    books.money.retail_invoices = [a_retail_invoice("b1", 43_561)]
    books.money.invoiced_bills = [
        InvoicedBill(party_id=first.party_id, bill_id="b1", invoice_number="NL-EMA-R2022-000001", credit_number=None)
    ]
    books.money.invoice_accounts = [
        InvoiceAccount(party_id=first.party_id, driver_id=first.driver_id, currency="EUR", residue_e4=61)
    ]
    return books


UNPAID = "payments less refunds are not bills less credits"
UNINVOICED = "invoices less credit notes are not bills less credits"


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (lambda _: None, []),
        (lambda b: changed(b.payment_orders, amount_e4=43_400), [UNPAID]),
        (lambda b: changed(b.payment_orders, kind=PaymentKind.REFUND), [UNPAID]),
        (lambda b: changed(b.money.retail_invoices, gross_cents=436), [UNINVOICED]),
        (lambda b: b.money.retail_invoices.pop(), [UNINVOICED]),
        (lambda b: b.money.invoice_accounts.pop(), [UNINVOICED]),
        (lambda b: b.money.invoiced_bills.pop(), [UNINVOICED]),
        (lambda b: b.bills.pop(), [UNPAID]),
        (lambda b: changed(b.bills, 1, credited_incl_e4=43_561), [UNPAID]),
        (lambda b: changed(b.bills, 0, credited_incl_e4=43_561), [UNPAID]),
        (lambda b: changed(b.money.invoiced_bills, credit_number="NL-EMA-R2022-000002"), []),
    ],
)
def test_what_drivers_paid_is_what_they_were_billed_and_invoiced(
    broken: Callable[[Books], Any], found: list[str]
) -> None:
    books = retail()
    broken(books)

    assert causes(check_paid_billed_invoiced, books) == found
