"""When an element of a tariff applies, in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from emobility.domain.tariff.tariff import TariffRestrictions

_MINUTES: Final = Decimal(60)


def conditions(r: TariffRestrictions) -> Sequence[str]:
    """Name each restriction but that to reservations; none: the element always applies. Times are local."""
    found: list[str] = []
    if r.start_date is not None and r.start_time is not None and _is_within_a_day(r):
        found.append(f"{r.start_date:%Y-%m-%d} {r.start_time:%H:%M}-{r.end_time:%H:%M}")
    else:
        found += _range("", r.start_date, r.end_date)
        found += _range("", r.start_time and f"{r.start_time:%H:%M}", r.end_time and f"{r.end_time:%H:%M}")
    if r.days_of_week:
        found.append(", ".join(day.value.title() for day in r.days_of_week))
    found += _range(" kWh", _kilo(r.energy_wh_min), _kilo(r.energy_wh_max))
    found += _range(" kW", _kilo(r.power_w_min), _kilo(r.power_w_max))
    found += _range(" A", r.current_a_min, r.current_a_max)
    found += _range(" min", _minutes(r.duration_s_min), _minutes(r.duration_s_max))
    return found


def plain(number: Decimal) -> str:
    """A number without trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: int) -> str:
    """Seconds as minutes and seconds."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min" + (f" {rest} s" if rest else "")


def _is_within_a_day(r: TariffRestrictions) -> bool:
    if r.start_date is None or r.end_date is None or r.end_time is None:
        return False
    return (r.end_date - r.start_date).days == 1


def _kilo(value: int | None) -> str | None:
    return None if value is None else plain(Decimal(value).scaleb(-3))


def _minutes(value_s: int | None) -> str | None:
    return None if value_s is None else plain((Decimal(value_s) / _MINUTES).quantize(Decimal("0.01")))


def _range(unit: str, low: object, high: object) -> list[str]:
    if low is None and high is None:
        return []
    if low is None:
        return [f"before {high}{unit}"]
    return [f"from {low}{unit}" if high is None else f"from {low} to {high}{unit}"]
