"""What the law on alternative fuels has the public told of a location, beside where it is (AFIR, article 20).

All of it is optional: what an operator doesn't state is absent from what is published, and the completeness report
names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenHours:
    """Open on a day of the week (1 is Monday), local time."""

    weekday: int
    begin: time
    end: time


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyShare:
    """A source (OCPI 2.2.1, 8.4.6 EnergySourceCategory) and its share in percent."""

    source: str
    percent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationFacts:
    """What is stated of a location.

    Attributes:
        is_public: False: it is published to nobody but partners.
        is_always_open: None: not stated; False: as `open_hours` say.
        help_phone: Where a driver in trouble calls.
        parking_type: OCPI 2.2.1, 8.4.17.
        facilities: OCPI 2.2.1, 8.4.12.
        capabilities: What all EVSEs there can, beside starting by card and from afar: ways of paying, Plug and Charge
            (OCPI 2.2.1, 8.4.3; 2.3.0, 8.4.3).
        parking_restrictions: For whom the places are, DISABLED among them (OCPI 2.2.1, 8.4.18).
        is_green_energy: Whether all energy is renewable.
    """

    is_public: bool = True
    operator_name: str | None = None
    operator_website: str | None = None
    help_phone: str | None = None
    is_always_open: bool | None = None
    open_hours: tuple[OpenHours, ...] = ()
    parking_type: str | None = None
    facilities: tuple[str, ...] = ()
    directions_en: str | None = None
    capabilities: tuple[str, ...] = ()
    parking_restrictions: tuple[str, ...] = ()
    is_green_energy: bool | None = None
    energy_shares: tuple[EnergyShare, ...] = ()
    energy_supplier: str | None = None


NOTHING_STATED = LocationFacts()
