"""OCPP 2.0.1, blocks C and D: authorisation, its cache and the local list.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED, Charge, token
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios
from tests.csms import CSMS

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@scenarios(
    ("said", "statuses"),
    ("TC_C_02_CSMS", "Local start transaction - Authorization Invalid/Unknown", None, {"Invalid", "Unknown"}),
    ("TC_C_06_CSMS", "Local start transaction - Authorization Blocked", "BLOCKED", {"Blocked"}),
    ("TC_C_07_CSMS", "Local start transaction - Authorization Expired", "EXPIRED", {"Expired"}),
)
async def test_a_card_is_refused_in_the_words_of_its_emsp(
    station: Station, csms: CSMS, said: str | None, statuses: set[str]
) -> None:
    card = "NOBODYKNOWSIT" if said is None else await csms.new_card(said)

    answer = await station.sends("Authorize", idToken=token(card))

    assert answer["idTokenInfo"]["status"] in statuses


# -- C10 to C12: the cache --------------------------------------------------------------------------------------------


@scenario("TC_C_08_CSMS", "Authorization through authorization cache - Accepted")
async def test_a_card_from_the_stations_cache_is_verified_in_the_transaction(
    station: Station, operator: Operator
) -> None:
    charge = Charge(station)
    await charge.connects_ev()
    csms_answers(await charge.tells("Authorized", "EVConnected", card=charge.card), idTokenInfo=ACCEPTED)
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario("TC_C_20_CSMS", "Authorization through authorization cache - Invalid")
async def test_a_card_from_the_stations_cache_may_be_refused(station: Station, operator: Operator, csms: CSMS) -> None:
    charge = Charge(station, card=await csms.new_card("BLOCKED"))
    await charge.connects_ev()
    answer = await charge.tells("Authorized", "EVConnected", card=charge.card)
    csms_answers(answer, idTokenInfo={"status": "Blocked"})

    csms_answers(await charge.tells("Deauthorized", "EVConnected", ends="DeAuthorized"))
    await operator.sees_nothing_to_bill(charge.transaction_id)


@scenarios(
    "status",
    ("TC_C_37_CSMS", "Clear Authorization Data in Authorization Cache - Accepted", "Accepted"),
    ("TC_C_38_CSMS", "Clear Authorization Data in Authorization Cache - Rejected", "Rejected"),
)
async def test_the_operator_clears_a_stations_cache(operator: Operator, status: str) -> None:
    await operator.commands("ClearCache", station_answers={"status": status})


# -- D: the local list ------------------------------------------------------------------------------------------------


@scenarios(
    ("version", "update", "entry"),
    ("TC_D_01_CSMS", "Send Local Authorization List - Full", 1, "Full", {"idTokenInfo": ACCEPTED}),
    (
        "TC_D_02_CSMS",
        "Send Local Authorization List - Differential Update",
        2,
        "Differential",
        {"idTokenInfo": {"status": "Blocked"}},
    ),
    ("TC_D_03_CSMS", "Send Local Authorization List - Differential Remove", 3, "Differential", {}),
    ("TC_D_04_CSMS", "Send Local Authorization List - Full with empty list", 4, "Full", None),
)
async def test_the_operator_sends_a_local_list(
    station: Station, operator: Operator, version: int, update: str, entry: dict[str, Any] | None
) -> None:
    wanted: dict[str, Any] = {"versionNumber": version, "updateType": update}
    if entry is not None:
        wanted["localAuthorizationList"] = [{"idToken": token(station.card)} | entry]

    await operator.commands("SendLocalList", wanted, station_answers=ACCEPTED)


@scenarios(
    "version",
    ("TC_D_08_CSMS", "Get Local List Version - Success", 1),
    ("TC_D_09_CSMS", "Get Local List Version - No list available", 0),
)
async def test_the_operator_asks_for_the_version_of_the_local_list(operator: Operator, version: int) -> None:
    await operator.commands("GetLocalListVersion", station_answers={"versionNumber": version})
