"""Nothing that an operator, a car before or a station's clock does takes an EVSE out of its load group's hands."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from charge_point_gateway.message import Context
from charge_point_gateway.ocpp16.status_notification import StatusNotification
from emobility.domain.meter import MeterReading
from emobility.events.charging import StationNotified, TransactionEnded, TransactionStarted, TransactionUpdated
from tests.operations.charging_site import GROUPS, Site, site
from tests.operations.world import CPO

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
            "selection": {"station_ids": ["CS1"]},
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
