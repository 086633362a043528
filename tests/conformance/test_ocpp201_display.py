"""OCPP 2.0.1, blocks O and P: messages on the display, data of vendors.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED, charges
from tests.conformance.scenario import ANYTHING, Operator, Station, csms_answers, scenario, scenarios

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGE_ID, REQUEST_ID = 51, 52


def message(**more: Any) -> dict[str, Any]:
    content = {"format": "UTF8", "content": "Welcome", "language": "en"}
    return {"id": MESSAGE_ID, "priority": "NormalCycle", "message": content} | more


async def shows(operator: Operator, made: dict[str, Any], status: str = "Accepted") -> None:
    await operator.commands("SetDisplayMessage", {"message": made}, station_answers={"status": status})


# -- O01 and O06: a message is set ------------------------------------------------------------------------------------


@scenarios(
    ("more", "status"),
    ("TC_O_01_CSMS", "Set Display Message - Success", {}, "Accepted"),
    ("TC_O_17_CSMS", "Set Display Message - NotSupportedPriority", {}, "NotSupportedPriority"),
    ("TC_O_18_CSMS", "Set Display Message - NotSupportedState", {"state": "Charging"}, "NotSupportedState"),
    (
        "TC_O_19_CSMS",
        "Set Display Message - NotSupportedMessageFormat",
        {"message": {"format": "HTML", "content": "<b>Welcome</b>"}},
        "NotSupportedMessageFormat",
    ),
    ("TC_O_25_CSMS", "Set Display Message - Send Specific state", {"state": "Idle"}, "Accepted"),
    ("TC_O_26_CSMS", "Set Display Message - Rejected", {}, "Rejected"),
)
async def test_a_message_is_set(operator: Operator, more: dict[str, Any], status: str) -> None:
    await shows(operator, message(**more), status)


@scenarios(
    "when",
    ("TC_O_13_CSMS", "Set Display Message - Display message at StartTime", "startDateTime"),
    ("TC_O_14_CSMS", "Set Display Message - Remove message after EndTime", "endDateTime"),
)
async def test_a_message_is_set_for_a_time(station: Station, operator: Operator, when: str) -> None:
    await shows(operator, message(**{when: station.moment(30)}))


@scenario("TC_O_12_CSMS", "Set Display Message - Replace DisplayMessage")
async def test_a_message_replaces_the_one_with_its_number(operator: Operator) -> None:
    await shows(operator, message())

    await shows(operator, message(priority="AlwaysFront"))


# -- O02: a message for a charge --------------------------------------------------------------------------------------


@scenarios(
    "when",
    ("TC_O_06_CSMS", "Set Display Message - Specific transaction - Success", None),
    (
        "TC_O_27_CSMS",
        "Set Display Message - Specific transaction - Display message at StartTime",
        "startDateTime",
    ),
    ("TC_O_28_CSMS", "Set Display Message - Specific transaction - Remove message after EndTime", "endDateTime"),
)
async def test_a_message_is_set_for_a_charge(station: Station, operator: Operator, when: str | None) -> None:
    charge = await charges(station)
    window = {} if when is None else {when: station.moment(30)}

    await shows(operator, message(transactionId=charge.transaction_id, **window))


@scenario("TC_O_10_CSMS", "Set Display Message - Specific transaction - UnknownTransaction")
async def test_a_message_for_no_charge_is_refused(operator: Operator) -> None:
    await shows(operator, message(transactionId="none"), "UnknownTransaction")


# -- O03 to O05: messages are listed and cleared ----------------------------------------------------------------------


@scenarios(
    "criteria",
    ("TC_O_02_CSMS", "Get all Display Messages - Success", {}),
    ("TC_O_07_CSMS", "Get a Specific Display Message - Id", {"id": [MESSAGE_ID]}),
    ("TC_O_08_CSMS", "Get a Specific Display Message - Priority", {"priority": "NormalCycle"}),
    ("TC_O_09_CSMS", "Get a Specific Display Message - State", {"state": "Charging"}),
)
async def test_the_operator_asks_for_messages(station: Station, operator: Operator, criteria: dict[str, Any]) -> None:
    await shows(operator, message(state="Charging"))
    wanted = {"requestId": REQUEST_ID} | criteria
    await operator.commands("GetDisplayMessages", wanted, station_answers=ACCEPTED)

    told = {"requestId": REQUEST_ID, "tbc": False, "messageInfo": [message(state="Charging")]}
    csms_answers(await station.sends("NotifyDisplayMessages", **told))


@scenarios(
    "criteria",
    ("TC_O_03_CSMS", "Get all Display Messages - No DisplayMessages configured", {}),
    ("TC_O_11_CSMS", "Get a Specific Display Message - Unknown parameters", {"id": [MESSAGE_ID + 1]}),
)
async def test_a_station_may_have_no_such_message(operator: Operator, criteria: dict[str, Any]) -> None:
    wanted = {"requestId": REQUEST_ID} | criteria

    await operator.commands("GetDisplayMessages", wanted, station_answers={"status": "Unknown"})


@scenarios(
    "status",
    ("TC_O_04_CSMS", "Clear Display Message - Success", "Accepted"),
    ("TC_O_05_CSMS", "Clear Display Message - Unknown Key", "Unknown"),
)
async def test_a_message_is_cleared(operator: Operator, status: str) -> None:
    await shows(operator, message())

    await operator.commands("ClearDisplayMessage", {"id": MESSAGE_ID}, station_answers={"status": status})


# -- P: data of vendors -----------------------------------------------------------------------------------------------


@scenario("TC_P_02_CSMS", "Data Transfer to the CSMS - Rejected / Unknown VendorId / Unknown MessageId")
async def test_data_of_a_vendor_that_nobody_knows_are_answered(station: Station) -> None:
    answer = await station.sends("DataTransfer", vendorId="com.scenario", messageId="hello", data={"any": [1]})

    assert answer["status"] in {"Rejected", "UnknownVendorId", "UnknownMessageId"}


@scenario("TC_P_03_CSMS", "CustomData - Receive custom data")
async def test_custom_data_are_taken(station: Station) -> None:
    custom = {"vendorId": "com.scenario", "anything": {"deeper": [1, "two"]}}

    csms_answers(await station.sends("Heartbeat", customData=custom), currentTime=ANYTHING)
