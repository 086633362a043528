"""What stations tell of reservations; their use stands in the transaction's own events (`reservation_id`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emobility.events.charging import StationEvent
from emobility.events.event import catalogued


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationEnded(StationEvent):
    """A station says that a reservation is over (2.x, H02): `status` is Expired, Removed or, in 2.1, NoTransaction.

    Without a moment: the message has none, and told again it is the same fact.
    """

    wire_name: ClassVar[str] = "charging.reservation_ended.v1"
    reservation_id: int
    status: str
