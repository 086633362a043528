"""Simulated stations of 2.1 at the real gateway, over a real socket: commands reach their state, and it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from emobility.adapters.memory.time import LoopTimer
from services.charging_operations.records import STATION_NOTICE
from simulator.dialing import WebSocketDialer
from simulator.network import stations
from simulator.simulation import make_station
from simulator.stations.battery_swap import Battery
from simulator.stations.link import StationLink
from simulator.stations.ocpp21 import Station21
from simulator.stations.profile import OCPPVersion, StationProfile
from simulator.truth import Truth
from tests.operations.world import CARD, CPO, STATION, World
from tests.simulator.csms import PASSWORD, csms

WANTED_WH: Final = 5_000


@asynccontextmanager
async def online() -> AsyncIterator[tuple[World, Station21, StationLink]]:
    async with csms() as (here, _, url):
        profile = StationProfile(
            party_id=CPO,
            charging_station_id=STATION,
            version=OCPPVersion.OCPP21,
            password=PASSWORD,
            time_zone="Europe/Amsterdam",
            seed="gateway",
            evses=stations(7)[0].profile.evses,
        )
        station = make_station(profile, now=here.clock.now, truth=Truth())
        assert isinstance(station, Station21)
        link = StationLink(station, dialer=WebSocketDialer(), url=url, timer=LoopTimer(), beats=False)
        stop = asyncio.Event()
        running = asyncio.create_task(link.run(stop))
        link.go_online()
        await link.settled()
        yield here, station, link
        stop.set()
        await running
        assert not link.figures.call_errors


async def command(here: World, action: str, payload: dict[str, Any]) -> dict[str, Any]:
    answer = await here.api("POST", f"/{CPO}/stations/{STATION}/commands/{action}", payload)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()["answer"]
    return said


async def test_der_controls_tariffs_and_reports_are_commanded_and_what_follows_is_kept() -> None:
    price = {"tariffId": "T1", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.35}]}}
    droop = {"priority": 1, "overFreq": 50.2, "underFreq": 49.8, "overDroop": 5, "underDroop": 5, "responseTime": 1}
    control = {"isDefault": True, "controlId": "c1", "controlType": "FreqDroop", "freqDroop": droop}
    async with online() as (here, station, link):
        said = [
            await command(here, "SetDERControl", control),
            await command(here, "GetDERControl", {"requestId": 4}),
            await command(here, "SetDefaultTariff", {"evseId": 0, "tariff": price}),
            await command(here, "GetBaseReport", {"requestId": 5, "reportBase": "FullInventory"}),
        ]
        station.der.alarm("FreqDroop", "OverFrequency")
        await link.settled()
        await here.settle()
        kept = {row.action for row in await here.rows(STATION_NOTICE)}
        variables = (await here.api("GET", f"/{CPO}/stations/{STATION}/variables")).json()

    assert [each["status"] for each in said] == ["Accepted"] * 4
    assert station.der.controls["c1"].settings == droop
    assert {"ReportDERControl", "NotifyDERAlarm"} <= kept
    assert {"HeartbeatInterval", "AvailabilityState"} <= {each["variable"] for each in variables}


async def test_a_charge_by_2_1_is_billed_to_the_watt_hour() -> None:
    async with online() as (here, station, link):
        station.plug_in(1, power_w=11_000, wanted_wh=WANTED_WH)
        station.present(1, CARD)
        await link.settled()
        transaction = station.evses[1].transaction
        limit = {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10_000}]}
        profile = {
            "id": 1,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxProfile",
            "chargingProfileKind": "Relative",
            "transactionId": transaction.local_id if transaction else "",
            "chargingSchedule": [limit],
        }
        said = await command(here, "SetChargingProfile", {"evseId": 1, "chargingProfile": profile})
        power_w = station.evses[1].meter.power_w
        full_at = station.next_full_at()
        assert full_at is not None
        here.clock.step_by(full_at - here.clock.now())
        station.tick()
        station.unplug(1)
        await link.settled()
        await here.settle()
        (cdr,) = await here.cdrs()

    assert (said["status"], power_w) == ("Accepted", 10_000)
    assert cdr.cdr.total_energy_import_wh == WANTED_WH


async def test_a_battery_swap_and_a_stream_of_values_reach_the_back_office() -> None:
    name = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "Power"}}
    stream = {"interval": 60, "values": 1}
    async with online() as (here, station, link):
        station.battery_swap.stock({1: None, 2: Battery(serial_number="B2", soc_percent=95, soh_percent=98)})
        swap = await command(
            here, "RequestBatterySwap", {"requestId": 7, "idToken": {"idToken": CARD, "type": "Central"}}
        )
        station.battery_swap.put_in([Battery(serial_number="B1", soc_percent=12, soh_percent=97)])
        station.battery_swap.take_out()
        monitor = name | {"value": 60, "type": "Periodic", "severity": 9, "periodicEventStream": stream}
        await command(here, "SetVariableMonitoring", {"setMonitoringData": [monitor]})
        await link.settled()
        station.tick()
        await link.settled()

        async def is_kept() -> bool:
            return {"BatterySwap", "NotifyPeriodicEventStream"} <= {
                row.action for row in await here.rows(STATION_NOTICE)
            }

        await here.until(is_kept)

    assert swap["status"] == "Accepted"
    assert station.battery_swap.slots[2] is None
    assert link.figures.sent["NotifyPeriodicEventStream"] == 1
