"""What drivers paid at stations without a contract (OCPP 2.1, C18-C25): matched to transactions, with receipts.

A payment's reference is the id token of its transaction. It is kept sealed, and found by its keyed hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.money import e4_from_decimal
from emobility.domain.personal import Sealed
from emobility.events.event import Envelope
from emobility.events.station_told import TerminalPaymentReported, WebPaymentStarted
from emobility.ports.station_questions import ReceiptAnswer, ReceiptQuestion
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.ad_hoc_ledger import AD_HOC_ENTRY, AdHocEntryRecord, EntryKind
from services.charging_operations.ad_hoc_records import SaleChannel
from services.charging_operations.office import NotUnderstood, Office
from services.charging_operations.records import TRANSACTION, TransactionRecord

AMOUNT_MAX: Final = Decimal(1_000_000_000)
"""Most that a payment at a station can be, in currency units."""
SETTLED: Final = "Settled"
"""OCPP 2.1, PaymentStatusEnumType: the one in which money was taken."""
RECEIPT_URL_CHARACTERS_MAX: Final = 2_000
RECEIPT_ID_CHARACTERS_MAX: Final = 50
"""OCPP 2.1, NotifySettlementResponse."""
WEB_PAYMENT_TIMEOUT_S_MAX: Final = 86_400
"""A station that waits longer than a day for a payment counts as waiting for a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalPaymentRecord:
    """A NotifySettlement. `amount` is exact, in the currency of the station; `status` the standard's word.

    `message` is the whole, sealed: a company and its VAT number may stand in it. None: who paid was erased.
    """

    party_id: PartyId
    charging_station_id: str
    payment_id: str
    psp_reference: Sealed | None
    transaction_id: str | None
    status: str
    amount: Decimal
    settled_at: datetime
    heard_at: datetime
    message: Sealed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentReceiptRecord:
    """A receipt that an operator, or their payment provider, has for a payment."""

    party_id: PartyId
    psp_subject: str
    receipt_url: str | None
    receipt_id: str | None
    entered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPaymentRecord:
    """A driver opened the payment page of an EVSE; after `until` no payment is expected any more."""

    party_id: PartyId
    charging_station_id: str
    web_payment_id: str
    ocpp_evse_id: int
    started_at: datetime
    until: datetime


TERMINAL_PAYMENT: Final = TableSpec(
    name="cpo_terminal_payment",
    record=TerminalPaymentRecord,
    key=("party_id", "charging_station_id", "payment_id"),
)
PAYMENT_RECEIPT: Final = TableSpec(
    name="cpo_payment_receipt", record=PaymentReceiptRecord, key=("party_id", "psp_subject")
)
WEB_PAYMENT: Final = TableSpec(
    name="cpo_web_payment", record=WebPaymentRecord, key=("party_id", "charging_station_id", "web_payment_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentReceipt:
    """PUT payment-receipts: the receipt of a payment, known before or after the station tells of it."""

    psp_reference: str
    receipt_url: str | None = None
    receipt_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentShown:
    """A payment for the operator, with what it was for; `amount` in the currency of the station."""

    payment_id: str
    status: str
    amount: Decimal
    settled_at: datetime
    heard_at: datetime
    transaction_id: str | None
    session_id: str | None
    is_matched: bool
    receipt_url: str | None
    receipt_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalPaymentDesk:
    """Keeps payments and knows their receipts."""

    office: Office

    async def take_payment(self, unit: UnitOfWork, envelope: Envelope, event: TerminalPaymentReported) -> None:
        """Keep a payment."""
        await unit.table(TERMINAL_PAYMENT).put(
            TerminalPaymentRecord(
                party_id=event.party_id,
                charging_station_id=event.charging_station_id,
                payment_id=envelope.event_id,
                psp_reference=event.psp_reference,
                transaction_id=event.transaction_id,
                status=event.status,
                amount=event.amount,
                settled_at=event.settled_at,
                heard_at=envelope.recorded_at,
                message=event.payload,
            )
        )
        # No terminal takes more, so such a word is kept as it came, and is no money.
        if event.status == SETTLED and 0 < event.amount <= AMOUNT_MAX:
            await unit.table(AD_HOC_ENTRY).put(
                AdHocEntryRecord(
                    party_id=event.party_id,
                    entry_id=f"station/{event.charging_station_id}/{envelope.event_id}",
                    channel=SaleChannel.STATION,
                    kind=EntryKind.TAKEN,
                    amount_e4=e4_from_decimal(event.amount),
                    currency=None,
                    charging_station_id=event.charging_station_id,
                    transaction_id=event.transaction_id,
                    reference_subject=None if event.psp_reference is None else event.psp_reference.subject,
                    entered_at=envelope.recorded_at,
                )
            )

    async def take_web_payment(self, unit: UnitOfWork, envelope: Envelope, event: WebPaymentStarted) -> None:
        """Keep that a driver is about to pay."""
        wait_s = max(0, min(event.timeout_s, WEB_PAYMENT_TIMEOUT_S_MAX))
        await unit.table(WEB_PAYMENT).put(
            WebPaymentRecord(
                party_id=event.party_id,
                charging_station_id=event.charging_station_id,
                web_payment_id=envelope.event_id,
                ocpp_evse_id=event.ocpp_evse_id,
                started_at=envelope.recorded_at,
                until=envelope.recorded_at + timedelta(seconds=wait_s),
            )
        )

    async def put_receipt(self, party_id: PartyId, receipt: PaymentReceipt) -> None:
        """Keep a receipt. Raises `NotUnderstood`: it names nothing, or more than a station takes."""
        url, number = receipt.receipt_url, receipt.receipt_id
        if url is None and number is None:
            raise NotUnderstood("a receipt has a URL or an id")
        if len(url or "") > RECEIPT_URL_CHARACTERS_MAX or len(number or "") > RECEIPT_ID_CHARACTERS_MAX:
            raise NotUnderstood("a receipt's URL or id is longer than a station takes")
        row = PaymentReceiptRecord(
            party_id=party_id,
            psp_subject=self.office.ports.vault.subject_of(receipt.psp_reference),
            receipt_url=url,
            receipt_id=number,
            entered_at=self.office.now(),
        )
        async with self.office.ports.units.begin() as unit:
            await unit.table(PAYMENT_RECEIPT).put(row)
            await unit.commit()

    async def receipt_of(self, question: ReceiptQuestion) -> ReceiptAnswer:
        """Return the receipt of a payment, empty where there is none."""
        subject = self.office.ports.vault.subject_of(question.psp_reference)
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(PAYMENT_RECEIPT).get(question.party_id, subject)
        return ReceiptAnswer() if row is None else ReceiptAnswer(receipt_url=row.receipt_url, receipt_id=row.receipt_id)

    async def shown(self, unit: UnitOfWork, row: TerminalPaymentRecord) -> PaymentShown:
        """Return a payment for the operator, with the transaction and session it belongs to, whichever came first."""
        transaction = await self._transaction_of(unit, row)
        receipt = None
        if row.psp_reference is not None:
            receipt = await unit.table(PAYMENT_RECEIPT).get(row.party_id, row.psp_reference.subject)
        return PaymentShown(
            payment_id=row.payment_id,
            status=row.status,
            amount=row.amount,
            settled_at=row.settled_at,
            heard_at=row.heard_at,
            transaction_id=transaction.transaction_id if transaction else row.transaction_id,
            session_id=transaction.session_id if transaction else None,
            is_matched=transaction is not None,
            receipt_url=receipt.receipt_url if receipt else None,
            receipt_id=receipt.receipt_id if receipt else None,
        )

    async def _transaction_of(self, unit: UnitOfWork, row: TerminalPaymentRecord) -> TransactionRecord | None:
        """By its own name where the payment says it, else by the token, which is the payment's reference."""
        table = unit.table(TRANSACTION)
        if row.transaction_id is not None:
            return await table.get(row.party_id, row.charging_station_id, row.transaction_id)
        if row.psp_reference is None:
            return None
        where = {"party_id": row.party_id, "charging_station_id": row.charging_station_id}
        found = await table.select(where | {"token_subject": row.psp_reference.subject}, limit=2)
        return found[0] if len(found) == 1 else None
