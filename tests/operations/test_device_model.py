"""What a station is made of: put together from pages in any order, narrowed, refreshed and changed by operators."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from emobility.domain.errors import Unavailable
from emobility.events.charging import DeviceModelReported, MonitorsReported
from emobility.protocols.station_control.client import StationControlClient
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult, OCPPCall
from services.charging_operations import device_model
from services.charging_operations.station_records import STATION_REPORT, STATION_REPORT_PAGE, STATION_VARIABLE
from tests.operations.world import CPO, EMSP, OTHER_CPO, START, STATION, World, open_for_business

PATH: Final = f"/{CPO}/stations/{STATION}"
ACCEPTED: Final = CommandOutcome(result=CommandResult.ACCEPTED, station_status="Accepted", answer={})


def entry(variable: str, value: str | None = "1", component: str = "OCPPCommCtrlr", **attribute: Any) -> dict[str, Any]:
    told = attribute if value is None else {"value": value, **attribute}
    return {"component": {"name": component}, "variable": {"name": variable}, "variableAttribute": [told]}


def monitor(monitor_id: int, variable: str = "Temperature") -> dict[str, Any]:
    watched = {"id": monitor_id, "transaction": False, "value": 60.5, "type": "UpperThreshold", "severity": 4}
    return {"component": {"name": "EVSE"}, "variable": {"name": variable}, "variableMonitoring": [watched]}


async def page(
    here: World, request_id: int, seq_no: int, entries: list[dict[str, Any]], *, is_last: bool = False, **fields: Any
) -> DeviceModelReported | MonitorsReported:
    kind = fields.pop("kind", DeviceModelReported)
    payload = {"requestId": request_id, "seqNo": seq_no, "tbc": not is_last, "generatedAt": START.isoformat()}
    payload["monitor" if kind is MonitorsReported else "reportData"] = entries
    made: DeviceModelReported | MonitorsReported = kind(
        party_id=fields.pop("party_id", CPO),
        charging_station_id=STATION,
        ocpp_version="2.0.1",
        request_id=request_id,
        seq_no=seq_no,
        is_last=is_last,
        generated_at=START,
        page=await here.ports.vault.seal(json.dumps(payload), identifier="station"),
    )
    return made


async def asked(here: World, what: str = "variables") -> int:
    """Ask for everything, a minute later than anything before; return the request id."""
    here.clock.step_by(timedelta(minutes=1))
    here.gateway.outcome = ACCEPTED
    answer = await here.api("POST", f"{PATH}/{what}/refresh")
    assert answer.status_code == 200, answer.text
    request_id: int = answer.json()["request_id"]
    return request_id


async def variables(here: World, query: str = "") -> dict[str, Any]:
    rows = (await here.api("GET", f"{PATH}/variables{query}")).json()
    return {row["variable"]: row["attributes"][0]["value"] for row in rows}


async def states(here: World) -> list[str]:
    return [row["state"] for row in (await here.api("GET", f"{PATH}/reports")).json()]


async def test_a_whole_report_replaces_what_is_gone_once_all_pages_came_in_any_order_and_repeated() -> None:
    async with open_for_business() as here:
        for order in itertools.permutations(range(3)):
            first = await asked(here)
            await here.report(await page(here, first, 0, [entry("Gone"), entry("A", "old")], is_last=True))
            request_id = await asked(here)
            pages = [
                await page(here, request_id, 0, [entry("A", "new")]),
                await page(here, request_id, 1, [entry("B")]),
                await page(here, request_id, 2, [entry("C")], is_last=True),
            ]

            for place in order[:2]:
                await here.report(pages[place], pages[place])
            assert "Gone" in await variables(here)
            assert (await states(here))[0] == "ASKED"
            await here.report(pages[order[2]], *pages)

            assert await variables(here) == {"A": "new", "B": "1", "C": "1"}
            assert (await states(here))[0] == "COMPLETE"
        assert await here.rows(STATION_REPORT_PAGE) == []


async def test_a_partial_report_changes_what_it_names_and_no_more() -> None:
    async with open_for_business() as here:
        request_id = await asked(here)
        target = entry("A", "10", type="Target")
        await here.report(await page(here, request_id, 0, [entry("A"), target, entry("B")], is_last=True))
        here.clock.step_by(timedelta(minutes=1))

        await here.report(await page(here, 7, 0, [entry("A", "2")], is_last=True))

        (row,) = await here.rows(STATION_VARIABLE, variable="A")
        assert [(each.type, each.value) for each in row.attributes] == [("Actual", "2"), ("Target", "10")]
        assert await variables(here) == {"A": "2", "B": "1"}


async def test_a_value_that_a_whole_report_no_longer_has_is_gone() -> None:
    async with open_for_business() as here:
        first = await asked(here)
        await here.report(await page(here, first, 0, [entry("A"), entry("A", "9", type="Target")], is_last=True))

        request_id = await asked(here)
        await here.report(await page(here, request_id, 0, [entry("A", "2")], is_last=True))

        (row,) = await here.rows(STATION_VARIABLE)
        assert [(each.type, each.value) for each in row.attributes] == [("Actual", "2")]


async def test_pages_of_a_report_that_a_later_one_overtook_change_nothing() -> None:
    async with open_for_business() as here:
        early, late = await asked(here), await asked(here)
        await here.report(await page(here, late, 0, [entry("A", "new")], is_last=True))

        await here.report(await page(here, early, 0, [entry("A", "old"), entry("Gone")], is_last=True))

        assert await variables(here) == {"A": "new"}
        assert await states(here) == ["COMPLETE", "SUPERSEDED"]


async def test_what_another_report_told_since_the_question_stays() -> None:
    async with open_for_business() as here:
        request_id = await asked(here)
        here.clock.step_by(timedelta(minutes=1))
        await here.report(await page(here, 7, 0, [entry("Meanwhile")], is_last=True))

        await here.report(await page(here, request_id, 0, [entry("A")], is_last=True))

        assert await variables(here) == {"A": "1", "Meanwhile": "1"}


async def test_a_page_beyond_the_last_stands_for_none_that_is_missing() -> None:
    async with open_for_business() as here:
        await here.report(await page(here, 7, 0, [entry("Gone")], is_last=True))
        request_id = await asked(here)

        await here.report(await page(here, request_id, 1, [entry("B")], is_last=True))
        await here.report(await page(here, request_id, 5, [entry("C")]))

        assert await states(here) == ["ASKED"]
        assert "Gone" in await variables(here)


async def test_what_a_whole_report_named_stays_though_clocks_differ() -> None:
    async with open_for_business() as here:
        request_id = await asked(here)
        async with here.ports.units.begin() as unit:
            (report,) = await unit.table(STATION_REPORT).select()
            await unit.table(STATION_REPORT).put(replace(report, asked_at=report.asked_at + timedelta(minutes=1)))
            await unit.commit()

        await here.report(await page(here, request_id, 0, [entry("A")], is_last=True))

        assert await variables(here) == {"A": "1"}


async def test_a_report_of_a_party_that_is_not_hosted_is_nobody_s() -> None:
    async with open_for_business() as here:
        await here.report(await page(here, 7, 0, [entry("A")], is_last=True, party_id=EMSP))

        assert await here.rows(STATION_VARIABLE) == []
        foreign = await here.api("GET", f"/{OTHER_CPO}/stations/{STATION}/variables")
        assert foreign.status_code == 404


async def test_a_station_s_variables_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_model, "VARIABLES_MAX", 3)
    async with open_for_business() as here:
        await here.report(await page(here, 7, 0, [entry(name) for name in "ABCD"]))
        await here.report(await page(here, 7, 1, [entry("E"), entry("A", "2")], is_last=True))

        assert await variables(here) == {"A": "1", "B": "1", "C": "1"}


async def test_operators_narrow_and_page_what_a_station_is_made_of() -> None:
    async with open_for_business() as here:
        entries = [entry("A"), entry("B"), entry("A", "7", component="Other")]
        await here.report(await page(here, 7, 0, entries, is_last=True))

        assert await variables(here, "?component=Other") == {"A": "7"}
        assert await variables(here, "?component=OCPPCommCtrlr&variable=B") == {"B": "1"}
        assert len((await here.api("GET", f"{PATH}/variables?variable=A")).json()) == 2
        assert len((await here.api("GET", f"{PATH}/variables?offset=1&limit=1")).json()) == 1


async def test_monitors_are_kept_like_variables() -> None:
    async with open_for_business() as here:
        first = await asked(here, "monitors")
        await here.report(
            await page(here, first, 0, [monitor(1), monitor(2, "Current")], is_last=True, kind=MonitorsReported)
        )
        second = await asked(here, "monitors")
        await here.report(await page(here, second, 0, [monitor(2, "Current")], is_last=True, kind=MonitorsReported))

        (shown,) = (await here.api("GET", f"{PATH}/monitors?variable=Current")).json()
        assert (shown["monitor_id"], shown["monitor"]["value"], shown["monitor"]["severity"]) == (2, "60.5", 4)
        assert len((await here.api("GET", f"{PATH}/monitors")).json()) == 1
        assert [command.ocpp_call for command in here.gateway.commands] == [
            OCPPCall(action="GetMonitoringReport", payload={"requestId": each}) for each in (first, second)
        ]


async def test_the_same_over_postgresql(postgres_dsn: str) -> None:
    async with open_for_business(postgres_dsn) as here:
        await here.report(await page(here, 7, 0, [entry("Gone"), entry("A", "old")], is_last=True))
        request_id = await asked(here)
        limited = entry("B", None) | {
            "variableCharacteristics": {"dataType": "decimal", "supportsMonitoring": True, "maxLimit": 1.5e308}
        }
        await here.report(await page(here, request_id, 1, [limited], is_last=True))
        await here.report(await page(here, request_id, 0, [entry("A", "new")]))
        watched = await asked(here, "monitors")
        await here.report(await page(here, watched, 0, [monitor(1)], is_last=True, kind=MonitorsReported))

        assert await variables(here) == {"A": "new", "B": None}
        assert await states(here) == ["COMPLETE", "COMPLETE"]
        assert len((await here.api("GET", f"{PATH}/monitors")).json()) == 1


# Asking


async def test_a_question_tells_what_will_come() -> None:
    async with open_for_business() as here:
        here.gateway.outcome = ACCEPTED

        told = (await here.api("POST", f"{PATH}/variables/refresh")).json()

        (command,) = here.gateway.commands
        payload = {"requestId": told["request_id"], "reportBase": "FullInventory"}
        assert command.ocpp_call == OCPPCall(action="GetBaseReport", payload=payload)
        assert (told["result"], told["expects"]) == ("ACCEPTED", "NotifyReport")


@pytest.mark.parametrize(
    ("result", "status_code", "state"),
    [
        (CommandResult.REJECTED, 200, "REFUSED"),
        (CommandResult.NOT_SUPPORTED, 501, "REFUSED"),
        (CommandResult.TIMED_OUT, 504, "ASKED"),
    ],
)
async def test_a_station_that_will_not_report_is_told_of(result: CommandResult, status_code: int, state: str) -> None:
    async with open_for_business() as here:
        here.gateway.outcome = CommandOutcome(result=result, station_status="so")

        answer = await here.api("POST", f"{PATH}/variables/refresh")

        assert (answer.status_code, answer.json()["expects"]) == (status_code, None)
        assert [(row.state, row.answer) for row in await here.rows(STATION_REPORT)] == [(state, "so")]


@pytest.mark.parametrize("version", [None, "2.0.1"])
async def test_a_station_that_is_away_can_not_be_asked(version: str | None) -> None:
    async with open_for_business() as here:
        here.gateway.ocpp_version, here.gateway.is_online = version, False

        refresh = await here.api("POST", f"{PATH}/variables/refresh")
        change = await here.api("PUT", f"{PATH}/variables", {"variables": [{**SETTING, "value": "1"}]})

        assert (refresh.status_code, change.status_code) == (409, 409)
        assert refresh.json()["error"] == "StationOffline"
        assert here.gateway.commands == []


async def test_the_course_of_a_bounded_number_of_reports_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_model, "REPORTS_KEPT_MAX", 2)
    async with open_for_business() as here:
        requests = [await asked(here) for _ in range(3)]

        rows = await here.rows(STATION_REPORT)
        assert {row.request_id for row in rows} == set(requests[1:])


async def test_a_1_6_station_s_configuration_is_the_same_model() -> None:
    async with open_for_business() as here:
        here.gateway.ocpp_version = "1.6"
        keys = [
            {"key": "HeartbeatInterval", "readonly": False, "value": "300"},
            {"key": "AcmeMode", "readonly": True, "value": "eco"},
            {"key": "AuthorizationKey", "readonly": False, "value": "hunter2"},
        ]
        here.gateway.outcome = CommandOutcome(result=CommandResult.ACCEPTED, answer={"configurationKey": keys})

        told = (await here.api("POST", f"{PATH}/variables/refresh")).json()
        rows = (await here.api("GET", f"{PATH}/variables")).json()
        here.gateway.outcome = CommandOutcome(result=CommandResult.ACCEPTED, answer={"configurationKey": keys[:1]})
        await here.api("POST", f"{PATH}/variables/refresh")

        assert (told["action"], told["variables"], told["expects"]) == ("GetConfiguration", 3, None)
        shown = {(r["component"], r["variable"]): (r["attributes"][0]["value"], r["configuration_key"]) for r in rows}
        assert shown == {
            ("OCPPCommCtrlr", "HeartbeatInterval"): ("300", "HeartbeatInterval"),
            ("Configuration", "AcmeMode"): ("eco", "AcmeMode"),
            ("SecurityCtrlr", "BasicAuthPassword"): (None, "AuthorizationKey"),
        }
        assert [r["attributes"][0]["mutability"] for r in rows if r["variable"] == "AcmeMode"] == ["ReadOnly"]
        assert list(await variables(here)) == ["HeartbeatInterval"]
        assert (await here.api("POST", f"{PATH}/monitors/refresh")).status_code == 409


# Setting

SETTING: Final = {"component": "OCPPCommCtrlr", "variable": "A"}


def said(*settings: tuple[str, str]) -> CommandOutcome:
    results = [
        {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": name}, "attributeStatus": status}
        for name, status in settings
    ]
    return CommandOutcome(result=CommandResult.ACCEPTED, answer={"setVariableResult": results})


def settings(*names: str) -> dict[str, Any]:
    return {"variables": [{**SETTING, "variable": name, "value": "5"} for name in names]}


async def test_each_variable_set_has_its_own_result_and_what_is_in_force_is_known_at_once() -> None:
    async with open_for_business() as here:
        told = [entry(name) for name in ("A", "B", "C", "BasicAuthPassword")]
        await here.report(await page(here, 7, 0, [*told[:3], entry("BasicAuthPassword", None)], is_last=True))
        here.gateway.outcome = said(
            ("BasicAuthPassword", "Accepted"), ("C", "RebootRequired"), ("B", "Rejected"), ("A", "Accepted")
        )

        answer = await here.api("PUT", f"{PATH}/variables", settings("A", "B", "C", "BasicAuthPassword", "D"))

        assert [each["status"] for each in answer.json()] == [
            *("Accepted", "Rejected", "RebootRequired", "Accepted", "NotAnswered"),
        ]
        assert await variables(here) == {"A": "5", "B": "1", "C": "1", "BasicAuthPassword": None}
        (command,) = here.gateway.commands
        assert command.ocpp_call is not None
        assert command.ocpp_call.payload["setVariableData"][0] == {
            "attributeType": "Actual",
            "attributeValue": "5",
            "component": {"name": "OCPPCommCtrlr"},
            "variable": {"name": "A"},
        }


async def test_no_more_variables_are_sent_at_once_than_the_station_takes_and_none_after_a_time_out() -> None:
    async with open_for_business() as here:
        limit = entry("ItemsPerMessage", "2", component="DeviceDataCtrlr")
        limit["variable"]["instance"] = "SetVariables"
        await here.report(await page(here, 7, 0, [limit], is_last=True))
        here.gateway.answers = [
            said(("A", "Accepted"), ("B", "Accepted")),
            CommandOutcome(result=CommandResult.TIMED_OUT),
        ]

        answer = await here.api("PUT", f"{PATH}/variables", settings(*"ABCDE"))

        assert [each["status"] for each in answer.json()] == [
            *("Accepted", "Accepted", "TIMED_OUT", "TIMED_OUT", "NotSent"),
        ]
        assert len(here.gateway.commands) == 2


async def test_what_was_set_is_told_though_the_gateway_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_for_business() as here:
        sent = StationControlClient.command

        async def once(self: StationControlClient, *args: Any, **named: Any) -> CommandOutcome:
            if here.gateway.commands:
                raise Unavailable("away")
            return await sent(self, *args, **named)

        monkeypatch.setattr(StationControlClient, "command", once)
        here.gateway.ocpp_version = "1.6"
        here.gateway.outcome = CommandOutcome(result=CommandResult.ACCEPTED, answer={"status": "Accepted"})
        keys = {"variables": [{"component": "Configuration", "variable": name, "value": "1"} for name in "ABC"]}

        answer = await here.api("PUT", f"{PATH}/variables", keys)

        assert [each["status"] for each in answer.json()] == ["Accepted", "TIMED_OUT", "NotSent"]


async def test_a_1_6_station_is_told_its_keys_one_by_one() -> None:
    async with open_for_business() as here:
        here.gateway.ocpp_version = "1.6"
        here.gateway.answers = [
            CommandOutcome(result=CommandResult.ACCEPTED, answer={"status": "RebootRequired"}),
            CommandOutcome(result=CommandResult.REJECTED, answer={"status": "NotSupported"}),
        ]
        wanted = [
            {"component": "AuthCacheCtrlr", "variable": "Enabled", "value": "true"},
            {"component": "EVSE", "variable": "Power", "value": "1"},
            {"component": "Configuration", "variable": "AcmeMode", "value": "eco"},
        ]

        answer = await here.api("PUT", f"{PATH}/variables", {"variables": wanted})

        assert [each["status"] for each in answer.json()] == ["RebootRequired", "UnknownVariable", "NotSupported"]
        assert [command.ocpp_call for command in here.gateway.commands] == [
            OCPPCall(action="ChangeConfiguration", payload={"key": "AuthorizationCacheEnabled", "value": "true"}),
            OCPPCall(action="ChangeConfiguration", payload={"key": "AcmeMode", "value": "eco"}),
        ]


@pytest.mark.parametrize("wanted", [{"variables": []}, settings(*map(str, range(101))), {}, [], b"{"])
async def test_what_can_not_be_set_reaches_no_station(wanted: Any) -> None:
    async with open_for_business() as here:
        answer = await here.api("PUT", f"{PATH}/variables", wanted)

        assert answer.status_code == 422
        assert here.gateway.commands == []
