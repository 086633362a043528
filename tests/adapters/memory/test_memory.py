"""The world in memory under its own time: deterministic, and without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from emobility.adapters.memory import (
    MemoryHttp,
    SeededRandomness,
    SimulationStuck,
    VirtualClock,
    memory_adapters,
    memory_frame_pair,
    run_virtual,
)
from emobility.domain.identifiers import PartyId
from emobility.events.charging import CHARGING, StationBooted
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.frames import SocketClosed
from emobility.ports.http import EgressRefused, PeerTimedOut, PeerUnreachable
from emobility.ports.unit_of_work import UnitOfWork

T0: Final = datetime(2022, 3, 27, tzinfo=UTC)


async def _simulated(seed: int) -> bytes:
    """Stations report at random moments; a consumer answers each with an event of its own."""
    clock, randomness = VirtualClock(T0), SeededRandomness(seed)
    world = memory_adapters(master_key=bytes(32), clock=clock, randomness=randomness)
    stop = asyncio.Event()

    def booted(station: str, model: str) -> Envelope:
        event = StationBooted(
            party_id=PartyId("NL-TNM"),
            charging_station_id=station,
            ocpp_version="1.6",
            vendor=randomness.uuid(),
            model=model,
            booted_at=T0,
        )
        return Envelope(event=event, event_id=randomness.uuid(), correlation_id="c", recorded_at=clock.now())

    async def answer(unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        for logged in events:
            event: Any = logged.envelope.event
            if event.model == "question":
                await asyncio.sleep(randomness.token_bytes(1)[0] / 100)
                unit.emit(booted(event.charging_station_id, "answer"))

    async def station(number: int) -> None:
        for _ in range(5):
            await asyncio.sleep(randomness.token_bytes(1)[0])
            await world.event_log.append([booted(f"S{number}", "question")])

    consumer = asyncio.create_task(world.event_log.consume("answers", [CHARGING], answer, stop=stop))
    await asyncio.gather(*(station(number) for number in range(10)))
    await asyncio.sleep(3_600)
    stop.set()
    await consumer
    assert await world.event_log.lag() == {"answers": 0}
    return world.event_log.dump()


def test_two_runs_of_one_seed_give_the_same_log_byte_for_byte_and_another_seed_does_not() -> None:
    first, second, other = (run_virtual(_simulated(seed)) for seed in (1, 1, 2))

    assert first.count(b"\n") == 100
    assert first == second
    assert first != other


def test_hours_of_a_virtual_loop_pass_without_waiting() -> None:
    async def sleep_for_days() -> float:
        await asyncio.gather(*(asyncio.sleep(day * 86_400) for day in range(30)))
        return asyncio.get_running_loop().time()

    assert run_virtual(sleep_for_days()) == pytest.approx(29 * 86_400)


def test_a_time_out_in_virtual_time_happens() -> None:
    async def wait_too_long() -> None:
        async with asyncio.timeout(10):
            await asyncio.sleep(11)

    with pytest.raises(TimeoutError):
        run_virtual(wait_too_long())


def test_a_simulation_in_which_nothing_can_happen_any_more_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emobility.adapters.memory.time.STUCK_AFTER_S", 0.01)

    async def wait_for_nothing() -> None:
        await asyncio.Event().wait()

    with pytest.raises(SimulationStuck):
        run_virtual(wait_for_nothing())


async def test_a_stepped_clock_wakes_sleepers_in_the_order_of_their_time() -> None:
    clock, woken = VirtualClock(T0), []

    async def sleep(hours: int) -> None:
        await clock.sleep_until(T0 + timedelta(hours=hours))
        woken.append(hours)

    sleepers = [asyncio.create_task(sleep(hours)) for hours in (3, 1, 2)]
    await asyncio.sleep(0)
    clock.step_to(T0 + timedelta(hours=2))
    await asyncio.sleep(0)

    assert woken == [1, 2]
    assert clock.next_wake() == T0 + timedelta(hours=3)
    with pytest.raises(AssertionError, match="does not run back"):
        clock.step_to(T0)
    clock.step_by(timedelta(hours=1))
    await asyncio.gather(*sleepers)


async def test_frames_sent_before_a_close_still_arrive_and_then_both_ends_are_closed() -> None:
    station, gateway = memory_frame_pair()

    await station.send("[2]")
    await station.close(1000, "done")
    await station.close(1001, "again")

    assert await gateway.receive() == "[2]"
    for end in (gateway, station):
        with pytest.raises(SocketClosed) as closed:
            await end.receive()
        assert (closed.value.code, closed.value.reason) == (1000, "done")
    with pytest.raises(SocketClosed):
        await gateway.send("[3]")


async def test_a_sender_waits_for_a_reader_that_is_slow() -> None:
    station, gateway = memory_frame_pair()
    sending = asyncio.create_task(_send_many(station, 200))
    await asyncio.sleep(0)
    assert not sending.done()

    received = [await gateway.receive() for _ in range(200)]
    await sending

    assert received == [str(number) for number in range(200)]


async def _send_many(socket: Any, count: int) -> None:
    for number in range(count):
        await socket.send(str(number))


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/slow":
        await asyncio.sleep(60)
    body = (await receive()).get("body", b"")
    await send({"type": "http.response.start", "status": 201, "headers": [(b"X-Path", scope["path"].encode())]})
    await send({"type": "http.response.body", "body": body})


async def test_http_in_memory_refuses_a_header_that_the_real_one_refuses() -> None:
    http = MemoryHttp()
    http.mount("http://cpo.test", _echo)

    with pytest.raises(EgressRefused, match="header"):
        await http.request("GET", "http://cpo.test/", headers={"X-Correlation-ID": "\u00e9-1"})


def test_http_in_memory_answers_times_out_and_refuses_as_the_real_one() -> None:
    async def call() -> tuple[Any, ...]:
        http = MemoryHttp()
        http.mount("http://cpo.test:80", _echo)
        answer = await http.request("POST", "http://cpo.test:80/x", headers={}, body=b"hi")
        with pytest.raises(PeerTimedOut):
            await http.request("GET", "http://cpo.test:80/slow", headers={})
        with pytest.raises(EgressRefused):
            await http.request("GET", "http://inside.test/", headers={})
        http.allow_origin("http://gone.test/ocpi")
        with pytest.raises(PeerUnreachable):
            await http.request("GET", "http://gone.test/ocpi/x", headers={})
        http.cut("http://cpo.test:80")
        with pytest.raises(PeerUnreachable):
            await http.request("GET", "http://cpo.test:80/x", headers={})
        http.mend("http://cpo.test:80")
        await http.request("GET", "http://cpo.test:80/x", headers={})
        return answer.status, answer.headers["x-path"], answer.body

    assert run_virtual(call()) == (201, "/x", b"hi")
