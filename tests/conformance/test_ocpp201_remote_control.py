"""OCPP 2.0.1, blocks F and G: remote start, unlocking, triggers, availability.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED, Charge, authorizes, charges, reports, token
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

REMOTE_START_ID = 41


async def starts_remotely(operator: Operator, **answer: Any) -> None:
    wanted = {"evseId": 1, "remoteStartId": REMOTE_START_ID, "idToken": token(operator.station.card)}
    await operator.commands("RequestStartTransaction", wanted, station_answers=ACCEPTED | answer)


REMOTE = {"remoteStartId": REMOTE_START_ID}


@scenario("TC_F_01_CSMS", "Remote start transaction - Cable plugin first")
async def test_a_charge_is_started_remotely_where_a_car_is_plugged_in(station: Station, operator: Operator) -> None:
    charge = Charge(station)
    await charge.connects_ev()
    await starts_remotely(operator, transactionId=charge.transaction_id)
    csms_answers(await charge.tells("RemoteStart", "EVConnected", card=charge.card, info=REMOTE), idTokenInfo=ACCEPTED)
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenarios(
    "is_authorized",
    ("TC_F_02_CSMS", "Remote start transaction - Remote start first - AuthorizeRemoteStart is true", True),
    ("TC_F_03_CSMS", "Remote start transaction - Remote start first - AuthorizeRemoteStart is false", False),
)
async def test_a_charge_is_started_remotely_before_the_car_is_plugged_in(
    station: Station, operator: Operator, *, is_authorized: bool
) -> None:
    charge = Charge(station)
    await starts_remotely(operator)
    if is_authorized:
        await authorizes(station)
    csms_answers(await charge.tells("RemoteStart", card=charge.card, info=REMOTE), idTokenInfo=ACCEPTED)
    await charge.connects_ev()
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_F_04_CSMS", "Remote start transaction - Remote start first - Cable plugin timeout")
async def test_nobody_plugs_in_after_a_remote_start(station: Station, operator: Operator) -> None:
    charge = Charge(station)
    await starts_remotely(operator)
    csms_answers(await charge.tells("RemoteStart", card=charge.card, info=REMOTE), idTokenInfo=ACCEPTED)

    csms_answers(await charge.tells("EVConnectTimeout"))


@scenario("TC_F_06_CSMS", "Remote unlock Connector - Without ongoing transaction - Accepted")
async def test_the_operator_unlocks_a_connector(operator: Operator) -> None:
    wanted = {"evseId": 1, "connectorId": 1}
    await operator.commands("UnlockConnector", wanted, station_answers={"status": "Unlocked"})


# -- F06: triggers ----------------------------------------------------------------------------------------------------


async def triggers(operator: Operator, message: str, evse: dict[str, int] | None = None, **answer: str) -> None:
    wanted: dict[str, Any] = {"requestedMessage": message} | ({} if evse is None else {"evse": evse})
    await operator.commands("TriggerMessage", wanted, station_answers=ACCEPTED | answer)


@scenarios(
    ("evse", "told"),
    ("TC_F_11_CSMS", "Trigger message - MeterValues - Specific EVSE", {"id": 1}, (1,)),
    ("TC_F_12_CSMS", "Trigger message - MeterValues - All EVSE", None, (1, 2)),
)
async def test_the_operator_triggers_meter_values(
    station: Station, operator: Operator, evse: dict[str, int] | None, told: tuple[int, ...]
) -> None:
    await triggers(operator, "MeterValues", evse)

    value = Charge(station).meter(context="Trigger")
    for number in told:
        csms_answers(await station.sends("MeterValues", evseId=number, meterValue=[value]))


@scenarios(
    ("evse", "charging"),
    ("TC_F_13_CSMS", "Trigger message - TransactionEvent - Specific EVSE", {"id": 1}, (1,)),
    ("TC_F_14_CSMS", "Trigger message - TransactionEvent - All EVSE", None, (1, 2)),
)
async def test_the_operator_triggers_transaction_events(
    station: Station, operator: Operator, evse: dict[str, int] | None, charging: tuple[int, ...]
) -> None:
    cards = {number: await station.csms.new_card() for number in charging}
    under_way = [await charges(station, evse=number, card=card) for number, card in cards.items()]
    await triggers(operator, "TransactionEvent", evse)

    for charge in under_way:
        csms_answers(await charge.tells("Trigger", "Charging", flowing=True))
    for charge in under_way:
        await charge.disconnects_ev()
        await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenarios(
    ("message", "payload"),
    ("TC_F_15_CSMS", "Trigger message - LogStatusNotification - Idle", "LogStatusNotification", {"status": "Idle"}),
    (
        "TC_F_18_CSMS",
        "Trigger message - FirmwareStatusNotification - Idle",
        "FirmwareStatusNotification",
        {"status": "Idle"},
    ),
    ("TC_F_20_CSMS", "Trigger message - Heartbeat", "Heartbeat", {}),
)
async def test_the_operator_triggers_a_message(
    station: Station, operator: Operator, message: str, payload: dict[str, Any]
) -> None:
    await triggers(operator, message)

    csms_answers(await station.sends(message, **payload))


@scenarios(
    "status",
    ("TC_F_23_CSMS", "Trigger message - StatusNotification - Specific EVSE - Available", "Available"),
    ("TC_F_24_CSMS", "Trigger message - StatusNotification - Specific EVSE - Occupied", "Occupied"),
)
async def test_the_operator_triggers_a_status(station: Station, operator: Operator, status: str) -> None:
    await triggers(operator, "StatusNotification", {"id": 1, "connectorId": 1})

    await reports(station, status)


@scenario("TC_F_27_CSMS", "Trigger message - NotImplemented")
async def test_a_station_may_not_know_a_trigger(operator: Operator) -> None:
    await triggers(operator, "SignCombinedCertificate", status="NotImplemented")


# -- G: availability --------------------------------------------------------------------------------------------------

EVSE, CONNECTOR = {"evse": {"id": 1}}, {"evse": {"id": 1, "connectorId": 1}}
STATION: dict[str, Any] = {}


@scenarios(
    ("which", "status"),
    ("TC_G_03_CSMS", "Change Availability EVSE - Operative to inoperative", EVSE, "Inoperative"),
    ("TC_G_04_CSMS", "Change Availability EVSE - Inoperative to operative", EVSE, "Operative"),
    ("TC_G_05_CSMS", "Change Availability Charging Station - Operative to inoperative", STATION, "Inoperative"),
    ("TC_G_06_CSMS", "Change Availability Charging Station - Inoperative to operative", STATION, "Operative"),
    ("TC_G_07_CSMS", "Change Availability Connector - Operative to inoperative", CONNECTOR, "Inoperative"),
    ("TC_G_08_CSMS", "Change Availability Connector - Inoperative to operative", CONNECTOR, "Operative"),
)
async def test_the_operator_changes_availability(
    station: Station, operator: Operator, which: dict[str, Any], status: str
) -> None:
    wanted = {"operationalStatus": status} | which
    await operator.commands("ChangeAvailability", wanted, station_answers=ACCEPTED)

    for evse in (1,) if which else (1, 2):
        await reports(station, "Available" if status == "Operative" else "Unavailable", evse=evse)


@scenarios(
    "which",
    ("TC_G_11_CSMS", "Change Availability EVSE - With ongoing transaction", EVSE),
    ("TC_G_14_CSMS", "Change Availability Charging Station - With ongoing transaction", STATION),
    ("TC_G_17_CSMS", "Change Availability Connector - With ongoing transaction", CONNECTOR),
)
async def test_availability_changes_when_the_charge_has_ended(
    station: Station, operator: Operator, which: dict[str, Any]
) -> None:
    charge = await charges(station)
    wanted = {"operationalStatus": "Inoperative"} | which
    await operator.commands("ChangeAvailability", wanted, station_answers={"status": "Scheduled"})
    csms_answers(await charge.tells("EVCommunicationLost", "Idle", ends="EVDisconnected"))

    await reports(station, "Unavailable")
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_G_20_CSMS", "Connector status Notification - Lock Failure")
async def test_a_lock_failure_is_acknowledged(station: Station) -> None:
    await authorizes(station)
    failure = {
        "eventId": 1,
        "timestamp": station.moment(),
        "trigger": "Delta",
        "actualValue": "true",
        "eventNotificationType": "HardWiredNotification",
        "component": {"name": "ConnectorPlugRetentionLock", "evse": {"id": 1, "connectorId": 1}},
        "variable": {"name": "Problem"},
    }
    words = {"generatedAt": station.moment(), "seqNo": 0, "eventData": [failure]}

    csms_answers(await station.sends("NotifyEvent", **words))
