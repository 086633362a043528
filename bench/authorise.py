"""From a card held to a reader to the answer on its display: Authorize through gateway, CPO, hub and MSP, and back.

A whole installation runs, each process its own. Half of its stations charge in real time, which is the load; at the
others, drivers tap whose MSP decides in real time, so that each tap goes all the way and is quoted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final

from bench.figure import Figure, against_goal
from bench.servers import server_folder
from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.system import SystemClock, SystemTimer
from emobility.ports.frames import FrameSocket
from services.embedded.opening import settings_of
from services.embedded.run_folder import Installation
from services.embedded.stack import running
from simulator.backstage import HttpBackstage
from simulator.dialing import WebSocketDialer
from simulator.load import LoadPlan, LoadRun
from simulator.network import load_scenario
from simulator.quiet import quiet_by_http
from simulator.scenario import PlanKind, StationPlan
from simulator.stations.profile import OCPPVersion
from simulator.wiring import addresses_of

FIGURES: Final = ("authorise.tap_to_answer",)
STATIONS: Final = 40
STATIONS_SHORT: Final = 10
TAPS: Final = 300
TAPS_SHORT: Final = 25
TAPS_PER_S: Final = 5.0
SAMPLE_EVERY_S: Final = 0.2
"""Of each charge of the load."""
LOAD_S: Final = 600.0
ANSWERED_S_MAX: Final = 30.0
P99_MS_MAX: Final = 1_500.0
SEED: Final = 1


async def run(*, short: bool) -> list[Figure]:
    """Measure."""
    if short:
        return await measure(stations=STATIONS_SHORT, taps=TAPS_SHORT)
    return await measure(stations=STATIONS, taps=TAPS)


async def measure(*, stations: int, taps: int) -> list[Figure]:
    """Let drivers tap `taps` times at half of the stations while the others charge."""
    scenario = load_scenario(SEED, stations)
    # Each tap is a driver's first at its station, so that none is answered by a decision that stands.
    drivers = tuple(replace(driver, plan=PlanKind.PASS_THROUGH) for driver in scenario.drivers)
    scenario = replace(scenario, drivers=drivers)
    busy, quiet = scenario.stations[: stations // 2], scenario.stations[stations // 2 :]
    cards = [driver.rfid_uid for driver in drivers]
    assert taps <= len(quiet) * len(cards), "no driver taps twice at a station"
    with server_folder() as folder:
        installation = Installation.open_or_make(folder / "run", event_log="postgres")
        async with running(installation, on_change=lambda _: None) as stack:
            settings = settings_of(stack.installation)
            addresses = addresses_of(settings)
            async with GuardedHttpClient(embedded_origins=settings.embedded_origins) as http:
                await HttpBackstage(scenario, addresses=addresses, http=http, now=SystemClock().now).set_up()
                await quiet_by_http(addresses, http=http, timer=SystemTimer())()
            load = LoadRun(
                LoadPlan(
                    profiles=[each.profile for each in busy],
                    tokens=cards[: len(busy)],
                    duration_s=LOAD_S,
                    sample_every_s=SAMPLE_EVERY_S,
                ),
                now=SystemClock().now,
                timer=SystemTimer(),
                dialer=WebSocketDialer(),
                gateway_url=addresses.gateway_ocpp_url,
            )
            loading = asyncio.create_task(load.run())
            try:
                readers = [await Reader.connected(each, addresses.gateway_ocpp_url) for each in quiet]
                answers = await _tap(readers, cards, taps)
            finally:
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
    waits_ms = sorted(wait_ms for wait_ms, _ in answers)
    accepted = sum(is_accepted for _, is_accepted in answers)
    print(
        f"  {taps} taps, {accepted} accepted; p50 {waits_ms[len(waits_ms) // 2]:,.0f} ms;"
        f" {len(load.acknowledged)} messages of the load acknowledged meanwhile",
        file=sys.stderr,
    )
    return [against_goal(name=FIGURES[0], value=waits_ms[len(waits_ms) * 99 // 100], unit="ms", at_most=P99_MS_MAX)]


@dataclass(frozen=True, slots=True)
class Reader:
    """The card reader of a station that does nothing else."""

    station: StationPlan
    socket: FrameSocket
    lock: asyncio.Lock

    @classmethod
    async def connected(cls, station: StationPlan, gateway_url: str) -> Reader:
        """Dial."""
        profile = station.profile
        socket = await WebSocketDialer().dial(
            url=f"{gateway_url}/ocpp/{profile.party_id}/{profile.charging_station_id}",
            subprotocols=(profile.version.value,),
            username=profile.charging_station_id,
            password=profile.password,
        )
        return cls(station, socket, asyncio.Lock())

    async def tap(self, card: str) -> tuple[float, bool]:
        """Ask about a card; return the milliseconds until the answer, and whether it was yes."""
        is_16 = self.station.profile.version is OCPPVersion.OCPP16
        payload: dict[str, Any] = {"idTag": card} if is_16 else {"idToken": {"idToken": card, "type": "ISO14443"}}
        async with self.lock, asyncio.timeout(ANSWERED_S_MAX):
            began = perf_counter()
            await self.socket.send(json.dumps([2, f"tap-{card}", "Authorize", payload]))
            while True:
                kind, _, *rest = json.loads(await self.socket.receive())
                if kind == 2:
                    continue  # a CALL of the back office, which this reader does not know
                assert kind == 3, rest
                info = rest[0]["idTagInfo" if is_16 else "idTokenInfo"]
                return (perf_counter() - began) * 1000, info["status"] == "Accepted"


async def _tap(readers: Sequence[Reader], cards: Sequence[str], taps: int) -> list[tuple[float, bool]]:
    tapping = []
    for number in range(taps):
        reader = readers[number % len(readers)]
        card = cards[(number // len(readers) + number) % len(cards)]
        tapping.append(asyncio.create_task(reader.tap(card)))
        await asyncio.sleep(1 / TAPS_PER_S)
    return await asyncio.gather(*tapping)
