"""Facts about money between companies that a bank moved. Key: the agreement, as of its statements."""

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
