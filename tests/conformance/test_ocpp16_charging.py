"""OCPP 1.6: boot, charging sessions, remote control, reset, unlocking, configuration, cards that fail, offline.

Numbers and titles: Open Charge Alliance, "Test case document OCTT for OCPP 1.6", FINAL 2024-04, section 3 (system under
test: Central System). The public repository brandonprry/VolatileOCPP holds a copy.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge16 import Charge, authorizes, charges, reports
from tests.conformance.scenario import ANYTHING, Operator, Station, csms_answers, scenario, scenarios
from tests.csms import CSMS

VERSION = "1.6"
pytestmark = pytest.mark.asyncio(loop_scope="module")


# -- 3.1 to 3.3: boot, sessions, cache --------------------------------------------------------------------------------


@scenario("TC_001_CSMS", "Cold Boot Charge Point")
async def test_a_station_that_boots_is_accepted_and_told_the_time(station: Station) -> None:
    await station.boots()

    csms_answers(await station.sends("Heartbeat"), currentTime=ANYTHING)


@scenario("TC_003_CSMS", "Regular Charging Session - Plugin First")
async def test_a_driver_plugs_in_and_then_identifies(station: Station, operator: Operator) -> None:
    await reports(station, "Preparing")
    await authorizes(station)
    charge = Charge(station)
    await charge.starts()
    await reports(station, "Charging")

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_004_1_CSMS", "Regular Charging Session - Identification First")
async def test_a_driver_identifies_and_then_plugs_in(station: Station, operator: Operator) -> None:
    await authorizes(station)
    await reports(station, "Preparing")
    charge = Charge(station)
    await charge.starts()
    await reports(station, "Charging")

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_004_2_CSMS", "Regular Charging Session - Identification First - ConnectionTimeOut")
async def test_a_driver_identifies_and_never_plugs_in(station: Station) -> None:
    await authorizes(station)
    await reports(station, "Preparing")

    await reports(station, "Available")


@scenario(
    "TC_005_1_CSMS",
    "EV Side Disconnected - StopTransactionOnEVSideDisconnect = true - UnlockConnectorOnEVSideDisconnect = true",
)
async def test_a_car_that_is_unplugged_ends_its_charge(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await reports(station, "SuspendedEV")
    await charge.stops("EVDisconnected")
    await reports(station, "Finishing")
    await reports(station, "Available")

    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_007_CSMS", "Regular Start Charging Session - Cached Id")
async def test_a_card_from_the_stations_cache_is_verified_at_the_start(station: Station, operator: Operator) -> None:
    await reports(station, "Preparing")
    charge = Charge(station)
    await charge.starts()
    await reports(station, "Charging")

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_061_CSMS", "Clear Authorization Data in Authorization Cache")
async def test_the_operator_clears_a_stations_cache(operator: Operator) -> None:
    await operator.commands("ClearCache", station_answers={"status": "Accepted"})


# -- 3.4 and 3.9: remote start and stop -------------------------------------------------------------------------------


async def starts_remotely(operator: Operator, **more: Any) -> None:
    wanted = {"connectorId": 1, "idTag": operator.station.card} | more
    await operator.commands("RemoteStartTransaction", wanted, station_answers={"status": "Accepted"})


@scenario("TC_010_CSMS", "Remote Start Charging Session - Cable Plugged in First")
async def test_a_charge_is_started_remotely_where_a_car_is_plugged_in(station: Station, operator: Operator) -> None:
    await reports(station, "Preparing")
    await starts_remotely(operator)
    await authorizes(station)
    charge = Charge(station)
    await charge.starts()
    await reports(station, "Charging")

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_011_1_CSMS", "Remote Start Charging Session - Remote Start First")
async def test_a_charge_is_started_remotely_before_the_car_is_plugged_in(station: Station, operator: Operator) -> None:
    await starts_remotely(operator)
    await authorizes(station)
    await reports(station, "Preparing")
    charge = Charge(station)
    await charge.starts()
    await reports(station, "Charging")

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_011_2_CSMS", "Remote Start Charging Session - Time Out")
async def test_nobody_plugs_in_after_a_remote_start(station: Station, operator: Operator) -> None:
    await starts_remotely(operator)
    await authorizes(station)
    await reports(station, "Preparing")

    await reports(station, "Available")


@scenario("TC_012_CSMS", "Remote Stop Charging Session")
async def test_a_charge_is_stopped_remotely(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await operator.commands(
        "RemoteStopTransaction", {"transactionId": charge.transaction_id}, station_answers={"status": "Accepted"}
    )
    await charge.stops("Remote")
    await reports(station, "Finishing")
    await reports(station, "Available")

    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_026_CSMS", "Remote Start Charging Session - Rejected")
async def test_a_station_may_reject_a_remote_start(operator: Operator) -> None:
    wanted = {"connectorId": 1, "idTag": operator.station.card}
    await operator.commands("RemoteStartTransaction", wanted, station_answers={"status": "Rejected"})


@scenario("TC_028_CSMS", "Remote Stop Transaction - Rejected")
async def test_a_station_may_reject_a_remote_stop(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    wanted = {"transactionId": charge.transaction_id + 1}
    await operator.commands("RemoteStopTransaction", wanted, station_answers={"status": "Rejected"})

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


# -- 3.5 to 3.7, 3.10 and 3.13: reset, unlocking, configuration -------------------------------------------------------


@scenarios("kind", ("TC_013_CSMS", "Hard Reset", "Hard"), ("TC_014_CSMS", "Soft Reset", "Soft"))
async def test_a_station_that_is_reset_boots_again(station: Station, operator: Operator, kind: str) -> None:
    await operator.commands("Reset", {"type": kind}, station_answers={"status": "Accepted"})
    await station.disconnects()
    await station.connects()

    await station.boots()


@scenarios(
    "status",
    ("TC_017_1_CSMS", "Unlock connector - no charging session running (Not fixed cable)", "Unlocked"),
    ("TC_017_2_CSMS", "Unlock connector - no charging session running (Fixed cable)", "NotSupported"),
    ("TC_030_CSMS", "Unlock Connector - Unlock Failure", "UnlockFailed"),
)
async def test_the_operator_unlocks_a_connector(operator: Operator, status: str) -> None:
    await operator.commands("UnlockConnector", {"connectorId": 1}, station_answers={"status": status})


@scenario("TC_031_CSMS", "Unlock Connector - Unknown Connector")
async def test_the_operator_unlocks_a_connector_that_the_station_has_not(operator: Operator) -> None:
    await operator.commands("UnlockConnector", {"connectorId": 9}, station_answers={"status": "NotSupported"})


@scenario("TC_018_1_CSMS", "Unlock Connector - With Charging Session (Not fixed cable)")
async def test_unlocking_a_connector_ends_its_charge(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await operator.commands("UnlockConnector", {"connectorId": 1}, station_answers={"status": "Unlocked"})
    await reports(station, "Finishing")
    await charge.stops("UnlockCommand")
    await reports(station, "Available")

    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenarios(
    "wanted",
    ("TC_019_1_CSMS", "Retrieve all configuration keys", {}),
    ("TC_019_2_CSMS", "Retrieve specific configuration key", {"key": ["SupportedFeatureProfiles"]}),
)
async def test_the_operator_reads_configuration_keys(operator: Operator, wanted: dict[str, Any]) -> None:
    key = {"key": "SupportedFeatureProfiles", "readonly": True, "value": "Core,RemoteTrigger"}
    answer = {"configurationKey": [key], "unknownKey": []}

    await operator.commands("GetConfiguration", wanted, station_answers=answer)


@scenarios(
    ("key", "value", "status"),
    ("TC_021_CSMS", "Change/set Configuration", "MeterValueSampleInterval", "60", "Accepted"),
    ("TC_040_1_CSMS", "Configuration keys", "Colour", "red", "NotSupported"),
    ("TC_040_2_CSMS", "Configuration Keys", "MeterValueSampleInterval", "-1", "Rejected"),
)
async def test_the_operator_changes_a_configuration_key(operator: Operator, key: str, value: str, status: str) -> None:
    await operator.commands("ChangeConfiguration", {"key": key, "value": value}, station_answers={"status": status})


# -- 3.8: cards that fail, a lock that fails --------------------------------------------------------------------------


@scenarios(
    ("said", "status"),
    ("TC_023_1_CSMS", "Start Charging Session - Authorize invalid", None, "Invalid"),
    ("TC_023_2_CSMS", "Start Charging Session - Authorize expired", "EXPIRED", "Expired"),
    ("TC_023_3_CSMS", "Start Charging Session - Authorize blocked", "BLOCKED", "Blocked"),
)
async def test_a_card_is_refused_in_the_words_of_its_emsp(
    station: Station, csms: CSMS, said: str | None, status: str
) -> None:
    card = "NOBODYKNOWSIT" if said is None else await csms.new_card(said)

    await authorizes(station, card, status=status)


@scenario("TC_024_CSMS", "Start Charging Session Lock Failure")
async def test_a_lock_failure_is_acknowledged(station: Station) -> None:
    await authorizes(station)
    await reports(station, "Preparing")

    await reports(station, "Faulted", error="ConnectorLockFailure")


# -- 3.11 and 3.12: power failure, offline ----------------------------------------------------------------------------


@scenario("TC_032_1_CSMS", "Power failure boot charging point-configured to stop transaction(s)")
async def test_a_charge_ends_by_a_power_loss(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await station.disconnects()
    await station.connects()
    await station.boots()
    await reports(station, "Finishing")

    await charge.stops("PowerLoss")
    await reports(station, "Available")
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_037_1_CSMS", "Offline Start Transaction - Valid IdTag")
async def test_a_charge_that_began_offline_is_accepted(station: Station, operator: Operator) -> None:
    await station.disconnects()
    await station.connects()
    charge = Charge(station)
    await charge.starts()
    await reports(station, "Charging")

    await charge.stops()
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)


@scenario("TC_037_3_CSMS", "Offline Start Transaction - Invalid IdTag - StopTransactionOnInvalidId = true")
async def test_a_charge_that_began_offline_with_an_unknown_card_is_ended(station: Station) -> None:
    await station.disconnects()
    await station.connects()
    charge = Charge(station, card="NOBODYKNOWSIT")
    await charge.starts(status="Invalid")
    await reports(station, "Charging")

    csms_answers(await charge.stops("DeAuthorized"))
    await reports(station, "Finishing")


@scenario("TC_039_CSMS", "Offline Transaction")
async def test_a_charge_that_began_and_ended_offline_is_billed(station: Station, operator: Operator) -> None:
    await station.disconnects()
    await station.connects()
    charge = Charge(station)
    await charge.starts()

    await charge.stops("Local")
    await operator.sees_billed(str(charge.transaction_id), metered_wh=charge.metered_wh)
