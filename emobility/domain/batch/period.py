"""The periods that statements cover: whole weeks or months in the agreement's own time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from emobility.domain.agreement import StatementPeriod
from emobility.domain.tariff.selection import zone_of


def period_at(period: StatementPeriod, time_zone: str, at: datetime) -> tuple[datetime, datetime]:
    """Return start and end (excluded) of the period that holds `at`, in UTC.

    A week begins on Monday, a month on its first, both at local midnight; so a period with a change of clocks in it is
    an hour longer or shorter.

    Raises:
        UnknownTimeZone: `time_zone` is no IANA zone.
    """
    zone = zone_of(time_zone)
    today = at.astimezone(zone).date()
    if period is StatementPeriod.WEEKLY:
        first = today - timedelta(days=today.weekday())
        after = first + timedelta(days=7)
    else:
        first = today.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
    return _midnight(first, zone), _midnight(after, zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
