"""A site whose EVs come and go and whose stations drop off never draws more than its limit; what is there is used."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from emobility.domain.charging_station import PowerType
from emobility.domain.load_sharing import ROTATION, SETTLING
from emobility.events.charging import ConnectorStatusChanged, StationNotified
from emobility.protocols.station_control.messages import CommandResult
from services.charging_operations.load_records import LOAD_EVSE, LOAD_LIMIT
from services.charging_operations.stations import StationTerms
from tests.operations.charging_site import GROUPS, SITE_A, VERSIONS, Site, limit_of, shown, site
from tests.operations.world import CPO, evse

# -- the site at work -------------------------------------------------------------------------------------------------


async def happen(here: Site, chance: random.Random) -> None:
    """Let one thing happen: a car comes or goes or takes more or less, a station drops off, or answers otherwise."""
    key = chance.choice(list(here.sockets))
    car = here.sockets[key].car
    match chance.randrange(7):
        case 0 | 1 | 2 if car is None:
            here.plug(key, chance.choice([100, 160, 320]))
        case 3 if car is not None:
            await here.unplug(key)
        case 4:
            here.online[key[0]] = not here.online[key[0]]
        case 5:
            results = [CommandResult.ACCEPTED, CommandResult.REJECTED, CommandResult.TIMED_OUT]
            here.answers[key[0]], here.applies = chance.choice(results), chance.random() < 0.5
        case 6 if car is not None:
            car.wants_da = chance.choice([0, 70, 160, 320])
            here.check()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_happens_the_site_never_draws_more_than_its_limit(seed: int) -> None:
    chance = random.Random(seed)
    async with site(fallback_a=chance.choice([0, 0, 6])) as here:
        here.is_metered = chance.random() < 0.5
        for _ in range(60):
            await happen(here, chance)
            await here.look(minutes=chance.choice([0.2, 1, 5, 20]))

        here.online, here.answers = dict.fromkeys(VERSIONS, True), {}
        for each in here.sockets.values():
            if each.car is not None:
                each.car.wants_da = 320
        for _ in range(12):
            await here.look(minutes=2)

        cars = [each for each in here.sockets.values() if each.car is not None]
        assert not cars or here.drawn_a(3) >= min(SITE_A, 32) * 0.4, "the site is used again once all is well"
        assert here.peak_da > 0


async def test_one_ev_gets_all_and_a_second_an_equal_share_once_the_first_has_confirmed() -> None:
    async with site() as here:
        here.plug(("CS1", 1))
        await here.look()
        assert here.sockets["CS1", 1].drawn_da() == 320

        here.plug(("CS1", 2))
        await here.look()

        assert [here.sockets["CS1", number].drawn_da() for number in (1, 2)] == [200, 200]
        first, *together, last = [(payload["evseId"], limit_of(payload)) for _, _, payload in here.commands[-4:]]
        assert (first, sorted(together), last) == ((1, 32), [(1, 20), (2, 8)], (2, 20)), "8 A are free at once"


async def test_a_site_on_postgresql_is_shared_as_well(postgres_dsn: str) -> None:
    async with site(postgres_dsn) as here:
        for key in (("CS1", 1), ("CS2", 1), ("CS3", 2)):
            here.plug(key)
        await here.look()
        await here.unplug(("CS2", 1))
        await here.look()

        committed = {
            (each["charging_station_id"], each["evse_id"]): each["committed_a"]
            for each in (await shown(here.here))["evses"]
        }
        assert (committed["CS1", 1], committed["CS3", 2], committed["CS2", 1]) == ("20", "20", "0")


async def test_a_feeder_in_watts_leaves_the_rest_to_the_others() -> None:
    async with site() as here:
        for key in (("CS1", 1), ("CS2", 1), ("CS3", 1)):
            here.plug(key)
        await here.look()

        drawn = {key[0]: each.drawn_da() for key, each in here.sockets.items() if each.car is not None}

        assert drawn == {"CS1": 200, "CS2": 100, "CS3": 100}


async def test_what_an_ev_does_not_use_goes_to_others_and_comes_back_when_it_takes_more() -> None:
    async with site() as here:
        here.plug(("CS1", 1), wants_da=80)
        here.plug(("CS1", 2))
        await here.look()
        await here.look(minutes=2 * SETTLING.total_seconds() / 60)
        await here.look(minutes=2)
        assert here.sockets["CS1", 2].drawn_da() == 400 - 80 - 30

        before = len(here.commands)
        await here.look(minutes=2)
        await here.look(minutes=2)
        assert len(here.commands) == before, "nothing moves while nothing changes"

        car = here.sockets["CS1", 1].car
        assert car is not None
        car.wants_da = 320
        for _ in range(3):
            await here.look(minutes=2)
        assert [here.sockets["CS1", number].drawn_da() for number in (1, 2)] == [200, 200]


async def test_a_station_that_is_offline_counts_with_what_it_confirmed_last() -> None:
    async with site() as here:
        here.plug(("CS1", 1))
        await here.look()
        here.online["CS1"] = False
        here.plug(("CS3", 2))

        await here.look()

        assert (here.sockets["CS1", 1].drawn_da(), here.sockets["CS3", 2].drawn_da()) == (320, 80)
        here.online["CS1"] = True
        await here.look()
        assert (here.sockets["CS1", 1].drawn_da(), here.sockets["CS3", 2].drawn_da()) == (200, 200)


@pytest.mark.parametrize("applies", [True, False])
async def test_a_decrease_that_nobody_confirmed_makes_no_room(applies: bool) -> None:  # noqa: FBT001 - a case
    async with site() as here:
        here.plug(("CS1", 1))
        await here.look()
        here.answers["CS1"], here.applies = CommandResult.TIMED_OUT, applies
        here.plug(("CS3", 2))

        await here.look()

        assert here.sockets["CS3", 2].drawn_da() == 80
        view = await shown(here.here)
        (share,) = [each for each in view["evses"] if each["transaction_id"] and each["charging_station_id"] == "CS1"]
        assert (share["committed_a"], share["target_a"]) == ("32", "20")


async def test_a_limit_that_may_have_arrived_counts_until_another_is_confirmed() -> None:
    async with site() as here:
        here.is_metered = False
        here.plug(("CS1", 1))
        here.answers["CS1"], here.applies = CommandResult.TIMED_OUT, True
        await here.look()
        assert here.sockets["CS1", 1].drawn_da() == 320
        here.answers["CS1"] = CommandResult.REJECTED
        here.plug(("CS3", 2))

        for _ in range(3):
            await here.look()

        assert here.sockets["CS3", 2].drawn_da() == 80


async def test_a_station_that_was_never_told_a_fallback_counts_with_all_it_can_do() -> None:
    async with site() as here:
        await here.here.api("DELETE", f"{GROUPS}/feeder")
        here.online["CS3"] = False
        member = {"charging_station_id": "CS3", "evse_id": 1, "max_a": 32}
        terms = {"limit_w": 30_000, "parent_id": "site", "evses": [member]}
        assert (await here.here.api("PUT", f"{GROUPS}/feeder", terms)).status_code == 200
        here.plug(("CS1", 1))

        await here.look()

        assert here.sockets["CS1", 1].drawn_da() == 80
        here.online["CS3"] = True
        await here.look()
        assert here.sockets["CS1", 1].drawn_da() == 320


async def test_those_who_find_no_room_wait_their_turn() -> None:
    async with site() as here:
        here.limit_da = 70
        limits = {"limit_a": {"l1": 7, "l2": 7, "l3": 7}}
        members = [{"charging_station_id": "CS1", "evse_id": number, "max_a": 32} for number in (1, 2)]
        answer = await here.here.api("PUT", f"{GROUPS}/site", limits | {"evses": members})
        assert answer.status_code == 200
        for number in (1, 2):
            here.plug(("CS1", number))
        turns = []
        for _ in range(10):
            await here.look(minutes=ROTATION.total_seconds() / 60 / 3)
            turns.append([here.sockets["CS1", number].drawn_da() > 0 for number in (1, 2)].index(True))

        assert turns == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1]


async def test_an_ev_that_does_not_want_to_charge_makes_place() -> None:
    async with site() as here:
        members = [{"charging_station_id": "CS2", "evse_id": number, "max_a": 32} for number in (1, 2)]
        await here.here.api("PUT", f"{GROUPS}/feeder", {"limit_w": 4_200, "parent_id": "site", "evses": members})
        for number in (1, 2):
            here.plug(("CS2", number))
        await here.look()
        assert [here.sockets["CS2", number].drawn_da() > 0 for number in (1, 2)] == [True, False]

        for status in ("SuspendedEV", "Charging"):
            event = ConnectorStatusChanged(
                party_id=CPO,
                charging_station_id="CS2",
                ocpp_evse_id=1,
                connector_id=1,
                status=status,
                changed_at=here.here.clock.now(),
            )
            await here.here.report(event)
            await here.here.operations.load.balance()
            assert [here.sockets["CS2", number].drawn_da() > 0 for number in (1, 2)] == [False, True]
            here.here.clock.step_by(timedelta(minutes=1))


async def test_a_station_that_takes_watts_alone_is_told_whole_watts_of_all_its_phases() -> None:
    async with site() as here:
        direct = [replace(each, power_type=PowerType.DC) for each in evse(1, station="CS3").connectors]
        dc_only = replace(evse(1, station="CS3"), connectors=tuple(direct))
        await here.here.api("PUT", f"/{CPO}/stations/CS3", StationTerms(location_id="LOC1", evses=(dc_only,)))
        member = {"charging_station_id": "CS3", "evse_id": 1, "max_a": 32, "is_in_watts": True}
        terms = {"limit_w": 10_000, "parent_id": "site", "evses": [member]}
        assert (await here.here.api("PUT", f"{GROUPS}/feeder", terms)).status_code == 200
        here.is_checked = False
        here.plug(("CS3", 1))

        await here.look()

        schedule = here.commands[-1][2]["chargingProfile"]["chargingSchedule"][0]
        assert (schedule["chargingRateUnit"], limit_of(here.commands[-1][2])) == ("W", 9_936)  # 14.4 A


async def test_an_ev_of_one_phase_leaves_the_others_to_others() -> None:
    async with site() as here:
        here.sockets["CS1", 1].phases = (1,)
        needs = {"requestedEnergyTransfer": "AC_single_phase"}
        notice = StationNotified(
            party_id=CPO,
            charging_station_id="CS1",
            ocpp_version="2.0.1",
            action="NotifyEVChargingNeeds",
            payload=await here.here.ports.vault.seal(
                json.dumps({"evseId": 1, "chargingNeeds": needs}), identifier="station"
            ),
            occurred_at=here.here.clock.now(),
        )
        await here.here.report(notice)
        here.plug(("CS1", 1))
        here.plug(("CS3", 2))

        await here.look()

        assert [here.sockets[key].drawn_da() for key in (("CS1", 1), ("CS3", 2))] == [320, 320]


async def test_a_limit_of_1_6_is_taken_back_when_its_transaction_is_over() -> None:
    async with site() as here:
        here.plug(("CS2", 1))
        await here.look()
        assert here.sockets["CS2", 1].allowed_da() == 200

        await here.unplug(("CS2", 1))
        await here.look()

        assert here.sockets["CS2", 1].allowed_da() == 0
        here.plug(("CS1", 1))
        await here.look()
        assert here.sockets["CS1", 1].drawn_da() == 320


async def test_limits_from_outside_and_what_an_ev_can_take_are_shared_out_too() -> None:
    async with site() as here:
        limit = {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 14}]}
        car = {"energyAmount": 9000, "evMinCurrent": 6, "evMaxCurrent": 6, "evMaxVoltage": 230}
        needs = {"requestedEnergyTransfer": "AC_three_phase", "acChargingParameters": car}
        for action, payload in (
            ("NotifyChargingLimit", {"chargingLimit": {"chargingLimitSource": "SO"}, "chargingSchedule": [limit]}),
            ("NotifyEVChargingNeeds", {"evseId": 1, "chargingNeeds": needs}),
        ):
            notice = StationNotified(
                party_id=CPO,
                charging_station_id="CS1",
                ocpp_version="2.0.1",
                action=action,
                payload=await here.here.ports.vault.seal(json.dumps(payload), identifier="station"),
                occurred_at=here.here.clock.now(),
            )
            await here.here.report(notice)
        here.plug(("CS1", 1))
        here.plug(("CS1", 2))

        await here.look()

        assert [here.sockets["CS1", number].drawn_da() for number in (1, 2)] == [60, 80]


async def test_an_ev_that_tells_its_needs_gets_a_profile_even_if_nothing_changes() -> None:
    async with site() as here:
        here.plug(("CS3", 1))
        await here.look()
        before = len(here.commands)
        needs = {"requestedEnergyTransfer": "AC_BPT", "v2xChargingParameters": {"maxDischargePower": 7_000}}
        notice = StationNotified(
            party_id=CPO,
            charging_station_id="CS3",
            ocpp_version="2.1",
            action="NotifyEVChargingNeeds",
            payload=await here.here.ports.vault.seal(
                json.dumps({"evseId": 1, "chargingNeeds": needs}), identifier="station"
            ),
            occurred_at=here.here.clock.now() + timedelta(seconds=1),
        )
        await here.here.report(notice)

        await here.look()
        await here.look()

        assert [(each[1], limit_of(each[2])) for each in here.commands[before:]] == [("SetChargingProfile", 20)]


async def test_an_ev_that_draws_more_than_it_may_counts_with_what_it_draws() -> None:
    async with site() as here:
        here.plug(("CS1", 1))
        here.plug(("CS1", 2))
        await here.look()
        here.is_checked = False
        here.sockets["CS1", 1].profiles.clear()

        for _ in range(3):
            await here.look(minutes=2)

        assert here.sockets["CS1", 1].drawn_da() == 320
        assert here.sockets["CS1", 2].drawn_da() == 80


async def test_a_lowered_limit_holds_from_the_next_look_on_and_what_can_t_be_kept_is_shown() -> None:
    async with site() as here:
        here.plug(("CS1", 1))
        await here.look()
        here.online["CS1"] = False
        limits = {"limit_a": {"l1": 20, "l2": 20, "l3": 20}}
        members = [{"charging_station_id": "CS1", "evse_id": number, "max_a": 32} for number in (1, 2)]

        answer = await here.here.api("PUT", f"{GROUPS}/site", limits | {"evses": members})

        assert answer.status_code == 200
        reserves = (await shown(here.here))["reserves"]
        assert {each["name"]: (each["limit"], each["committed"]) for each in reserves}["site L1"] == ("20", "32")
        here.online["CS1"] = True
        await here.look()
        assert here.drawn_a() == 20


# -- groups -----------------------------------------------------------------------------------------------------------


async def test_a_group_that_is_dropped_gives_its_stations_back() -> None:
    async with site() as here:
        assert (await here.here.api("DELETE", f"{GROUPS}/site")).status_code == 409
        here.online["CS3"] = False

        answer = await here.here.api("DELETE", f"{GROUPS}/feeder")

        assert answer.json() == {"load_group_id": "feeder", "not_told": ["CS3"]}
        assert here.sockets["CS2", 1].profiles == {}
        assert {row.charging_station_id for row in await here.here.rows(LOAD_EVSE)} == {"CS1"}
        assert {row.charging_station_id for row in await here.here.rows(LOAD_LIMIT)} == {"CS1"}
        assert (await here.here.api("DELETE", f"{GROUPS}/feeder")).status_code == 404


async def test_an_evse_that_comes_into_a_group_while_somebody_charges_is_steered_at_once() -> None:
    async with site() as here:
        await here.here.api("DELETE", f"{GROUPS}/feeder")
        here.is_checked = False
        here.plug(("CS2", 1))
        await here.look()
        assert here.sockets["CS2", 1].drawn_da() == 320

        member = {"charging_station_id": "CS2", "evse_id": 1, "max_a": 32}
        terms = {"limit_w": 6_900, "parent_id": "site", "evses": [member]}
        assert (await here.here.api("PUT", f"{GROUPS}/feeder", terms)).status_code == 200
        await here.here.operations.load.balance()

        assert here.sockets["CS2", 1].drawn_da() == 100


@pytest.mark.parametrize(
    ("terms", "status"),
    [
        ({}, 422),
        ({"limit_w": -1}, 422),
        ({"limit_w": 1_000, "parent_id": "nowhere"}, 409),
        ({"limit_w": 1_000, "evses": [{"charging_station_id": "CS1", "evse_id": 1}]}, 409),
        ({"limit_w": 1_000, "evses": [{"charging_station_id": "CS1", "evse_id": 9}]}, 404),
        ({"limit_a": {"l1": "16.05", "l2": 16, "l3": 16}}, 422),
    ],
)
async def test_a_group_that_can_t_be_kept_to_is_refused(terms: dict[str, Any], status: int) -> None:
    async with site() as here:
        answer = await here.here.api("PUT", f"{GROUPS}/other", terms)

        assert answer.status_code == status, answer.text
        listed = (await here.here.api("GET", GROUPS)).json()
        assert {row["load_group_id"] for row in listed} == {"site", "feeder"}


async def test_fallbacks_that_exceed_a_limit_together_are_refused() -> None:
    async with site() as here:
        members = [
            {"charging_station_id": "CS1", "evse_id": number, "max_a": 32, "fallback_a": 16} for number in (1, 2)
        ]

        answer = await here.here.api("PUT", f"{GROUPS}/site", {"limit_w": 16_000, "evses": members})

        assert (answer.status_code, answer.json()["error"]) == (409, "GroupsBreakRule")


async def test_an_operator_s_own_profile_does_not_take_an_evse_out_of_its_group_s_hands() -> None:
    async with site() as here:
        profile = {
            "id": 1,
            "stackLevel": 9,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": [
                {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 32}]}
            ],
        }
        path = f"/{CPO}/stations/CS1"
        before = len(here.commands)
        for method, rest, body in (
            ("POST", "charging-profiles", {"evse_id": 1, "profile": profile}),
            ("POST", "charging-profiles", {"evse_id": 0, "profile": profile}),
            ("POST", "commands/SetChargingProfile", {"evseId": 1, "chargingProfile": profile}),
            ("DELETE", "charging-profiles", None),
        ):
            answer = await here.here.api(method, f"{path}/{rest}", body)
            assert (answer.status_code, answer.json()["error"]) == (409, "NotAllowedNow"), answer.text

        assert len(here.commands) == before


async def test_only_one_process_looks_after_a_party_s_groups() -> None:
    async with site() as here:
        mine = here.here.operations.load
        other = replace(mine, _holder="another process", _heard=mine._heard, _looks={})
        here.plug(("CS1", 1))
        await here.report()
        before = len(here.commands)

        await other.balance()
        assert len(here.commands) == before

        here.here.clock.step_by(timedelta(minutes=3))
        await other.balance()
        assert len(here.commands) > before
