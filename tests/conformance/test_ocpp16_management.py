"""OCPP 1.6: local lists, firmware, diagnostics, reservations, triggers, smart charging, data transfer.

Numbers and titles: Open Charge Alliance, "Test case document OCTT for OCPP 1.6", FINAL 2024-04, section 3 (system under
test: Central System). The public repository brandonprry/VolatileOCPP holds a copy.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge16 import Charge, authorizes, charges, reports
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios

VERSION = "1.6"
pytestmark = pytest.mark.asyncio(loop_scope="module")

ACCEPTED = {"status": "Accepted"}


# -- 3.14: local authorization list -----------------------------------------------------------------------------------


@scenarios(
    "version",
    ("TC_042_1_CSMS", "Get Local List Version (not supported)", -1),
    ("TC_042_2_CSMS", "Get Local List Version (empty)", 0),
)
async def test_the_operator_asks_for_the_version_of_the_local_list(operator: Operator, version: int) -> None:
    await operator.commands("GetLocalListVersion", station_answers={"listVersion": version})


@scenarios(
    ("version", "update", "status"),
    ("TC_043_1_CSMS", "Send Local Authorization List - NotSupported", 1, "Full", "NotSupported"),
    ("TC_043_3_CSMS", "Send Local Authorization List - Failed", 1, "Full", "Failed"),
    ("TC_043_4_CSMS", "Send Local Authorization List - Full", 1, "Full", "Accepted"),
    ("TC_043_5_CSMS", "Send Local Authorization List - Differential", 2, "Differential", "Accepted"),
)
async def test_the_operator_sends_a_local_list(operator: Operator, version: int, update: str, status: str) -> None:
    cards = [{"idTag": operator.station.card, "idTagInfo": {"status": "Accepted"}}]
    wanted = {"listVersion": version, "updateType": update, "localAuthorizationList": cards}

    await operator.commands("SendLocalList", wanted, station_answers={"status": status})


# -- 3.15 and 3.16: firmware and diagnostics --------------------------------------------------------------------------


async def update_begins(operator: Operator) -> None:
    wanted = {"location": "https://firmware.invalid/1.bin", "retrieveDate": operator.station.moment()}
    await operator.commands("UpdateFirmware", wanted, station_answers={})


async def firmware_is(station: Station, *statuses: str) -> None:
    for status in statuses:
        csms_answers(await station.sends("FirmwareStatusNotification", status=status))


@scenario("TC_044_1_CSMS", "Firmware Update - Download and Install")
async def test_firmware_is_downloaded_and_installed(station: Station, operator: Operator) -> None:
    await update_begins(operator)
    await firmware_is(station, "Downloading", "Downloaded")
    await reports(station, "Unavailable")
    await firmware_is(station, "Installing")
    await station.disconnects()
    await station.connects()
    await station.boots()

    await firmware_is(station, "Installed")


@scenario("TC_044_2_CSMS", "Firmware Update - Download Failed")
async def test_a_failed_download_of_firmware_is_acknowledged(station: Station, operator: Operator) -> None:
    await update_begins(operator)

    await firmware_is(station, "Downloading", "DownloadFailed")


@scenario("TC_044_3_CSMS", "Firmware Update - Installation Failed")
async def test_a_failed_installation_of_firmware_is_acknowledged(station: Station, operator: Operator) -> None:
    await update_begins(operator)
    await firmware_is(station, "Downloading", "Downloaded", "Installing")
    await station.disconnects()
    await station.connects()
    await station.boots()

    await firmware_is(station, "InstallationFailed")


@scenarios(
    "end",
    ("TC_045_1_CSMS", "Get Diagnostics", "Uploaded"),
    ("TC_045_2_CSMS", "Get Diagnostics - Upload Failed", "UploadFailed"),
)
async def test_the_operator_fetches_diagnostics(station: Station, operator: Operator, end: str) -> None:
    wanted = {"location": "https://logs.invalid/upload"}
    await operator.commands("GetDiagnostics", wanted, station_answers={"fileName": "diagnostics.zip"})

    for status in ("Uploading", end):
        csms_answers(await station.sends("DiagnosticsStatusNotification", status=status))


# -- 3.17: reservations -----------------------------------------------------------------------------------------------


async def reserves(operator: Operator, status: str = "Accepted", **more: Any) -> int:
    station = operator.station
    wanted = {"connectorId": 1, "idTag": station.card, "reservationId": 7, "expiryDate": station.moment(30)} | more
    await operator.commands("ReserveNow", wanted, station_answers={"status": status})
    return 7


@scenario("TC_046_CSMS", "Reservation of a Connector - Transaction")
async def test_a_reserved_connector_is_used(station: Station, operator: Operator) -> None:
    reservation = await reserves(operator)
    await reports(station, "Reserved")
    await authorizes(station)
    charge = Charge(station)
    await charge.starts(reservationId=reservation)
    await reports(station, "Charging")

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_047_CSMS", "Reservation of a Connector - Expire")
async def test_a_reservation_expires(station: Station, operator: Operator) -> None:
    await reserves(operator)
    await reports(station, "Reserved")

    await reports(station, "Available")


@scenarios(
    ("connector_is", "status"),
    ("TC_048_1_CSMS", "Reservation of a Connector - Faulted", "Faulted", "Faulted"),
    ("TC_048_2_CSMS", "Reservation of a Connector - Occupied", "Preparing", "Occupied"),
    ("TC_048_4_CSMS", "Reservation of a Connector - Rejected", "Available", "Rejected"),
)
async def test_a_station_may_not_reserve(station: Station, operator: Operator, connector_is: str, status: str) -> None:
    await reports(station, connector_is)

    await reserves(operator, status)


@scenario("TC_048_3_CSMS", "Reservation of a Connector - Unavailable")
async def test_an_unavailable_connector_is_not_reserved(station: Station, operator: Operator) -> None:
    wanted = {"connectorId": 1, "type": "Inoperative"}
    await operator.commands("ChangeAvailability", wanted, station_answers=ACCEPTED)
    await reports(station, "Unavailable")

    await reserves(operator, "Unavailable")


@scenario("TC_049_CSMS", "Reservation of a Charge Point - Transaction")
async def test_a_reserved_station_is_used(station: Station, operator: Operator) -> None:
    reservation = await reserves(operator, connectorId=0)
    await reports(station, "Reserved", connector=0)
    await authorizes(station)
    charge = Charge(station)
    await charge.starts(reservationId=reservation)
    await reports(station, "Charging")

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_051_CSMS", "Cancel Reservation")
async def test_a_reservation_is_cancelled(station: Station, operator: Operator) -> None:
    reservation = await reserves(operator)
    await reports(station, "Reserved")
    await operator.commands("CancelReservation", {"reservationId": reservation}, station_answers=ACCEPTED)

    await reports(station, "Available")


@scenario("TC_052_CSMS", "Cancel Reservation - Rejected")
async def test_a_station_may_not_know_a_reservation(station: Station, operator: Operator) -> None:
    await reserves(operator)
    await reports(station, "Reserved")

    await operator.commands("CancelReservation", {"reservationId": 8}, station_answers={"status": "Rejected"})


# -- 3.18: remote trigger ---------------------------------------------------------------------------------------------


@scenario("TC_054_CSMS", "Trigger Message")
async def test_the_operator_triggers_messages(station: Station, operator: Operator) -> None:
    value = {"timestamp": station.moment(), "sampledValue": [{"value": "1000"}]}
    triggered: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("MeterValues", {"connectorId": 1}, {"connectorId": 1, "meterValue": [value]}),
        ("Heartbeat", {}, {}),
        (
            "StatusNotification",
            {"connectorId": 1},
            {"connectorId": 1, "errorCode": "NoError", "status": "Available"},
        ),
        ("DiagnosticsStatusNotification", {}, {"status": "Idle"}),
        ("FirmwareStatusNotification", {}, {"status": "Idle"}),
    ]
    for action, where, payload in triggered:
        await operator.commands("TriggerMessage", {"requestedMessage": action} | where, station_answers=ACCEPTED)
        csms_answers(await station.sends(action, **payload))


@scenario("TC_055_CSMS", "Trigger Message - Rejected")
async def test_a_station_may_reject_a_trigger(operator: Operator) -> None:
    wanted = {"requestedMessage": "MeterValues", "connectorId": 1}
    await operator.commands("TriggerMessage", wanted, station_answers={"status": "Rejected"})


# -- 3.19: smart charging ---------------------------------------------------------------------------------------------


def profile(station: Station, number: int = 1, *, purpose: str = "TxDefaultProfile", **more: Any) -> dict[str, Any]:
    schedule = {"duration": 3_600, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6}]}
    if more.get("chargingProfileKind", "Absolute") == "Absolute":
        schedule["startSchedule"] = station.moment()
    made = {
        "chargingProfileId": number,
        "stackLevel": number - 1,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Absolute",
        "chargingSchedule": schedule,
    }
    return made | more


async def sets_profile(operator: Operator, made: dict[str, Any]) -> None:
    wanted = {"connectorId": 1, "csChargingProfiles": made}
    await operator.commands("SetChargingProfile", wanted, station_answers=ACCEPTED)


@scenario("TC_056_CSMS", "Central Smart Charging - TxDefaultProfile")
async def test_a_default_profile_is_set(station: Station, operator: Operator) -> None:
    await sets_profile(operator, profile(station, validFrom=station.moment(), validTo=station.moment(60)))


@scenario("TC_057_CSMS", "Central Smart Charging - TxProfile")
async def test_a_profile_is_set_for_a_charge(station: Station, operator: Operator) -> None:
    charge = await charges(station)

    await sets_profile(operator, profile(station, purpose="TxProfile", transactionId=charge.transaction_id))


@scenario("TC_066_CSMS", "Get Composite Schedule")
async def test_the_operator_asks_for_a_composite_schedule(station: Station, operator: Operator) -> None:
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6}]}
    answer = {"status": "Accepted", "connectorId": 1, "scheduleStart": station.moment(), "chargingSchedule": schedule}
    wanted = {"connectorId": 1, "duration": 300, "chargingRateUnit": "A"}

    await operator.commands("GetCompositeSchedule", wanted, station_answers=answer)


@scenario("TC_067_CSMS", "Clear Charging Profile")
async def test_profiles_are_cleared_by_number_by_criteria_and_all(station: Station, operator: Operator) -> None:
    for number in (1, 2, 3):
        await sets_profile(operator, profile(station, number))

    by_criteria = {"connectorId": 1, "chargingProfilePurpose": "TxDefaultProfile", "stackLevel": 1}
    for wanted in ({"id": 1}, by_criteria, {}):
        await operator.commands("ClearChargingProfile", wanted, station_answers=ACCEPTED)


@scenario("TC_059_CSMS", "Remote Start Transaction with Charging Profile")
async def test_a_charge_is_started_remotely_with_a_profile(station: Station, operator: Operator) -> None:
    relative = profile(station, purpose="TxProfile", chargingProfileKind="Relative")
    wanted = {"connectorId": 1, "idTag": station.card, "chargingProfile": relative}
    await operator.commands("RemoteStartTransaction", wanted, station_answers=ACCEPTED)
    await authorizes(station)
    await reports(station, "Preparing")
    charge = Charge(station)
    await charge.starts()
    await reports(station, "Charging")

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


# -- 3.20: data transfer ----------------------------------------------------------------------------------------------


@scenario("TC_064_CSMS", "Data Transfer to a Central System")
async def test_data_of_a_vendor_that_nobody_knows_are_answered(station: Station) -> None:
    answer = await station.sends("DataTransfer", vendorId="com.scenario", messageId="hello", data="world")

    assert answer["status"] in {"Rejected", "UnknownMessageId", "UnknownVendorId"}
