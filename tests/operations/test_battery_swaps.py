"""Battery swaps (OCPP 2.1, S01-S04), from the station's frames to the operator's list."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from emobility.events.station_told import BatterySwapReported
from services.charging_operations.battery_swaps import BATTERY_SWAP, REQUEST_ID_FIRST, SWAP_WAIT
from tests.operations.connected import Connected, connected
from tests.operations.world import CARD, CPO, STATION

TOKEN = {"idToken": CARD, "type": "ISO14443"}


def swap(event: str, request_id: int = 7, serial: str = "B-1", **battery: Any) -> dict[str, Any]:
    told = {"evseId": 1, "serialNumber": serial, "soC": 20.5, "soH": 98} | battery
    return {"eventType": event, "requestId": request_id, "idToken": TOKEN, "batteryData": [told]}


async def states(talk: Connected) -> list[tuple[int, int, str]]:
    shown = await talk.get("swaps")
    return sorted((each["request_id"], each["ordinal"], each["state"]) for each in shown)


async def test_a_swap_that_we_ask_for_is_matched_by_our_number() -> None:
    async with connected() as talk:
        answer, heard = await talk.command("POST", "swaps", {"id_token": CARD, "id_token_type": "ISO14443"})
        request_id = answer.json()["request_id"]
        requested = await states(talk)
        out = swap("BatteryOut", request_id, "B-2", soC=100, productionDate="2024-05-01T00:00:00Z", vendorInfo="cell 3")
        assert await talk.tell("BatterySwap", swap("BatteryIn", request_id)) == {}
        under_way = await states(talk)
        await talk.tell("BatterySwap", out)
        (shown,) = await talk.get("swaps")
        (row,) = await talk.here.rows(BATTERY_SWAP)
        events = await talk.here.events(BatterySwapReported)

        assert heard == ["RequestBatterySwap", {"requestId": REQUEST_ID_FIRST, "idToken": TOKEN}]
        assert answer.json() == {"request_id": REQUEST_ID_FIRST, "result": "ACCEPTED", "detail": "Accepted"}
        assert [each[0][2] for each in (requested, under_way)] == ["REQUESTED", "BATTERY_IN"]
        assert (shown["state"], shown["is_requested"], shown["answer"]) == ("COMPLETED", True, "Accepted")
        came, went = shown["steps"]
        assert came["batteries"][0] | {"production_date": None} == {
            "battery_slot": 1,
            "serial_number": "B-1",
            "soc_percent": "20.5",
            "soh_percent": "98",
            "production_date": None,
        }
        assert went["batteries"][0]["production_date"] == "2024-05-01T00:00:00Z"
        assert await talk.here.ports.vault.open(row.id_token) == CARD
        assert CARD not in str(shown)
        assert [await talk.here.ports.vault.open(event.id_token) for event in events] == [CARD, CARD]


async def test_a_swap_begun_at_the_station_has_its_number_and_one_that_times_out_is_over() -> None:
    async with connected() as talk:
        await talk.tell("BatterySwap", swap("BatteryIn"))
        await talk.tell("BatterySwap", swap("BatteryOutTimeout", serial="B-2"))
        (shown,) = await talk.get("swaps?state=TIMED_OUT")

    assert (shown["request_id"], shown["is_requested"]) == (7, False)
    assert [each["event"] for each in shown["steps"]] == ["BatteryIn", "BatteryOutTimeout"]


async def test_messages_that_come_again_late_or_in_the_wrong_order_change_nothing() -> None:
    async with connected() as talk:
        for told in (swap("BatteryOut", serial="B-2"), swap("BatteryIn"), swap("BatteryOut", serial="B-2")):
            await talk.tell("BatterySwap", told)
        before = await talk.get("swaps")
        await talk.tell("BatterySwap", swap("BatteryIn"))
        await talk.tell("BatterySwap", swap("BatteryOutTimeout", serial="B-3"))
        late = await talk.get("swaps")
        await talk.tell("BatterySwap", swap("BatteryOut", serial="B-4"))
        (contradicted,) = await talk.get("swaps")

    assert [each["state"] for each in before] == ["COMPLETED"]
    assert [each["state"] for each in late] == ["COMPLETED"]
    assert (contradicted["uncounted"], contradicted["state"]) == (1, "COMPLETED")
    assert contradicted["steps"][0]["batteries"][0]["serial_number"] == "B-2"


async def test_a_station_that_uses_its_number_again_begins_another_swap() -> None:
    async with connected() as talk:
        await talk.tell("BatterySwap", swap("BatteryIn"))
        await talk.tell("BatterySwap", swap("BatteryIn", serial="B-9"))
        await talk.tell("BatterySwap", swap("BatteryOut", serial="B-8"))

        assert await states(talk) == [(7, 1, "INCOMPLETE"), (7, 2, "COMPLETED")]


@pytest.mark.parametrize(
    ("says", "state", "answer"),
    [({"status": "Rejected"}, "REFUSED", "Rejected"), ({"status": "Accepted"}, "INCOMPLETE", "Accepted")],
)
async def test_what_is_refused_or_never_finished_is_seen(says: dict[str, Any], state: str, answer: str) -> None:
    async with connected() as talk:
        await talk.command("POST", "swaps", {"id_token": CARD}, says=says)
        talk.here.clock.step_by(SWAP_WAIT + timedelta(minutes=1))
        await talk.here.operations.told.sweep()
        (shown,) = await talk.get("swaps")

    assert (shown["state"], shown["answer"]) == (state, answer)


async def test_a_station_that_is_away_is_asked_for_nothing() -> None:
    async with connected() as talk:
        await talk.station.socket.close(1000, "bye")
        await talk.until(is_online=False)
        answer = await talk.here.api("POST", f"/{CPO}/stations/{STATION}/swaps", {"id_token": CARD})
        (shown,) = await talk.get("swaps")

    assert (answer.status_code, shown["state"], shown["answer"]) == (409, "REFUSED", "STATION_OFFLINE")


async def test_each_swap_that_we_ask_for_has_its_own_number_which_no_second_battery_changes() -> None:
    async with connected() as talk:
        for _ in range(2):
            await talk.command("POST", "swaps", {"id_token": CARD})
        await talk.tell("BatterySwap", swap("BatteryIn", REQUEST_ID_FIRST))
        await talk.tell("BatterySwap", swap("BatteryIn", REQUEST_ID_FIRST, serial="B-9"))
        shown = {each["request_id"]: each for each in await talk.get("swaps")}

    assert sorted(shown) == [REQUEST_ID_FIRST, REQUEST_ID_FIRST + 1]
    assert (shown[REQUEST_ID_FIRST]["state"], shown[REQUEST_ID_FIRST]["uncounted"]) == ("BATTERY_IN", 1)
