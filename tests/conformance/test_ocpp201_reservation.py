"""OCPP 2.0.1, blocks H and I: reservations and the running cost.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED, Charge, authorizes, charges, reports, token
from tests.conformance.scenario import Operator, Station, csms_answers, scenario
from tests.csms import CSMS

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

RESERVATION_ID = 7


async def reserves(operator: Operator, status: str = "Accepted", **more: Any) -> None:
    station = operator.station
    wanted = {"id": RESERVATION_ID, "expiryDateTime": station.moment(30), "idToken": token(station.card)} | more
    await operator.commands("ReserveNow", wanted, station_answers={"status": status})


async def reservation_is(station: Station, status: str) -> None:
    words = {"reservationId": RESERVATION_ID, "reservationUpdateStatus": status}
    csms_answers(await station.sends("ReservationStatusUpdate", **words))


@scenario("TC_H_01_CSMS", "Reserve a specific EVSE - Accepted - Valid idToken")
async def test_a_reserved_evse_is_used(station: Station, operator: Operator) -> None:
    await reserves(operator, evseId=1)
    await reports(station, "Reserved")
    await authorizes(station)
    charge = Charge(station)
    answer = await charge.tells("Authorized", card=charge.card, reservationId=RESERVATION_ID)
    csms_answers(answer, idTokenInfo=ACCEPTED)
    await charge.connects_ev()
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_H_07_CSMS", "Reserve a specific EVSE - Reservation Ended / not used")
async def test_a_reservation_expires(station: Station, operator: Operator) -> None:
    await reserves(operator, evseId=1)
    await reports(station, "Reserved")
    await reports(station, "Available")

    await reservation_is(station, "Expired")


@scenario("TC_H_08_CSMS", "Reserve an unspecified EVSE - Accepted")
async def test_any_evse_is_reserved(station: Station, operator: Operator) -> None:
    await reserves(operator)

    await reports(station, "Reserved")


@scenario("TC_H_14_CSMS", "Reserve an unspecified EVSE - Amount of EVSEs available equals the amount of reservations")
async def test_every_evse_is_reserved(station: Station, operator: Operator, csms: CSMS) -> None:
    for number in (1, 2):
        await reserves(operator, id=number, idToken=token(await csms.new_card()))

    for evse in (1, 2):
        await reports(station, "Reserved", evse=evse)


@scenario("TC_H_15_CSMS", "Reserve a connector with a specific type - Success")
async def test_a_type_of_connector_is_reserved(station: Station, operator: Operator) -> None:
    await reserves(operator, connectorType="cType2")

    await reports(station, "Reserved")


@scenario("TC_H_17_CSMS", "Cancel reservation of an EVSE - Success")
async def test_a_reservation_is_cancelled(station: Station, operator: Operator) -> None:
    await reserves(operator, evseId=1)
    await reports(station, "Reserved")
    await operator.commands("CancelReservation", {"reservationId": RESERVATION_ID}, station_answers=ACCEPTED)

    await reports(station, "Available")


@scenario("TC_H_19_CSMS", "Reserve a specific EVSE - Use a reserved EVSE with GroupId")
async def test_an_evse_is_reserved_for_a_group(station: Station, operator: Operator) -> None:
    await reserves(operator, evseId=1, groupIdToken=token("GROUP", "Central"))

    await reports(station, "Reserved")


@scenario("TC_H_20_CSMS", "Charging Station cancels reservation when Faulted")
async def test_a_station_that_is_faulted_removes_its_reservation(station: Station, operator: Operator) -> None:
    await reserves(operator, evseId=1)
    await reports(station, "Reserved")
    await reports(station, "Faulted")

    await reservation_is(station, "Removed")


@scenario("TC_H_22_CSMS", "Reserve a specific EVSE - Configured to Reject")
async def test_a_station_may_reject_a_reservation(operator: Operator) -> None:
    await reserves(operator, "Rejected", evseId=1)


# -- I: cost ----------------------------------------------------------------------------------------------------------


@scenario("TC_I_01_CSMS", "Show EV Driver running total cost during charging - costUpdatedRequest")
async def test_the_operator_tells_the_running_cost(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    wanted = {"totalCost": 0.65, "transactionId": charge.transaction_id}

    await operator.commands("CostUpdated", wanted, station_answers={})
