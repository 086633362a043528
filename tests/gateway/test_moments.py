"""Timestamps of stations whose clocks are right, odd, or not there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from charge_point_gateway.message import moment
from charge_point_gateway.rpc_errors import CallRefused

NEVER: Final = datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0001-01-01T00:00:00Z", NEVER),
        ("0001-01-01T00:00:00+01:00", NEVER),
        ("9999-12-31T23:59:59-01:00", datetime.max.replace(tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_station_without_a_clock_is_still_heard(text: str, expected: datetime) -> None:
    assert moment(text) == expected


def test_a_year_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(CallRefused):
        moment("0000-01-01T00:00:00Z")
