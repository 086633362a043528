"""Rows of a driver's money to begin with."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from services.driver_mobility.invoice_records import RetailInvoiceRecord
from services.driver_mobility.records import BillRecord, PaymentKind, PaymentOrder, PaymentState
from tests.invoicing.documents import DOMESTIC
from tests.mobility.conftest import CPO, MSP, T0

DRIVER: Final = "d1"


def a_bill(bill_id: str, total_incl_e4: int) -> BillRecord:
    return BillRecord(
        party_id=MSP,
        bill_id=bill_id,
        driver_id=DRIVER,
        quote_id=f"q-{bill_id}",
        cpo_id=CPO,
        cdr_id=bill_id,
        session_id=bill_id,
        total_excl_e4=total_incl_e4 * 100 // 121,
        total_incl_e4=total_incl_e4,
        credited_incl_e4=0,
        currency="EUR",
        billed_at=T0,
        lines=(),
        notes=(),
    )


def an_order(bill_id: str, amount_e4: int) -> PaymentOrder:
    return PaymentOrder(
        party_id=MSP,
        order_id=f"{bill_id}-charge",
        driver_id=DRIVER,
        quote_id=f"q-{bill_id}",
        bill_id=bill_id,
        kind=PaymentKind.CHARGE,
        payment_id=f"p-{bill_id}",
        amount_e4=amount_e4,
        currency="EUR",
        state=PaymentState.DONE,
        ordered_at=T0,
    )


def a_retail_invoice(bill_id: str, exact_e4: int, *, party_id: PartyId = MSP) -> RetailInvoiceRecord:
    return RetailInvoiceRecord(
        party_id=party_id,
        number=f"{party_id}-R2022-000001",
        driver_id=DRIVER,
        currency="EUR",
        month="2022-03",
        is_credit=False,
        bills=(bill_id,),
        exact_e4=exact_e4,
        carried_e4=0,
        gross_cents=exact_e4 // 100,
        residue_e4=exact_e4 % 100,
        buyer=Sealed(subject="s", box=b"b"),
        invoice=replace(DOMESTIC, gross_cents=exact_e4 // 100),
        issued_at=T0,
    )
