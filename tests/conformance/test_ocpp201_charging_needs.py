"""OCPP 2.0.1, use cases K15 to K17: an EV tells what it needs (ISO 15118), and charges by the profile that it gets.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED, Charge
from tests.conformance.scenario import Operator, Station, csms_answers, scenario
from tests.operations.world import CPO

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")


def needs(max_current_a: int) -> dict[str, Any]:
    alternating = {"energyAmount": 20_000, "evMinCurrent": 6, "evMaxCurrent": max_current_a, "evMaxVoltage": 400}
    return {"requestedEnergyTransfer": "AC_three_phase", "acChargingParameters": alternating}


async def profile_of(station: Station, charge: Charge) -> dict[str, Any]:
    """Return the next profile that the CSMS sets for the charge."""
    while (called := await station.is_called("SetChargingProfile"))["chargingProfile"].get("transactionId") is None:
        pass  # what holds for anybody who plugs in comes first
    made: dict[str, Any] = called["chargingProfile"]
    assert called["evseId"] == charge.evse
    assert (made["chargingProfilePurpose"], made["transactionId"]) == ("TxProfile", charge.transaction_id)
    return made


async def schedules(station: Station, made: dict[str, Any]) -> None:
    """Tell that the EV charges by a profile."""
    schedule = {key: made["chargingSchedule"][0][key] for key in ("id", "chargingRateUnit", "chargingSchedulePeriod")}
    words = {"timeBase": station.moment(), "evseId": 1, "chargingSchedule": schedule}
    csms_answers(await station.sends("NotifyEVChargingSchedule", **words), status="Accepted")


async def asks_for_a_profile(station: Station, charge: Charge, *, max_current_a: int = 32) -> None:
    """Tell needs, get a profile, and say that the EV charges by it."""
    answer = await station.sends("NotifyEVChargingNeeds", evseId=1, chargingNeeds=needs(max_current_a))
    assert answer["status"] in {"Accepted", "Processing"}
    await schedules(station, await profile_of(station, charge))


async def limits_site(operator: Operator, limit_a: int) -> None:
    """Share out so much per phase among the EVs at the station."""
    station_id = operator.station.identity
    evse = {"charging_station_id": station_id, "evse_id": 1, "max_a": 32}
    group = {"limit_a": dict.fromkeys(("l1", "l2", "l3"), limit_a), "evses": [evse]}
    answer = await operator.csms.world.api("PUT", f"/{CPO}/load-groups/{station_id}", group)
    assert answer.status_code == 200, answer.text


async def charges_by_its_needs(station: Station, operator: Operator) -> Charge:
    """ISO15118SmartCharging, at an EVSE that a load group manages."""
    station.answers["SetChargingProfile"] = ACCEPTED
    await limits_site(operator, 40)
    charge = Charge(station)
    await charge.is_authorized()
    await charge.connects_ev()
    await asks_for_a_profile(station, charge)
    await charge.flows()
    return charge


@scenario("TC_K_53_CSMS", "Charging with load leveling based on High Level Communication - Success")
async def test_an_ev_charges_by_the_profile_for_its_needs(station: Station, operator: Operator) -> None:
    charge = await charges_by_its_needs(station, operator)

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_K_57_CSMS", "Renegotiating a Charging Schedule - Initiated by EV")
async def test_an_ev_whose_needs_change_gets_another_profile(station: Station, operator: Operator) -> None:
    charge = await charges_by_its_needs(station, operator)

    await asks_for_a_profile(station, charge, max_current_a=16)


@scenario("TC_K_58_CSMS", "Renegotiating a Charging Schedule - Initiated by CSMS")
async def test_an_ev_takes_another_profile_when_the_limit_changes(station: Station, operator: Operator) -> None:
    charge = await charges_by_its_needs(station, operator)
    await limits_site(operator, 10)

    await schedules(station, await profile_of(station, charge))


@scenario("TC_K_59_CSMS", "Renegotiating a Charging Schedule - Initiated by CSMS - Send NotifyEVChargingNeeds")
async def test_an_ev_answers_another_profile_with_new_needs(station: Station, operator: Operator) -> None:
    charge = await charges_by_its_needs(station, operator)
    await limits_site(operator, 20)
    await profile_of(station, charge)

    await asks_for_a_profile(station, charge, max_current_a=16)
