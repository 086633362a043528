"""What holds at a place: the VAT on the day it is there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from emobility.domain.identifiers import PartyId
from services.driver_mobility.terms import vat_percent

MSP = PartyId("NL-EMA")


@pytest.mark.parametrize(
    ("country", "time_zone", "midnight", "before", "after"),
    [
        ("DEU", "Europe/Berlin", datetime(2020, 6, 30, 22, 0, tzinfo=UTC), 19, 16),
        ("LUX", "Europe/Luxembourg", datetime(2023, 12, 31, 23, 0, tzinfo=UTC), 7, 8),
    ],
)
def test_a_new_rate_of_vat_begins_at_midnight_where_the_car_stands(
    country: str, time_zone: str, midnight: datetime, before: int, after: int
) -> None:
    def percent(at: datetime) -> Decimal:
        return vat_percent(MSP, country=country, at=at, time_zone=time_zone)

    assert percent(midnight - timedelta(seconds=1)) == before
    assert percent(midnight) == after
