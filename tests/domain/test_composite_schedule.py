"""The composite schedule agrees with the standard's rules second by second, and exceeds no applicable limit."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobility.domain.charging_profile import (
    STATION,
    ChargingProfile,
    ChargingSchedule,
    InstalledProfile,
    Kind,
    PhaseValues,
    ProfileBreaksRule,
    Purpose,
    RateUnit,
    Recurrency,
    SchedulePeriod,
    refuse_broken,
)
from emobility.domain.composite_schedule import (
    CompositeSchedule,
    EVSEUse,
    Supply,
    WindowTooLong,
    composite_schedule,
    differences,
)

START: Final = datetime(2022, 3, 28, 8, 0, tzinfo=UTC)
SUPPLY: Final = Supply(voltage_v=230, phases=3)
CHARGING: Final = EVSEUse(evse_id=1, started_at=START - timedelta(seconds=7), transaction_id="T1")
WINDOW_S: Final = 30
DAY_S: Final = 86_400


def second(offset: int) -> datetime:
    return START + timedelta(seconds=offset)


def profile(
    *periods: tuple[int, str] | tuple[int, str, int],
    purpose: Purpose = Purpose.TX_DEFAULT,
    unit: RateUnit = RateUnit.A,
    start_at: datetime | None = START,
    duration_s: int | None = None,
    level: int = 0,
    evse_id: int = 1,
    source: str = "CSO",
    **fields: object,
) -> InstalledProfile:
    schedule = ChargingSchedule(
        unit=unit,
        start_at=start_at,
        duration_s=duration_s,
        periods=tuple(
            SchedulePeriod(
                start_s=each[0],
                limit=PhaseValues(l1=Decimal(each[1])),
                number_phases=each[2] if len(each) > 2 else None,
            )
            for each in periods
        ),
    )
    fields.setdefault("kind", Kind.ABSOLUTE)
    made = ChargingProfile(profile_id=1, stack_level=level, purpose=purpose, schedules=(schedule,), **fields)  # type: ignore[arg-type]
    return InstalledProfile(evse_id=evse_id, profile=made, source=source)


def composed(
    *profiles: InstalledProfile,
    evse_id: int = 1,
    unit: RateUnit = RateUnit.A,
    start: int = 0,
    duration_s: int = WINDOW_S,
    uses: tuple[EVSEUse, ...] = (CHARGING,),
    zone: ZoneInfo | None = None,
) -> CompositeSchedule:
    return composite_schedule(
        profiles,
        evse_id=evse_id,
        start_at=second(start),
        duration_s=duration_s,
        unit=unit,
        supply=SUPPLY,
        uses=uses,
        zone=zone or UTC,
    )


def told(schedule: CompositeSchedule) -> list[tuple[int, str | None]]:
    return [(each.start_s, None if each.limit is None else f"{each.limit.l1:f}") for each in schedule.periods]


# -- the rules, one by one --------------------------------------------------------------------------------------------


def test_the_highest_level_prevails_while_its_schedule_lasts() -> None:
    low = profile((0, "16"))
    high = profile((0, "10"), level=3, start_at=second(5), duration_s=10)

    assert told(composed(low, high)) == [(0, "16"), (5, "10"), (15, "16")]


def test_a_tx_profile_takes_the_place_of_the_default_even_if_it_allows_more() -> None:
    default = profile((0, "8"), level=9)
    of_transaction = profile((0, "13"), purpose=Purpose.TX, transaction_id="T1", duration_s=10)

    assert told(composed(default, of_transaction)) == [(0, "13"), (10, "8")]


def test_a_tx_profile_of_another_transaction_says_nothing() -> None:
    other = profile((0, "6"), purpose=Purpose.TX, transaction_id="T2")

    assert told(composed(profile((0, "8")), other)) == [(0, "8")]
    assert told(composed(profile((0, "8")), profile((0, "6"), purpose=Purpose.TX), uses=())) == [(0, "8")]


def test_priority_charging_takes_the_place_of_both_once_it_is_on() -> None:
    profiles = (
        profile((0, "8"), purpose=Purpose.TX, transaction_id="T1"),
        profile((0, "20"), purpose=Purpose.PRIORITY),
    )

    assert told(composed(*profiles)) == [(0, "8")]
    assert told(composed(*profiles, uses=(replace(CHARGING, is_priority=True),))) == [(0, "20")]


def test_local_generation_is_added_to_the_lowest_of_the_others() -> None:
    profiles = (
        profile((0, "16")),
        profile((0, "10"), purpose=Purpose.EXTERNAL_CONSTRAINTS, source="SO"),
        profile((5, "4"), purpose=Purpose.LOCAL_GENERATION, start_at=second(0)),
    )

    assert told(composed(*profiles)) == [(0, "10"), (5, "14")]


def test_each_source_of_external_constraints_counts() -> None:
    profiles = (
        profile((0, "12"), purpose=Purpose.EXTERNAL_CONSTRAINTS, source="SO", level=9),
        profile((0, "9"), purpose=Purpose.EXTERNAL_CONSTRAINTS, source="EMS", evse_id=STATION),
    )

    assert told(composed(*profiles)) == [(0, "9")]


def test_an_evse_s_own_default_goes_before_the_station_s_of_the_same_level() -> None:
    assert told(composed(profile((0, "6"), evse_id=STATION), profile((0, "16")))) == [(0, "16")]


def test_the_station_s_schedule_is_the_sum_of_its_evses_within_its_maximum() -> None:
    default = profile((0, "10"), evse_id=STATION)
    maximum = profile((0, "32"), (5, "15"), purpose=Purpose.STATION_MAX, evse_id=STATION)
    uses = (EVSEUse(evse_id=1), EVSEUse(evse_id=2))

    assert told(composed(default, maximum, evse_id=STATION, uses=uses)) == [(0, "20"), (5, "15")]


def test_a_recurring_profile_starts_anew_each_day_and_is_over_in_between() -> None:
    daily = profile((0, "6"), (5, "8"), duration_s=10, kind=Kind.RECURRING, recurrency=Recurrency.DAILY)

    assert told(composed(daily, start=3 * DAY_S - 2)) == [(0, None), (2, "6"), (7, "8"), (12, None)]


def test_a_schedule_by_local_time_keeps_its_hour_where_the_clock_is_set_forward() -> None:
    amsterdam = ZoneInfo("Europe/Amsterdam")
    evening = datetime(2022, 3, 26, 18, 0, tzinfo=amsterdam).astimezone(UTC)
    daily = profile((0, "6"), duration_s=60, start_at=evening, kind=Kind.RECURRING, recurrency=Recurrency.DAILY)
    local = replace(daily.profile.schedule, uses_local_time=True)
    daily = replace(daily, profile=replace(daily.profile, schedules=(local,)))

    schedule = composed(daily, start=-int((START - evening).total_seconds()) + 10, duration_s=2 * DAY_S, zone=amsterdam)

    starts = [schedule.start_at + timedelta(seconds=each.start_s) for each in schedule.periods if each.limit]
    assert {start.astimezone(amsterdam).hour for start in starts} == {18}
    assert starts[1] - evening == timedelta(hours=23)


def test_a_relative_schedule_counts_from_the_start_of_charging() -> None:
    relative = profile((0, "16"), (10, "6"), start_at=None, kind=Kind.RELATIVE)

    assert told(composed(relative)) == [(0, "16"), (3, "6")]
    assert told(composed(relative, uses=())) == [(0, None)]


def test_a_dynamic_profile_holds_since_its_update_for_its_duration() -> None:
    dynamic = profile(
        (0, "7"), start_at=None, duration_s=20, kind=Kind.DYNAMIC, dynamic_update_at=second(-5), purpose=Purpose.TX
    )

    assert told(composed(dynamic)) == [(0, "7"), (15, None)]


def test_watts_and_ampere_are_converted_downwards() -> None:
    assert told(composed(profile((0, "11000"), unit=RateUnit.W))) == [(0, "15.9")]
    assert told(composed(profile((0, "7.3", 1)), unit=RateUnit.W)) == [(0, "1679")]
    assert told(composed(profile((0, "3700", 1), unit=RateUnit.W))) == [(0, "16")]


def test_phases_with_values_of_their_own_keep_them() -> None:
    own = PhaseValues(l1=Decimal(16), l2=Decimal(10), l3=Decimal(6))
    installed = profile((0, "1"))
    period = replace(installed.profile.schedule.periods[0], limit=own)
    schedule = replace(installed.profile.schedule, periods=(period,))
    installed = replace(installed, profile=replace(installed.profile, schedules=(schedule,)))
    maximum = profile((0, "5520"), unit=RateUnit.W, purpose=Purpose.STATION_MAX, evse_id=STATION)

    assert composed(installed, maximum).periods[0].limit == PhaseValues(l1=Decimal(8), l2=Decimal(8), l3=Decimal(6))


def test_what_differs_from_the_station_s_own_schedule_is_named_in_stretches() -> None:
    ours = composed(profile((0, "16"), (10, "10"), (20, "6")))
    theirs = composed(profile((0, "16"), (10, "12")))

    found = [(each.start_s, each.end_s, each.ours, each.theirs) for each in differences(ours, theirs)]

    twelve = PhaseValues(l1=Decimal(12))
    assert found == [
        (10, 20, PhaseValues(l1=Decimal(10)), twelve),
        (20, WINDOW_S, PhaseValues(l1=Decimal(6)), twelve),
    ]
    assert differences(ours, ours) == ()
    assert differences(ours, composed(profile((0, "16"), (11, "10"), (20, "6")))) == ()


def test_a_window_has_a_bound() -> None:
    with pytest.raises(WindowTooLong):
        composed(duration_s=32 * DAY_S)
    restless = profile(*((each, "6") for each in range(1_024)), kind=Kind.RECURRING, recurrency=Recurrency.DAILY)
    with pytest.raises(WindowTooLong):
        composed(*[restless] * 50, duration_s=3 * DAY_S)


@pytest.mark.parametrize(
    "broken",
    [
        profile((0, "6"), purpose=Purpose.EXTERNAL_CONSTRAINTS),
        profile((0, "6"), purpose=Purpose.STATION_MAX),
        profile((0, "6"), purpose=Purpose.TX, evse_id=STATION),
        profile((0, "6"), transaction_id="T1"),
        profile((0, "6"), kind=Kind.RECURRING),
        profile((1, "6")),
        profile((0, "6"), (0, "8")),
        profile((0, "6"), (5, "8"), kind=Kind.DYNAMIC),
    ],
)
def test_what_a_csms_must_not_install_is_refused(broken: InstalledProfile) -> None:
    with pytest.raises(ProfileBreaksRule):
        refuse_broken(broken.profile, evse_id=broken.evse_id)


# -- an independent reading of the rules, second by second ------------------------------------------------------------


def period_at(made: ChargingProfile, use: EVSEUse, at: datetime) -> SchedulePeriod | None:
    if (made.valid_from is not None and at < made.valid_from) or (made.valid_to is not None and at >= made.valid_to):
        return None
    schedule = made.schedules[0]
    run = use.started_at if made.kind is Kind.RELATIVE or schedule.start_at is None else schedule.start_at
    if run is None:
        return None
    if made.kind is Kind.RECURRING:
        while run + timedelta(days=1) <= at:
            run += timedelta(days=1)
    found = None
    for period in schedule.periods:
        ends = run + timedelta(seconds=schedule.duration_s) if schedule.duration_s is not None else None
        if run + timedelta(seconds=period.start_s) <= at and (ends is None or at < ends):
            found = period
    return found


def limits_at(profiles: list[InstalledProfile], use: EVSEUse, at: datetime, purpose: Purpose) -> list[SchedulePeriod]:
    """Return the periods of a purpose that hold at a moment, of the highest level, by walking every run."""
    best: list[tuple[int, bool, SchedulePeriod]] = []
    for each in profiles:
        made = each.profile
        if made.purpose is not purpose or each.evse_id not in (STATION, use.evse_id):
            continue
        if purpose is Purpose.TX and (use.started_at is None or each.evse_id == STATION):
            continue
        if made.transaction_id not in (None, use.transaction_id):
            continue
        found = period_at(made, use, at)
        if found is not None:
            best.append((made.stack_level, each.evse_id != STATION, found))
    highest = max((place[:2] for place in best), default=None)
    return [place[2] for place in best if place[:2] == highest]


def oracle_w(profiles: list[InstalledProfile], use: EVSEUse, at: datetime) -> tuple[Fraction | None, int]:
    """Return limit in W, exactly, and the number of phases; all profiles are in W or in A by their `unit`."""
    units = {
        id(period): each.profile.schedules[0].unit for each in profiles for period in each.profile.schedules[0].periods
    }
    followed = limits_at(profiles, use, at, Purpose.TX) or limits_at(profiles, use, at, Purpose.TX_DEFAULT)
    caps = followed + limits_at(profiles, use, at, Purpose.STATION_MAX)
    for source in {each.source for each in profiles}:
        for place in (STATION, use.evse_id):
            some = [each for each in profiles if each.source == source and each.evse_id == place]
            caps = caps + limits_at(some, use, at, Purpose.EXTERNAL_CONSTRAINTS)
    phases = min([3, *(each.number_phases or 3 for each in caps)])
    watts = []
    for each in caps:
        assert each.limit is not None
        assert each.limit.l1 is not None
        value = Fraction(each.limit.l1)
        watts.append(value if units[id(each)] is RateUnit.W else value * 230 * phases)
    return min(watts, default=None), phases


LIMITS: Final = st.decimals(min_value=0, max_value=32, places=1).map(str)


@st.composite
def profiles(draw: st.DrawFn) -> InstalledProfile:
    purpose = draw(st.sampled_from([Purpose.TX_DEFAULT, Purpose.TX, Purpose.STATION_MAX, Purpose.EXTERNAL_CONSTRAINTS]))
    kind = draw(st.sampled_from([Kind.ABSOLUTE, Kind.RECURRING, Kind.RELATIVE]))
    offsets = sorted(draw(st.sets(st.integers(1, 25), max_size=3)))
    unit = draw(st.sampled_from(RateUnit))
    periods = []
    for offset in (0, *offsets):
        limit = draw(LIMITS)
        periods.append(
            (offset, limit if unit is RateUnit.A else str(Decimal(limit) * 333), draw(st.sampled_from([1, 3])))
        )
    bounds = st.none() | st.integers(-5, WINDOW_S + 5).map(second)
    is_tx = purpose is Purpose.TX
    is_station = purpose is Purpose.STATION_MAX or (not is_tx and draw(st.booleans()))
    return profile(
        *periods,
        purpose=purpose,
        unit=unit,
        start_at=None
        if kind is Kind.RELATIVE
        else second(draw(st.integers(-20, 20)) - DAY_S * draw(st.integers(0, 2))),
        duration_s=draw(st.none() | st.integers(1, 30)),
        level=draw(st.integers(0, 2)),
        evse_id=STATION if is_station else 1,
        source=draw(st.sampled_from(["SO", "EMS"])) if purpose is Purpose.EXTERNAL_CONSTRAINTS else "CSO",
        kind=kind,
        recurrency=Recurrency.DAILY if kind is Kind.RECURRING else None,
        valid_from=draw(bounds),
        valid_to=draw(bounds),
        transaction_id=draw(st.sampled_from([None, "T1", "T2"])) if is_tx else None,
    )


MANY: Final = st.lists(profiles(), max_size=6)
USES: Final = st.sampled_from([CHARGING, EVSEUse(evse_id=1)])


@settings(max_examples=150, deadline=None)
@given(many=MANY, use=USES)
def test_each_second_agrees_with_a_slow_reading_of_the_rules(many: list[InstalledProfile], use: EVSEUse) -> None:
    in_w, in_a = (composed(*many, unit=unit, uses=(use,)) for unit in (RateUnit.W, RateUnit.A))

    for elapsed in range(WINDOW_S):
        exact, phases = oracle_w(many, use, second(elapsed))
        for schedule, per_unit in ((in_w, 1), (in_a, 230 * phases)):
            limit = schedule.at(elapsed).limit
            assert (limit is None) == (exact is None)
            if limit is not None and exact is not None:
                assert limit.l1 is not None
                below = exact / per_unit - Fraction(limit.l1)
                assert 0 <= below < Fraction(1, 10)
                assert schedule.at(elapsed).number_phases == phases


@settings(max_examples=60, deadline=None)
@given(many=MANY, cut=st.integers(1, WINDOW_S - 1), seed=st.integers(0, 1_000))
def test_neither_cutting_the_window_nor_the_order_of_profiles_matters(
    many: list[InstalledProfile], cut: int, seed: int
) -> None:
    whole = composed(*many)

    shuffled = random.Random(seed).sample(many, len(many))
    first = composed(*shuffled, duration_s=cut)
    second_part = composed(*shuffled, start=cut, duration_s=WINDOW_S - cut)

    for elapsed in range(WINDOW_S):
        part = first.at(elapsed) if elapsed < cut else second_part.at(elapsed - cut)
        assert replace(part, start_s=0) == replace(whole.at(elapsed), start_s=0)


@settings(max_examples=60, deadline=None)
@given(many=MANY, more=profiles().filter(lambda each: each.profile.purpose is not Purpose.TX))
def test_a_further_cap_of_the_station_never_raises_a_limit(
    many: list[InstalledProfile], more: InstalledProfile
) -> None:
    cap = replace(
        more, evse_id=STATION, source="NEW", profile=replace(more.profile, purpose=Purpose.EXTERNAL_CONSTRAINTS)
    )
    before, after = (composed(*each, unit=RateUnit.W) for each in (many, [*many, cap]))

    for elapsed in range(WINDOW_S):
        old, new = before.at(elapsed).limit, after.at(elapsed).limit
        assert old is None or (new is not None and new.l1 is not None and old.l1 is not None and new.l1 <= old.l1)
