"""Charging profiles and a load group over a real socket: a simulated 2.1 station follows what it was told."""

from __future__ import annotations

from typing import Any, Final

from services.charging_operations.smart_charging_records import CHARGING_NEEDS
from tests.operations.world import CARD, CPO, STATION
from tests.simulator.test_stations_at_the_gateway import online

PATH: Final = f"/{CPO}/stations/{STATION}"
EVSE_W: Final = 11_000


def profile(profile_id: int, *periods: tuple[int, int], **fields: Any) -> dict[str, Any]:
    schedule = {
        "id": profile_id,
        "chargingRateUnit": "W",
        "chargingSchedulePeriod": [{"startPeriod": start_s, "limit": limit} for start_s, limit in periods],
    }
    told = {
        "id": profile_id,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [schedule],
    }
    return told | fields


async def test_our_composite_schedule_is_the_station_s_and_what_it_has_is_what_we_installed() -> None:
    async with online() as (here, _, link):
        daily = profile(2, (0, 4_000), stackLevel=1, chargingProfileKind="Recurring", recurrencyKind="Daily")
        daily["chargingSchedule"][0]["duration"] = 900
        start = here.clock.now().replace(microsecond=0).isoformat()
        daily["chargingSchedule"][0]["startSchedule"] = start
        whole = profile(1, (0, 6_000), (600, 5_000), (1_800, 3_000))
        whole["chargingSchedule"][0]["startSchedule"] = start
        for told in (whole, daily):
            answer = await here.api("POST", f"{PATH}/charging-profiles", {"evse_id": 1, "profile": told})
            assert (answer.status_code, answer.json()["detail"]) == (200, "Accepted"), answer.text

        shown = (await here.api("GET", f"{PATH}/composite-schedule?evse_id=1&duration_s=3600&unit=W")).json()
        await here.api("POST", f"{PATH}/charging-profiles/refresh")
        await link.settled()
        await here.settle()
        rows = (await here.api("GET", f"{PATH}/charging-profiles")).json()

    assert shown["differences"] == []
    assert [(each["start_s"], each["limit"]["l1"]) for each in shown["ours"]["periods"]] == [
        (0, "4000"),
        (900, "5000"),
        (1_800, "3000"),
    ]
    assert [(row["profile_id"], row["state"], row["request_id"] is not None) for row in rows] == [
        (1, "INSTALLED", True),
        (2, "INSTALLED", True),
    ]


async def test_a_station_that_pulls_a_dynamic_profile_charges_by_its_present_values() -> None:
    async with online() as (here, station, link):
        station.plug_in(1, power_w=EVSE_W, wanted_wh=20_000)
        station.present(1, CARD)
        await link.settled()
        dynamic = profile(3, (0, 6_000), chargingProfileKind="Dynamic")
        await here.api("POST", f"{PATH}/charging-profiles", {"evse_id": 1, "profile": dynamic})
        powers = [station.evses[1].meter.power_w]

        await here.api("PUT", f"{PATH}/charging-profiles/3/values", {"limit": 5_000})
        powers.append(station.evses[1].meter.power_w)
        station.profiles.clear(id=3)
        station.profiles.install(1, dynamic)
        station.schedules.pull(3)
        await link.settled()
        powers.append(station.evses[1].meter.power_w)

    assert powers == [6_000, 5_000, 5_000]


async def test_a_load_group_gives_a_car_its_limit_and_a_car_that_feeds_in_is_promised_a_profile() -> None:
    async with online() as (here, station, link):
        members = [{"charging_station_id": STATION, "evse_id": number, "max_a": 16} for number in (1, 2)]
        terms = {"limit_w": 6_900, "evses": members}
        assert (await here.api("PUT", f"/{CPO}/load-groups/site", terms)).status_code == 200
        await here.operations.load.balance()
        station.plug_in(1, power_w=EVSE_W, wanted_wh=20_000, discharge_w=5_000)
        station.present(1, CARD)
        await link.settled()
        before = station.evses[1].meter.power_w
        await here.settle()
        await here.operations.load.balance()
        await link.settled()

        after = station.evses[1].meter.power_w
        (needs,) = await here.rows(CHARGING_NEEDS)

    assert (before, after) == (0, 6_900)
    assert needs.has_v2x
