"""Turn accepted CDRs into bills and credit CDRs into credits; money that moves is ordered in the same unit.

A bill is `price_session(the quote's retail tariff, the CDR's periods)`, gross. It knows nothing of the wholesale price.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from emobility.domain.cdr import CDR
from emobility.domain.identifiers import PartyId
from emobility.domain.quote import gross_e4
from emobility.domain.retail_account import add_bill, add_credit, plan_refund, withdraw_demand
from emobility.domain.tariff.priced import PricedLine, PricedSession
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import TariffDimension
from emobility.events.event import Envelope
from emobility.events.retail import RetailBilled, RetailCredited
from emobility.ports.unit_of_work import UnitOfWork
from services.driver_mobility.facts import fact
from services.driver_mobility.payment_orders import (
    order_collection,
    order_refund,
    order_release,
    orders_of_bill,
)
from services.driver_mobility.quoting import account_for_update
from services.driver_mobility.records import (
    ACCOUNT,
    BILL,
    OPEN_QUOTE_STATES,
    PAYMENT_ORDER,
    QUOTE,
    BillRecord,
    PaymentKind,
    PaymentState,
    QuoteRecord,
    QuoteState,
    ReceiptLine,
)

BILL_ID_CHARACTERS: Final = 24
_PER: Final = {
    TariffDimension.ENERGY: "per kWh",
    TariffDimension.TIME: "per hour",
    TariffDimension.PARKING_TIME: "per hour",
    TariffDimension.FLAT: "per session",
}
_WHAT: Final = {
    TariffDimension.ENERGY: "Energy",
    TariffDimension.TIME: "Time charging",
    TariffDimension.PARKING_TIME: "Time plugged in without charging",
    TariffDimension.FLAT: "Starting fee",
}


def bill_id_of(emsp_id: PartyId, cpo_id: PartyId, cdr_id: str) -> str:
    """Return the number of a CDR's bill: the same however often it is made, and silent about the CPO's own ids."""
    return hashlib.sha256(f"{emsp_id}/{cpo_id}/{cdr_id}".encode()).hexdigest()[:BILL_ID_CHARACTERS]


async def bill_cdr(unit: UnitOfWork, quote: QuoteRecord, cdr: CDR, *, correlation_id: str, at: datetime) -> BillRecord:
    """Bill a charge under its quote and order the payment; a charge billed before is left as it is."""
    bill_id = bill_id_of(quote.party_id, cdr.party_id, cdr.cdr_id)
    known = await unit.table(BILL).get(quote.party_id, bill_id)
    if known is not None:
        return known
    tariff = quote.quote.tariff
    priced = price_session(tariff, cdr.periods, ended_at=cdr.ended_at, time_zone=quote.quote.time_zone)
    bill = BillRecord(
        party_id=quote.party_id,
        bill_id=bill_id,
        driver_id=quote.driver_id,
        quote_id=quote.quote_id,
        cpo_id=cdr.party_id,
        cdr_id=cdr.cdr_id,
        session_id=cdr.session_id,
        total_excl_e4=priced.total.excl_e4,
        total_incl_e4=gross_e4(priced.total),
        credited_incl_e4=0,
        currency=tariff.currency,
        billed_at=at,
        lines=tuple(_receipt_line(line, tariff.currency) for line in priced.lines),
        notes=tuple(_receipt_notes(priced)),
    )
    await unit.table(BILL).insert(bill)
    account = await account_for_update(unit, bill.party_id, bill.driver_id, bill.currency)
    account, asked_e4 = add_bill(account, total_incl_e4=bill.total_incl_e4, currency=bill.currency)
    await unit.table(ACCOUNT).put(account)
    if asked_e4:
        await order_collection(unit, quote, bill_id=bill_id, amount_e4=asked_e4, at=at)
    else:
        await order_release(unit, quote, at=at)
    closed = replace(quote, state=QuoteState.BILLED, exposure_e4=0, held_e4=0, payment_id=None)
    await unit.table(QUOTE).put(closed)
    unit.emit(_billed(bill, correlation_id))
    return bill


async def give_up_unbilled(unit: UnitOfWork, quote: QuoteRecord, *, at: datetime) -> None:
    """Free the driver's card and credit of a charge whose CDR was taken back; what was billed is closed already."""
    if quote.state not in OPEN_QUOTE_STATES:
        return
    await order_release(unit, quote, at=at)
    refused = replace(quote, state=QuoteState.REFUSED, refusal="the charge was taken back", held_e4=0)
    await unit.table(QUOTE).put(refused)


async def credit_cdr(
    unit: UnitOfWork, original: CDR, *, emsp_id: PartyId, credit_id: str, correlation_id: str, at: datetime
) -> None:
    """Take the bill of a credited CDR back whole; what was paid for it goes back to the card."""
    bill = await unit.table(BILL).get_for_update(emsp_id, bill_id_of(emsp_id, original.party_id, original.cdr_id))
    if bill is None or bill.credited_incl_e4:
        return
    await unit.table(BILL).put(replace(bill, credited_incl_e4=bill.total_incl_e4))
    account = await account_for_update(unit, emsp_id, bill.driver_id, bill.currency)
    for order in await orders_of_bill(unit, emsp_id, bill.bill_id):
        if order.state is PaymentState.FAILED and order.kind is not PaymentKind.REFUND:
            await unit.table(PAYMENT_ORDER).put(replace(order, state=PaymentState.WITHDRAWN))
            account = withdraw_demand(account, amount_e4=order.amount_e4, currency=bill.currency)
    account = add_credit(account, credit_incl_e4=bill.total_incl_e4, currency=bill.currency)
    await unit.table(ACCOUNT).put(account)
    await refund_credited(unit, bill, at=at)
    unit.emit(
        fact(
            RetailCredited(
                emsp_id=emsp_id,
                driver_id=bill.driver_id,
                bill_id=bill.bill_id,
                credit_id=credit_id,
                credit_incl_e4=bill.total_incl_e4,
                currency=bill.currency,
                reason="the charge point operator corrected the charge",
                credited_at=at,
            ),
            emsp_id.code,
            bill.bill_id,
            correlation_id=correlation_id,
            at=at,
        )
    )


async def refund_credited(unit: UnitOfWork, bill: BillRecord, *, at: datetime) -> None:
    """Order refunds of what a credited bill's payments took, as far as the account owes it to the driver."""
    orders = [
        order
        for order in await orders_of_bill(unit, bill.party_id, bill.bill_id)
        if order.state is PaymentState.DONE and order.kind in {PaymentKind.CAPTURE, PaymentKind.CHARGE}
    ]
    account = await account_for_update(unit, bill.party_id, bill.driver_id, bill.currency)
    for order in orders:
        account, refund_e4 = plan_refund(account, refundable_e4=order.amount_e4 - order.refunded_e4)
        if refund_e4:
            await order_refund(unit, order, amount_e4=refund_e4, at=at)
            await unit.table(PAYMENT_ORDER).put(replace(order, refunded_e4=order.refunded_e4 + refund_e4))
    await unit.table(ACCOUNT).put(account)


def _billed(bill: BillRecord, correlation_id: str) -> Envelope:
    event = RetailBilled(
        emsp_id=bill.party_id,
        driver_id=bill.driver_id,
        bill_id=bill.bill_id,
        quote_id=bill.quote_id,
        cdr_id=bill.cdr_id,
        cpo_id=bill.cpo_id,
        total_excl_e4=bill.total_excl_e4,
        total_incl_e4=bill.total_incl_e4,
        currency=bill.currency,
        billed_at=bill.billed_at,
    )
    return fact(event, bill.party_id.code, bill.bill_id, correlation_id=correlation_id, at=bill.billed_at)


def _receipt_line(line: PricedLine, currency: str) -> ReceiptLine:
    return ReceiptLine(
        what=_WHAT[line.dimension],
        quantity=_quantity(line),
        unit_price=f"{_plain(line.price)} {currency} {_PER[line.dimension]} before tax",
        vat_percent=None if line.vat_percent is None else _plain(line.vat_percent),
        excl=_exact(line.excl),
        incl=_exact(line.incl),
    )


def _quantity(line: PricedLine) -> str:
    if line.dimension is TariffDimension.FLAT:
        return "1"
    if line.dimension is TariffDimension.ENERGY:
        return f"{_plain(Decimal(line.billed_quantity).scaleb(-3))} kWh"
    minutes, seconds = divmod(line.billed_quantity, 60)
    return f"{minutes} min {seconds} s"


def _receipt_notes(priced: PricedSession) -> Iterator[str]:
    if not priced.lines:
        yield "Nothing was charged for."
    if priced.limit_excl is not None or priced.limit_incl is not None:
        yield "The tariff's minimum or maximum price decided the total."


def _exact(amount: Fraction) -> str:
    """Write an exact amount to six places; the total is rounded once, from the exact sum."""
    text = f"{Decimal(amount.numerator) / Decimal(amount.denominator):.6f}"
    return text.rstrip("0").ljust(text.index(".") + 3, "0")


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
