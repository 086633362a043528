"""DER control (OCPP 2.1, R): grid rules set, told, followed and broken, from the station's frames to the API."""

from __future__ import annotations

from typing import Any

import pytest

from services.charging_operations.wanted_settings import WANTED_SETTING
from tests.operations.connected import connected

FACTOR = {
    "isDefault": False,
    "controlType": "FixedPFAbsorb",
    "fixedPFAbsorb": {"priority": 1, "displacement": 0.95, "excitation": True, "startTime": "2022-03-27T09:00:00Z"},
}
CURVE = {"priority": 0, "yUnit": "PctMaxVar", "curveData": [{"x": 92.5, "y": 44}]}
VOLTS = {"isDefault": True, "controlType": "VoltVar", "curve": CURVE}


async def test_a_control_goes_out_in_the_words_of_the_standard_and_stays_until_it_is_cleared() -> None:
    async with connected() as talk:
        answer, heard = await talk.command("PUT", "der-controls/pf-1", FACTOR)
        (in_force,) = await talk.get("settings?kind=SetDERControl")
        _, cleared = await talk.command("DELETE", "der-controls/pf-1")
        (ended,) = await talk.get("settings?kind=SetDERControl")

    assert (answer.status_code, answer.json()["result"]) == (200, "ACCEPTED")
    assert heard == ["SetDERControl", FACTOR | {"controlId": "pf-1"}]
    assert (in_force["state"], in_force["object_id"]) == ("IN_FORCE", "pf-1")
    assert in_force["payload"] == FACTOR | {"controlId": "pf-1"}
    assert cleared == ["ClearDERControl", {"isDefault": False, "controlId": "pf-1"}]
    assert (ended["state"], ended["ended_at"] is not None) == ("CLEARED", True)


async def test_a_refused_control_leaves_the_one_before_it_in_force_and_an_accepted_one_takes_its_place() -> None:
    async with connected() as talk:
        await talk.command("PUT", "der-controls/v", VOLTS)
        await talk.command("PUT", "der-controls/v", VOLTS, says={"status": "Rejected"})
        refused = [each["state"] for each in await talk.get("settings")]
        await talk.command("PUT", "der-controls/v", VOLTS)
        replaced = [each["state"] for each in await talk.get("settings")]
        malformed = await talk.here.api("PUT", "/NL-TNM/stations/CS1/der-controls/v", {"isDefault": True})

    assert sorted(refused) == ["IN_FORCE", "REFUSED"]
    assert sorted(replaced) == ["IN_FORCE", "REFUSED", "REPLACED"]
    assert malformed.status_code == 422


async def test_clearing_a_kind_clears_that_kind() -> None:
    async with connected() as talk:
        await talk.command("PUT", "der-controls/pf-1", FACTOR)
        await talk.command("PUT", "der-controls/v", VOLTS)
        _, heard = await talk.command("POST", "der-controls/clear", {"is_default": True})
        states = {each["object_id"]: each["state"] for each in await talk.get("settings")}

    assert heard == ["ClearDERControl", {"isDefault": True}]
    assert states == {"pf-1": "IN_FORCE", "v": "CLEARED"}


async def test_controls_come_in_pages_and_what_a_whole_report_does_not_name_is_gone() -> None:
    def page(request_id: int, control_id: str, *, more: bool, **changes: Any) -> dict[str, Any]:
        factor = {"fixedPF": FACTOR["fixedPFAbsorb"], "id": control_id, "isDefault": False, "isSuperseded": False}
        return {"requestId": request_id, "tbc": more, "fixedPFAbsorb": [factor]} | changes

    limits = {"priority": 0, "highVoltage": 253, "lowVoltage": 195.5, "highFreq": 50.1, "lowFreq": 49.9}
    async with connected() as talk:
        await talk.tell("ReportDERControl", page(1, "unasked", more=False))
        answer, heard = await talk.command("POST", "der-controls/refresh")
        request_id = answer.json()["request_id"]
        await talk.tell("ReportDERControl", page(request_id, "pf-1", more=True))
        half = [each["control_id"] for each in await talk.get("der-controls")]
        last = page(request_id, "pf-2", more=False, enterService=[{"id": "es", "enterService": limits}])
        await talk.tell("ReportDERControl", last)
        whole = {each["control_id"]: each for each in await talk.get("der-controls")}
        (report,) = await talk.get("reports")

    assert heard == ["GetDERControl", {"requestId": request_id}]
    assert half == ["pf-1", "unasked"]
    assert sorted(whole) == ["es", "pf-1", "pf-2"]
    assert whole["pf-1"]["setting"] == FACTOR["fixedPFAbsorb"]
    assert (whole["es"]["control_type"], whole["es"]["is_default"]) == ("EnterService", None)
    assert whole["es"]["setting"]["lowVoltage"] == 195.5
    assert (report["state"], report["pages"], report["kind"]) == ("COMPLETE", 2, "ReportDERControl")


START = {"controlId": "pf-1", "started": True, "timestamp": "2022-03-27T09:00:00Z", "supersededIds": ["v"]}
END = {"controlId": "pf-1", "started": False, "timestamp": "2022-03-27T10:00:00Z"}


@pytest.mark.parametrize("messages", [(START, END), (END, START)])
async def test_a_control_is_followed_from_its_start_to_its_end_whichever_is_heard_first(messages: Any) -> None:
    async with connected() as talk:
        await talk.command("PUT", "der-controls/v", VOLTS)
        for told in messages:
            await talk.tell("NotifyDERStartStop", told)
            await talk.tell("NotifyDERStartStop", told)
        (period,) = await talk.get("der-periods?control_id=pf-1")
        (superseded,) = await talk.here.rows(WANTED_SETTING, object_id="v")

    assert (period["started_at"], period["ended_at"]) == ("2022-03-27T09:00:00Z", "2022-03-27T10:00:00Z")
    assert (period["superseded_ids"], superseded.superseded_by) == (["v"], None)


async def test_a_control_that_is_superseded_says_by_which_until_that_ends() -> None:
    async with connected() as talk:
        await talk.command("PUT", "der-controls/v", VOLTS)
        answer = {"status": "Accepted", "supersededIds": ["v"]}
        await talk.command("PUT", "der-controls/pf-0", FACTOR, says=answer)
        by_answer = {each["object_id"]: each["superseded_by"] for each in await talk.get("settings")}
        await talk.tell("NotifyDERStartStop", START)
        by_start = {each["object_id"]: each["superseded_by"] for each in await talk.get("settings")}
        await talk.tell(
            "NotifyDERStartStop", {"controlId": "pf-1", "started": False, "timestamp": "2022-03-27T10:00:00Z"}
        )
        resumed = {each["object_id"]: each["superseded_by"] for each in await talk.get("settings")}

    assert by_answer == {"v": "pf-0", "pf-0": None}
    assert (by_start["v"], resumed["v"]) == ("pf-1", None)


async def test_an_alarm_is_open_until_its_end_whichever_is_heard_first() -> None:
    def alarm(minute: int, fault: str | None = None, *, ended: bool = False) -> dict[str, Any]:
        told: dict[str, Any] = {"controlType": "HVMustTrip", "timestamp": f"2022-03-27T09:{minute:02}:00Z"}
        return told | ({"gridEventFault": fault} if fault else {}) | ({"alarmEnded": True} if ended else {})

    async with connected() as talk:
        await talk.tell("NotifyDERAlarm", alarm(0, "OverVoltage"))
        (opened,) = await talk.get("der-alarms?control_type=HVMustTrip")
        await talk.tell("NotifyDERAlarm", alarm(5, ended=True))
        await talk.tell("NotifyDERAlarm", alarm(20, ended=True))
        await talk.tell("NotifyDERAlarm", alarm(10, "OverFrequency"))
        await talk.tell("NotifyDERAlarm", alarm(10, "OverFrequency"))
        alarms = sorted(
            (each["began_at"][14:16], each["ended_at"][14:16], each["grid_event_fault"])
            for each in await talk.get("der-alarms")
        )

    assert (opened["began_at"], opened["ended_at"]) == ("2022-03-27T09:00:00Z", None)
    assert alarms == [("00", "05", "OverVoltage"), ("10", "20", "OverFrequency")]
