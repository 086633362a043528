"""Where parties are registered: who they are, by whose word, and what they claim."""

from __future__ import annotations

from typing import Protocol

from emobility.domain.identifiers import PartyId
from emobility.domain.party_claims import PartyEntry


class PartyRegistry(Protocol):
    """A registry of parties, read only."""

    async def entry(self, party_id: PartyId) -> PartyEntry | None:
        """Return a party's entry; None: it is not registered. Raises `Unavailable`: nobody knows now."""
