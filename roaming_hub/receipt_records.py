"""Rows of the hub's receipts of delivery; `emobility/domain/delivery_receipt` says what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.delivery_receipt import Countersignature, DeliveryReceipt, ReceiptBatch
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRow:
    """A receipt, and where it stands: `batch_number` and `place` are None until its batch is signed, soon after."""

    receipt_id: str
    hub: PartyId
    correlation_id: str
    from_party: PartyId
    to_party: PartyId
    module: str
    method: str
    sent_sha256: bytes
    forwarded_sha256: bytes
    request_signature: bytes | None
    http_status: int | None
    ocpi_status: int
    response_sha256: bytes | None
    at: datetime
    countersigner: str | None
    countersigned_base: str | None
    countersignature: bytes | None
    batch_number: int | None = None
    place: int | None = None

    def receipt(self) -> DeliveryReceipt:
        """Return the receipt itself."""
        counter = None
        if self.countersigner and self.countersigned_base and self.countersignature:
            counter = Countersignature(
                key=self.countersigner, base=self.countersigned_base, signature=self.countersignature
            )
        return DeliveryReceipt(
            receipt_id=self.receipt_id,
            hub=self.hub,
            correlation_id=self.correlation_id,
            from_party=self.from_party,
            to_party=self.to_party,
            module=self.module,
            method=self.method,
            sent_sha256=self.sent_sha256,
            forwarded_sha256=self.forwarded_sha256,
            request_signature=self.request_signature,
            http_status=self.http_status,
            ocpi_status=self.ocpi_status,
            response_sha256=self.response_sha256,
            at=self.at,
            countersignature=counter,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptBatchRow:
    """A batch as it was signed, by which key of the hub."""

    hub: PartyId
    number: int
    previous: bytes
    root: bytes
    count: int
    closed_at: datetime
    key_id: str
    signature: bytes

    def batch(self) -> ReceiptBatch:
        """Return the batch itself."""
        return ReceiptBatch(
            hub=self.hub,
            number=self.number,
            previous=self.previous,
            root=self.root,
            count=self.count,
            closed_at=self.closed_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptLedger:
    """How far a hub's batches and days are closed; the lock under which both are."""

    hub: PartyId
    last_number: int
    last_hash: bytes
    days_closed_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptDay:
    """A UTC day's batches, bound by one root; where it is anchored, once it is."""

    hub: PartyId
    starts_at: datetime
    first_number: int
    last_number: int
    root: bytes
    chain_id: int | None = None
    contract: bytes | None = None
    transaction: bytes | None = None
    anchored_at: datetime | None = None


RECEIPT: Final = TableSpec(name="hub_delivery_receipt", record=ReceiptRow, key=("receipt_id",))
RECEIPT_BATCH: Final = TableSpec(name="hub_receipt_batch", record=ReceiptBatchRow, key=("hub", "number"))
RECEIPT_LEDGER: Final = TableSpec(name="hub_receipt_ledger", record=ReceiptLedger, key=("hub",))
RECEIPT_DAY: Final = TableSpec(name="hub_receipt_day", record=ReceiptDay, key=("hub", "starts_at"))
