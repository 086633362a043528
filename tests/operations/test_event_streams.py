"""Periodic event streams (OCPP 2.1, N11-N15), from the station's frames to the API."""

from __future__ import annotations

from typing import Any

import pytest

from emobility.domain.errors import MalformedInput
from emobility.protocols.station_control.told import stream_values_of
from services.charging_operations import event_streams
from services.charging_operations.event_streams import EVENT_STREAM
from tests.operations.connected import Connected, connected

OPEN = {"constantStreamData": {"id": 3, "variableMonitoringId": 12, "params": {"interval": 10, "values": 2}}}


async def send(talk: Connected, *values: tuple[float, str], base: str = "2022-03-27T08:00:00Z") -> None:
    """Have the station send values of stream 3, and wait for it."""
    before = await heard(talk)
    told = [{"t": at, "v": value} for at, value in values]
    payload = {"id": 3, "pending": 4, "basetime": base, "data": told}
    await talk.station.send([6, "s", "NotifyPeriodicEventStream", payload])

    async def came() -> bool:
        return await heard(talk) == before + len(values)

    await talk.here.until(came)


async def heard(talk: Connected) -> int:
    return sum(row.values_heard for row in await talk.here.rows(EVENT_STREAM))


async def test_a_stream_is_opened_reports_values_with_their_times_and_is_closed() -> None:
    async with connected() as talk:
        assert await talk.tell("OpenPeriodicEventStream", OPEN) == {"status": "Accepted"}
        await send(talk, (0, "231.2"), (10.5, "229"), (-1.25, "230"))
        (running,) = await talk.get("event-streams")
        values = await talk.get("event-streams/3/values")
        part = await talk.get("event-streams/3/values?from=2022-03-27T08:00:00Z&limit=1")
        await talk.tell("ClosePeriodicEventStream", {"id": 3})
        (closed,) = await talk.get("event-streams")
        await talk.tell("OpenPeriodicEventStream", OPEN)
        (again,) = await talk.get("event-streams")

    assert (running["variable_monitoring_id"], running["interval_s"], running["values_at_once"]) == (12, 10, 2)
    assert (running["pending"], running["values_heard"], running["closed_at"]) == (4, 3, None)
    assert [(each["at"], each["value"]) for each in values] == [
        ("2022-03-27T08:00:10.500000Z", "229"),
        ("2022-03-27T08:00:00Z", "231.2"),
        ("2022-03-27T07:59:58.750000Z", "230"),
    ]
    assert [each["value"] for each in part] == ["229"]
    assert closed["closed_at"] is not None
    assert (again["closed_at"], again["values_heard"]) == (None, 3)


async def test_of_a_stream_the_newest_values_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "VALUES_KEPT_MAX", 3)
    async with connected() as talk:
        await send(talk, (0, "a"), (1, "b"))
        await send(talk, (2, "c"), (3, "d"))
        some = [each["value"] for each in await talk.get("event-streams/3/values")]
        await send(talk, *((at, f"v{at}") for at in range(4, 9)))
        (stream,) = await talk.get("event-streams")
        last = [each["value"] for each in await talk.get("event-streams/3/values")]

    assert (some, last) == (["d", "c", "b"], ["v8", "v7", "v6"])
    assert (stream["values_heard"], stream["variable_monitoring_id"]) == (9, None)


async def test_more_streams_than_are_kept_of_a_station_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "STREAMS_MAX", 1)
    async with connected() as talk:
        await talk.tell("OpenPeriodicEventStream", OPEN)
        await talk.tell("OpenPeriodicEventStream", {"constantStreamData": OPEN["constantStreamData"] | {"id": 4}})

        assert [each["stream_id"] for each in await talk.get("event-streams")] == [3]


@pytest.mark.parametrize(("base", "offset_s"), [("2022-03-27T08:00:00Z", 1e12), ("9999-12-31T23:59:59Z", 2)])
def test_a_value_s_time_that_no_calendar_has_is_refused(base: str, offset_s: float) -> None:
    with pytest.raises(MalformedInput):
        stream_values_of({"basetime": base, "data": [{"t": offset_s, "v": "1"}]})


async def test_a_stream_is_adjusted_and_what_runs_is_asked_for() -> None:
    def running(stream_id: int) -> dict[str, Any]:
        return OPEN["constantStreamData"] | {"id": stream_id, "params": {"interval": 60}}

    async with connected() as talk:
        await talk.tell("OpenPeriodicEventStream", OPEN)
        _, adjusted = await talk.command("POST", "event-streams/3/adjust", {"interval_s": 30})
        (changed,) = await talk.get("event-streams")
        _, asked = await talk.command("POST", "event-streams/refresh", says={"constantStreamData": [running(5)]})
        streams = {each["stream_id"]: each for each in await talk.get("event-streams")}

    assert adjusted == ["AdjustPeriodicEventStream", {"id": 3, "params": {"interval": 30}}]
    assert (changed["interval_s"], changed["values_at_once"]) == (30, None)
    assert asked == ["GetPeriodicEventStream", {}]
    assert (streams[5]["interval_s"], streams[5]["closed_at"]) == (60, None)
    assert streams[3]["closed_at"] is not None
