"""Charging profiles an EVSE was given, reduced to the one number that counts: how many watts it may pass on now."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

UNLIMITED_W: Final = 10**9
LINE_VOLTAGE_V: Final = 230
"""Between phase and neutral; a limit in ampere means this times the phases."""


class ChargingLimit:
    """Profiles by purpose and stack level; the highest level of each purpose counts, the lowest purpose wins."""

    def __init__(self) -> None:
        self._profiles: dict[tuple[str, int], tuple[datetime, dict[str, Any]]] = {}

    def install(self, profile: dict[str, Any], *, at: datetime) -> None:
        """Take a profile in the words of 1.6 or 2.0.1; one of the same purpose and level is replaced."""
        schedule = profile["chargingSchedule"]
        if isinstance(schedule, list):
            schedule = schedule[0]
        key = (str(profile["chargingProfilePurpose"]), int(profile["stackLevel"]))
        self._profiles[key] = (at, schedule)

    def clear_transaction(self) -> None:
        """Forget profiles that end with their transaction (TxProfile)."""
        self._profiles = {key: value for key, value in self._profiles.items() if key[0] != "TxProfile"}

    def power_w(self, at: datetime) -> int:
        """Return the limit in W; `UNLIMITED_W` when there is none."""
        highest: dict[str, tuple[int, int]] = {}
        for (purpose, level), (installed_at, schedule) in self._profiles.items():
            limit = _limit_w(schedule, installed_at=installed_at, at=at)
            if limit is not None and level >= highest.get(purpose, (-1, 0))[0]:
                highest[purpose] = (level, limit)
        return min((limit for _, limit in highest.values()), default=UNLIMITED_W)


def _limit_w(schedule: dict[str, Any], *, installed_at: datetime, at: datetime) -> int | None:
    start = schedule.get("startSchedule")
    begin = datetime.fromisoformat(start) if start else installed_at
    elapsed = at - begin
    duration_s = schedule.get("duration")
    if elapsed < timedelta(0) or (duration_s is not None and elapsed >= timedelta(seconds=duration_s)):
        return None
    in_force = None
    for period in schedule["chargingSchedulePeriod"]:
        if timedelta(seconds=period["startPeriod"]) <= elapsed:
            in_force = period
    if in_force is None:
        return None
    limit = Decimal(str(in_force["limit"]))
    if schedule["chargingRateUnit"] == "A":
        limit *= LINE_VOLTAGE_V * int(in_force.get("numberPhases") or 3)
    return max(0, int(limit))
