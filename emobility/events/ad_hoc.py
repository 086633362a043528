"""Facts about sales to drivers without a contract. Key: the session, as with sessions that partners see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from emobility.domain.identifiers import PartyId
from emobility.events.cdr import SESSIONS
from emobility.events.event import Event, catalogued


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class SoldAdHoc(Event):
    """A CPO sold a charge to whoever stood there: its energy is accounted for, and no CDR will ever be issued for it.

    Money in ten-thousandths of `currency`: the exact total with tax, and what is asked of the hold, in whole cents.
    """

    wire_name: ClassVar[str] = "sessions.sold_ad_hoc.v1"
    topic: ClassVar[str] = SESSIONS
    party_id: PartyId
    session_id: str
    sale_id: str
    energy_import_wh: int
    energy_export_wh: int
    currency: str
    total_incl_e4: int
    capture_e4: int
    ended_at: datetime

    @property
    def key(self) -> str:
        """Party and session."""
        return f"{self.party_id}/{self.session_id}"
