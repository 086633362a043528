"""Charging profiles and limits through the API: told in each version's words, kept with the answer, put together."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final

import pytest

from emobility.events.charging import StationNotified
from emobility.events.smart_charging import ChargingCommandAnswered
from emobility.ports.station_questions import ChargingAdvice, ChargingQuestion
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.charging_notices import ROWS_MAX
from services.charging_operations.smart_charging_records import CHARGING_PROFILE, EXTERNAL_LIMIT
from tests.operations.world import CPO, EMSP, OTHER_CPO, START, STATION, World, open_for_business

PATH: Final = f"/{CPO}/stations/{STATION}"
ACCEPTED: Final = CommandOutcome(
    result=CommandResult.ACCEPTED, station_status="Accepted", answer={"status": "Accepted"}
)
REJECTED: Final = CommandOutcome(
    result=CommandResult.REJECTED, station_status="Rejected", answer={"status": "Rejected"}
)


def profile(profile_id: int = 1, purpose: str = "TxDefaultProfile", limit: Any = 16, **fields: Any) -> dict[str, Any]:
    """Return a profile in the words of OCPP 2.x."""
    schedule = {
        "id": 1,
        "chargingRateUnit": "A",
        "startSchedule": "2022-03-27T08:00:00Z",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}],
    }
    told = {
        "id": profile_id,
        "stackLevel": 0,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [schedule],
    }
    return told | fields


async def install(here: World, told: dict[str, Any], evse_id: int = 1, outcome: CommandOutcome = ACCEPTED) -> Any:
    here.gateway.outcome = outcome
    return await here.api("POST", f"{PATH}/charging-profiles", {"evse_id": evse_id, "profile": told})


async def listed(here: World, what: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await here.api("GET", f"{PATH}/{what}")).json()
    return rows


async def notified(here: World, action: str, payload: dict[str, Any], **fields: Any) -> StationNotified:
    text = json.dumps(payload)
    return StationNotified(
        party_id=fields.pop("party_id", CPO),
        charging_station_id=STATION,
        ocpp_version=fields.pop("version", "2.0.1"),
        action=action,
        payload=await here.ports.vault.seal(text, identifier="station"),
        occurred_at=fields.pop("at", START),
    )


def sent(here: World) -> tuple[str, dict[str, Any]]:
    call = here.gateway.commands[-1].ocpp_call
    assert call is not None
    return call.action, call.payload


async def advice(here: World, **asked: Any) -> ChargingAdvice:
    question = ChargingQuestion(party_id=CPO, charging_station_id=STATION, **asked)
    answer = await here.api("POST", "/station_control/charging-advice", question)
    assert answer.status_code == 200, answer.text
    return ChargingAdvice(**answer.json())


# -- profiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
async def test_a_profile_is_told_in_the_station_s_own_words_and_kept_with_its_answer(version: str) -> None:
    async with open_for_business() as here:
        here.gateway.ocpp_version = version

        answer = await install(here, profile(7, limit=15.9))

        assert (answer.status_code, answer.json()["detail"]) == (200, "Accepted")
        action, payload = sent(here)
        assert action == "SetChargingProfile"
        if version == "1.6":
            assert payload["connectorId"] == 1
            assert payload["csChargingProfiles"]["chargingProfileId"] == 7
        else:
            assert payload == {"evseId": 1, "chargingProfile": profile(7, limit=15.9)}
        (row,) = await listed(here, "charging-profiles")
        assert (row["profile_id"], row["state"], row["answer"], row["source"]) == (7, "INSTALLED", "Accepted", "CSO")
        (event,) = await here.events(ChargingCommandAnswered)
        assert (event.action, event.ocpp_evse_id, event.profile_id, event.result) == (action, 1, 7, "ACCEPTED")


async def test_a_refused_profile_leaves_the_one_before_in_force() -> None:
    async with open_for_business() as here:
        await install(here, profile(1))
        await install(here, profile(1, limit=10), outcome=REJECTED)
        await install(here, profile(2, stackLevel=3), outcome=REJECTED)
        await install(here, profile(3, stackLevel=4), outcome=CommandOutcome(result=CommandResult.TIMED_OUT))
        offline = await install(here, profile(4), outcome=CommandOutcome(result=CommandResult.STATION_OFFLINE))

        rows = {row.profile_id: row for row in await here.rows(CHARGING_PROFILE)}

        assert {number: row.state for number, row in rows.items()} == {1: "INSTALLED", 2: "REFUSED", 3: "UNKNOWN"}
        assert str(rows[1].profile.schedule.periods[0].limit.l1) == "16"
        assert offline.status_code == 409


async def test_a_profile_of_the_same_place_purpose_and_level_replaces_the_other() -> None:
    async with open_for_business() as here:
        await install(here, profile(1))
        await install(here, profile(2, stackLevel=1))
        await install(here, profile(3))

        assert {row["profile_id"] for row in await listed(here, "charging-profiles")} == {2, 3}


@pytest.mark.parametrize(
    ("broken", "status"),
    [
        ({"evse_id": 1, "profile": {}}, 422),
        ({"evse_id": 1, "profile": profile(purpose="ChargingStationExternalConstraints")}, 409),
        ({"evse_id": 1, "profile": profile(purpose="ChargingStationMaxProfile")}, 409),
        ({"evse_id": 1, "profile": profile(purpose="PriorityCharging")}, 422),
        ({"evse_id": 1, "profile": profile(stackLevel="high")}, 422),
    ],
)
async def test_what_is_no_profile_for_the_station_is_not_sent(broken: dict[str, Any], status: int) -> None:
    async with open_for_business() as here:
        answer = await here.api("POST", f"{PATH}/charging-profiles", broken)

        assert answer.status_code == status, answer.text
        assert here.gateway.commands == []


@pytest.mark.parametrize(
    ("version", "query", "payload", "left"),
    [
        ("1.6", "profile_id=2", {"id": 2}, {1, 3}),
        ("1.6", "purpose=ChargingStationMaxProfile", {"chargingProfilePurpose": "ChargePointMaxProfile"}, {1, 2}),
        ("2.0.1", "profile_id=2", {"chargingProfileId": 2}, {1, 3}),
        ("2.0.1", "evse_id=1&stack_level=1", {"chargingProfileCriteria": {"evseId": 1, "stackLevel": 1}}, {1, 3}),
        ("2.0.1", "", {}, set()),
    ],
)
async def test_what_is_cleared_at_the_station_is_gone_here(
    version: str, query: str, payload: dict[str, Any], left: set[int]
) -> None:
    async with open_for_business() as here:
        here.gateway.ocpp_version = version
        await install(here, profile(1))
        await install(here, profile(2, stackLevel=1))
        await install(here, profile(3, purpose="ChargingStationMaxProfile"), evse_id=0)

        answer = await here.api("DELETE", f"{PATH}/charging-profiles?{query}")

        assert answer.status_code == 200
        assert sent(here) == ("ClearChargingProfile", payload)
        assert {row["profile_id"] for row in await listed(here, "charging-profiles")} == left


async def test_a_raw_command_about_charging_is_kept_like_any_other() -> None:
    async with open_for_business() as here:
        here.gateway.outcome = ACCEPTED
        for action, payload in (
            ("SetChargingProfile", {"evseId": 1, "chargingProfile": profile(5)}),
            ("AFRRSignal", {"timestamp": "2022-03-27T08:00:00Z", "signal": -40}),
        ):
            assert (await here.api("POST", f"{PATH}/commands/{action}", payload)).status_code == 200
        here.gateway.outcome = CommandOutcome(result=CommandResult.MALFORMED)
        for odd in ({"evseId": [], "chargingProfile": 3}, {"chargingProfileCriteria": "all"}):
            for action in ("SetChargingProfile", "ClearChargingProfile"):
                assert (await here.api("POST", f"{PATH}/commands/{action}", odd)).status_code == 422

        assert [row["profile_id"] for row in await listed(here, "charging-profiles")] == [5]
        commands = await listed(here, "charging-commands")
        (signal,) = [each for each in commands if each["action"] == "AFRRSignal"]
        assert (signal["payload"]["signal"], signal["result"], signal["station_status"]) == (
            -40,
            "ACCEPTED",
            "Accepted",
        )
        assert len(commands) == len(await here.events(ChargingCommandAnswered)) == 6


async def test_reported_profiles_come_in_pages_and_what_a_whole_report_has_not_is_forgotten() -> None:
    async with open_for_business() as here:
        await install(here, profile(1))
        await install(here, profile(2, stackLevel=1))
        here.clock.step_by(timedelta(minutes=1))
        refresh = (await here.api("POST", f"{PATH}/charging-profiles/refresh")).json()
        page = {"requestId": refresh["request_id"], "evseId": 1}

        await here.report(
            await notified(
                here,
                "ReportChargingProfiles",
                page | {"chargingLimitSource": "CSO", "chargingProfile": [profile(2, stackLevel=1)], "tbc": True},
            )
        )
        assert len(await listed(here, "charging-profiles")) == 2
        external = profile(9, purpose="ChargingStationExternalConstraints")
        await here.report(
            await notified(
                here, "ReportChargingProfiles", page | {"chargingLimitSource": "SO", "chargingProfile": [external]}
            )
        )

        rows = await listed(here, "charging-profiles")
        assert {(row["profile_id"], row["state"]) for row in rows} == {(2, "INSTALLED"), (9, "REPORTED")}


async def test_a_station_without_profiles_has_none() -> None:
    async with open_for_business() as here:
        await install(here, profile(1))
        here.clock.step_by(timedelta(minutes=1))
        here.gateway.outcome = CommandOutcome(result=CommandResult.REJECTED, station_status="NoProfiles")

        await here.api("POST", f"{PATH}/charging-profiles/refresh")

        assert await listed(here, "charging-profiles") == []
        here.gateway.ocpp_version = "1.6"
        assert (await here.api("POST", f"{PATH}/charging-profiles/refresh")).status_code == 409


async def test_a_tx_profile_ends_with_its_transaction() -> None:
    async with open_for_business() as here:
        await here.report(await here.started("T1"))
        await install(here, profile(1))
        await install(here, profile(2, purpose="TxProfile", transactionId="T1"))

        await here.report(here.ended("T1"))

        assert [row["profile_id"] for row in await listed(here, "charging-profiles")] == [1]


# -- composite schedules and limits from outside ----------------------------------------------------------------------


async def test_our_composite_schedule_stands_beside_the_station_s_with_the_differences() -> None:
    async with open_for_business() as here:
        await install(here, profile(1, limit=12))
        schedule = {
            "evseId": 1,
            "duration": 600,
            "scheduleStart": "2022-03-27T08:00:00Z",
            "chargingRateUnit": "A",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 12}, {"startPeriod": 300, "limit": 16}],
        }
        here.gateway.outcome = CommandOutcome(
            result=CommandResult.ACCEPTED,
            station_status="Accepted",
            answer={"status": "Accepted", "schedule": schedule},
        )

        shown = (await here.api("GET", f"{PATH}/composite-schedule?evse_id=1&duration_s=600")).json()

        assert sent(here) == ("GetCompositeSchedule", {"evseId": 1, "duration": 600, "chargingRateUnit": "A"})
        assert [period["limit"]["l1"] for period in shown["ours"]["periods"]] == ["12"]
        (difference,) = shown["differences"]
        assert (difference["start_s"], difference["end_s"]) == (300, 600)
        assert (difference["ours"]["l1"], difference["theirs"]["l1"]) == ("12", "16")


async def test_limits_from_outside_count_until_they_are_cleared() -> None:
    async with open_for_business() as here:
        here.gateway.is_online = False
        limit = {
            "evseId": 1,
            "chargingLimit": {"chargingLimitSource": "SO", "isGridCritical": True},
            "chargingSchedule": [
                {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6900}]}
            ],
        }
        unknown = {"chargingLimit": {"chargingLimitSource": "EMS"}}
        await here.report(
            await notified(here, "NotifyChargingLimit", limit), await notified(here, "NotifyChargingLimit", unknown)
        )

        async def ours() -> dict[str, Any]:
            shown: dict[str, Any] = (await here.api("GET", f"{PATH}/composite-schedule?evse_id=1")).json()
            return shown

        shown = await ours()
        assert shown["ours"]["periods"][0]["limit"]["l1"] == "10"
        assert (shown["station"], shown["result"], shown["differences"]) == (None, "STATION_OFFLINE", None)
        assert [each["source"] for each in shown["limits_unknown"]] == ["EMS"]

        cleared = {"chargingLimitSource": "SO", "evseId": 1}
        await here.report(await notified(here, "ClearedChargingLimit", cleared, at=START + timedelta(minutes=1)))

        assert (await ours())["ours"]["periods"][0]["limit"] is None
        assert {row.source: row.cleared_at is None for row in await here.rows(EXTERNAL_LIMIT)} == {
            "SO": False,
            "EMS": True,
        }


# -- what EVs want ----------------------------------------------------------------------------------------------------


async def test_needs_are_kept_whole_and_accepted_where_a_load_group_steers_the_evse() -> None:
    async with open_for_business() as here:
        needs = {
            "evseId": 1,
            "chargingNeeds": {
                "requestedEnergyTransfer": "AC_BPT",
                "departureTime": "2022-03-27T17:00:00Z",
                "acChargingParameters": {
                    "energyAmount": 20000.4,
                    "evMinCurrent": 6,
                    "evMaxCurrent": 16,
                    "evMaxVoltage": 230,
                },
                "v2xChargingParameters": {"maxDischargePower": 11000, "targetSoC": 80},
            },
        }
        assert not (await advice(here, evse_with_needs=1)).is_accepted

        group = {"limit_w": 22_000, "evses": [{"charging_station_id": STATION, "evse_id": 1}]}
        assert (await here.api("PUT", f"/{CPO}/load-groups/site", group)).status_code == 200
        await here.report(await notified(here, "NotifyEVChargingNeeds", needs, version="2.1"))

        assert (await advice(here, evse_with_needs=1)).is_accepted
        (row,) = await listed(here, "charging-needs")
        assert (row["energy_wh"], row["max_current_a"], row["has_v2x"]) == (20_000, "16", True)
        assert row["needs"] == needs


async def test_an_ev_s_schedule_is_kept_and_the_one_it_chose_counts() -> None:
    async with open_for_business() as here:
        here.gateway.ocpp_version = "2.1"
        await here.report(await here.started("T1"))
        two = profile(2, purpose="TxProfile", transactionId="T1")
        other = two["chargingSchedule"][0] | {"id": 2, "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 9}]}
        two["chargingSchedule"].append(other)
        await install(here, two)
        plan = {
            "timeBase": "2022-03-27T08:00:00Z",
            "evseId": 1,
            "selectedChargingScheduleId": 2,
            "chargingSchedule": other,
        }

        await here.report(await notified(here, "NotifyEVChargingSchedule", plan, version="2.1"))

        here.gateway.is_online = False
        shown = (await here.api("GET", f"{PATH}/composite-schedule?evse_id=1")).json()
        assert shown["ours"]["periods"][0]["limit"]["l1"] == "9"
        assert [row["selected_schedule_id"] for row in await listed(here, "ev-schedules")] == [2]


async def test_a_dynamic_profile_gets_new_values_and_a_station_that_asks_is_told_them() -> None:
    async with open_for_business() as here:
        here.gateway.ocpp_version = "2.1"
        dynamic = profile(4, purpose="TxDefaultProfile", chargingProfileKind="Dynamic", dynUpdateInterval=60)
        del dynamic["chargingSchedule"][0]["startSchedule"]
        await install(here, dynamic)
        assert await advice(here, dynamic_profile_id=4) == ChargingAdvice(
            is_accepted=True, schedule_update={"limit": 16}
        )

        update = {"limit": 11, "limit_L2": 10.5, "setpoint": -3}
        answer = await here.api("PUT", f"{PATH}/charging-profiles/4/values", update)

        assert answer.status_code == 200
        assert sent(here) == ("UpdateDynamicSchedule", {"chargingProfileId": 4, "scheduleUpdate": update})
        assert (await advice(here, dynamic_profile_id=4)).schedule_update == update
        assert not (await advice(here, dynamic_profile_id=5)).is_accepted
        for unknown in ("5", "five"):
            assert (await here.api("PUT", f"{PATH}/charging-profiles/{unknown}/values", update)).status_code == 404


async def test_priority_charging_counts_once_the_station_accepted_or_told_it() -> None:
    async with open_for_business() as here:
        here.gateway.ocpp_version = "2.1"
        await here.report(await here.started("T1"))
        await install(here, profile(1, limit=8))
        await install(here, profile(2, purpose="PriorityCharging", limit=16))

        async def limit() -> str:
            here.gateway.is_online = False
            shown = (await here.api("GET", f"{PATH}/composite-schedule?evse_id=1")).json()
            here.gateway.is_online = True
            text: str = shown["ours"]["periods"][0]["limit"]["l1"]
            return text

        assert await limit() == "8"
        here.gateway.outcome = ACCEPTED
        answer = await here.api("PUT", f"{PATH}/transactions/T1/priority", {"is_activated": True})
        assert answer.status_code == 200
        assert sent(here) == ("UsePriorityCharging", {"transactionId": "T1", "activate": True})
        assert await limit() == "16"

        told = {"transactionId": "T1", "activated": False}
        await here.report(await notified(here, "NotifyPriorityCharging", told, version="2.1"))
        assert await limit() == "8"
        (row,) = await listed(here, "priority-charging")
        assert (row["is_activated"], row["is_told_by_station"]) == (False, True)


async def test_notices_that_say_nothing_readable_or_are_another_s_have_no_meaning() -> None:
    async with open_for_business() as here:
        schedule = {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 10**30, "limit": 1}]}
        limit = {"chargingLimit": {"chargingLimitSource": "SO"}, "chargingSchedule": [schedule]}

        await here.report(
            await notified(here, "NotifyChargingLimit", limit),
            await notified(here, "NotifyChargingLimit", limit | {"chargingSchedule": []}, party_id=EMSP),
        )

        assert await here.rows(EXTERNAL_LIMIT) == []
        assert len(await listed(here, "notices")) == 1


async def test_a_station_that_invents_limits_without_end_fills_no_more_than_its_bound() -> None:
    async with open_for_business() as here:
        limits = [
            await notified(
                here, "NotifyChargingLimit", {"evseId": number, "chargingLimit": {"chargingLimitSource": "SO"}}
            )
            for number in range(ROWS_MAX + 20)
        ]

        await here.report(*limits)

        assert len(await here.rows(EXTERNAL_LIMIT)) == ROWS_MAX


async def test_another_party_sees_and_sets_nothing() -> None:
    async with open_for_business() as here:
        await install(here, profile(1))
        path = f"/{OTHER_CPO}/stations/{STATION}"

        for method, rest in (
            ("GET", "charging-profiles"),
            ("DELETE", "charging-profiles"),
            ("GET", "composite-schedule"),
        ):
            assert (await here.api(method, f"{path}/{rest}")).status_code == 404
