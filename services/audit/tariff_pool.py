"""Equal tariffs as one object: each is frozen into every CDR, and is compiled and hashed once per object."""

from __future__ import annotations

from datetime import datetime

from emobility.domain.identifiers import PartyId
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.tariff.version import tariff_hash


class TariffPool:
    """The tariffs of one check."""

    def __init__(self) -> None:
        self._known: dict[tuple[PartyId, str, datetime], Tariff] = {}
        self._hashes: dict[int, str] = {}

    def one(self, tariff: Tariff) -> Tariff:
        """Return the first tariff that was equal to this one, often itself."""
        known = self._known.setdefault((tariff.party_id, tariff.tariff_id, tariff.last_updated), tariff)
        return known if known == tariff else tariff

    def hash_of(self, tariff: Tariff) -> str:
        """Return `tariff_hash`."""
        known = self.one(tariff)
        if known is not self._known[tariff.party_id, tariff.tariff_id, tariff.last_updated]:
            return tariff_hash(tariff)
        found = self._hashes.get(id(known))
        if found is None:
            found = self._hashes[id(known)] = tariff_hash(known)
        return found
