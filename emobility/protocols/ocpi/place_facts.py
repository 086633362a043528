"""Opening hours and energy mix of a Location, read where a number is wanted of them (OCPI 2.2.1, 8.4.14 and 8.4.6).

A Location keeps both as they came; what is not of these shapes says nothing, and is not passed on to the public.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from emobility.protocols.ocpi.v221 import NotAnOCPIObject, Number, OCPIObject, Text45, Text64, TimeOfDay, read, write

T = TypeVar("T", bound=OCPIObject)


class RegularHours(OCPIObject, frozen=True, kw_only=True):
    """Open on one day of the week; local time."""

    weekday: Annotated[int, Meta(ge=1, le=7)]
    period_begin: TimeOfDay
    period_end: TimeOfDay


class ExceptionalPeriod(OCPIObject, frozen=True, kw_only=True):
    """Open or closed once."""

    period_begin: datetime
    period_end: datetime


class Hours(OCPIObject, frozen=True, kw_only=True):
    """When a location can be reached."""

    twentyfourseven: bool
    regular_hours: list[RegularHours] = []
    exceptional_openings: list[ExceptionalPeriod] = []
    exceptional_closings: list[ExceptionalPeriod] = []

    @classmethod
    def of(cls, given: dict[str, Any] | None) -> Hours | None:
        """Return what is understood of it."""
        return _understood(given, cls)


class EnergySource(OCPIObject, frozen=True, kw_only=True):
    """A share of the energy, in percent."""

    source: Text45
    percentage: Number


class EnergyMix(OCPIObject, frozen=True, kw_only=True):
    """Where the energy comes from."""

    is_green_energy: bool
    energy_sources: list[EnergySource] = []
    supplier_name: Text64 | None = None
    energy_product_name: Text64 | None = None

    @classmethod
    def of(cls, given: dict[str, Any] | None) -> EnergyMix | None:
        """Return what is understood of it."""
        return _understood(given, cls)


def _understood(given: dict[str, Any] | None, kind: type[T]) -> T | None:
    if given is None:
        return None
    try:
        return read(write(given), kind)
    except NotAnOCPIObject:
        return None


def plain(known: OCPIObject | None) -> dict[str, Any] | None:
    """Return an object as a Location keeps it."""
    return None if known is None else read(write(known), dict[str, Any])
