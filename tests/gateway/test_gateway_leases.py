"""A gateway that is gone holds no station for long, and one that was only slow gets its own back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from charge_point_gateway.gateway import GatewayOptions, GatewayService, build
from charge_point_gateway.gateway_leases import (
    BEAT_INTERVAL_S,
    GATEWAY_LEASE,
    LOOKS_WITHOUT_BEAT_MAX,
    GatewayLeases,
)
from charge_point_gateway.presence import STATION_PRESENCE, PresenceBook, StationPresenceRow
from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.security import station_identity
from emobility.adapters.memory import LoopTimer, memory_frame_pair, run_virtual
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.domain.errors import Unavailable
from emobility.protocols.station_control.client import COMMAND_SLACK_S
from emobility.protocols.station_control.messages import CommandResult, Reset, StationCommand
from tests.gateway.conftest import PARTY, PASSWORD, STATION, Station, World, ports_of, running_world, settings_for_tests

IDENTITY = station_identity(PARTY, STATION)
RESET = StationCommand(correlation_id="c", timeout_s=5, reset=Reset())
GONE_WITHIN_S = BEAT_INTERVAL_S * (LOOKS_WITHOUT_BEAT_MAX + 2)


async def row_of(world: World) -> StationPresenceRow:
    row = await world.gateway.presence.find(IDENTITY)
    assert row is not None
    return row


@asynccontextmanager
async def other_gateway(
    world: World, name: str = "gateway-b"
) -> AsyncIterator[tuple[GatewayService, asyncio.Task[Any]]]:
    """Another process over the same database; cancel its task to kill it."""
    settings = settings_for_tests(gateway_api_url=f"http://{name}.test")
    ports = ports_of(world.adapters, world.clock, world.http, randomness=SystemRandomness())
    gateway = build(settings, ports, GatewayOptions(probe_timeout_s=0.2, drain_spread_s=0))
    world.http.mount(settings.gateway_api_url, gateway.app)
    stop = asyncio.Event()
    task = asyncio.create_task(gateway.run(stop))
    yield gateway, task
    stop.set()
    await asyncio.wait({task})


async def dial_at(gateway: GatewayService) -> Station:
    ours, theirs = memory_frame_pair()
    await gateway.accept(
        path=f"/ocpp/{PARTY}/{STATION}", username=STATION, password=PASSWORD, subprotocols=("ocpp1.6",), socket=ours
    )
    station = Station(theirs)
    assert (await station.call("Heartbeat", {}))[0] == 3
    return station


def in_a_world(story: Callable[[World], Awaitable[None]]) -> None:
    async def told() -> None:
        async with running_world(GatewayOptions(probe_timeout_s=0.2, drain_spread_s=0)) as world:
            await story(world)

    run_virtual(told())


def test_a_killed_gateway_s_stations_are_offline_soon_and_no_command_waits_for_it() -> None:
    async def story(world: World) -> None:
        async with other_gateway(world) as (other, task):
            await dial_at(other)
            await asyncio.sleep(GONE_WITHIN_S * 3)
            assert (await row_of(world)).is_online

            task.cancel()
            world.http.cut("http://gateway-b.test")
            assert (await world.gateway.command(IDENTITY, RESET)).result is CommandResult.STATION_OFFLINE
            await asyncio.sleep(GONE_WITHIN_S)

            assert not (await row_of(world)).is_online
            assert (await world.gateway.command(IDENTITY, RESET)).result is CommandResult.STATION_OFFLINE
            async with world.adapters.units.begin() as unit:
                assert [each.gateway_url for each in await unit.table(GATEWAY_LEASE).select()] == [
                    "http://gateway-a.test"
                ]

    in_a_world(story)


def test_a_slow_gateway_takes_its_stations_back_under_a_new_fence() -> None:
    async def story(world: World) -> None:
        async with other_gateway(world) as (other, _):
            station = await dial_at(other)
            before = await row_of(world)
            async with world.adapters.units.begin() as unit:  # as another gateway does that saw no beat
                for lease in await unit.table(GATEWAY_LEASE).select({"gateway_url": "http://gateway-b.test"}):
                    await unit.table(GATEWAY_LEASE).put(replace(lease, is_gone=True))
                await unit.table(STATION_PRESENCE).put(replace(before, is_online=False))
                await unit.commit()

            await asyncio.sleep(BEAT_INTERVAL_S * 2)

            after = await row_of(world)
            assert (after.is_online, after.fence) == (True, before.fence + 1)
            assert await world.gateway.presence.release(IDENTITY, before.fence) is False, "a release that came late"
            asked = asyncio.create_task(world.gateway.command(IDENTITY, RESET))
            _, message_id, action, _ = await station.receive()
            await station.send([3, message_id, {"status": "Accepted"}])
            assert (action, (await asked).result) == ("Reset", CommandResult.ACCEPTED)

    in_a_world(story)


def test_a_slow_gateway_closes_what_went_elsewhere_meanwhile() -> None:
    async def story(world: World) -> None:
        async with other_gateway(world) as (other, _):
            station = await dial_at(other)
            async with world.adapters.units.begin() as unit:
                for lease in await unit.table(GATEWAY_LEASE).select({"gateway_url": "http://gateway-b.test"}):
                    await unit.table(GATEWAY_LEASE).remove(lease.gateway_run)
                await unit.commit()
            fence = (await row_of(world)).fence
            await world.gateway.presence.claim(IDENTITY, OCPPVersion.V16, seen_fence=fence)

            with pytest.raises(Exception, match="1001"):
                await station.receive()

            row = await row_of(world)
            assert (row.is_online, row.fence, row.gateway_url) == (True, fence + 1, "http://gateway-a.test")

    in_a_world(story)


def test_a_gateway_that_starts_again_has_none_of_the_stations_of_its_earlier_run() -> None:
    async def story(world: World) -> None:
        async with other_gateway(world) as (other, task):
            await dial_at(other)
            task.cancel()
        async with other_gateway(world):
            await asyncio.sleep(BEAT_INTERVAL_S / 2)

            assert not (await row_of(world)).is_online

    in_a_world(story)


def test_a_gateway_that_leaves_in_order_leaves_no_lease() -> None:
    async def story(world: World) -> None:
        async with other_gateway(world):
            await asyncio.sleep(BEAT_INTERVAL_S)
        async with world.adapters.units.begin() as unit:
            assert len(await unit.table(GATEWAY_LEASE).select()) == 1

    in_a_world(story)


def test_a_database_that_was_away_costs_nobody_its_stations() -> None:
    """Neither gateway could beat, and neither could look."""

    async def story(world: World) -> None:
        book = PresenceBook(world.adapters.units, world.clock, gateway_url="http://c.test", gateway_run="c")
        lost: list[str] = []

        async def on_lost() -> None:
            lost.append("c")

        units: Any = SometimesAway(world.adapters.units)
        own = GatewayLeases(units, LoopTimer(), book, on_lost=on_lost)
        running = asyncio.create_task(own.run())
        async with other_gateway(world) as (other, _):
            other._leases._units = units
            await dial_at(other)
            await asyncio.sleep(GONE_WITHIN_S)

            units.is_away = True
            await asyncio.sleep(GONE_WITHIN_S * 10)
            units.is_away = False
            await asyncio.sleep(GONE_WITHIN_S)

            assert (await row_of(world)).is_online
            assert other._presence.gateway_run in own._seen
        running.cancel()

    # Here gateway A, whose database answered all the time, would be right to call the other one gone.
    async def without_the_first(world: World) -> None:
        never: Any = SometimesAway(world.adapters.units, is_away=True)
        world.gateway._leases._units = never
        await story(world)

    in_a_world(without_the_first)


async def never_answers(*_: Any) -> None:
    await asyncio.get_running_loop().create_future()


class SometimesAway:
    """A database that can be away."""

    def __init__(self, units: Any, *, is_away: bool = False) -> None:
        self._units = units
        self.is_away = is_away

    def begin(self) -> Any:
        if self.is_away:
            raise Unavailable("away")
        return self._units.begin()


def test_a_command_in_flight_at_a_gateway_that_dies_is_told_to_have_timed_out() -> None:
    """Whether the station got it nobody knows, so it is not "offline"."""

    async def story(world: World) -> None:
        async with other_gateway(world) as (other, _):
            await dial_at(other)
            world.http.mount("http://gateway-b.test", never_answers)
            began_s = asyncio.get_running_loop().time()

            assert (await world.gateway.command(IDENTITY, RESET)).result is CommandResult.TIMED_OUT
            assert asyncio.get_running_loop().time() - began_s <= RESET.timeout_s + COMMAND_SLACK_S

    in_a_world(story)


@pytest.mark.postgres
async def test_of_two_gateways_that_find_a_third_gone_each_station_is_released_once(postgres_dsn: str) -> None:
    async with open_postgres(
        postgres_dsn, master_key=bytes(32), clock=SystemClock(), randomness=SystemRandomness()
    ) as postgres:
        books = {
            name: PresenceBook(postgres.units, SystemClock(), gateway_url=f"http://{name}.test", gateway_run=name)
            for name in "abc"
        }

        async def on_lost() -> None:
            raise AssertionError("nobody lost a lease")

        leases = {
            name: GatewayLeases(postgres.units, LoopTimer(), book, on_lost=on_lost) for name, book in books.items()
        }
        for each in leases.values():
            await each.begin()
        for n in range(20):
            await books["c"].claim(station_identity(PARTY, f"CS-{n}"), OCPPVersion.V16, seen_fence=0)
        for _ in range(LOOKS_WITHOUT_BEAT_MAX + 2):
            await asyncio.gather(leases["a"].beat(), leases["b"].beat())
            await asyncio.gather(leases["a"].look(), leases["b"].look())
        await books["a"].claim(station_identity(PARTY, "CS-0"), OCPPVersion.V16, seen_fence=1)
        await books["b"].release_run("http://c.test", "c")

        rows = await books["a"].of_party(station_identity(PARTY, "x").party_id)

    assert {row.charging_station_id: row.is_online for row in rows} == {f"CS-{n}": n == 0 for n in range(20)}
