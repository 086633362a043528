"""Weeks and months in the agreement's own time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.agreement import StatementPeriod
from emobility.domain.batch.period import period_at

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given a zone
ZONES = st.sampled_from(["Europe/Amsterdam", "Europe/Lisbon", "Asia/Kathmandu", "America/New_York", "UTC"])


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        (StatementPeriod.WEEKLY, datetime(2022, 3, 20, 23, tzinfo=UTC), datetime(2022, 3, 27, 22, tzinfo=UTC)),
        (StatementPeriod.MONTHLY, datetime(2022, 2, 28, 23, tzinfo=UTC), datetime(2022, 3, 31, 22, tzinfo=UTC)),
    ],
)
def test_a_period_in_which_clocks_change_is_an_hour_shorter(
    period: StatementPeriod, start: datetime, end: datetime
) -> None:
    assert period_at(period, "Europe/Amsterdam", datetime(2022, 3, 27, 12, tzinfo=UTC)) == (start, end)


@given(period=st.sampled_from(StatementPeriod), zone=ZONES, at=MOMENTS)
def test_periods_follow_each_other_without_gap_or_overlap(period: StatementPeriod, zone: str, at: datetime) -> None:
    start, end = period_at(period, zone, at)

    assert start <= at < end
    assert period_at(period, zone, start) == (start, end)
    assert period_at(period, zone, start - timedelta(seconds=1))[1] == start
    assert period_at(period, zone, end)[0] == end
