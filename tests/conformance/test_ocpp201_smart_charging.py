"""OCPP 2.0.1, block K: charging profiles, composite schedules, external limits.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED, Charge, charges, token
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

PROFILE_ID, REQUEST_ID = 5, 6
NO_PROFILES = {"status": "NoProfiles"}


def profile(station: Station, purpose: str = "TxDefaultProfile", **more: Any) -> dict[str, Any]:
    """Return a profile of 6 A; one that is Relative begins with its transaction and names no time."""
    schedule: dict[str, Any] = {
        "id": 1,
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6}],
    }
    if more.get("chargingProfileKind") != "Relative":
        schedule["startSchedule"] = station.moment()
    made = {
        "id": PROFILE_ID,
        "stackLevel": 0,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [schedule],
    }
    return made | more


async def sets_profile(operator: Operator, made: dict[str, Any], *, evse: int = 1, status: str = "Accepted") -> None:
    wanted = {"evseId": evse, "chargingProfile": made}
    await operator.commands("SetChargingProfile", wanted, station_answers={"status": status})


# -- K01 to K04, K10: profiles are set and cleared --------------------------------------------------------------------


@scenarios(
    ("evse", "purpose", "more"),
    ("TC_K_01_CSMS", "Set Charging Profile - TxDefaultProfile - Specific EVSE", 1, "TxDefaultProfile", {}),
    ("TC_K_03_CSMS", "Set Charging Profile - ChargingStationMaxProfile", 0, "ChargingStationMaxProfile", {}),
    ("TC_K_10_CSMS", "Set Charging Profile - TxDefaultProfile - All EVSE", 0, "TxDefaultProfile", {}),
    (
        "TC_K_19_CSMS",
        "Set Charging Profile - ChargingProfileKind is Recurring",
        1,
        "TxDefaultProfile",
        {"chargingProfileKind": "Recurring", "recurrencyKind": "Daily"},
    ),
)
async def test_a_profile_is_set(
    station: Station, operator: Operator, evse: int, purpose: str, more: dict[str, Any]
) -> None:
    await sets_profile(operator, profile(station, purpose, **more), evse=evse)


@scenario("TC_K_02_CSMS", "Set Charging Profile - TxProfile without ongoing transaction on the specified EVSE")
async def test_a_profile_for_no_charge_is_rejected(station: Station, operator: Operator) -> None:
    made = profile(station, "TxProfile", transactionId="none", chargingProfileKind="Relative")

    await sets_profile(operator, made, status="Rejected")


@scenario("TC_K_04_CSMS", "Replace charging profile - With chargingProfileId")
async def test_a_profile_replaces_the_one_with_its_number(station: Station, operator: Operator) -> None:
    await sets_profile(operator, profile(station))

    await sets_profile(operator, profile(station, stackLevel=1))


@scenario("TC_K_15_CSMS", "Set Charging Profile - Not Supported")
async def test_a_station_may_not_know_profiles(station: Station, operator: Operator) -> None:
    wanted = {"evseId": 1, "chargingProfile": profile(station)}

    await operator.is_refused("SetChargingProfile", wanted, station_refuses="NotSupported")


@scenario("TC_K_60_CSMS", "Set Charging Profile - TxProfile with ongoing transaction on the specified EVSE")
async def test_a_profile_is_set_for_a_charge(station: Station, operator: Operator) -> None:
    charge = await charges(station)

    await sets_profile(operator, profile(station, "TxProfile", transactionId=charge.transaction_id))


@scenario("TC_K_70_CSMS", "Set Charging Profile - Multiple Profiles")
async def test_profiles_of_several_purposes_are_set(station: Station, operator: Operator) -> None:
    await charges(station)
    await sets_profile(operator, profile(station))

    await sets_profile(operator, profile(station, "ChargingStationMaxProfile", id=PROFILE_ID + 1), evse=0)


@scenarios(
    ("wanted", "answer"),
    (
        "TC_K_05_CSMS",
        "Clear Charging Profile - With chargingProfileId",
        {"chargingProfileId": PROFILE_ID},
        ACCEPTED,
    ),
    (
        "TC_K_06_CSMS",
        "Clear Charging Profile - With stackLevel/purpose combination for one profile",
        {"chargingProfileCriteria": {"chargingProfilePurpose": "TxDefaultProfile", "stackLevel": 0}},
        ACCEPTED,
    ),
    (
        "TC_K_08_CSMS",
        "Clear Charging Profile - Without previous charging profile",
        {"chargingProfileId": PROFILE_ID},
        {"status": "Unknown"},
    ),
)
async def test_a_profile_is_cleared(
    station: Station, operator: Operator, wanted: dict[str, Any], answer: dict[str, str]
) -> None:
    if answer == ACCEPTED:
        await sets_profile(operator, profile(station))

    await operator.commands("ClearChargingProfile", wanted, station_answers=answer)


@scenario("TC_K_37_CSMS", "Remote start transaction with charging profile - Success")
async def test_a_charge_is_started_remotely_with_a_profile(station: Station, operator: Operator) -> None:
    charge = Charge(station)
    await charge.connects_ev()
    relative = profile(station, "TxProfile", chargingProfileKind="Relative")
    wanted = {"evseId": 1, "remoteStartId": 41, "idToken": token(station.card), "chargingProfile": relative}
    await operator.commands("RequestStartTransaction", wanted, station_answers=ACCEPTED)
    answer = await charge.tells("RemoteStart", "EVConnected", card=charge.card, info={"remoteStartId": 41})
    csms_answers(answer, idTokenInfo=ACCEPTED)
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


# -- K08 and K09: what is in force ------------------------------------------------------------------------------------


async def profiles_are_reported(
    operator: Operator, criterion: dict[str, Any], *, evse: int | None, purpose: str = "TxDefaultProfile"
) -> None:
    """Ask for profiles; the station reports two of them in two parts."""
    station = operator.station
    wanted = {"requestId": REQUEST_ID, "chargingProfile": criterion} | ({} if evse is None else {"evseId": evse})
    await operator.commands("GetChargingProfiles", wanted, station_answers=ACCEPTED)
    for number in (0, 1):
        csms_answers(
            await station.sends(
                "ReportChargingProfiles",
                requestId=REQUEST_ID,
                chargingLimitSource="CSO",
                evseId=evse or 0,
                tbc=number == 0,
                chargingProfile=[profile(station, purpose, id=PROFILE_ID + number, stackLevel=number)],
            )
        )


@scenarios(
    ("evse", "criterion"),
    ("TC_K_29_CSMS", "Get Charging Profile - EvseId 0", 0, {"chargingProfilePurpose": "TxDefaultProfile"}),
    ("TC_K_30_CSMS", "Get Charging Profile - EvseId > 0", 1, {"chargingProfilePurpose": "TxDefaultProfile"}),
    ("TC_K_31_CSMS", "Get Charging Profile - No EvseId", None, {"chargingProfilePurpose": "TxDefaultProfile"}),
    ("TC_K_32_CSMS", "Get Charging Profile - chargingProfileId", None, {"chargingProfileId": [PROFILE_ID]}),
    ("TC_K_33_CSMS", "Get Charging Profile - EvseId > 0 + stackLevel", 1, {"stackLevel": 0}),
    ("TC_K_34_CSMS", "Get Charging Profile - EvseId > 0 + chargingLimitSource", 1, {"chargingLimitSource": ["CSO"]}),
    (
        "TC_K_35_CSMS",
        "Get Charging Profile - EvseId > 0 + chargingProfilePurpose",
        1,
        {"chargingProfilePurpose": "TxDefaultProfile"},
    ),
    (
        "TC_K_36_CSMS",
        "Get Charging Profile - EvseId > 0 + chargingProfilePurpose + stackLevel",
        1,
        {"chargingProfilePurpose": "TxDefaultProfile", "stackLevel": 0},
    ),
)
async def test_the_operator_asks_for_profiles(operator: Operator, evse: int | None, criterion: dict[str, Any]) -> None:
    await profiles_are_reported(operator, criterion, evse=evse)


@scenario("TC_K_52_CSMS", "Set / Update External Charging Limit - ChargingStationExternalConstraints in report")
async def test_an_external_limit_is_reported_as_a_profile(operator: Operator) -> None:
    purpose = "ChargingStationExternalConstraints"

    await profiles_are_reported(operator, {"chargingProfilePurpose": purpose}, evse=0, purpose=purpose)


@scenarios(
    "evse",
    ("TC_K_43_CSMS", "Get Composite Schedule - Specific EVSE", 1),
    ("TC_K_44_CSMS", "Get Composite Schedule - Charging Station", 0),
)
async def test_the_operator_asks_for_a_composite_schedule(station: Station, operator: Operator, evse: int) -> None:
    schedule = {
        "evseId": evse,
        "duration": 300,
        "scheduleStart": station.moment(),
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6}],
    }
    wanted = {"evseId": evse, "duration": 300, "chargingRateUnit": "A"}

    await operator.commands("GetCompositeSchedule", wanted, station_answers=ACCEPTED | {"schedule": schedule})


# -- K11 to K13: external limits --------------------------------------------------------------------------------------


@scenario("TC_K_48_CSMS", "Set / Update External Charging Limit (not on a transaction)")
async def test_an_external_limit_is_acknowledged(station: Station) -> None:
    limit = {"chargingLimitSource": "EMS", "isGridCritical": False}

    csms_answers(await station.sends("NotifyChargingLimit", chargingLimit=limit, evseId=1))


@scenario("TC_K_50_CSMS", "Reset / release external charging limit - Without ongoing transaction")
async def test_the_end_of_an_external_limit_is_acknowledged(station: Station) -> None:
    csms_answers(await station.sends("ClearedChargingLimit", chargingLimitSource="EMS"))


@scenario("TC_K_51_CSMS", "Reset / release external charging limit - With ongoing transaction")
async def test_a_charge_goes_on_after_an_external_limit(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    csms_answers(await station.sends("ClearedChargingLimit", chargingLimitSource="EMS"))
    csms_answers(await charge.tells("ChargingRateChanged", "Charging", flowing=True))

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)
