"""Facts about money between companies beyond the book's statements. Key: the agreement, as of its statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import ClassVar

from emobility.domain.identifiers import PartyId
from emobility.events.event import Event, catalogued
from emobility.events.settlement import SETTLEMENT


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentBooked(Event):
    """What an MSP owed a CPO for charges was paid by bank, in part or in whole; below zero: it was returned.

    `amount_e4` counts against statements, in ten-thousandths, without VAT; `entry_id` names the bank's entry.
    """

    wire_name: ClassVar[str] = "settlement.payment_booked.v1"
    topic: ClassVar[str] = SETTLEMENT
    cpo_id: PartyId
    emsp_id: PartyId
    agreement_id: str
    version: int
    currency: str
    amount_e4: int
    end_to_end_id: str
    entry_id: str
    booked_on: date
    seen_at: datetime

    @property
    def key(self) -> str:
        """The agreement."""
        return self.agreement_id


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class GuaranteeCalled(Event):
    """What an MSP did not pay in time was taken out of its guarantee: debt and limit are lower by it, for good.

    `amount_e4` counts against statements, in ten-thousandths, without VAT; `version`: of the terms under which the book
    opened the agreement; `limit_e4`: what is left of the guarantee.
    """

    wire_name: ClassVar[str] = "settlement.guarantee_called.v1"
    topic: ClassVar[str] = SETTLEMENT
    cpo_id: PartyId
    emsp_id: PartyId
    agreement_id: str
    version: int
    currency: str
    amount_e4: int
    limit_e4: int
    chain_id: int
    book: bytes
    transaction: bytes
    called_at: datetime
    seen_at: datetime

    @property
    def key(self) -> str:
        """The agreement."""
        return self.agreement_id
