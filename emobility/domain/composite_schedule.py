"""What an EVSE, or a whole station, may draw over time, by all charging profiles that apply to it.

The rule (1.6, 3.13; 2.0.1, K08; 2.1, K08): of each purpose the valid profile with the highest stack level prevails, as
long as its schedule has a period in force; a profile of the EVSE goes before one of the station with the same level. A
TxProfile takes the place of the TxDefaultProfile, and PriorityCharging, where it is on, that of both. The lowest of
this limit, the station's maximum and the external constraints (of each source) counts; LocalGeneration is added to it.
Of a whole station it is the sum of its EVSEs, within the station's maximum and the external constraints.

One number of phases holds for all: the least that any of these limits allows. Between ampere and watts it is power =
current x voltage x phases. What is not a whole tenth is cut off towards zero, once per limit, so none is ever exceeded.
Where phases have values of their own, a total in watts counts as an even share of it on each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import ROUND_DOWN, Decimal
from itertools import pairwise
from typing import Final

from emobility.domain.charging_profile import (
    STATION,
    ChargingProfile,
    InstalledProfile,
    PhaseValues,
    Purpose,
    RateUnit,
    SchedulePeriod,
)
from emobility.domain.errors import MalformedInput

TENTH: Final = Decimal("0.1")
"""Limits have one decimal (1.6, 7.14; 2.0.1, 2.14)."""
WINDOW_MAX: Final = timedelta(days=31)
"""Longest window that a composite schedule is computed for."""
STEPS_MAX: Final = 100_000
"""Looks at a profile that one composite schedule may take: a second or two. Profiles come from stations too."""
DIFFERENCE_S_MIN: Final = 2
"""A station counts from a moment between two seconds, so a shorter difference is none."""
SECOND: Final = timedelta(seconds=1)


class WindowTooLong(MalformedInput):
    """A composite schedule is asked for 1 second to `WINDOW_MAX`, in which it takes at most `STEPS_MAX` to compute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EVSEUse:
    """Who charges at an EVSE. `started_at` None: nobody, and what counts from the start of charging says nothing."""

    evse_id: int
    started_at: datetime | None = None
    transaction_id: str | None = None
    is_priority: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """How ampere and watts belong together: the voltage of a phase and how many phases an EVSE has."""

    voltage_v: int = 230
    phases: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositePeriod:
    """Values in force from `start_s` after the start of the window; a limit of None is no limit."""

    start_s: int
    limit: PhaseValues | None
    number_phases: int
    discharge_limit: PhaseValues | None = None
    setpoint: PhaseValues | None = None
    operation_mode: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeSchedule:
    """Periods that cover a window without a gap; neighbours differ."""

    evse_id: int
    start_at: datetime
    duration_s: int
    unit: RateUnit
    periods: tuple[CompositePeriod, ...]

    def at(self, elapsed_s: int) -> CompositePeriod:
        """Return the period in force so long after the start."""
        return next(period for period in reversed(self.periods) if period.start_s <= elapsed_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A stretch of a window in which two limits differ; None is no limit."""

    start_s: int
    end_s: int
    ours: PhaseValues | None
    theirs: PhaseValues | None


def composite_schedule(
    profiles: Iterable[InstalledProfile],
    *,
    evse_id: int,
    start_at: datetime,
    duration_s: int,
    unit: RateUnit,
    supply: Supply,
    uses: Sequence[EVSEUse],
    zone: tzinfo = UTC,
) -> CompositeSchedule:
    """Return the composite schedule of an EVSE, or of the station where `evse_id` is 0.

    Args:
        profiles: All of the station, in any order.
        evse_id: Whose schedule; 0 is the sum of the EVSEs in `uses`.
        start_at: Start of the window, in whole seconds.
        duration_s: Length of the window, in s.
        unit: What limits are asked for in.
        supply: For conversion between A and W.
        uses: Who charges now at each EVSE of the station.
        zone: The station's time zone.

    Raises:
        WindowTooLong: `duration_s` is not 1 s to `WINDOW_MAX`, or too much happens in it.
    """
    if not 0 < duration_s <= WINDOW_MAX.total_seconds():
        raise WindowTooLong(f"a schedule is computed for 1 s to {WINDOW_MAX.days} days")
    known = list(profiles)
    combine = _Combination(unit=unit, supply=supply, zone=zone)
    edges = _edges(known, uses, start_at, duration_s, zone)
    if len(edges) * len(known) * max(1, len(uses) if evse_id == STATION else 1) > STEPS_MAX:
        raise WindowTooLong("the profiles change too often in this window; ask for less of it")
    periods: list[CompositePeriod] = []
    for start_s in edges:
        at = start_at + timedelta(seconds=start_s)
        if evse_id == STATION:
            period = combine.of_station(known, uses, at, start_s)
        else:
            use = next((each for each in uses if each.evse_id == evse_id), EVSEUse(evse_id=evse_id))
            period = combine.of_evse(known, use, at, start_s)
        if not periods or replace(periods[-1], start_s=start_s) != period:
            periods.append(period)
    return CompositeSchedule(
        evse_id=evse_id, start_at=start_at, duration_s=duration_s, unit=unit, periods=tuple(periods)
    )


def differences(ours: CompositeSchedule, theirs: CompositeSchedule) -> tuple[Difference, ...]:
    """Return where two schedules of one unit and start have other limits, over the time that both cover."""
    assert (ours.unit, ours.start_at) == (theirs.unit, theirs.start_at)
    end_s = min(ours.duration_s, theirs.duration_s)
    edges = sorted({each.start_s for each in (*ours.periods, *theirs.periods) if 0 <= each.start_s < end_s} | {0})
    found: list[Difference] = []
    for start_s, until_s in pairwise([*edges, end_s]):
        our_limit = ours.at(start_s).limit
        covered = [period for period in theirs.periods if period.start_s <= start_s]
        their_limit = covered[-1].limit if covered else None
        if our_limit == their_limit:
            continue
        if found and (found[-1].end_s, found[-1].ours, found[-1].theirs) == (start_s, our_limit, their_limit):
            found[-1] = replace(found[-1], end_s=until_s)
        else:
            found.append(Difference(start_s=start_s, end_s=until_s, ours=our_limit, theirs=their_limit))
    return tuple(each for each in found if each.end_s - each.start_s >= DIFFERENCE_S_MIN)


# -- at one moment ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _InForce:
    """A period with the unit of its schedule."""

    period: SchedulePeriod
    unit: RateUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Combination:
    unit: RateUnit
    supply: Supply
    zone: tzinfo

    def of_evse(
        self, profiles: Sequence[InstalledProfile], use: EVSEUse, at: datetime, start_s: int
    ) -> CompositePeriod:
        """Return what holds for an EVSE at a moment."""
        followed = self._followed(profiles, use, at)
        caps = [*followed, *self._station_caps(profiles, (STATION, use.evse_id), use, at)]
        phases = min([self.supply.phases, *(each.period.number_phases or self.supply.phases for each in caps)])
        limit = self._lowest([(each.period.limit, each.unit) for each in caps], phases)
        if limit is not None:
            for generated in self._prevailing(profiles, Purpose.LOCAL_GENERATION, (STATION, use.evse_id), use, at):
                limit = _sum(
                    [limit, self._converted(generated.period.limit, generated.unit, phases)], self.unit, phases
                )
        leading = followed[0] if followed else None
        return CompositePeriod(
            start_s=start_s,
            limit=limit,
            number_phases=phases,
            discharge_limit=self._lowest([(each.period.discharge_limit, each.unit) for each in caps], phases),
            setpoint=None if leading is None else self._converted(leading.period.setpoint, leading.unit, phases),
            operation_mode=None if leading is None else leading.period.operation_mode,
        )

    def of_station(
        self, profiles: Sequence[InstalledProfile], uses: Sequence[EVSEUse], at: datetime, start_s: int
    ) -> CompositePeriod:
        """Return what holds for a station at a moment; setpoints are of EVSEs alone."""
        parts = [self.of_evse(profiles, use, at, start_s) for use in uses]
        station = self.of_evse(
            [each for each in profiles if each.evse_id == STATION and each.profile.purpose in _OF_STATION],
            EVSEUse(evse_id=STATION),
            at,
            start_s,
        )
        phases = station.number_phases
        limits = [part.limit for part in parts]
        total = _sum(limits, self.unit, phases) if parts else None
        limit = self._lowest([(total, self.unit), (station.limit, self.unit)], phases)
        return replace(station, limit=limit)

    def _followed(self, profiles: Sequence[InstalledProfile], use: EVSEUse, at: datetime) -> list[_InForce]:
        """Return what the EV is told: PriorityCharging where it is on, else TxProfile, else TxDefaultProfile."""
        for purpose in (Purpose.PRIORITY, Purpose.TX, Purpose.TX_DEFAULT):
            if purpose is Purpose.PRIORITY and not use.is_priority:
                continue
            if purpose is Purpose.TX and use.started_at is None:
                continue
            # 1.6, 3.13.1 and 2.0.1, K01.FR.03: a TxProfile is of the EVSE; both defaults may be of the station.
            places = (use.evse_id,) if purpose is Purpose.TX else (STATION, use.evse_id)
            if found := self._prevailing(profiles, purpose, places, use, at):
                return found
        return []

    def _station_caps(
        self, profiles: Sequence[InstalledProfile], places: tuple[int, ...], use: EVSEUse, at: datetime
    ) -> list[_InForce]:
        caps = self._prevailing(profiles, Purpose.STATION_MAX, places, use, at)
        for source in sorted({each.source for each in profiles}):
            # Each source (grid operator, energy management) has a word of its own; none takes another's place.
            told = [each for each in profiles if each.source == source]
            for place in dict.fromkeys(places):
                caps += self._prevailing(told, Purpose.EXTERNAL_CONSTRAINTS, (place,), use, at)
        return caps

    def _prevailing(
        self,
        profiles: Sequence[InstalledProfile],
        purpose: Purpose,
        places: tuple[int, ...],
        use: EVSEUse,
        at: datetime,
    ) -> list[_InForce]:
        """Return the period in force of the highest level; of equals, which no station should have, all."""
        found: list[tuple[tuple[int, bool], _InForce]] = []
        for each in profiles:
            profile = each.profile
            if profile.purpose is not purpose or each.evse_id not in places:
                continue
            if profile.transaction_id is not None and profile.transaction_id != use.transaction_id:
                continue
            period = profile.period_at(at, transaction_started_at=use.started_at, zone=self.zone)
            if period is not None:
                rank = (profile.stack_level, each.evse_id != STATION)
                found.append((rank, _InForce(period, profile.schedule.unit)))
        highest = max((rank for rank, _ in found), default=None)
        equals = [in_force for rank, in_force in found if rank == highest]
        return sorted(equals, key=lambda each: repr(each.period))

    def _lowest(self, caps: Iterable[tuple[PhaseValues | None, RateUnit]], phases: int) -> PhaseValues | None:
        """Return the values nearest to zero: of limits the lowest, of limits to feeding in the highest."""
        told = [self._converted(values, unit, phases) for values, unit in caps if values is not None]
        known = [each for each in told if each is not None]
        if not any(each.is_per_phase for each in known):
            return min(known, key=lambda each: abs(each.l1 or Decimal(0)), default=None)
        spread = [_per_phase(each, self.unit, phases) for each in known]
        return PhaseValues(**{name: _nearest_to_zero(getattr(each, name) for each in spread) for name in _PHASE_NAMES})

    def _converted(self, values: PhaseValues | None, unit: RateUnit, phases: int) -> PhaseValues | None:
        if values is None or values == PhaseValues():
            return None
        # A value of one phase needs no number of phases; a total is that of all of them.
        volts = Decimal(self.supply.voltage_v) * (1 if values.is_per_phase else phases)
        if unit is self.unit:
            return _each(values, lambda value: value)
        if unit is RateUnit.W:
            return _each(values, lambda value: value / volts)
        return _each(values, lambda value: value * volts)


_PHASE_NAMES: Final = ("l1", "l2", "l3")
_OF_STATION: Final = (Purpose.STATION_MAX, Purpose.EXTERNAL_CONSTRAINTS)


def _each(values: PhaseValues, change: Callable[[Decimal], Decimal]) -> PhaseValues:
    """Change the values of all phases and cut what is not a whole tenth off, towards zero."""
    changed = {name: getattr(values, name) for name in _PHASE_NAMES}
    return PhaseValues(
        **{
            name: None if value is None else change(value).quantize(TENTH, ROUND_DOWN).normalize() + 0
            for name, value in changed.items()
        }
    )


def _per_phase(values: PhaseValues, unit: RateUnit, phases: int) -> PhaseValues:
    """Write a value for all phases as one of each; a total in watts is shared evenly."""
    if values.is_per_phase or values.l1 is None:
        return values
    share = values.l1 if unit is RateUnit.A else values.l1 / phases
    return _each(PhaseValues(**dict.fromkeys(_PHASE_NAMES[:phases], share)), lambda value: value)


def _nearest_to_zero(values: Iterable[Decimal | None]) -> Decimal | None:
    return min((value for value in values if value is not None), key=abs, default=None)


def _sum(parts: Sequence[PhaseValues | None], unit: RateUnit, phases: int) -> PhaseValues | None:
    """Add limits up; with one of them missing there is no limit."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if not any(part.is_per_phase for part in known):
        return PhaseValues(l1=sum((part.l1 or Decimal(0) for part in known), Decimal(0)))
    spread = [_per_phase(part, unit, phases) for part in known]
    return PhaseValues(
        **{name: sum((getattr(part, name) or Decimal(0) for part in spread), Decimal(0)) for name in _PHASE_NAMES}
    )


# -- over time --------------------------------------------------------------------------------------------------------


def _edges(
    profiles: Iterable[InstalledProfile], uses: Sequence[EVSEUse], start_at: datetime, duration_s: int, zone: tzinfo
) -> list[int]:
    """Return the seconds of a window at which anything may change, the first included."""
    end_at = start_at + timedelta(seconds=duration_s)
    edges = {0}
    starts = {use.started_at for use in uses} | {None}
    for each in profiles:
        moments = {each.profile.valid_from, each.profile.valid_to}
        for started_at in starts:
            moments |= _moments(each.profile, started_at, start_at, end_at, zone)
        inside = (moment for moment in moments if moment is not None and start_at <= moment < end_at)
        edges |= {-((start_at - moment) // SECOND) for moment in inside}  # a part of a second counts from the next
    return sorted(edge for edge in edges if edge < duration_s)


def _moments(
    profile: ChargingProfile, started_at: datetime | None, start_at: datetime, end_at: datetime, zone: tzinfo
) -> set[datetime | None]:
    """Return when the periods of a profile's runs begin and end; a run is at least `_LOOK` long."""
    looks = [start_at + _LOOK * place for place in range(-((start_at - end_at) // _LOOK))]
    begins = {profile.begun_at(at, transaction_started_at=started_at, zone=zone) for at in (*looks, end_at - SECOND)}
    schedule = profile.schedule
    offsets = [period.start_s for period in schedule.periods]
    if schedule.duration_s is not None:
        offsets.append(schedule.duration_s)
    last = end_at - min((begin for begin in begins if begin is not None), default=end_at)
    return {
        begin + timedelta(seconds=offset)
        for begin in begins
        if begin is not None
        for offset in offsets
        if timedelta(seconds=offset) <= last
    }


_LOOK: Final = timedelta(hours=12)
"""A daily schedule by local time runs for 23 hours at least, so none is overlooked."""
