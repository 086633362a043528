"""What an operator states of a location reaches whoever informs the public, and what it leaves out is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import time, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from emobility.domain.location_facts import EnergyShare, LocationFacts, OpenHours
from emobility.events.charging import ConnectorStatusChanged
from tests.operations.world import CPO, LOCATION_TERMS, NSP, START, STATION, open_for_business

FACTS = LocationFacts(
    operator_name="Charge & Co",
    operator_website="https://charge.example",
    help_phone="+4512345678",
    is_always_open=False,
    open_hours=(OpenHours(weekday=1, begin=time(8), end=time(20, 30)),),
    parking_type="PARKING_LOT",
    facilities=("CAFE",),
    directions_en="Behind the station",
    capabilities=("CREDIT_CARD_PAYABLE", "RFID_READER"),
    parking_restrictions=("DISABLED",),
    is_green_energy=True,
    energy_shares=(EnergyShare(source="WIND", percent=Decimal(100)),),
)


def told(field: str, report: dict[str, Any]) -> tuple[int, int, list[str]]:
    (found,) = [each for each in report["fields"] if each["field"]["name"] == field]
    return found["present"], found["total"], found["missing"]


async def test_facts_reach_whoever_informs_the_public_and_stay_when_a_status_changes() -> None:
    async with open_for_business() as here:
        nsp = here.nsp
        await here.api("PUT", f"/{CPO}/subscribers/{NSP}", {})
        answer = await here.api("PUT", f"/{CPO}/locations/LOC1", replace(LOCATION_TERMS, facts=FACTS))
        await here.report(
            ConnectorStatusChanged(
                party_id=CPO,
                charging_station_id=STATION,
                ocpp_evse_id=1,
                connector_id=1,
                status="Available",
                changed_at=START + timedelta(minutes=1),
            )
        )
        pushed = [each for each in nsp.got("locations") if "country" in each][-1]
        evses = [each for each in nsp.got("locations") if "uid" in each]

    assert answer.status_code == 200, answer.text
    assert pushed["operator"] == {"name": "Charge & Co", "website": "https://charge.example"}
    assert pushed["wattroam_help_phone"] == "+4512345678"
    assert pushed["opening_times"] == {
        "twentyfourseven": False,
        "regular_hours": [{"weekday": 1, "period_begin": "08:00", "period_end": "20:30"}],
    }
    assert pushed["energy_mix"]["energy_sources"] == [{"source": "WIND", "percentage": 100}]
    assert pushed["directions"] == [{"language": "en", "text": "Behind the station"}]
    assert (pushed["parking_type"], pushed["facilities"]) == ("PARKING_LOT", ["CAFE"])
    assert evses[-1]["capabilities"] == ["REMOTE_START_STOP_CAPABLE", "RFID_READER", "CREDIT_CARD_PAYABLE"]
    assert evses[-1]["parking_restrictions"] == ["DISABLED"]


async def test_a_location_is_known_without_facts_as_before() -> None:
    async with open_for_business() as here:
        listed = (await here.api("GET", f"/{CPO}/locations")).json()

    assert listed[0]["facts"]["is_public"] is True


@pytest.mark.parametrize(
    "facts",
    [
        {"help_phone": "1" * 26},
        {"operator_name": "x", "operator_website": "javascript:alert(1)"},
        {"is_always_open": False, "open_hours": [{"weekday": 8, "begin": "08:00:00", "end": "09:00:00"}]},
        {"directions_en": "x" * 513},
    ],
)
async def test_facts_that_ocpi_has_no_room_for_are_refused(facts: dict[str, Any]) -> None:
    async with open_for_business() as here:
        body = {**msgspec.to_builtins(LOCATION_TERMS), "facts": facts}
        answer = await here.api("PUT", f"/{CPO}/locations/LOC1", body)

    assert answer.status_code == 422, answer.text


async def test_the_report_names_what_is_missing_and_counts_what_is_there() -> None:
    async with open_for_business() as here:
        before = (await here.api("GET", f"/{CPO}/afir")).json()
        await here.api("PUT", f"/{CPO}/locations/LOC1", replace(LOCATION_TERMS, facts=FACTS))
        after = (await here.api("GET", f"/{CPO}/afir")).json()
        await here.api("PUT", f"/{CPO}/locations/LOC1", replace(LOCATION_TERMS, facts=replace(FACTS, is_public=False)))
        hidden = (await here.api("GET", f"/{CPO}/afir")).json()

    points = before["evses"]
    assert points > 0
    assert told("opening hours", before) == (0, 1, ["LOC1"])
    assert told("ad hoc price", before) == (points, points, [])
    assert told("ad hoc payment methods", before)[:2] == (0, points)
    assert told("maximum power", before) == (points, points, [])
    for field in ("opening hours", "contact of the operator", "renewable electricity", "name of the operator"):
        assert told(field, after) == (1, 1, [])
    for field in ("ad hoc price", "ad hoc payment methods", "identification code"):
        assert told(field, after) == (points, points, [])
    assert (hidden["locations"], hidden["evses"], hidden["hidden"]) == (0, 0, 1)
