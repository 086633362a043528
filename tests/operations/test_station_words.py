"""A station in its own words: what it tells is kept and shown without persons, what it is told comes back answered."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from emobility.domain.errors import Unavailable
from emobility.events.charging import StationNotified
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult, OCPPCall, StationMessage
from services.charging_operations.records import STATION_NOTICE
from services.charging_operations.station_notices import keep_notice
from tests.operations.connected import connected
from tests.operations.world import CPO, EMSP, START, STATION, World, open_for_business

SWAP = {
    "eventType": "BatteryIn",
    "requestId": 7,
    "idToken": {"idToken": "04AABBCC", "type": "ISO14443"},
    "batteryData": [{"evseId": 1, "serialNumber": "B-1", "soC": 20.5, "soH": 98}],
    "customData": {"vendorId": "acme", "MyKey": {"socket_id": 1}},
}


async def told(here: World, action: str, payload: dict[str, Any], *, minute: int = 0) -> StationNotified:
    text = json.dumps(payload)
    return StationNotified(
        party_id=CPO,
        charging_station_id=STATION,
        ocpp_version="2.1",
        action=action,
        payload=await here.ports.vault.seal(text, identifier=action),
        occurred_at=START + timedelta(minutes=minute),
    )


async def test_what_a_station_told_is_kept_once_and_shown_newest_first_without_persons() -> None:
    async with open_for_business() as here:
        swap = await told(here, "BatterySwap", SWAP)
        await here.report(swap, await told(here, "NotifyDERAlarm", {"controlType": "FreqDroop"}, minute=1))
        await here.report(swap)
        (first,) = await here.rows(STATION_NOTICE, action="BatterySwap")
        again = replace(swap, occurred_at=swap.occurred_at + timedelta(minutes=2))
        async with here.ports.units.begin() as unit:
            await keep_notice(unit, again, first.notice_id)
            await unit.commit()

        everything = (await here.api("GET", f"/{CPO}/stations/{STATION}/notices")).json()
        swaps = (await here.api("GET", f"/{CPO}/stations/{STATION}/notices?action=BatterySwap")).json()

    assert [each["action"] for each in everything] == ["NotifyDERAlarm", "BatterySwap"]
    (shown,) = swaps
    assert shown["ocpp_version"] == "2.1"
    assert shown["payload"] == SWAP | {"idToken": {"idToken": "***", "type": "ISO14443"}}


async def test_of_somebody_erased_only_the_action_is_left() -> None:
    async with open_for_business() as here:
        await here.report(await told(here, "BatterySwap", SWAP))
        (row,) = await here.rows(STATION_NOTICE)
        await here.ports.vault.erase(row.payload.subject)

        (shown,) = (await here.api("GET", f"/{CPO}/stations/{STATION}/notices")).json()

    assert (shown["action"], shown["payload"]) == ("BatterySwap", None)


@pytest.mark.parametrize(
    ("result", "status_code"),
    [
        (CommandResult.ACCEPTED, 200),
        (CommandResult.REJECTED, 200),
        (CommandResult.STATION_OFFLINE, 409),
        (CommandResult.MALFORMED, 422),
        (CommandResult.NOT_SUPPORTED, 501),
        (CommandResult.TIMED_OUT, 504),
    ],
)
async def test_a_command_is_answered_by_the_station_or_by_a_clear_status(
    result: CommandResult, status_code: int
) -> None:
    async with open_for_business() as here:
        said = {"status": "Accepted", "customData": {"vendorId": "acme", "MyKey": 1}}
        here.gateway.outcome = CommandOutcome(result=result, station_status="so", answer=said)

        answer = await here.api("POST", f"/{CPO}/stations/{STATION}/commands/ClearCache?timeout_s=5", {"a": [1.5]})

    assert (answer.status_code, answer.json()) == (status_code, {"result": result, "detail": "so", "answer": said})
    (command,) = here.gateway.commands
    assert command.ocpp_call == OCPPCall(action="ClearCache", payload={"a": [1.5]})
    assert command.timeout_s == 5


@pytest.mark.parametrize(
    ("path", "body", "status_code"),
    [
        (f"/{CPO}/stations/GHOST/commands/ClearCache", {}, 404),
        (f"/{CPO}/stations/GHOST/notices", None, 404),
        (f"/{CPO}/stations/{STATION}/commands/ClearCache?timeout_s=0", {}, 422),
        (f"/{CPO}/stations/{STATION}/commands/ClearCache?timeout_s=121", {}, 422),
        (f"/{CPO}/stations/{STATION}/commands/ClearCache", [], 422),
        (f"/{CPO}/stations/{STATION}/commands/ClearCache", b"{", 422),
        (f"/{EMSP}/stations/{STATION}/commands/ClearCache", {}, 404),
    ],
)
async def test_what_can_not_be_asked_reaches_no_gateway(path: str, body: Any, status_code: int) -> None:
    async with open_for_business() as here:
        answer = await here.api("GET" if body is None else "POST", path, body)

    assert answer.status_code == status_code, answer.text
    assert here.gateway.commands == []


async def test_a_gateway_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_for_business() as here:

        async def away(*_: Any, **__: Any) -> CommandOutcome:
            raise Unavailable("away")

        monkeypatch.setattr(type(here.operations.office.stations), "command", away)
        answer = await here.api("POST", f"/{CPO}/stations/{STATION}/commands/ClearCache", {})

    assert answer.status_code == 503


async def test_what_was_said_with_a_station_is_asked_of_the_gateway_and_shown_as_json() -> None:
    async with open_for_business() as here:
        path = f"/{CPO}/stations/{STATION}/messages"
        said = StationMessage(
            at=START,
            is_from_station=True,
            ocpp_version="1.6",
            action="Heartbeat",
            message_id="1",
            payload='{"a":1.50}',
            answer=None,
            error_code="InternalError",
            latency_ms=3,
        )
        here.gateway.messages.append(said)

        kept = await here.api("PUT", path, {"until": "2022-03-27T09:00:00Z"})
        (shown,) = (await here.api("GET", path)).json()
        await here.api("DELETE", path)

        assert kept.json() == {"until": "2022-03-27T09:00:00Z", "has_heartbeats": False}
        assert (shown["payload"], shown["answer"], shown["error_code"]) == ({"a": 1.5}, None, "InternalError")
        assert [method for method, _ in here.gateway.kept_messages] == ["PUT", "GET", "DELETE"]
        for method, body in (("GET", None), ("DELETE", None), ("PUT", {"until": "2022-03-27T09:00:00Z"})):
            assert (await here.api(method, path.replace(STATION, "GHOST"), body)).status_code == 404


async def test_a_number_of_a_command_and_of_its_answer_stays_the_number_it_is() -> None:
    monitor = {"value": 0.1, "type": "Delta", "severity": 5, "component": {"name": "C"}, "variable": {"name": "V"}}
    period = {"startPeriod": 0, "limit": 16.1}
    schedule = {"evseId": 1, "duration": 60, "scheduleStart": "2022-03-26T12:00:00Z", "chargingRateUnit": "A"}
    async with connected("ocpp2.0.1") as talk:
        _, heard = await talk.command(
            "POST",
            "commands/SetVariableMonitoring",
            {"setMonitoringData": [monitor]},
            says={"setMonitoringResult": [monitor | {"status": "Accepted", "id": 1}]},
        )
        answer, _ = await talk.command(
            "POST",
            "commands/GetCompositeSchedule",
            {"evseId": 1, "duration": 60},
            says={"status": "Accepted", "schedule": schedule | {"chargingSchedulePeriod": [period]}},
        )

    assert heard == ["SetVariableMonitoring", {"setMonitoringData": [monitor]}]
    assert answer.json()["answer"]["schedule"]["chargingSchedulePeriod"] == [period]
