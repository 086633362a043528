"""Facts between an MSP and its driver. Key: MSP and contract (by its subject), so a driver's bills keep their order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from emobility.domain.identifiers import PartyId
from emobility.events.event import Event, catalogued

RETAIL: Final = "retail"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailEvent(Event):
    """Base of facts about one driver's account; `driver_id` is the MSP's opaque number for the driver."""

    topic: ClassVar[str] = RETAIL
    emsp_id: PartyId
    driver_id: str

    @property
    def key(self) -> str:
        """MSP and driver."""
        return f"{self.emsp_id}/{self.driver_id}"


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class RetailBilled(RetailEvent):
    """A session was billed to the driver under the quote that was given before it started; gross, with VAT."""

    wire_name: ClassVar[str] = "retail.retail_billed.v1"
    bill_id: str
    quote_id: str
    cdr_id: str
    cpo_id: PartyId
    total_excl_e4: int
    total_incl_e4: int
    currency: str
    billed_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class RetailCredited(RetailEvent):
    """A bill was taken back, in whole or in part; `credit_incl_e4` is positive."""

    wire_name: ClassVar[str] = "retail.retail_credited.v1"
    bill_id: str
    credit_id: str
    credit_incl_e4: int
    currency: str
    reason: str
    credited_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentSettled(RetailEvent):
    """The payment provider captured or refunded (`amount_e4` negative) money of a driver."""

    wire_name: ClassVar[str] = "retail.payment_settled.v1"
    bill_id: str
    payment_id: str
    amount_e4: int
    currency: str
    settled_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFailed(RetailEvent):
    """The payment provider refused; the bill stays outstanding."""

    wire_name: ClassVar[str] = "retail.payment_failed.v1"
    bill_id: str
    reason: str
    failed_at: datetime
