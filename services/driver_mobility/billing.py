"""Turn accepted CDRs into bills and credit CDRs into credits; money that moves is ordered in the same unit.

A bill is `price_session(the quote's retail tariff, the CDR's periods)`, gross. It knows nothing of the wholesale price.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import Final

from emobility.domain.cdr import CDR
from emobility.domain.identifiers import PartyId
from emobility.domain.quote import gross_e4
from emobility.domain.receipt.lines import receipt_lines, receipt_notes
from emobility.domain.retail_account import add_bill, add_credit, ask_carried, plan_refund, withdraw_demand
from emobility.domain.tariff.pricing import price_session
from emobility.events.event import Envelope
from emobility.events.retail import RetailBilled, RetailCredited
from emobility.ports.unit_of_work import UnitOfWork
from services.driver_mobility.facts import fact
from services.driver_mobility.payment_orders import (
    order_carried,
    order_collection,
    order_refund,
    order_release,
    orders_of_bill,
)
from services.driver_mobility.quoting import account_for_update
from services.driver_mobility.records import (
    ACCOUNT,
    BILL,
    PAYMENT_ORDER,
    QUOTE,
    BillRecord,
    PaymentKind,
    PaymentState,
    QuoteRecord,
    QuoteState,
)

BILL_ID_CHARACTERS: Final = 24


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
        lines=receipt_lines(priced),
        notes=receipt_notes(priced, cdr),
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
    await ask_for_rest(unit, bill, at=at)
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


async def ask_for_rest(unit: UnitOfWork, credited: BillRecord, *, at: datetime) -> None:
    """Ask the driver's card for what later bills left to be asked, because this one was credited but never paid.

    Without a bill that stands there is nothing to ask it for: the next one does.
    """
    account = await account_for_update(unit, credited.party_id, credited.driver_id, credited.currency)
    account, asked_e4 = ask_carried(account)
    of_driver = {"party_id": account.party_id, "driver_id": account.driver_id, "currency": account.currency}
    standing = await unit.table(BILL).select(of_driver | {"credited_incl_e4": 0}, order_by=("-billed_at",), limit=1)
    if asked_e4 and standing:
        await unit.table(ACCOUNT).put(account)
        await order_carried(unit, standing[0], amount_e4=asked_e4, at=at)


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
