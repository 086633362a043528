"""kill -9 of a real gateway process, again and again, under load: what was acknowledged is stored, exactly."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from emobility.adapters.postgres import PostgresAdapters, open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.events.charging import TransactionEnded, TransactionEvent, TransactionStarted
from emobility.events.event import LoggedEvent
from emobility.ports.unit_of_work import Novelty, UnitOfWork
from tests.gateway.charging_stations import ChargingStation, Reported, stations
from tests.gateway.gateway_processes import MASTER_KEY, gateways

IS_SOAKED: Final = "WATTROAM_SOAK" in os.environ
STATIONS, KILLS = (300, 10) if IS_SOAKED else (120, 5)
"""The whole of it takes a minute and a half on two busy cores: `make soak`."""
MESSAGES_BETWEEN_KILLS: Final = (300, 900)
SEED: Final = int(os.environ.get("WATTROAM_FAULT_SEED", "7"))
DEADLINE_S: Final = 240.0
GROUP: Final = "whoever reads"

pytestmark = pytest.mark.fault


@pytest.mark.timeout(DEADLINE_S * 2)
async def test_mixed_stations_lose_and_double_nothing_when_their_gateway_is_killed(
    postgres_dsn: str, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    async with gateways(postgres_dsn, tmp_path) as [gateway], asyncio.timeout(DEADLINE_S):
        mixed = stations(STATIONS, [gateway.ocpp_url], seed=SEED)
        await gateway.enter(station.name for station in mixed)
        async with charging(mixed):
            for _ in range(KILLS):
                await progress(mixed, chance.randrange(*MESSAGES_BETWEEN_KILLS))
                await gateway.kill()
                await gateway.start()
            await progress(mixed, MESSAGES_BETWEEN_KILLS[0])
    taken, repeated = await taken_in(postgres_dsn)

    tell(mixed, repeated)
    assert_all_is_stored(mixed, taken)
    assert repeated > 0, "no kill fell between a commit and its acknowledgement: nothing was put to the test"


async def test_a_stopped_gateway_drains_and_leaves_with_success(postgres_dsn: str, tmp_path: Path) -> None:
    async with gateways(postgres_dsn, tmp_path) as [gateway]:
        mixed = stations(30, [gateway.ocpp_url])
        await gateway.enter(station.name for station in mixed)
        async with charging(mixed):
            await all_connected(mixed)
            await progress(mixed, 300)

            assert await gateway.terminate(within_s=30) == 0

            await gateway.start()
            await all_connected(mixed, times=2)
            await progress(mixed, 300)
        assert {code for station in mixed for code in station.close_codes[:1]} == {1001}
    taken, _ = await taken_in(postgres_dsn)

    assert_all_is_stored(mixed, taken)


# -- load -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def charging(mixed: Sequence[ChargingStation]) -> AsyncIterator[None]:
    """Let stations charge; at the end each ends the charge it is at."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(station.run(stop)) for station in mixed]
    try:
        yield
        stop.set()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def acknowledged(mixed: Sequence[ChargingStation]) -> int:
    return sum(len(station.acknowledged) for station in mixed)


async def progress(mixed: Sequence[ChargingStation], messages: int) -> None:
    """Return when so many more messages were acknowledged."""
    goal = acknowledged(mixed) + messages
    async with asyncio.timeout(DEADLINE_S):
        while acknowledged(mixed) < goal:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def all_connected(mixed: Sequence[ChargingStation], *, times: int = 1) -> None:
    """Return when each station was let in so often: a gateway takes them in turn while others charge already."""
    async with asyncio.timeout(DEADLINE_S):
        while any(len(station.connected_at_s) < times for station in mixed):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)


# -- what came of it --------------------------------------------------------------------------------------------------


async def taken_in(dsn: str) -> tuple[dict[str, list[TransactionEvent]], int]:
    """Consume the log as a back office does; return each station's events in order, and how many were repetitions."""
    taken: dict[str, list[TransactionEvent]] = {}
    repeated = 0

    async def take(unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        nonlocal repeated
        for logged in batch:
            event = logged.envelope.event
            if not isinstance(event, TransactionEvent):
                continue
            novelty = await unit.novelty(GROUP, logged.envelope)
            assert novelty is not Novelty.CONFLICTING, logged
            if novelty is Novelty.NEW:
                taken.setdefault(event.charging_station_id, []).append(event)
            else:
                repeated += 1

    async with opened(dsn) as postgres:
        stop = asyncio.Event()
        consuming = asyncio.create_task(postgres.event_log.consume(GROUP, ("charging",), take, stop=stop))
        async with asyncio.timeout(DEADLINE_S):
            while (await postgres.event_log.lag()).get(GROUP, 1):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        stop.set()
        await consuming
        assert await postgres.event_log.parked(GROUP) == []
    return taken, repeated


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[PostgresAdapters]:
    async with open_postgres(
        dsn, master_key=bytes.fromhex(MASTER_KEY), clock=SystemClock(), randomness=SystemRandomness()
    ) as postgres:
        yield postgres


def assert_all_is_stored(mixed: Sequence[ChargingStation], taken: dict[str, list[TransactionEvent]]) -> None:
    """Each acknowledged message once, in the station's order, and the energy of the registers."""
    stored_wh = 0
    for station in mixed:
        events = taken.get(station.name, [])
        assert station.refusals == []
        assert reported_by(events) == station.acknowledged, station.name
        stored_wh += sum(energies_wh(events))
    assert stored_wh == sum(station.charged_wh for station in mixed)
    assert min(station.charges for station in mixed) >= 1


def reported_by(events: Sequence[TransactionEvent]) -> list[Reported]:
    """Say what the stored events say in the station's own words."""
    charges: dict[str, int] = {}
    counts: dict[str, int] = {}
    said = []
    for event in events:
        charge = charges.setdefault(event.transaction_id, len(charges))
        number = counts[event.transaction_id] = counts.get(event.transaction_id, -1) + 1
        assert event.seq_no in {None, number}
        said.append(Reported(charge, number, register_wh(event)))
    return said


def register_wh(event: TransactionEvent) -> int:
    wh: Any = event.readings[0].import_wh
    assert type(wh) is int
    return wh


def energies_wh(events: Sequence[TransactionEvent]) -> list[int]:
    """Return the energy of each transaction, from its first register to its last."""
    starts = {each.transaction_id: register_wh(each) for each in events if isinstance(each, TransactionStarted)}
    ends = {each.transaction_id: register_wh(each) for each in events if isinstance(each, TransactionEnded)}
    assert starts.keys() == ends.keys()
    return [ends[transaction_id] - starts[transaction_id] for transaction_id in starts]


def tell(mixed: Sequence[ChargingStation], repeated: int) -> None:
    sys.stdout.write(
        f"seed {SEED}: {len(mixed)} stations, {acknowledged(mixed)} messages acknowledged and stored once, {repeated} "
        f"stored before and sent again, {sum(station.charges for station in mixed)} charges, "
        f"{sum(station.charged_wh for station in mixed)} Wh, "
        f"{sum(len(station.connected_at_s) for station in mixed)} connections\n"
    )
