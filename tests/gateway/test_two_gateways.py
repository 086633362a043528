"""Two real gateways over one PostgreSQL: one dies, hangs or leaves; stations move, and commands find them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from charge_point_gateway.gateway import GatewayOptions
from charge_point_gateway.gateway_leases import BEAT_INTERVAL_S, LOOKS_WITHOUT_BEAT_MAX
from tests.gateway.charging_stations import ChargingStation, stations
from tests.gateway.gateway_processes import GatewayProcess, api, command, gateways, presence
from tests.gateway.test_killed_gateway import assert_all_is_stored, charging, progress, taken_in

STATIONS: Final = 24
MOVED_WITHIN_S: Final = 40.0
DEADLINE_S: Final = 120.0
SILENT: Final = "CS-SILENT"
CLEAR: Final = {"STATION_OFFLINE", "TIMED_OUT"}

pytestmark = [pytest.mark.fault, pytest.mark.timeout(DEADLINE_S * 2)]


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(MOVED_WITHIN_S):
        while not await holds():  # noqa: ASYNC110 - another process sends no event
            await asyncio.sleep(0.1)


async def all_at(gateway: GatewayProcess, mixed: list[ChargingStation]) -> bool:
    rows = await presence(gateway)
    return all(rows.get(station.name) == (True, gateway.api_url) for station in mixed)


async def results(gateway: GatewayProcess, mixed: list[ChargingStation]) -> set[str]:
    return set(await asyncio.gather(*(command(gateway, station.name) for station in mixed)))


async def test_stations_of_a_killed_gateway_move_and_commands_reach_them_through_any_node(
    postgres_dsn: str, tmp_path: Path
) -> None:
    async with gateways(postgres_dsn, tmp_path, 2) as [first, second], asyncio.timeout(DEADLINE_S):
        mixed = stations(STATIONS, [first.ocpp_url, second.ocpp_url])
        silent = ChargingStation(SILENT, "ocpp2.0.1", [first.ocpp_url], may_answer=False)
        await first.enter([*(station.name for station in mixed), SILENT])
        async with charging([*mixed, silent]):
            await progress([*mixed, silent], 200)
            assert await results(first, mixed) == await results(second, mixed) == {"ACCEPTED"}
            mixed[0].answers_after_s = 0.1
            asked = [command(gateway, mixed[0].name) for gateway in (first, second) for _ in range(6)]
            assert set(await asyncio.gather(*asked)) == {"ACCEPTED"}

            in_flight = asyncio.create_task(command(second, SILENT, timeout_s=60))
            await eventually(lambda: has_call(silent))
            await first.kill()
            assert await in_flight in CLEAR
            meanwhile = await results(second, mixed)
            assert meanwhile <= {"ACCEPTED", *CLEAR}
            await eventually(lambda: all_at(second, mixed))

            assert await results(second, mixed) == {"ACCEPTED"}
            await eventually(lambda: is_offline(second, SILENT))
            await first.start()
            assert await results(first, mixed) == {"ACCEPTED"}
            await progress(mixed, 200)
            await eventually(lambda: is_back(first, silent))
    taken, _ = await taken_in(postgres_dsn)

    assert_all_is_stored([*mixed, silent], taken)
    assert mixed[0].calls_at_once_max == 1, "one CALL at a time, whichever gateways are asked"


async def has_call(station: ChargingStation) -> bool:
    return bool(station.calls_at_once_max)


async def is_offline(gateway: GatewayProcess, station: str) -> bool:
    return not (await presence(gateway))[station][0]


async def is_back(gateway: GatewayProcess, station: ChargingStation) -> bool:
    return (await presence(gateway))[station.name] == (True, gateway.api_url)


async def test_what_a_gateway_that_hung_writes_too_late_counts_for_nothing(postgres_dsn: str, tmp_path: Path) -> None:
    async with gateways(postgres_dsn, tmp_path, 2) as [first, second], asyncio.timeout(DEADLINE_S):
        mixed = stations(6, [first.ocpp_url, second.ocpp_url])
        for station in mixed:
            station.urls = [first.ocpp_url, second.ocpp_url]
        await first.enter(station.name for station in mixed)
        async with charging(mixed):
            await progress(mixed, 60)
            assert await all_at(first, mixed)

            first.send_signal(signal.SIGSTOP)
            # A station notices by itself, after its own time-out; here it is told to.
            for station in mixed:
                assert station.connection is not None
                station.connection.transport.abort()
            for station in mixed:
                station.urls = [second.ocpp_url]
            await eventually(lambda: all_at(second, mixed))
            first.send_signal(signal.SIGCONT)
            await eventually(lambda: has_nobody(first))

            assert await all_at(second, mixed), "a late write of the old owner counted"
            assert await results(first, mixed) == await results(second, mixed) == {"ACCEPTED"}
            await progress(mixed, 60)
    taken, _ = await taken_in(postgres_dsn)

    assert_all_is_stored(mixed, taken)


async def has_nobody(gateway: GatewayProcess) -> bool:
    async with api(gateway) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("ocpp_connections_active{")) == 0


@pytest.mark.long
async def test_a_gateway_that_leaves_hands_its_stations_over_one_after_the_other(
    postgres_dsn: str, tmp_path: Path
) -> None:
    async with gateways(postgres_dsn, tmp_path, 2) as [first, second], asyncio.timeout(DEADLINE_S):
        mixed = stations(40, [first.ocpp_url])
        for station in mixed:
            station.urls = [first.ocpp_url, second.ocpp_url]
        await first.enter(station.name for station in mixed)
        async with charging(mixed):
            await eventually(lambda: all_at(first, mixed))
            await progress(mixed, 200)

            assert await first.terminate(within_s=30) == 0

            await eventually(lambda: all_at(second, mixed))
            assert await results(second, mixed) == {"ACCEPTED"}
            came = sorted(station.connected_at_s[-1] for station in mixed)
            await progress(mixed, 200)
    taken, _ = await taken_in(postgres_dsn)

    assert_all_is_stored(mixed, taken)
    assert came[-1] - came[0] >= GatewayOptions().drain_spread_s / 2  # how evenly, a test on virtual time looks at


def test_the_bounds_of_this_file_leave_room_for_what_they_wait_for() -> None:
    assert BEAT_INTERVAL_S * (LOOKS_WITHOUT_BEAT_MAX + 2) < MOVED_WITHIN_S
