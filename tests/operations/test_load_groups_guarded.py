"""Nothing that an operator, a car before or a station's clock does takes an EVSE out of its load group's hands."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from charge_point_gateway.message import Context
from charge_point_gateway.ocpp16.status_notification import StatusNotification
from emobility.domain.meter import MeterReading
from emobility.events.charging import StationNotified, TransactionEnded, TransactionStarted, TransactionUpdated
from services.charging_operations import load_management
from services.charging_operations.load_records import LOAD_GROUP
from tests.operations.charging_site import GROUPS, Site, site
from tests.operations.world import CPO, OTHER_CPO

SITE: dict[str, Any] = {"limit_a": {"l1": 40, "l2": 40, "l3": 40}}
HIGH: dict[str, Any] = {
    "id": 7,
    "stackLevel": 9,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Relative",
    "chargingSchedule": [
        {"id": 7, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 32}]}
    ],
}
HIGH_16: dict[str, Any] = {
    "chargingProfileId": 7,
    "stackLevel": 9,
    "chargingProfilePurpose": "TxProfile",
    "chargingProfileKind": "Relative",
    "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 32}]},
}


async def test_a_bulk_command_sets_no_profile_where_a_load_group_steers() -> None:
    async with site() as here:
        wanted = {
            "selection": {"charging_station_ids": ["CS1"]},
            "payload": {"evseId": 1, "chargingProfile": HIGH},
        }
        answer = await here.here.api("POST", f"/{CPO}/commands/SetChargingProfile", wanted)
        assert answer.status_code == 202, answer.text
        await here.here.settle()

        calls = await here.here.api("GET", f"/{CPO}/bulk-commands/{answer.json()['job_id']}/stations")

        assert 7 not in here.sockets["CS1", 1].profiles
        assert [(each["result"], "load group site" in each["detail"]) for each in calls.json()] == [("REJECTED", True)]


@pytest.mark.parametrize(
    ("station", "action", "payload"),
    [
        (
            "CS1",
            "RequestStartTransaction",
            {
                "evseId": 1,
                "remoteStartId": 1,
                "idToken": {"idToken": "A", "type": "Central"},
                "chargingProfile": HIGH | {"chargingProfilePurpose": "TxProfile"},
            },
        ),
        ("CS2", "RemoteStartTransaction", {"connectorId": 1, "idTag": "A", "chargingProfile": HIGH_16}),
        ("CS2", "RemoteStartTransaction", {"idTag": "A", "chargingProfile": HIGH_16}),
    ],
)
async def test_a_start_brings_no_profile_of_its_own_where_a_load_group_steers(
    station: str, action: str, payload: dict[str, Any]
) -> None:
    async with site() as here:
        sent = len(here.commands)

        answer = await here.here.api("POST", f"/{CPO}/stations/{station}/commands/{action}", payload)

        assert (answer.status_code, answer.json()["error"], len(here.commands)) == (409, "NotAllowedNow", sent)


async def test_an_evse_with_a_profile_of_somebody_else_s_joins_no_load_group() -> None:
    async with site() as here:
        members = [{"charging_station_id": "CS1", "evse_id": 2, "max_a": 32}]
        await here.here.api("PUT", f"{GROUPS}/site", SITE | {"evses": members})
        path, whole = f"/{CPO}/stations/CS1/commands/SetChargingProfile", f"{GROUPS}/site"
        assert (await here.here.api("PUT", whole, SITE | {"evses": []})).status_code == 200
        assert (await here.here.api("POST", path, {"evseId": 1, "chargingProfile": HIGH})).status_code == 200

        refused = await here.here.api(
            "PUT", whole, SITE | {"evses": [{"charging_station_id": "CS1", "evse_id": 1, "max_a": 32}]}
        )

        assert (refused.status_code, refused.json()["error"]) == (409, "NotAllowedNow"), refused.text
        assert "profile 7" in refused.json()["detail"]


async def single_phase_needs(here: Site, station: str) -> StationNotified:
    needs = {"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "AC_single_phase"}}
    return StationNotified(
        party_id=CPO,
        charging_station_id=station,
        ocpp_version="2.0.1",
        action="NotifyEVChargingNeeds",
        payload=await here.here.ports.vault.seal(json.dumps(needs), identifier="station"),
        occurred_at=here.here.clock.now(),
    )


async def test_a_car_that_is_counted_on_one_phase_is_told_so() -> None:
    async with site() as here:
        here.sockets["CS1", 1].phases = (1,)
        await here.here.report(await single_phase_needs(here, "CS1"))
        here.plug(("CS1", 1))

        await here.look()

        period = here.commands[-1][2]["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"][0]
        assert (period["limit"], period["numberPhases"]) == (32, 1)


async def test_the_next_car_is_not_counted_on_the_phases_of_the_one_before() -> None:
    async with site() as here:
        socket = here.sockets["CS1", 1]
        socket.phases = (1,)
        await here.here.report(await single_phase_needs(here, "CS1"))
        here.plug(("CS1", 1))
        await here.look()
        await here.unplug(("CS1", 1))

        socket.phases = (1, 2, 3)
        here.plug(("CS1", 1))
        here.plug(("CS1", 2))
        for _ in range(3):  # on each phase no more than 40 A, as `Site.check` adds up
            await here.look(minutes=0.5)

        assert here.drawn_a(2) == here.drawn_a(1) == 40


def started(
    here: Site, transaction_id: str, *, ahead: timedelta, evse: int = 1, power_w: int = 0
) -> TransactionStarted:
    at = here.here.clock.now() + ahead
    return TransactionStarted(
        party_id=CPO,
        charging_station_id="CS1",
        transaction_id=transaction_id,
        occurred_at=at,
        seq_no=0,
        readings=(MeterReading(at=at, power_w=power_w),),
        ocpp_evse_id=evse,
        connector_id=1,
    )


async def test_a_car_after_one_from_the_future_charges_all_the_same() -> None:
    async with site() as here:
        early = started(here, "T-future", ahead=timedelta(days=4_000))
        ended = TransactionEnded(
            party_id=CPO, charging_station_id="CS1", transaction_id="T-future", occurred_at=early.occurred_at, seq_no=1
        )
        await here.here.report(early, ended)

        here.plug(("CS1", 1))
        await here.look()

        assert here.sockets["CS1", 1].drawn_da() == 320


async def test_what_was_drawn_in_the_future_is_not_drawn_for_ever() -> None:
    async with site() as here:
        await here.here.report(started(here, "T1", ahead=timedelta(days=4_000), power_w=1_000))
        here.here.clock.step_by(timedelta(minutes=1))
        now = here.here.clock.now()
        update = TransactionUpdated(
            party_id=CPO,
            charging_station_id="CS1",
            transaction_id="T1",
            occurred_at=now,
            seq_no=1,
            readings=(MeterReading(at=now, power_w=5_000),),
            ocpp_evse_id=1,
        )
        await here.here.report(update)

        shares = (await here.here.api("GET", f"{GROUPS}/site")).json()["evses"]

        assert [each["power_w"] for each in shares if each["transaction_id"] == "T1"] == [5_000]


@pytest.mark.parametrize(("word", "is_charging"), [("SuspendedEV", False), ("Charging", True)])
async def test_the_load_manager_hears_what_a_1_6_station_says_its_car_does(*, word: str, is_charging: bool) -> None:
    async with site() as here:
        members = [{"charging_station_id": "CS2", "evse_id": number, "max_a": 32} for number in (1, 2)]
        await here.here.api("PUT", f"{GROUPS}/feeder", {"limit_w": 4_200, "parent_id": "site", "evses": members})
        here.plug(("CS2", 1))
        here.plug(("CS2", 2))
        await here.look()
        context = Context(
            party_id=CPO,
            charging_station_id="CS2",
            now=here.here.clock.now(),
            message_id="1",
            ocpp_version="1.6",
            station_key=f"{CPO.code}/CS2",
        )
        payload = {"connectorId": 1, "errorCode": "NoError", "status": word}

        (told,) = StatusNotification().facts(payload, context)
        await here.here.report(told.event)
        await here.here.operations.load.balance()

        assert (here.sockets["CS2", 1].drawn_da() > 0) is is_charging


async def test_watts_say_nothing_of_phases_so_an_ac_evse_of_three_takes_none() -> None:
    async with site() as here:
        member: dict[str, Any] = {"charging_station_id": "CS3", "evse_id": 1, "max_a": 32, "is_in_watts": True}

        three = await here.here.api("PUT", f"{GROUPS}/feeder", {"limit_w": 10_000, "evses": [member]})
        one = await here.here.api("PUT", f"{GROUPS}/feeder", {"limit_w": 10_000, "evses": [member | {"phases": [2]}]})

        assert (three.status_code, three.json()["error"], one.status_code) == (422, "NotUnderstood", 200), three.text


async def test_a_party_whose_gateway_hangs_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_management, "LOOK_INTERVAL_S", 0.1)
    async with site() as here:
        async with here.here.ports.units.begin() as unit:
            (known, *_) = await unit.table(LOAD_GROUP).select({"party_id": CPO})
            await unit.table(LOAD_GROUP).put(replace(known, party_id=OTHER_CPO, parent_id=None))
            await unit.commit()
        here.hangs_for = OTHER_CPO.code
        here.plug(("CS1", 1))

        for _ in range(2):
            async with asyncio.timeout(2):
                await here.look()

        assert here.sockets["CS1", 1].drawn_da() == 320
        assert here.hung == 1, "it is not asked again while it hangs"
