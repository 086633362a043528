"""What is asked of the payment provider, entered in the unit of its cause and carried out later by `paying`."""

from __future__ import annotations

from datetime import datetime

from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from services.driver_mobility.records import (
    PAYMENT_ORDER,
    BillRecord,
    PaymentKind,
    PaymentOrder,
    QuoteRecord,
    QuoteState,
)


async def order_collection(unit: UnitOfWork, quote: QuoteRecord, *, bill_id: str, amount_e4: int, at: datetime) -> None:
    """Take `amount_e4` (whole cents): from the quote's hold as far as it goes, the rest from the card anew."""
    held_e4 = quote.held_e4 if quote.payment_id is not None else 0
    from_hold_e4 = min(held_e4, amount_e4)
    if from_hold_e4:
        order = _order(quote, PaymentKind.CAPTURE, f"{bill_id}-capture", from_hold_e4, at, bill_id=bill_id)
        await unit.table(PAYMENT_ORDER).insert(order)
    elif held_e4:
        await order_release(unit, quote, at=at)
    if amount_e4 > from_hold_e4:
        order = _order(quote, PaymentKind.CHARGE, f"{bill_id}-charge", amount_e4 - from_hold_e4, at, bill_id=bill_id)
        await unit.table(PAYMENT_ORDER).insert(order)


async def order_carried(unit: UnitOfWork, bill: BillRecord, *, amount_e4: int, at: datetime) -> None:
    """Ask the card for what a bill left to be asked (whole cents): it was set off against money that never came."""
    earlier = await unit.table(PAYMENT_ORDER).count({"party_id": bill.party_id, "bill_id": bill.bill_id})
    order = PaymentOrder(
        party_id=bill.party_id,
        order_id=f"{bill.bill_id}-carried-{earlier + 1}",
        driver_id=bill.driver_id,
        quote_id=bill.quote_id,
        bill_id=bill.bill_id,
        kind=PaymentKind.CHARGE,
        payment_id=None,
        amount_e4=amount_e4,
        currency=bill.currency,
        ordered_at=at,
    )
    await unit.table(PAYMENT_ORDER).insert(order)


async def order_release(unit: UnitOfWork, quote: QuoteRecord, *, at: datetime) -> None:
    """Give a quote's hold up, if it has one or may have one (the answer to HOLDING was not seen yet)."""
    if quote.payment_id is None and quote.state is not QuoteState.HOLDING:
        return
    order = _order(quote, PaymentKind.RELEASE, f"{quote.quote_id}-release", quote.held_e4, at, bill_id=None)
    await unit.table(PAYMENT_ORDER).put(order)


async def order_refund(unit: UnitOfWork, taken: PaymentOrder, *, amount_e4: int, at: datetime) -> PaymentOrder:
    """Give back part of what an order took."""
    earlier = await unit.table(PAYMENT_ORDER).count(
        {"party_id": taken.party_id, "bill_id": taken.bill_id, "kind": PaymentKind.REFUND}
    )
    order = PaymentOrder(
        party_id=taken.party_id,
        order_id=f"{taken.bill_id}-refund-{earlier + 1}",
        driver_id=taken.driver_id,
        quote_id=taken.quote_id,
        bill_id=taken.bill_id,
        kind=PaymentKind.REFUND,
        payment_id=taken.payment_id,
        amount_e4=amount_e4,
        currency=taken.currency,
        ordered_at=at,
    )
    await unit.table(PAYMENT_ORDER).insert(order)
    return order


async def orders_of_bill(unit: UnitOfWork, emsp_id: PartyId, bill_id: str) -> list[PaymentOrder]:
    """Return a bill's orders, by id."""
    return await unit.table(PAYMENT_ORDER).select({"party_id": emsp_id, "bill_id": bill_id}, order_by=("order_id",))


def _order(
    quote: QuoteRecord, kind: PaymentKind, order_id: str, amount_e4: int, at: datetime, *, bill_id: str | None
) -> PaymentOrder:
    return PaymentOrder(
        party_id=quote.party_id,
        order_id=order_id,
        driver_id=quote.driver_id,
        quote_id=quote.quote_id,
        bill_id=bill_id,
        kind=kind,
        payment_id=None if kind is PaymentKind.CHARGE else quote.payment_id,
        amount_e4=amount_e4,
        currency=quote.quote.tariff.currency,
        ordered_at=at,
    )
