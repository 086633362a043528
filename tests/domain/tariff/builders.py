"""Short ways to write tariffs and periods down in tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from emobility.domain.identifiers import PartyId
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
)

AMSTERDAM = "Europe/Amsterdam"
CPO = PartyId("NL-TNM")
UPDATED = datetime(2022, 1, 1, tzinfo=UTC)
MONDAY = datetime(2022, 6, 13, tzinfo=UTC)
"""Midnight UTC; 02:00 in Amsterdam."""


def component(dimension: str, price: str, *, step: int = 1, vat: str | None = None) -> PriceComponent:
    """A component; `vat` in percent."""
    return PriceComponent(
        dimension=TariffDimension(dimension),
        price=Decimal(price),
        step_size=step,
        vat_percent=None if vat is None else Decimal(vat),
    )


def element(*components: PriceComponent, **restrictions: Any) -> TariffElement:
    """An element with restrictions by their domain names."""
    return TariffElement(components=components, restrictions=TariffRestrictions(**restrictions))


def tariff(*elements: TariffElement, **fields: Any) -> Tariff:
    """A tariff in euros."""
    return Tariff(
        **{
            "party_id": CPO,
            "tariff_id": "T1",
            "currency": "EUR",
            "last_updated": UPDATED,
            **fields,
            "elements": elements,
        }
    )


def charging(at: datetime, minutes: float = 0, wh: int = 0, **fields: Any) -> ChargingPeriod:
    """A period in which the vehicle took power."""
    return ChargingPeriod(
        started_at=at, energy_import_wh=wh, charging_s=round(minutes * 60), **{"parking_s": 0, **fields}
    )


def parking(at: datetime, minutes: float, **fields: Any) -> ChargingPeriod:
    """A period in which the vehicle only occupied the EVSE."""
    return ChargingPeriod(started_at=at, energy_import_wh=0, charging_s=0, parking_s=round(minutes * 60), **fields)


def reserved(at: datetime, minutes: float) -> ChargingPeriod:
    """A period in which the EVSE was held for the driver."""
    return ChargingPeriod(started_at=at, energy_import_wh=0, charging_s=0, parking_s=0, reserved_s=round(minutes * 60))


def minutes(number: float) -> timedelta:
    """A number of minutes."""
    return timedelta(minutes=number)
