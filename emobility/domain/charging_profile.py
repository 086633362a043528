"""A charging profile: how much an EVSE, or a whole station, may draw and feed in at which time, whatever OCPP version.

The words are those of OCPP 2.1 (part 2, block K); 1.6 (3.13) and 2.0.1 (block K) say less, and 1.6 calls the station's
limit ChargePointMaxProfile. What no limit hangs on (sales tariffs, signatures, frequency curves) is carried along as it
came. `composite_schedule.py` says what follows from many profiles.

Ampere are per phase, to a tenth; watts are the total of all phases, or per phase where L2 and L3 have their own value.
What is drawn is positive, what is fed in negative.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from emobility.domain.errors import RuleBroken

CSO: Final = "CSO"
"""The source of what a CSMS sets (ChargingLimitSourceEnumType)."""
STATION: Final = 0
"""The EVSE number of a profile for the whole station."""


class Purpose(StrEnum):
    """What a profile is for (2.1, ChargingProfilePurposeEnumType)."""

    EXTERNAL_CONSTRAINTS = "ChargingStationExternalConstraints"
    STATION_MAX = "ChargingStationMaxProfile"
    TX_DEFAULT = "TxDefaultProfile"
    TX = "TxProfile"
    PRIORITY = "PriorityCharging"
    LOCAL_GENERATION = "LocalGeneration"


class Kind(StrEnum):
    """From when a profile's schedule counts (2.1, ChargingProfileKindEnumType)."""

    ABSOLUTE = "Absolute"
    RECURRING = "Recurring"
    RELATIVE = "Relative"
    DYNAMIC = "Dynamic"


class Recurrency(StrEnum):
    """How often a recurring schedule starts anew."""

    DAILY = "Daily"
    WEEKLY = "Weekly"


INTERVALS: Final = {Recurrency.DAILY: timedelta(days=1), Recurrency.WEEKLY: timedelta(days=7)}


class RateUnit(StrEnum):
    """What limits are in."""

    A = "A"
    W = "W"


class ProfileBreaksRule(RuleBroken):
    """A profile is not one that a CSMS may install, or contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseValues:
    """A limit or setpoint. L2 and L3 None: in ampere all phases have `l1`, in watts it is the total."""

    l1: Decimal | None = None
    l2: Decimal | None = None
    l3: Decimal | None = None

    @property
    def is_per_phase(self) -> bool:
        """Whether phases differ."""
        return self.l2 is not None or self.l3 is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePeriod:
    """Values that hold from `start_s`, counted from the start of the schedule, to the next period."""

    start_s: int
    limit: PhaseValues | None = None
    number_phases: int | None = None
    phase_to_use: int | None = None
    discharge_limit: PhaseValues | None = None
    setpoint: PhaseValues | None = None
    setpoint_reactive: PhaseValues | None = None
    operation_mode: str | None = None
    further: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingSchedule:
    """Periods one after another; the last holds until `duration_s`, or for good. `schedule_id`: 1.6 has none."""

    unit: RateUnit
    periods: tuple[SchedulePeriod, ...]
    schedule_id: int | None = None
    start_at: datetime | None = None
    duration_s: int | None = None
    min_charging_rate: Decimal | None = None
    uses_local_time: bool | None = None
    further: dict[str, Any] = field(default_factory=dict)

    def period_after(self, elapsed: timedelta) -> SchedulePeriod | None:
        """Return the period in force so long after the start. None: it has not begun, or is over."""
        if elapsed < timedelta(0) or (self.duration_s is not None and elapsed >= timedelta(seconds=self.duration_s)):
            return None
        place = bisect_right(self.periods, elapsed, key=lambda period: timedelta(seconds=period.start_s))
        return self.periods[place - 1] if place else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingProfile:
    """A profile; at one EVSE and purpose the valid one with the highest `stack_level` prevails.

    Attributes:
        schedules: One, or with ISO 15118 up to three, of which the EV takes `selected_schedule_id` (None: the first).
        dynamic_update_at: 2.1 Dynamic: since when the values of the only period hold.
        dynamic_update_interval_s: 2.1 Dynamic: how often the station asks for new values; None: it is told.
    """

    profile_id: int
    stack_level: int
    purpose: Purpose
    kind: Kind
    schedules: tuple[ChargingSchedule, ...]
    recurrency: Recurrency | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    transaction_id: str | None = None
    dynamic_update_interval_s: int | None = None
    dynamic_update_at: datetime | None = None
    selected_schedule_id: int | None = None
    further: dict[str, Any] = field(default_factory=dict)

    @property
    def schedule(self) -> ChargingSchedule:
        """The schedule that is followed."""
        chosen = (each for each in self.schedules if each.schedule_id == self.selected_schedule_id)
        return next(chosen, self.schedules[0]) if self.selected_schedule_id is not None else self.schedules[0]

    def is_valid_at(self, at: datetime) -> bool:
        """Tell whether `at` lies in its validity, the start included and the end excluded."""
        return (self.valid_from is None or self.valid_from <= at) and (self.valid_to is None or at < self.valid_to)

    def begun_at(self, at: datetime, *, transaction_started_at: datetime | None, zone: tzinfo = UTC) -> datetime | None:
        """Return when the run of the schedule that `at` may lie in began; None: there is none yet.

        Args:
            at: The moment asked about.
            transaction_started_at: When the EV began to charge; a relative schedule starts there.
            zone: The station's time zone, for a schedule that recurs by local time (2.1, useLocalTime).
        """
        schedule = self.schedule
        if self.kind is Kind.DYNAMIC:
            return self.dynamic_update_at or self.valid_from or datetime.min.replace(tzinfo=UTC)
        # 1.6, 7.8: without startSchedule a schedule is relative to the start of charging.
        first = transaction_started_at if self.kind is Kind.RELATIVE else schedule.start_at or transaction_started_at
        if first is None or at < first:
            return None
        if self.kind is not Kind.RECURRING or self.recurrency is None:
            return first
        interval = INTERVALS[self.recurrency]
        if not schedule.uses_local_time:
            return first + (at - first) // interval * interval
        wall = first.astimezone(zone).replace(tzinfo=None)
        runs = (at.astimezone(zone).replace(tzinfo=None) - wall) // interval
        # Where the clock is set forward or back the estimate may be one run late.
        begins = [(wall + (runs + each) * interval).replace(tzinfo=zone).astimezone(UTC) for each in (1, 0, -1)]
        return next((begin for begin in begins if first <= begin <= at), first)

    def period_at(
        self, at: datetime, *, transaction_started_at: datetime | None, zone: tzinfo = UTC
    ) -> SchedulePeriod | None:
        """Return the period that holds at a moment; None: the profile says nothing then."""
        if not self.is_valid_at(at):
            return None
        begun_at = self.begun_at(at, transaction_started_at=transaction_started_at, zone=zone)
        return None if begun_at is None else self.schedule.period_after(at - begun_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledProfile:
    """A profile where it is: EVSE 0 is the station. `source`: who set it (ChargingLimitSourceEnumType)."""

    evse_id: int
    profile: ChargingProfile
    source: str = CSO


def refuse_broken(profile: ChargingProfile, *, evse_id: int) -> None:
    """Refuse what a CSMS must not install (2.0.1 and 2.1, K01). Raises `ProfileBreaksRule`."""
    if profile.purpose is Purpose.EXTERNAL_CONSTRAINTS:
        # K01.FR.22: they are reported by a station, and never set by a CSMS.
        raise ProfileBreaksRule(f"a CSMS does not set {profile.purpose}")
    if profile.purpose is Purpose.STATION_MAX and evse_id != STATION:
        raise ProfileBreaksRule("a limit of the station is set at EVSE 0")
    if profile.purpose is Purpose.TX and evse_id == STATION:
        raise ProfileBreaksRule("a TxProfile is set at the EVSE of its transaction")
    if profile.purpose is not Purpose.TX and profile.transaction_id is not None:
        raise ProfileBreaksRule("only a TxProfile names a transaction")
    if (profile.recurrency is not None) != (profile.kind is Kind.RECURRING):
        raise ProfileBreaksRule("a recurring profile, and no other, says how often it recurs")
    for schedule in profile.schedules:
        starts = [period.start_s for period in schedule.periods]
        if not starts or starts[0] != 0 or any(later <= earlier for earlier, later in pairwise(starts)):
            raise ProfileBreaksRule("the periods of a schedule start at 0, each after the one before")
        if profile.kind is Kind.DYNAMIC and len(starts) != 1:
            raise ProfileBreaksRule("a dynamic schedule has one period")
