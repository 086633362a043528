"""One connection owns a station; a second one of the same identity has to prove the first is dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from charge_point_gateway.gateway import GatewayOptions, GatewayService, build
from charge_point_gateway.presence import PresenceBook, StationOwnedElsewhere
from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.security import station_identity
from emobility.adapters.memory import memory_frame_pair
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.ports.frames import SocketClosed
from emobility.protocols.station_control.messages import CommandResult, Reset, StationCommand
from tests.gateway.conftest import PARTY, PASSWORD, STATION, Station, World, ports_of, settings_for_tests, until

IDENTITY = station_identity(PARTY, STATION)
RESET = StationCommand(correlation_id="c", timeout_s=5, reset=Reset())


async def is_served(station: Station) -> bool:
    try:
        answer = await station.call("Heartbeat", {})
    except SocketClosed:
        return False
    return answer[:1] == [3]


@asynccontextmanager
async def second_gateway(world: World) -> AsyncIterator[GatewayService]:
    """Another process over the same database, with an address of its own."""
    settings = settings_for_tests(gateway_api_url="http://gateway-b.test")
    gateway = build(
        settings,
        ports_of(world.adapters, world.clock, world.http),
        GatewayOptions(probe_timeout_s=0.2, drain_spread_s=0),
    )
    world.http.mount(settings.gateway_api_url, gateway.app)
    stop = asyncio.Event()
    task = asyncio.create_task(gateway.run(stop))
    yield gateway
    stop.set()
    await task


async def dial_at(gateway: GatewayService) -> Station:
    ours, theirs = memory_frame_pair()
    await gateway.accept(
        path=f"/ocpp/{PARTY}/{STATION}",
        username=STATION,
        password=PASSWORD,
        subprotocols=("ocpp2.0.1",),
        socket=ours,
    )
    return Station(theirs)


async def test_a_living_connection_is_not_displaced_by_a_second_one_with_the_right_password(world: World) -> None:
    first = await world.dial()
    assert await is_served(first)

    second = await world.dial()

    assert not await is_served(second)
    assert await is_served(first)
    row = await world.gateway.presence.find(IDENTITY)
    assert row is not None
    assert (row.fence, row.is_online) == (1, True)
    refused = world.gateway.metrics.duplicate_identity.labels("refused")
    assert refused._value.get() == 1


async def test_a_silent_connection_is_evicted_after_the_named_limit(world: World) -> None:
    first = await world.dial()
    assert await is_served(first)
    first.socket.is_silent = True

    second = await world.dial()

    assert await is_served(second)
    row = await world.gateway.presence.find(IDENTITY)
    assert row is not None
    assert (row.fence, row.is_online) == (2, True)


async def test_no_frame_of_a_parked_connection_is_handled_before_it_owns_the_station(world: World) -> None:
    first = await world.dial()
    assert await is_served(first)
    first.socket.is_silent = True
    second = await world.dial()
    await second.send('[2,"s","SecurityEventNotification",{"type":"x","timestamp":"2022-03-27T01:00:00Z"}]')

    for _ in range(50):
        await asyncio.sleep(0)
    assert await world.events() == []
    assert (await second.receive())[:2] == [3, "s"]


async def test_only_one_connection_can_be_parked_per_station(world: World) -> None:
    first = await world.dial()
    assert await is_served(first)
    first.socket.is_silent = True

    second, third = await world.dial(), await world.dial()

    assert not await is_served(third)
    assert await is_served(second)


async def test_a_late_close_of_an_evicted_connection_leaves_the_live_one_in_the_book(world: World) -> None:
    first = await world.dial()
    assert await is_served(first)
    session = world.gateway._sessions[IDENTITY]
    first.socket.is_silent = True
    second = await world.dial()
    assert await is_served(second)

    await world.gateway._leave(session)

    row = await world.gateway.presence.find(IDENTITY)
    assert row is not None
    assert (row.fence, row.is_online) == (2, True)
    assert await is_served(second)


async def test_a_station_that_left_is_offline_and_may_come_back(world: World) -> None:
    first = await world.dial()
    assert await is_served(first)
    await first.socket.close(1000, "bye")
    await until(lambda: IDENTITY not in world.gateway._sessions)
    await until(lambda: world.gateway.pending == 0)

    assert (await world.gateway.command(IDENTITY, RESET)).result is CommandResult.STATION_OFFLINE
    assert await is_served(await world.dial())
    row = await world.gateway.presence.find(IDENTITY)
    assert row is not None
    assert row.fence == 2


async def test_the_owner_at_another_gateway_is_asked_over_http(world: World) -> None:
    first = await world.dial()
    assert await is_served(first)
    async with second_gateway(world) as other:
        refused = await dial_at(other)
        assert not await is_served(refused)

        first.socket.is_silent = True
        accepted = await dial_at(other)
        assert await is_served(accepted)

        row = await world.gateway.presence.find(IDENTITY)
        assert row is not None
        assert (row.fence, row.gateway_url) == (2, "http://gateway-b.test")


async def test_a_gateway_that_is_gone_loses_its_stations(world: World) -> None:
    assert await is_served(await world.dial())
    async with second_gateway(world) as other:
        world.http.cut("http://gateway-a.test")

        assert await is_served(await dial_at(other))


async def test_a_station_owned_before_a_crash_of_its_gateway_is_taken_over_at_once(world: World) -> None:
    await world.gateway.presence.claim(IDENTITY, OCPPVersion.V201, seen_fence=0)

    assert await is_served(await world.dial())


async def test_a_command_reaches_the_owner_from_any_gateway(world: World) -> None:
    async with second_gateway(world) as other:
        station = await dial_at(other)
        assert await is_served(station)

        outcome = asyncio.create_task(world.gateway.command(IDENTITY, RESET))
        message = await station.receive()
        await station.send([3, message[1], {"status": "Scheduled"}])

        assert message[2:] == ["Reset", {"type": "OnIdle"}]
        assert (await outcome).result is CommandResult.ACCEPTED


async def test_a_gateway_whose_fence_is_old_sends_no_calls(world: World) -> None:
    station = await world.dial()
    assert await is_served(station)
    await world.gateway.presence.claim(IDENTITY, OCPPVersion.V201, seen_fence=1)

    assert (await world.gateway.command(IDENTITY, RESET)).result is CommandResult.STATION_OFFLINE


@pytest.mark.parametrize("stations", [40])
async def test_flapping_leaves_neither_ghost_nor_orphan(world: World, stations: int) -> None:
    for _ in range(stations):
        station = await world.dial()
        await station.socket.close(1006, "gone")
    last = await world.dial()

    assert await is_served(last)
    row = await world.gateway.presence.find(IDENTITY)
    assert row is not None
    assert row.is_online
    assert list(world.gateway._sessions) == [IDENTITY]
    assert world.gateway._parked == set()


@pytest.mark.postgres
async def test_of_two_gateways_that_claim_a_new_station_at_once_one_is_told_it_was_late(postgres_dsn: str) -> None:
    async with open_postgres(
        postgres_dsn, master_key=bytes(32), clock=SystemClock(), randomness=SystemRandomness()
    ) as postgres:
        books = [
            PresenceBook(postgres.units, SystemClock(), gateway_url=f"http://gateway-{n}.test", gateway_run=n)
            for n in "ab"
        ]
        for number in range(20):
            identity = station_identity(PARTY, f"NEW-{number}")
            claims = await asyncio.gather(
                *(book.claim(identity, OCPPVersion.V16, seen_fence=0) for book in books), return_exceptions=True
            )
            assert [type(each) for each in claims if each != 1] == [StationOwnedElsewhere]
