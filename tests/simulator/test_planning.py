"""The plan of the demo holds its promises whatever the seed."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.arrivals import draw_arrival, draw_connection_s, draw_energy_wh
from simulator.market import day_ahead, negative_weekday, published_at
from simulator.planning import plan_scenario
from simulator.scenario import SessionFault, SessionPlan, StartedBy
from simulator.stations.profile import OCPPVersion
from simulator.vehicles import draw_vehicle, vehicle_models

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
SEEDS = st.integers(min_value=0, max_value=10**9)


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_plan_has_enough_sessions_and_roaming(seed: int) -> None:
    scenario = plan_scenario(seed)

    assert len(scenario.sessions) >= 120
    assert sum(each.is_roaming for each in scenario.sessions) * 100 >= 40 * len(scenario.sessions)
    by_app = sum(each.started_by is StartedBy.APP for each in scenario.sessions)
    assert 40 * len(scenario.sessions) <= by_app * 100 <= 60 * len(scenario.sessions)
    faults = [each.fault for each in scenario.sessions if each.fault is not SessionFault.NONE]
    assert sorted(faults) == sorted(set(SessionFault) - {SessionFault.NONE})


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_no_evse_and_no_driver_is_taken_twice(seed: int) -> None:
    scenario = plan_scenario(seed)
    taken: dict[object, list[SessionPlan]] = defaultdict(list)
    for session in scenario.sessions:
        taken[session.party_id, session.charging_station_id, session.ocpp_evse_id].append(session)
        taken[session.driver.contract_id].append(session)

    for sessions in taken.values():
        for earlier, later in pairwise(sorted(sessions, key=lambda each: each.arrives_at)):
            assert earlier.leaves_at < later.arrives_at


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_every_session_is_physically_possible(seed: int) -> None:
    scenario = plan_scenario(seed)

    for session in scenario.sessions:
        station = scenario.station(session.party_id, session.charging_station_id)
        assert 0 < session.power_w <= station.connector.power_w
        assert session.wanted_wh > 0
        assert session.arrives_at < session.leaves_at <= scenario.ends_at
        assert session.arrives_at.astimezone(AMSTERDAM).date() in scenario.days
        assert session.is_roaming is (scenario.home_of[session.party_id] != session.driver.emsp_id)


def test_the_network_is_twenty_stations_with_forty_evses_of_all_versions() -> None:
    scenario = plan_scenario(7)
    versions = [each.profile.version for each in scenario.stations]
    registered = {(each.party_id, each.location_id) for each in scenario.locations}

    assert len(scenario.stations) == 20
    assert sum(len(each.evse_uids) for each in scenario.stations) == 40
    assert [versions.count(each) for each in OCPPVersion] == [10, 6, 4]
    assert {(each.party_id, each.location_id) for each in scenario.stations} == registered
    assert len({each.party_id for each in scenario.stations}) == 2
    assert len({each.rfid_uid for each in scenario.drivers}) == len(scenario.drivers)


def test_the_days_are_the_short_one_and_one_with_negative_prices() -> None:
    short, negative = plan_scenario(7).days

    assert (short, len(day_ahead(short))) == (date(2022, 3, 27), 23)
    assert negative == negative_weekday() == date(2022, 5, 27)
    assert sum(each.eur_per_mwh < 0 for each in day_ahead(negative)) == 4


def test_a_plan_follows_from_its_seed_alone() -> None:
    assert plan_scenario(11) == plan_scenario(11)
    assert plan_scenario(11) != plan_scenario(12)


def test_prices_are_exact_and_known_the_day_before() -> None:
    [first, *_] = day_ahead(date(2022, 3, 27))

    assert first.start == datetime(2022, 3, 26, 23, tzinfo=UTC)
    assert (str(first.eur_per_mwh), str(first.eur_per_kwh)) == ("235.0", "0.2350")
    assert published_at(date(2022, 3, 27)) == datetime(2022, 3, 26, 12, tzinfo=UTC)


def test_arrivals_follow_the_distribution_of_their_day() -> None:
    chance = random.Random(1)
    weekday = [draw_arrival(chance, date(2022, 5, 27), "Europe/Amsterdam", grid_s=300) for _ in range(4_000)]
    hours = [at.astimezone(AMSTERDAM).hour for at in weekday]

    # ElaadNL, public, weekday: 18 % arrive from 17:00 to 19:00, under 2 % from 02:00 to 05:00.
    assert 0.15 < sum(hour in (17, 18) for hour in hours) / 4_000 < 0.21
    assert sum(hour in (2, 3, 4) for hour in hours) / 4_000 < 0.02
    assert all(at.second == 0 and at.minute % 5 == 0 for at in weekday)


def test_nobody_arrives_in_the_hour_that_the_short_day_lacks() -> None:
    chance = random.Random(2)
    arrivals = [draw_arrival(chance, date(2022, 3, 27), "Europe/Amsterdam", grid_s=300) for _ in range(4_000)]

    assert not [at for at in arrivals if at.astimezone(AMSTERDAM).hour == 2]
    assert {at.astimezone(AMSTERDAM).date() for at in arrivals} == {date(2022, 3, 27)}


def test_energy_and_stay_have_the_medians_of_the_data() -> None:
    chance = random.Random(3)
    energy = sorted(draw_energy_wh(chance) for _ in range(4_001))
    stay = sorted(draw_connection_s(chance) for _ in range(4_001))

    # The rows "50" of the public columns: 7.0 kWh and 4.4 h.
    assert abs(energy[2_000] - 7_000) < 700
    assert abs(stay[2_000] - int(timedelta(hours=4.4).total_seconds())) < 1_800
    assert energy[-1] <= 99_800
    assert stay[-1] <= 72 * 3_600


def test_vehicles_are_drawn_by_registrations() -> None:
    chance = random.Random(4)
    drawn = [draw_vehicle(chance).name for _ in range(4_000)]
    models = vehicle_models()
    share = models[0].registrations / sum(each.registrations for each in models)

    assert len(models) == 8
    assert abs(drawn.count(models[0].name) / 4_000 - share) < 0.03
