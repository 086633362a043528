"""OCPP 2.0.1, use cases C09 and C16: tokens of one group, and the group whose tokens stop everything.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED, Charge, authorizes, charges
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios
from tests.csms import CSMS
from tests.operations.world import CPO, EMSP

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

FAMILY, MASTERS = "FAMILY", "MASTERS"


def group_in(answer: Any) -> str:
    """Return the group that the CSMS says a card is of."""
    csms_answers(answer, idTokenInfo=ACCEPTED)
    group: str = answer["idTokenInfo"]["groupIdToken"]["idToken"]
    return group


async def charges_until_another_of_the_group_stops_it(
    station: Station, operator: Operator, mine: str, theirs: str, *, is_shown: bool
) -> None:
    charge = Charge(station, card=mine)
    await charge.connects_ev()
    group = group_in(await charge.tells("Authorized", "EVConnected", card=mine))
    await charge.flows()
    if is_shown:
        shown = await authorizes(station, theirs)
        assert shown["groupIdToken"]["idToken"] == group
    stopped = await charge.tells("StopAuthorized", "EVConnected", card=theirs, flowing=True)
    assert group_in(stopped) == group

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenarios(
    (),
    ("TC_C_39_CSMS", "Authorization by GroupId - Success"),
    ("TC_C_43_CSMS", "Authorization by GroupId - Invalid status with Local Authorization List"),
)
async def test_a_charge_is_stopped_by_another_card_of_the_group(
    station: Station, operator: Operator, csms: CSMS
) -> None:
    mine, theirs = [await csms.new_card(group_id=FAMILY) for _ in range(2)]
    await authorizes(station, theirs)

    await charges_until_another_of_the_group_stops_it(station, operator, mine, theirs, is_shown=True)


@scenario("TC_C_40_CSMS", "Authorization by GroupId - Success with Local Authorization List")
async def test_a_charge_is_stopped_by_another_card_of_the_group_in_the_local_list(
    station: Station, operator: Operator, csms: CSMS
) -> None:
    mine, theirs = [await csms.new_card(group_id="LISTED", whitelist="ALLOWED") for _ in range(2)]
    station.answers |= {"GetLocalListVersion": {"versionNumber": 0}, "SendLocalList": ACCEPTED}
    path = f"/{CPO}/stations/{station.identity}/local-list"
    for method, where, body in (("PUT", path, {"mode": "CACHED"}), ("POST", f"{path}/sync", None)):
        assert (await csms.world.api(method, where, body)).status_code == 200
    await station.is_called("GetLocalListVersion")
    sent = await station.is_called("SendLocalList")
    groups = {each["idToken"]["idToken"]: each["idTokenInfo"] for each in sent["localAuthorizationList"]}
    assert groups[mine] == groups[theirs]
    assert groups[mine]["groupIdToken"]

    await charges_until_another_of_the_group_stops_it(station, operator, mine, theirs, is_shown=False)


async def master_pass(csms: CSMS) -> tuple[str, str]:
    """Let the tokens of a group stop everything; return one of them, and what stations know the group by."""
    policy = {"master_pass": {"emsp_id": EMSP, "group_id": MASTERS}}
    answer = await csms.world.api("PUT", f"/{CPO}/authorization-policy", policy)
    assert answer.status_code == 200, answer.text
    return await csms.new_card(group_id=MASTERS), answer.json()["master_pass_group_id"]


@scenarios(
    ("evses", "shows_master"),
    ("TC_C_47_CSMS", "Stop Transaction with a Master Pass - With UI - All transactions", (1, 2), True),
    ("TC_C_48_CSMS", "Stop Transaction with a Master Pass - With UI - Specific transactions", (1,), True),
    ("TC_C_49_CSMS", "Stop Transaction with a Master Pass - Without UI", (1, 2), False),
)
async def test_a_master_pass_stops_charges(
    station: Station, operator: Operator, csms: CSMS, evses: tuple[int, ...], *, shows_master: bool
) -> None:
    under_way = [await charges(station, evse=evse, card=await csms.new_card()) for evse in (1, 2)]
    master, group = await master_pass(csms)
    shown = await authorizes(station, master)
    assert shown["groupIdToken"]["idToken"] == group
    for charge in under_way:
        if charge.evse in evses:
            card = master if shows_master else charge.card
            answer = await charge.tells("StopAuthorized", "EVConnected", card=card, ends="MasterPass", flowing=True)
            csms_answers(answer, idTokenInfo=ACCEPTED)

    for charge in under_way:
        if charge.evse not in evses:
            await charge.disconnects_ev()
        await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)
