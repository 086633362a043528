"""Holds on drivers' cards: open only while a charge may begin or runs, or an order is on its way."""

from __future__ import annotations

from emobility.adapters.payments.test_provider import payment_id_of
from services.audit.books import Books
from services.audit.report import Check, amount_difference
from services.driver_mobility.paying import order_hold_key
from services.driver_mobility.quoting import hold_key
from services.driver_mobility.records import OPEN_QUOTE_STATES, PaymentKind, PaymentOrder, PaymentState, QuoteRecord


def check_holds(books: Books) -> Check:
    """No card is held for a charge that was billed, refused or never began."""
    rule = "a hold ends with its charge"
    quotes = {payment_id: quote for quote in books.quotes.values() for payment_id in _held_for(quote)}
    orders: dict[str, list[PaymentOrder]] = {}
    for order in books.payment_orders:
        for payment_id in _asked_about(order):
            orders.setdefault(payment_id, []).append(order)
    open_holds = [payment for payment in books.provider_payments if payment.is_open]
    differences = []
    for payment in open_holds:
        cause = _why_open(quotes.get(payment.payment_id), orders.get(payment.payment_id, []), books)
        if cause is not None:
            amounts_e4 = (0, payment.held_e4)
            differences.append(amount_difference(rule, payment.payment_id, amounts_e4, payment.currency, cause))
    return Check(rule=rule, compared=len(books.provider_payments), differences=tuple(differences))


def _held_for(quote: QuoteRecord) -> set[str]:
    """Return the payments a quote may hold: the one it knows, and the one whose answer it never saw."""
    return {payment_id_of(hold_key(quote)), *([quote.payment_id] if quote.payment_id else [])}


def _asked_about(order: PaymentOrder) -> set[str]:
    """Return the payments an order is about, in the same way."""
    unseen = [payment_id_of(order_hold_key(order))] if order.kind is PaymentKind.CHARGE else []
    return {*unseen, *([order.payment_id] if order.payment_id else [])}


def _why_open(quote: QuoteRecord | None, orders: list[PaymentOrder], books: Books) -> str | None:
    """Say why a hold should be closed; None where it may be open."""
    if any(order.state is PaymentState.PENDING for order in orders):
        return None
    if quote is None and orders:
        quote = books.quotes.get((orders[-1].party_id.code, orders[-1].quote_id))
    if quote is None:
        return "no quote and no order knows of it"
    if quote.state in OPEN_QUOTE_STATES:
        return None
    whose = f"quote {quote.quote_id} of driver {quote.driver_id} is {quote.state}"
    if not orders:
        return f"{whose}, and no order gives it up"
    last = orders[-1]
    reason = f" ({last.failure})" if last.failure else ""
    return f"{whose}, and order {last.order_id} is {last.state}{reason}"
