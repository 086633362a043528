"""Rows of the navigation service: what owners published, as they wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.protocols.ocpi import v221


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLocation:
    """A location with its EVSEs; `document` is the OCPI object as JSON, `received_at` when it last changed here."""

    nsp_id: PartyId
    cpo_id: PartyId
    location_id: str
    document: str
    last_updated: datetime
    received_at: datetime

    def opened(self) -> v221.Location:
        """Return the OCPI object."""
        return v221.read(self.document.encode(), v221.Location)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTariff:
    """A tariff; `document` is the OCPI object as JSON, `received_at` when it last changed here."""

    nsp_id: PartyId
    cpo_id: PartyId
    tariff_id: str
    document: str
    last_updated: datetime
    received_at: datetime

    def opened(self) -> v221.Tariff:
        """Return the OCPI object."""
        return v221.read(self.document.encode(), v221.Tariff)


LOCATION: Final = TableSpec(name="navigation_location", record=StoredLocation, key=("nsp_id", "cpo_id", "location_id"))
TARIFF: Final = TableSpec(name="navigation_tariff", record=StoredTariff, key=("nsp_id", "cpo_id", "tariff_id"))
