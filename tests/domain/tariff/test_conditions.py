"""What restrictions say in words, each bound by itself and both together."""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from typing import Any

import pytest

from emobility.domain.tariff.conditions import conditions
from emobility.domain.tariff.tariff import DayOfWeek, TariffRestrictions

DAY = date(2026, 3, 1)


@pytest.mark.parametrize(
    ("restrictions", "told"),
    [
        ({}, []),
        ({"start_time": time(8)}, ["from 08:00"]),
        ({"end_time": time(17, 30)}, ["before 17:30"]),
        ({"start_time": time(8), "end_time": time(17, 30)}, ["from 08:00 to 17:30"]),
        ({"start_date": DAY}, ["from 2026-03-01"]),
        ({"start_date": DAY, "end_date": date(2026, 3, 2)}, ["from 2026-03-01 to 2026-03-02"]),
        (
            {"start_date": DAY, "end_date": date(2026, 3, 2), "start_time": time(8), "end_time": time(9)},
            ["2026-03-01 08:00-09:00"],
        ),
        (
            {"start_date": DAY, "end_date": date(2026, 3, 3), "start_time": time(8), "end_time": time(9)},
            ["from 2026-03-01 to 2026-03-03", "from 08:00 to 09:00"],
        ),
        ({"days_of_week": (DayOfWeek.MONDAY, DayOfWeek.FRIDAY)}, ["Monday, Friday"]),
        ({"energy_wh_min": 1_500}, ["from 1.5 kWh"]),
        ({"power_w_max": 22_000}, ["before 22 kW"]),
        ({"current_a_min": Decimal(6), "current_a_max": Decimal("16.5")}, ["from 6 to 16.5 A"]),
        ({"duration_s_min": 90, "duration_s_max": 3_600}, ["from 1.5 to 60 min"]),
    ],
)
def test_each_restriction_is_told(restrictions: dict[str, Any], told: list[str]) -> None:
    assert conditions(TariffRestrictions(**restrictions)) == told
