"""OCPP 2.0.1, blocks E and J: transactions and their meter values.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED, Charge, authorizes, charges, reports
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN_CARD = "NOBODYKNOWSIT"


# -- E01 to E05: where a transaction starts ---------------------------------------------------------------------------


@scenarios(
    ("trigger", "state"),
    ("TC_E_01_CSMS", "Start transaction options - PowerPathClosed", "Authorized", "EVConnected"),
    ("TC_E_02_CSMS", "Start transaction options - EnergyTransfer", "ChargingStateChanged", "Charging"),
    ("TC_E_11_CSMS", "Start transaction options - DataSigned", "SignedDataReceived", "EVConnected"),
)
async def test_a_transaction_starts_with_the_card_when_all_else_is_done(
    station: Station, operator: Operator, trigger: str, state: str
) -> None:
    await reports(station, "Occupied")
    await authorizes(station)
    charge = Charge(station)
    csms_answers(await charge.tells(trigger, state, card=charge.card), idTokenInfo=ACCEPTED)
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenarios(
    ("trigger", "state"),
    ("TC_E_09_CSMS", "Start transaction options - EVConnected", "CablePluggedIn", "EVConnected"),
    ("TC_E_12_CSMS", "Start transaction options - ParkingBayOccupied", "EVDetected", None),
)
async def test_a_transaction_starts_before_anybody_identifies(
    station: Station, operator: Operator, trigger: str, state: str | None
) -> None:
    charge = Charge(station)
    csms_answers(await charge.tells(trigger, state))
    await reports(station, "Occupied")
    await charge.is_authorized()
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_E_03_CSMS", "Local start transaction - Cable plugin first - Success")
async def test_a_driver_plugs_in_and_then_identifies(station: Station, operator: Operator) -> None:
    charge = Charge(station)
    await charge.connects_ev()
    await charge.is_authorized()
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenarios(
    (),
    ("TC_E_04_CSMS", "Local start transaction - Authorization first - Success"),
    ("TC_E_10_CSMS", "Start transaction options - Authorized - Local"),
)
async def test_a_driver_identifies_and_then_plugs_in(station: Station, operator: Operator) -> None:
    charge = Charge(station)
    await charge.is_authorized()
    await charge.connects_ev()
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_E_38_CSMS", "Local start transaction - EV not ready")
async def test_a_car_that_is_not_ready_suspends_its_charge(station: Station, operator: Operator) -> None:
    charge = Charge(station)
    await charge.is_authorized()
    await charge.connects_ev()
    csms_answers(await charge.tells("ChargingStateChanged", "SuspendedEV"))
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


# -- E06 to E10: where it ends ----------------------------------------------------------------------------------------


@scenarios(
    ("trigger", "state", "reason"),
    (
        "TC_E_14_CSMS",
        "Stop transaction options - EVDisconnected - Charging Station side",
        "EVCommunicationLost",
        "Idle",
        "EVDisconnected",
    ),
    ("TC_E_19_CSMS", "Stop transaction options - ParkingBayUnoccupied", "EVDeparted", "Idle", "Local"),
    (
        "TC_E_20_CSMS",
        "Stop transaction options - EVDisconnected - EV side (able to charge IEC 61851-1 EV)",
        "EVCommunicationLost",
        "Idle",
        "EVDisconnected",
    ),
    (
        "TC_E_22_CSMS",
        "Stop transaction options - EnergyTransfer stopped - SuspendedEV",
        "ChargingStateChanged",
        "SuspendedEV",
        "StoppedByEV",
    ),
)
async def test_a_transaction_ends_without_the_card(
    station: Station, operator: Operator, trigger: str, state: str, reason: str
) -> None:
    charge = await charges(station)
    csms_answers(await charge.tells(trigger, state, ends=reason, flowing=True))

    await reports(station, "Available")
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenarios(
    (),
    ("TC_E_07_CSMS", "Stop transaction options - PowerPathClosed - Local stop"),
    ("TC_E_08_CSMS", "Stop transaction options - EnergyTransfer stopped - StopAuthorized"),
    ("TC_E_15_CSMS", "Stop transaction options - StopAuthorized - Local"),
)
async def test_a_transaction_ends_by_the_card_that_started_it(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await authorizes(station)
    answer = await charge.tells("StopAuthorized", "EVConnected", card=charge.card, ends="Local", flowing=True)
    csms_answers(answer, idTokenInfo=ACCEPTED)

    await reports(station, "Available")
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenarios(
    ("trigger", "reason"),
    ("TC_E_16_CSMS", "Stop transaction options - Deauthorized - Invalid idToken", "Deauthorized", "DeAuthorized"),
    (
        "TC_E_17_CSMS",
        "Stop transaction options - Deauthorized - EV side disconnect",
        "EVCommunicationLost",
        "EVDisconnected",
    ),
)
async def test_a_transaction_with_a_card_that_is_refused_ends(
    station: Station, operator: Operator, trigger: str, reason: str
) -> None:
    charge = Charge(station, card=UNKNOWN_CARD)
    await charge.connects_ev()
    answer = await charge.tells("Authorized", "EVConnected", card=charge.card)
    assert answer["idTokenInfo"]["status"] in {"Invalid", "Unknown"}
    csms_answers(await charge.tells("ChargingStateChanged", "SuspendedEVSE"))

    csms_answers(await charge.tells(trigger, "Idle", ends=reason))
    await operator.sees_nothing_to_bill(charge.transaction_id)


@scenario("TC_E_21_CSMS", "Stop transaction options - StopAuthorized - Remote")
async def test_a_transaction_is_ended_remotely(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    wanted = {"transactionId": charge.transaction_id}
    await operator.commands("RequestStopTransaction", wanted, station_answers=ACCEPTED)

    csms_answers(await charge.tells("RemoteStop", "EVConnected", ends="Remote", flowing=True))
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_E_26_CSMS", "Disconnect cable on EV-side - Suspend transaction")
async def test_a_cable_that_is_pulled_suspends_the_transaction(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    csms_answers(await charge.tells("EVCommunicationLost", "Idle"))
    csms_answers(await charge.tells("CablePluggedIn", "EVConnected"))
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_E_39_CSMS", "Stop transaction options - Deauthorized - timeout")
async def test_a_transaction_to_which_no_car_comes_ends(station: Station) -> None:
    charge = Charge(station)
    await charge.is_authorized()

    csms_answers(await charge.tells("EVConnectTimeout", ends="Timeout"))


@scenario("TC_E_53_CSMS", "Reset Sequence Number - CSMS accepting seqNo = 0 at start of transaction")
async def test_each_transaction_counts_from_0(station: Station, operator: Operator) -> None:
    first, second = await charges(station), Charge(station, evse=2)
    await first.disconnects_ev()
    await second.is_authorized()
    await second.connects_ev()
    await second.flows()
    await second.disconnects_ev()

    for charge in (first, second):
        await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


# -- E14: transaction status ------------------------------------------------------------------------------------------


@scenarios(
    ("has_id", "has_ended", "answer"),
    (
        "TC_E_29_CSMS",
        "Check Transaction status - Transaction with id ongoing - with message in queue",
        True,
        False,
        {"ongoingIndicator": True, "messagesInQueue": True},
    ),
    (
        "TC_E_30_CSMS",
        "Check Transaction status - Transaction with id ongoing - without message in queue",
        True,
        False,
        {"ongoingIndicator": True, "messagesInQueue": False},
    ),
    (
        "TC_E_31_CSMS",
        "Check Transaction status - Transaction with id ended - with message in queue",
        True,
        True,
        {"ongoingIndicator": False, "messagesInQueue": True},
    ),
    (
        "TC_E_33_CSMS",
        "Check Transaction status - Without transactionId - with message in queue",
        False,
        False,
        {"messagesInQueue": True},
    ),
    (
        "TC_E_34_CSMS",
        "Check Transaction status - Without transactionId - without message in queue",
        False,
        False,
        {"messagesInQueue": False},
    ),
)
async def test_the_operator_asks_for_the_status_of_a_transaction(
    station: Station, operator: Operator, answer: dict[str, Any], *, has_id: bool, has_ended: bool
) -> None:
    charge = await charges(station)
    if has_ended:
        await charge.disconnects_ev()
    wanted = {"transactionId": charge.transaction_id} if has_id else {}

    await operator.commands("GetTransactionStatus", wanted, station_answers=answer)
    if answer["messagesInQueue"] and not has_ended:
        csms_answers(await charge.tells("MeterValuePeriodic", "Charging", flowing=True, offline=True))


# -- J: meter values --------------------------------------------------------------------------------------------------

SIGNED = {
    "signedMeterValue": {
        "signedMeterData": "T0NNRnx7fXx7fQ==",
        "signingMethod": "ECDSA-secp256r1-SHA256",
        "encodingMethod": "OCMF",
        "publicKey": "",
    }
}


@scenarios(
    "signed",
    ("TC_J_01_CSMS", "Clock-aligned Meter Values - No transaction ongoing", {}),
    ("TC_J_04_CSMS", "Clock-aligned Meter Values - Signed", SIGNED),
)
async def test_clock_aligned_values_come_without_a_transaction(station: Station, signed: dict[str, Any]) -> None:
    value = Charge(station).meter(context="Sample.Clock", **signed)

    for evse in (0, 1, 2):
        csms_answers(await station.sends("MeterValues", evseId=evse, meterValue=[value]))


@scenarios(
    ("trigger", "context", "signed"),
    ("TC_J_02_CSMS", "Clock-aligned Meter Values - Transaction ongoing", "MeterValueClock", "Sample.Clock", {}),
    (
        "TC_J_09_CSMS",
        "Sampled Meter Values - EventType Updated",
        "MeterValuePeriodic",
        "Sample.Periodic",
        {},
    ),
    ("TC_J_11_CSMS", "Sampled Meter Values - Signed", "MeterValuePeriodic", "Sample.Periodic", SIGNED),
)
async def test_values_come_during_a_transaction(
    station: Station, operator: Operator, trigger: str, context: str, signed: dict[str, Any]
) -> None:
    charge = await charges(station)
    value = charge.meter(context=context, **signed)
    csms_answers(await charge.tells(trigger, "Charging", meterValue=[value]))

    await charge.disconnects_ev()
    record = await station.csms.transaction(station.identity, charge.transaction_id)
    assert record.metered_import_wh == charge.metered_wh


@scenarios(
    "context",
    ("TC_J_03_CSMS", "Clock-aligned Meter Values - EventType Ended", "Sample.Clock"),
    ("TC_J_10_CSMS", "Sampled Meter Values - EventType Ended", "Sample.Periodic"),
)
async def test_the_end_brings_the_values_of_the_whole_transaction(
    station: Station, operator: Operator, context: str
) -> None:
    charge = await charges(station)
    values = [charge.meter(context=context), charge.meter("Ended")]
    csms_answers(await charge.tells("EVCommunicationLost", "Idle", ends="EVDisconnected", meterValue=values))

    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_J_07_CSMS", "Sampled Meter Values - EventType Started - EVSE known")
async def test_the_start_brings_its_values(station: Station, operator: Operator) -> None:
    charge = Charge(station)
    value = charge.meter("Started")
    csms_answers(await charge.tells("CablePluggedIn", "EVConnected", meterValue=[value]))
    await charge.is_authorized()
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_J_08_CSMS", "Sampled Meter Values - Context Transaction.Begin - EVSE not known")
async def test_the_first_values_come_when_the_evse_is_known(station: Station, operator: Operator) -> None:
    charge = Charge(station)
    await authorizes(station)
    nowhere: dict[str, Any] = {"evse": None, "meterValue": None}
    csms_answers(await charge.tells("Authorized", card=charge.card, **nowhere), idTokenInfo=ACCEPTED)
    await reports(station, "Occupied")
    begin = charge.meter(context="Transaction.Begin")
    csms_answers(await charge.tells("CablePluggedIn", "EVConnected", meterValue=[begin]))
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)
