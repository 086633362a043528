"""OCPP 2.0.1, block N: logs, monitors, events, customer information.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED, token
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

TEMPERATURE: dict[str, Any] = {"component": {"name": "ChargingStation"}, "variable": {"name": "Temperature"}}
POWER: dict[str, Any] = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "Power"}}
FIRST, SECOND = 31, 32


# -- N01: logs --------------------------------------------------------------------------------------------------------


async def log_is_wanted(operator: Operator, kind: str, request_id: int = FIRST, status: str = "Accepted") -> None:
    wanted = {"logType": kind, "requestId": request_id, "log": {"remoteLocation": "https://logs.invalid/upload"}}
    await operator.commands("GetLog", wanted, station_answers={"status": status})


async def log_is(station: Station, *statuses: str, request_id: int = FIRST) -> None:
    for status in statuses:
        csms_answers(await station.sends("LogStatusNotification", status=status, requestId=request_id))


@scenarios(
    "kind",
    ("TC_N_25_CSMS", "Retrieve Log Information - Diagnostics Log - Success", "DiagnosticsLog"),
    ("TC_N_35_CSMS", "Retrieve Log Information - Security Log - Success", "SecurityLog"),
)
async def test_the_operator_fetches_a_log(station: Station, operator: Operator, kind: str) -> None:
    await log_is_wanted(operator, kind)

    await log_is(station, "Uploading", "Uploaded")


@scenario("TC_N_34_CSMS", "Retrieve Log Information - Rejected")
async def test_a_station_may_reject_to_upload_its_log(operator: Operator) -> None:
    await log_is_wanted(operator, "DiagnosticsLog", status="Rejected")


@scenario("TC_N_36_CSMS", "Retrieve Log Information - Second Request")
async def test_a_second_request_takes_the_place_of_the_first(station: Station, operator: Operator) -> None:
    await log_is_wanted(operator, "DiagnosticsLog")
    await log_is(station, "Uploading")
    await log_is_wanted(operator, "DiagnosticsLog", SECOND, "AcceptedCanceled")
    await log_is(station, "AcceptedCanceled")

    await log_is(station, "Uploading", "Uploaded", request_id=SECOND)


# -- N02 to N06: monitors ---------------------------------------------------------------------------------------------

THRESHOLDS = {"monitoringCriteria": ["ThresholdMonitoring"]}


@scenarios(
    "criteria",
    ("TC_N_01_CSMS", "Get Monitoring Report - with monitoringCriteria", THRESHOLDS),
    (
        "TC_N_02_CSMS",
        "Get Monitoring Report - with component/variable",
        {"componentVariable": [TEMPERATURE]},
    ),
    (
        "TC_N_03_CSMS",
        "Get Monitoring Report - with component criteria and component/variable",
        THRESHOLDS | {"componentVariable": [TEMPERATURE]},
    ),
    (
        "TC_N_60_CSMS",
        "Get Monitoring Report - with component criteria and list of components/variables",
        THRESHOLDS | {"componentVariable": [TEMPERATURE, POWER]},
    ),
    ("TC_N_47_CSMS", "Get Monitoring report - Report all", {}),
)
async def test_the_operator_asks_for_monitors(station: Station, operator: Operator, criteria: dict[str, Any]) -> None:
    wanted = {"requestId": FIRST} | criteria
    await operator.commands("GetMonitoringReport", wanted, station_answers=ACCEPTED)

    monitor = {"id": 1, "transaction": False, "value": 70, "type": "UpperThreshold", "severity": 4}
    for seq_no, variable in enumerate((TEMPERATURE, POWER)):
        reported: dict[str, Any] = {**variable, "variableMonitoring": [monitor | {"id": seq_no + 1}]}
        words = {"requestId": FIRST, "generatedAt": station.moment(), "seqNo": seq_no, "tbc": seq_no == 0}
        csms_answers(await station.sends("NotifyMonitoringReport", **words, monitor=[reported]))


@scenario("TC_N_05_CSMS", "Set Monitoring Base - success")
async def test_the_operator_sets_the_base_of_monitors(operator: Operator) -> None:
    for base in ("All", "FactoryDefault", "HardWiredOnly"):
        await operator.commands("SetMonitoringBase", {"monitoringBase": base}, station_answers=ACCEPTED)


@scenarios(
    "variables",
    ("TC_N_08_CSMS", "Set Variable Monitoring - One SetMonitoringData element", [TEMPERATURE]),
    (
        "TC_N_09_CSMS",
        "Set Variable Monitoring - Multiple elements on different component and variable",
        [TEMPERATURE, POWER],
    ),
)
async def test_the_operator_sets_monitors(operator: Operator, variables: list[dict[str, Any]]) -> None:
    monitor = {"value": 70, "type": "UpperThreshold", "severity": 4}
    wanted = [each | monitor for each in variables]
    results = [
        each | {"id": number, "status": "Accepted", "type": "UpperThreshold", "severity": 4}
        for number, each in enumerate(variables, 1)
    ]

    await operator.commands(
        "SetVariableMonitoring",
        {"setMonitoringData": wanted},
        station_answers={"setMonitoringResult": results},
    )


@scenarios(
    ("severity", "status"),
    ("TC_N_16_CSMS", "Set Monitoring Level - Success", 4, "Accepted"),
    ("TC_N_17_CSMS", "Set Monitoring Level - Out of range", 10, "Rejected"),
)
async def test_the_operator_sets_the_level_of_monitors(operator: Operator, severity: int, status: str) -> None:
    await operator.commands("SetMonitoringLevel", {"severity": severity}, station_answers={"status": status})


@scenario("TC_N_44_CSMS", "Clear Monitoring - Rejected")
async def test_a_station_may_reject_to_clear_a_monitor(operator: Operator) -> None:
    results = [{"id": 1, "status": "Rejected"}]

    await operator.commands("ClearVariableMonitoring", {"id": [1]}, station_answers={"clearMonitoringResult": results})


# -- N07 and N08: events ----------------------------------------------------------------------------------------------


async def event_comes(station: Station, *, seq_no: int = 0, **more: Any) -> None:
    event = TEMPERATURE | {
        "eventId": seq_no + 1,
        "timestamp": station.moment(),
        "trigger": "Alerting",
        "actualValue": "71",
        "eventNotificationType": "CustomMonitor",
        "variableMonitoringId": 1,
    }
    words = {"generatedAt": station.moment(), "seqNo": seq_no, "eventData": [event | more]}
    assert await station.sends("NotifyEvent", **words) == {}


@scenarios(
    "event",
    ("TC_N_21_CSMS", "Alert Event - HardWiredMonitor", {"eventNotificationType": "HardWiredMonitor"}),
    ("TC_N_48_CSMS", "Alert Event - Variable monitoring on write only", {"actualValue": ""}),
    (
        "TC_N_49_CSMS",
        "Alert Event - LowerThreshold/UpperThreshold cleared after reboot",
        {"cleared": True, "actualValue": "60"},
    ),
    ("TC_N_50_CSMS", "Alert Event - Periodic Triggered", {"trigger": "Periodic"}),
)
async def test_an_event_is_acknowledged(station: Station, event: dict[str, Any]) -> None:
    await event_comes(station, **event)


@scenario("TC_N_24_CSMS", "Set Variable Monitoring - Periodic event")
async def test_periodic_events_are_acknowledged(station: Station) -> None:
    for number in range(3):
        await event_comes(station, seq_no=number, trigger="Periodic")


# -- N09 and N10: customer information --------------------------------------------------------------------------------


async def customer_is_wanted(
    operator: Operator, customer: dict[str, Any], *, report: bool, clear: bool, status: str = "Accepted"
) -> None:
    wanted = {"requestId": FIRST, "report": report, "clear": clear} | customer
    await operator.commands("CustomerInformation", wanted, station_answers={"status": status})


async def customer_is_told(station: Station, data: str) -> None:
    words = {"requestId": FIRST, "seqNo": 0, "tbc": False, "generatedAt": station.moment(), "data": data}
    csms_answers(await station.sends("NotifyCustomerInformation", **words))


@scenarios(
    ("clear", "data"),
    ("TC_N_27_CSMS", "Get Customer Information - Accepted + data", False, "cards: 1"),
    ("TC_N_28_CSMS", "Get Customer Information - Accepted + no data", False, ""),
    ("TC_N_30_CSMS", "Clear Customer Information - Clear and report + data", True, "cards: 1"),
    ("TC_N_31_CSMS", "Clear Customer Information - Clear and report + no data", True, ""),
)
async def test_a_station_tells_what_it_knows_of_a_customer(
    station: Station, operator: Operator, data: str, *, clear: bool
) -> None:
    await customer_is_wanted(operator, {"idToken": token(station.card)}, report=True, clear=clear)

    await customer_is_told(station, data)


@scenario("TC_N_29_CSMS", "Get Customer Information - Not Accepted")
async def test_a_station_may_reject_to_tell_of_a_customer(station: Station, operator: Operator) -> None:
    customer = {"idToken": token(station.card)}

    await customer_is_wanted(operator, customer, report=True, clear=False, status="Rejected")


@scenario("TC_N_32_CSMS", "Clear Customer Information - Clear and no report")
async def test_a_station_forgets_a_customer(station: Station, operator: Operator) -> None:
    await customer_is_wanted(operator, {"idToken": token(station.card)}, report=False, clear=True)

    await customer_is_told(station, "")


@scenario("TC_N_46_CSMS", "Clear Customer Information - Update Local Authorization List")
async def test_a_customer_that_is_forgotten_leaves_the_local_list(station: Station, operator: Operator) -> None:
    await customer_is_wanted(operator, {"idToken": token(station.card)}, report=True, clear=True)
    await customer_is_told(station, "cards: 1")

    removal = {"versionNumber": 2, "updateType": "Differential"}
    entry = {"idToken": token(station.card)}
    await operator.commands("SendLocalList", removal | {"localAuthorizationList": [entry]}, station_answers=ACCEPTED)


@scenarios(
    "customer",
    (
        "TC_N_62_CSMS",
        "Clear Customer Information - Clear and report - customerIdentifier",
        {"customerIdentifier": "customer-1"},
    ),
    (
        "TC_N_63_CSMS",
        "Clear Customer Information - Clear and report - customerCertificate",
        {
            "customerCertificate": {
                "hashAlgorithm": "SHA256",
                "issuerNameHash": "a1",
                "issuerKeyHash": "b2",
                "serialNumber": "c3",
            }
        },
    ),
)
async def test_a_customer_is_named_without_a_card(
    station: Station, operator: Operator, customer: dict[str, Any]
) -> None:
    await customer_is_wanted(operator, customer, report=True, clear=True)

    await customer_is_told(station, "cards: 1")
