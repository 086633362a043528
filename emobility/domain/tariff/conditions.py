"""When an element of a tariff applies, in words for people."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import Final

from emobility.domain.tariff.tariff import DayOfWeek, Reservation, TariffRestrictions

_RESERVATIONS: Final = {
    Reservation.RESERVATION: "for a reservation",
    Reservation.RESERVATION_EXPIRES: "for a reservation that expires",
}
_WORKING_DAYS: Final = tuple(DayOfWeek)[:5]
_WEEKEND: Final = tuple(DayOfWeek)[5:]


def conditions(r: TariffRestrictions) -> tuple[str, ...]:
    """Name each restriction, in the order of OCPI; none: the element always applies. Times are local."""
    return (
        *_range("", _clock(r.start_time), _clock(r.end_time)),
        *_range("", r.start_date, r.end_date),
        *([_days(r.days_of_week)] if r.days_of_week else []),
        *_range(" kWh charged", _thousandths(r.energy_wh_min), _thousandths(r.energy_wh_max)),
        *_range(" A", _plain(r.current_a_min), _plain(r.current_a_max)),
        *_range(" kW", _thousandths(r.power_w_min), _thousandths(r.power_w_max)),
        *_range(" of the session", _duration(r.duration_s_min), _duration(r.duration_s_max)),
        *([_RESERVATIONS[r.reservation]] if r.reservation is not None else []),
    )


def plain(number: Decimal) -> str:
    """A number without trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: int) -> str:
    """Seconds as minutes and seconds."""
    minutes, rest = divmod(abs(seconds), 60)
    sign = "-" if seconds < 0 else ""
    if not rest:
        return f"{sign}{minutes} min"
    return f"{sign}{rest} s" if not minutes else f"{sign}{minutes} min {rest} s"


def _range(unit: str, low: object, high: object) -> list[str]:
    if low is None and high is None:
        return []
    if low is None:
        return [f"before {high}{unit}"]
    return [f"from {low}{unit}" if high is None else f"from {low} to {high}{unit}"]


def _clock(at: time | None) -> str | None:
    return None if at is None else f"{at:%H:%M}"


def _days(days: tuple[DayOfWeek, ...]) -> str:
    given = tuple(day for day in DayOfWeek if day in days)
    if given == _WORKING_DAYS:
        return "on Monday to Friday"
    if given == _WEEKEND:
        return "at the weekend"
    return "on " + ", ".join(day.value.title() for day in given)


def _thousandths(value: int | None) -> str | None:
    return None if value is None else plain(Decimal(value).scaleb(-3))


def _plain(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)


def _duration(seconds: int | None) -> str | None:
    return None if seconds is None else duration(seconds)
