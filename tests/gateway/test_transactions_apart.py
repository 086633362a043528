"""Numbers that are nobody's, another station's or system's: acknowledged, kept, and never mixed with our own."""

from __future__ import annotations

from typing import Any

import pytest

from emobility.domain.transaction import metered_wh
from emobility.events.charging import EVSEMetered, TransactionEnded, TransactionStarted
from emobility.events.fold import apply
from tests.gateway.conftest import until
from tests.gateway.test_messages_over_a_connection import AT, start_16


def stop_16(number: int, meter_stop: int = 9_000, **changes: Any) -> dict[str, Any]:
    return {"transactionId": number, "meterStop": meter_stop, "timestamp": "2022-03-27T02:00:00Z", **changes}


def meter_16(number: int, wh: int, at: str = "2022-03-27T01:30:00Z") -> dict[str, Any]:
    value = {"timestamp": at, "sampledValue": [{"value": str(wh)}]}
    return {"connectorId": 1, "transactionId": number, "meterValue": [value]}


async def ids(world: Any) -> list[str]:
    return [event.transaction_id for event in await world.events()]


async def test_a_number_of_another_system_never_meets_the_transaction_that_gets_it_later(world: Any) -> None:
    station = await world.dial("ocpp1.6")
    await station.call("MeterValues", meter_16(1, 700_000))
    await station.call("StopTransaction", stop_16(1, 800_000))

    number = (await station.call("StartTransaction", start_16()))[2]["transactionId"]
    await station.call("MeterValues", meter_16(number, 5_000))
    await station.call("StopTransaction", stop_16(number))

    assert number == 1
    assert await ids(world) == ["unknown-1", "unknown-1", "1", "1", "1"]


async def test_a_station_does_not_end_what_another_one_runs(world: Any) -> None:
    first, second = await world.dial("ocpp1.6"), await world.dial("ocpp1.6", station="CS-2")
    number = (await first.call("StartTransaction", start_16()))[2]["transactionId"]

    answer = await second.call("StopTransaction", stop_16(number))

    assert answer[0] == 3
    kept = {event.charging_station_id: event.transaction_id for event in await world.events()}
    assert kept == {"CS-1": str(number), "CS-2": f"unknown-{number}"}


async def test_stops_without_a_number_are_transactions_of_their_own_and_one_that_comes_twice_is_one(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    for meter_stop in (5_000, 9_000, 5_000):
        assert (await station.call("StopTransaction", stop_16(-1, meter_stop)))[0] == 3

    first, second, third = await world.events()
    assert first == third
    assert first.transaction_id != second.transaction_id
    assert len(set(await world.event_ids())) == 2
    assert [metered_wh(apply(None, event)).import_wh for event in (first, second)] == [0, 0]


@pytest.mark.parametrize("number", [-1, 0, 10**25])
async def test_meter_values_without_a_number_are_the_evse_s(world: Any, number: int) -> None:
    station = await world.dial("ocpp1.6")

    assert (await station.call("MeterValues", meter_16(number, 5_000)))[0] == 3

    (event,) = await world.events()
    assert isinstance(event, EVSEMetered)
    assert (event.ocpp_evse_id, event.readings[0].import_wh) == (1, 5_000)


async def test_over_another_connection_a_transaction_is_still_the_same(world: Any) -> None:
    first = await world.dial("ocpp1.6")
    number = (await first.call("StartTransaction", start_16()))[2]["transactionId"]
    await first.socket.close(1000, "power loss")
    await until(lambda: not world.gateway._sessions)
    second = await world.dial("ocpp1.6")

    again = (await second.call("StartTransaction", start_16(), message_id="another"))[2]["transactionId"]
    await second.call("StopTransaction", stop_16(again, reason="PowerLoss"))

    assert again == number
    started, repeated, ended = await world.events()
    assert isinstance(started, TransactionStarted)
    assert started == repeated
    assert isinstance(ended, TransactionEnded)
    assert (ended.transaction_id, ended.stopped_reason) == (str(number), "PowerLoss")
    assert len(set(await world.event_ids())) == 2


async def test_a_number_is_looked_up_once_in_a_connection(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    station = await world.dial("ocpp1.6")
    number = (await station.call("StartTransaction", start_16(timestamp=AT)))[2]["transactionId"]
    looked_up: list[int] = []
    numbers = world.gateway._services.numbers
    is_given = numbers.is_given

    async def counted(*where: Any) -> bool:
        looked_up.append(where[-1])
        answer: bool = await is_given(*where)
        return answer

    monkeypatch.setattr(numbers, "is_given", counted)
    for wh in range(2_000, 2_005):
        await station.call("MeterValues", meter_16(number, wh))

    assert looked_up == [number]
