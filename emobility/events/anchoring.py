"""Roots that somebody wants recorded on a chain, and what became of it. Settlement alone writes to chains.

Key: the party whose root it is, so that its periods keep their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from emobility.domain.identifiers import PartyId
from emobility.events.event import Event, catalogued

ANCHORING: Final = "anchoring"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorEvent(Event):
    """Base of facts about one root: of this kind, of this party, of the period that begins then."""

    topic: ClassVar[str] = ANCHORING
    kind: bytes
    party_id: PartyId
    period_start: datetime
    root: bytes

    @property
    def key(self) -> str:
        """The party."""
        return self.party_id.code


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorRequested(AnchorEvent):
    """A root is complete and shall be recorded on a chain, once for ever."""

    wire_name: ClassVar[str] = "anchoring.anchor_requested.v1"
    requested_at: datetime


@catalogued
@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored(AnchorEvent):
    """A root stands on a chain, in a block that is final."""

    wire_name: ClassVar[str] = "anchoring.anchored.v1"
    chain_id: int
    contract: bytes
    transaction: bytes
    block_number: int
    block_hash: bytes
    anchored_at: datetime
