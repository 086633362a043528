"""A registry of parties in memory."""

from __future__ import annotations

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.party_claims import PartyEntry


class MemoryPartyRegistry:
    """Holds what it is given; `is_down`: it does not answer."""

    def __init__(self) -> None:
        self.entries: dict[PartyId, PartyEntry] = {}
        self.is_down = False
        self.asked = 0

    async def entry(self, party_id: PartyId) -> PartyEntry | None:
        """See `PartyRegistry`."""
        self.asked += 1
        if self.is_down:
            raise Unavailable("the registry does not answer")
        return self.entries.get(party_id)
