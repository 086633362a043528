"""Money: billed = paid + outstanding, the provider moved what the accounts say, and a pair agrees on what is owed."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from services.audit.books import Books
from services.audit.report import Check, amount_difference
from services.driver_mobility.records import PaymentKind, PaymentState

_SIGN: Final = {PaymentKind.CAPTURE: 1, PaymentKind.CHARGE: 1, PaymentKind.REFUND: -1}


def check_accounts(books: Books) -> Check:
    """Add up bills, credits and payments again, driver by driver, and compare with the account."""
    rule = "billed = paid + outstanding"
    billed: dict[tuple[str, str, str], int] = defaultdict(int)
    credited: dict[tuple[str, str, str], int] = defaultdict(int)
    for bill in books.bills:
        billed[bill.party_id.code, bill.driver_id, bill.currency] += bill.total_incl_e4
        credited[bill.party_id.code, bill.driver_id, bill.currency] += bill.credited_incl_e4
    accounts = {(row.party_id.code, row.driver_id, row.currency): row for row in books.accounts}
    differences = []
    for key in sorted(billed.keys() | accounts.keys()):
        account, scope, currency = accounts.get(key), "/".join(key), key[2]
        if account is None:
            cause = "the driver has bills and no account"
            differences.append(amount_difference(rule, scope, (billed[key] - credited[key], 0), currency, cause))
            continue
        for expected, found, cause in (
            (billed[key], account.billed_e4, "the bills do not add up to the account"),
            (credited[key], account.credited_e4, "the credits do not add up to the account"),
            (account.outstanding_e4, account.due_e4 + account.carry_e4, "due and carried do not add up"),
        ):
            if expected != found:
                differences.append(amount_difference(rule, scope, (expected, found), currency, cause))
    return Check(rule=rule, compared=len(billed.keys() | accounts.keys()), differences=tuple(differences))


def check_provider(books: Books) -> Check:
    """What the provider captured and did not refund is what the accounts hold as paid."""
    rule = "the provider moved what the accounts say"
    moved: dict[str, int] = defaultdict(int)
    for payment in books.provider_payments:
        moved[payment.currency] += payment.captured_e4 - payment.refunded_e4
    paid: dict[str, int] = defaultdict(int)
    for account in books.accounts:
        paid[account.currency] += account.paid_e4
    differences = tuple(
        amount_difference(
            rule, currency, (moved[currency], paid[currency]), currency, "a capture or refund was not entered, or twice"
        )
        for currency in sorted(moved.keys() | paid.keys())
        if moved[currency] != paid[currency]
    )
    return Check(rule=rule, compared=len(books.provider_payments), differences=differences)


def check_payments(books: Books) -> Check:
    """Add up the payment orders that were carried out: per driver they are the account, per payment the provider."""
    rule = "each payment was entered once"
    by_driver: dict[tuple[str, str, str], int] = defaultdict(int)
    by_payment: dict[str, int] = defaultdict(int)
    for order in books.payment_orders:
        if order.state is PaymentState.DONE:
            amount_e4 = _SIGN.get(order.kind, 0) * order.amount_e4
            by_driver[order.party_id.code, order.driver_id, order.currency] += amount_e4
            by_payment[order.payment_id or ""] += amount_e4
    paid = {(row.party_id.code, row.driver_id, row.currency): row.paid_e4 for row in books.accounts}
    moved = {row.payment_id: (row.captured_e4 - row.refunded_e4, row.currency) for row in books.provider_payments}
    differences = [
        amount_difference(
            rule, "/".join(key), (by_driver[key], paid.get(key, 0)), key[2], "orders and the account's paid differ"
        )
        for key in sorted(by_driver.keys() | paid.keys())
        if by_driver[key] != paid.get(key, 0)
    ]
    for payment_id in sorted(by_payment.keys() | moved.keys()):
        found_e4, currency = moved.get(payment_id, (0, "?"))
        if by_payment[payment_id] != found_e4:
            cause = "orders and what the provider moved differ"
            differences.append(amount_difference(rule, payment_id, (by_payment[payment_id], found_e4), currency, cause))
    return Check(rule=rule, compared=len(books.payment_orders), differences=tuple(differences))


def check_pairs(books: Books) -> Check:
    """What CPOs say they are owed is what MSPs say they received, pair by pair and currency by currency."""
    rule = "wholesale is the same on both sides"
    at_cpo: dict[tuple[str, str, str], int] = defaultdict(int)
    at_emsp: dict[tuple[str, str, str], int] = defaultdict(int)
    for issued in books.cpo_cdrs:
        at_cpo[issued.party_id.code, issued.emsp_id.code, issued.cdr.currency] += issued.cdr.total_cost.excl_e4
    for received in books.emsp_cdrs:
        key = (received.cpo_id.code, received.party_id.code, received.cdr.currency)
        at_emsp[key] += received.cdr.total_cost.excl_e4
    differences = tuple(
        amount_difference(
            rule, "/".join(key), (at_cpo[key], at_emsp[key]), key[2], "a document is on one side only, or differs"
        )
        for key in sorted(at_cpo.keys() | at_emsp.keys())
        if at_cpo[key] != at_emsp[key]
    )
    return Check(rule=rule, compared=len(at_cpo), differences=differences)
