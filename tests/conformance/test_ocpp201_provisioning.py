"""OCPP 2.0.1, block B: boot, variables, reports, reset, network profiles.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from websockets.exceptions import InvalidStatus

from charge_point_gateway.admission import AdmissionRates, BootAdmission
from charge_point_gateway.security import station_identity
from emobility.adapters.memory import LoopTimer, SeededRandomness
from tests.conformance.charge201 import ACCEPTED, charges, reports
from tests.conformance.scenario import ANYTHING, Operator, Station, csms_answers, scenario, scenarios
from tests.csms import CSMS
from tests.operations.world import CPO

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

OFFLINE_THRESHOLD = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "OfflineThreshold"}}
REMOTE_START = {"component": {"name": "AuthCtrlr"}, "variable": {"name": "AuthorizeRemoteStart"}}


@scenario("TC_B_01_CSMS", "Cold Boot Charging Station - Accepted")
async def test_a_station_that_boots_is_accepted_and_told_the_time(station: Station) -> None:
    await station.boots()

    csms_answers(await station.sends("Heartbeat"), currentTime=ANYTHING)


@scenario("TC_B_58_CSMS", "WebSocket Subprotocol validation")
async def test_a_version_that_both_know_is_spoken_and_no_other(station: Station) -> None:
    with pytest.raises(InvalidStatus):
        await station.connects(subprotocols=("ocpp0.1",))

    assert await station.connects(subprotocols=("ocpp0.1", "ocpp2.0.1")) == "ocpp2.0.1"
    await station.boots()


# -- B02: a boot that has to wait -------------------------------------------------------------------------------------


class SteppedTimer(LoopTimer):
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


@pytest_asyncio.fixture(loop_scope="module")
async def no_room(csms: CSMS, monkeypatch: pytest.MonkeyPatch) -> SteppedTimer:
    """Stations that connect from now on find no room to boot, until the timer is stepped."""
    timer = SteppedTimer()
    boots = BootAdmission(timer, SeededRandomness(1), AdmissionRates(boots_per_s=0.1, boots_burst=1))
    boots.decide(station_identity(CPO.code, "CS-BEFORE"))
    monkeypatch.setattr(csms.gateway, "_services", replace(csms.gateway._services, boots=boots))
    return timer


async def is_told_to_wait(station: Station) -> None:
    await station.connects()
    booting = {"reason": "PowerUp", "chargingStation": {"vendorName": "Scenario", "model": "Station"}}
    answer = await station.sends("BootNotification", **booting)
    csms_answers(answer, status="Pending")
    assert answer["interval"] > 0


@scenario("TC_B_02_CSMS", "Cold Boot Charging Station - Pending")
async def test_a_station_that_waits_is_read_and_set(
    station: Station, operator: Operator, no_room: SteppedTimer
) -> None:
    await is_told_to_wait(station)
    await operator.commands(
        "SetVariables",
        {"setVariableData": [OFFLINE_THRESHOLD | {"attributeValue": "1"}]},
        station_answers={"setVariableResult": [OFFLINE_THRESHOLD | {"attributeStatus": "Accepted"}]},
    )
    await operator.commands(
        "GetVariables",
        {"getVariableData": [OFFLINE_THRESHOLD]},
        station_answers={
            "getVariableResult": [OFFLINE_THRESHOLD | {"attributeStatus": "Accepted", "attributeValue": "1"}]
        },
    )
    wanted = {"requestId": 11, "reportBase": "FullInventory"}
    await operator.commands("GetBaseReport", wanted, station_answers=ACCEPTED)
    await is_reported(operator, 11)

    no_room.now_s = 10
    await station.boots()


@scenario("TC_B_31_CSMS", "Cold Boot Charging Station - Pending/Rejected - TriggerMessage")
async def test_a_station_that_waits_is_triggered_to_boot_again(
    station: Station, operator: Operator, no_room: SteppedTimer
) -> None:
    await is_told_to_wait(station)
    no_room.now_s = 10
    await operator.commands("TriggerMessage", {"requestedMessage": "BootNotification"}, station_answers=ACCEPTED)

    await station.boots("Triggered")


# -- B05 and B06: variables -------------------------------------------------------------------------------------------


@scenarios(
    "variables",
    ("TC_B_06_CSMS", "Get Variables - single value", [OFFLINE_THRESHOLD]),
    ("TC_B_07_CSMS", "Get Variables - multiple values", [OFFLINE_THRESHOLD, REMOTE_START]),
)
async def test_the_operator_reads_variables(operator: Operator, variables: list[dict[str, Any]]) -> None:
    results = [each | {"attributeStatus": "Accepted", "attributeValue": "1"} for each in variables]

    await operator.commands(
        "GetVariables", {"getVariableData": variables}, station_answers={"getVariableResult": results}
    )


@scenarios(
    "variables",
    ("TC_B_09_CSMS", "Set Variables - single value", [OFFLINE_THRESHOLD]),
    ("TC_B_10_CSMS", "Set Variables - multiple values", [OFFLINE_THRESHOLD, REMOTE_START]),
)
async def test_the_operator_sets_variables(operator: Operator, variables: list[dict[str, Any]]) -> None:
    wanted = [each | {"attributeValue": "1"} for each in variables]
    results = [each | {"attributeStatus": "Accepted"} for each in variables]

    await operator.commands("SetVariables", {"setVariableData": wanted}, station_answers={"setVariableResult": results})


# -- B07 and B08: reports ---------------------------------------------------------------------------------------------


async def is_reported(operator: Operator, request_id: int) -> None:
    """Send a report in two parts; the operator sees what it says."""
    station = operator.station
    for seq_no, variable in enumerate((OFFLINE_THRESHOLD, REMOTE_START)):
        described = variable | {"variableAttribute": [{"value": "1"}]}
        words = {"requestId": request_id, "generatedAt": station.moment(), "seqNo": seq_no, "tbc": seq_no == 0}
        csms_answers(await station.sends("NotifyReport", **words, reportData=[described]))


@scenarios(
    "base",
    ("TC_B_12_CSMS", "Get Base Report - ConfigurationInventory", "ConfigurationInventory"),
    ("TC_B_13_CSMS", "Get Base Report - FullInventory", "FullInventory"),
    ("TC_B_14_CSMS", "Get Base Report - SummaryInventory", "SummaryInventory"),
)
async def test_the_operator_asks_for_a_base_report(operator: Operator, base: str) -> None:
    await operator.commands("GetBaseReport", {"requestId": 11, "reportBase": base}, station_answers=ACCEPTED)

    await is_reported(operator, 11)


@scenario("TC_B_18_CSMS", "Get Custom Report - with componentCriteria and component/variables")
async def test_the_operator_asks_for_a_report_of_components(operator: Operator) -> None:
    wanted = {"requestId": 12, "componentCriteria": ["Available"], "componentVariable": [OFFLINE_THRESHOLD]}
    await operator.commands("GetReport", wanted, station_answers=ACCEPTED)

    await is_reported(operator, 12)


# -- B11 and B12: reset -----------------------------------------------------------------------------------------------


async def reboots(station: Station) -> None:
    await station.disconnects()
    await station.connects()
    await station.boots("RemoteReset")


@scenario("TC_B_20_CSMS", "Reset Charging Station - Without ongoing transaction - OnIdle")
async def test_an_idle_station_is_reset(station: Station, operator: Operator) -> None:
    await operator.commands("Reset", {"type": "OnIdle"}, station_answers=ACCEPTED)

    await reboots(station)


@scenario("TC_B_21_CSMS", "Reset Charging Station - With Ongoing Transaction - OnIdle")
async def test_a_station_that_charges_is_reset_when_it_is_idle(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await operator.commands("Reset", {"type": "OnIdle"}, station_answers={"status": "Scheduled"})
    await charge.disconnects_ev()

    await reboots(station)
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_B_22_CSMS", "Reset Charging Station - With Ongoing Transaction - Immediate")
async def test_a_station_that_charges_is_reset_at_once(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await operator.commands("Reset", {"type": "Immediate"}, station_answers=ACCEPTED)
    csms_answers(await charge.tells("ResetCommand", ends="ImmediateReset", flowing=True))

    await reboots(station)
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_B_25_CSMS", "Reset EVSE - Without ongoing transaction")
async def test_an_idle_evse_is_reset(station: Station, operator: Operator) -> None:
    await operator.commands("Reset", {"type": "OnIdle", "evseId": 1}, station_answers=ACCEPTED)

    await reports(station, "Unavailable")
    await reports(station, "Available")


@scenario("TC_B_26_CSMS", "Reset EVSE - With Ongoing Transaction - OnIdle")
async def test_an_evse_that_charges_is_reset_when_it_is_idle(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await operator.commands("Reset", {"type": "OnIdle", "evseId": 1}, station_answers={"status": "Scheduled"})
    await charge.disconnects_ev()

    await reports(station, "Unavailable")
    await reports(station, "Available")
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_B_27_CSMS", "Reset EVSE - With Ongoing Transaction - Immediate")
async def test_an_evse_that_charges_is_reset_at_once(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await operator.commands("Reset", {"type": "Immediate", "evseId": 1}, station_answers=ACCEPTED)
    csms_answers(await charge.tells("ResetCommand", ends="ImmediateReset", flowing=True))

    await reports(station, "Unavailable")
    await reports(station, "Available")
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


# -- B09: network profiles --------------------------------------------------------------------------------------------


@scenarios(
    "status",
    ("TC_B_42_CSMS", "Set new NetworkConnectionProfile - Accepted", "Accepted"),
    ("TC_B_44_CSMS", "Set new NetworkConnectionProfile - Failed", "Failed"),
)
async def test_the_operator_sets_a_network_profile(operator: Operator, status: str) -> None:
    connection = {
        "ocppVersion": "OCPP20",
        "ocppTransport": "JSON",
        "ocppCsmsUrl": operator.csms.wss_url,
        "messageTimeout": 30,
        "securityProfile": 2,
        "ocppInterface": "Wired0",
    }
    wanted = {"configurationSlot": 2, "connectionData": connection}

    await operator.commands("SetNetworkProfile", wanted, station_answers={"status": status})
