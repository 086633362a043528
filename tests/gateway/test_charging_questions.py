"""What a station asks about charging is put to the back office before it is answered; away, the back office said no."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from emobility.domain.identifiers import PartyId
from emobility.events.charging import StationNotified
from emobility.ports.station_questions import ChargingAdvice, ChargingQuestion

NEEDS: Final = {"evseId": 2, "chargingNeeds": {"requestedEnergyTransfer": "DC"}}
PULL: Final = {"chargingProfileId": 7}


@pytest.mark.parametrize(
    ("subprotocol", "is_accepted", "status"),
    [
        ("ocpp2.0.1", True, "Accepted"),
        ("ocpp2.0.1", False, "Rejected"),
        ("ocpp2.1", True, "Accepted"),
        ("ocpp2.1", False, "NoChargingProfile"),
    ],
)
async def test_an_ev_s_needs_are_accepted_where_a_profile_follows(
    world: Any,
    subprotocol: str,
    is_accepted: bool,  # noqa: FBT001 - a case
    status: str,
) -> None:
    station = await world.dial(subprotocol)
    world.back_office.advice = ChargingAdvice(is_accepted=is_accepted)

    answer = await station.call("NotifyEVChargingNeeds", NEEDS)

    assert answer[2] == {"status": status}
    (question,) = world.back_office.charging_questions
    assert (question.charging_station_id, question.evse_with_needs) == ("CS-1", 2)
    (event,) = await world.events()
    assert isinstance(event, StationNotified)
    assert json.loads(await world.adapters.vault.open(event.payload)) == NEEDS


async def test_a_station_that_pulls_gets_the_values_of_its_dynamic_profile(world: Any) -> None:
    station = await world.dial("ocpp2.1")
    world.back_office.advice = ChargingAdvice(is_accepted=True, schedule_update={"limit": 6.5, "setpoint_L2": -3})

    answer = await station.call("PullDynamicScheduleUpdate", PULL)

    assert answer[2] == {"status": "Accepted", "scheduleUpdate": {"limit": 6.5, "setpoint_L2": -3}}
    (question,) = world.back_office.charging_questions
    assert question == ChargingQuestion(party_id=PartyId("NL-TNM"), charging_station_id="CS-1", dynamic_profile_id=7)


async def test_while_the_back_office_is_away_the_answer_is_no_and_what_was_told_is_kept(world: Any) -> None:
    station = await world.dial("ocpp2.1")
    world.back_office.is_down = True

    answers = [
        await station.call("NotifyEVChargingNeeds", NEEDS),
        await station.call("PullDynamicScheduleUpdate", PULL),
    ]

    assert [each[2]["status"] for each in answers] == ["NoChargingProfile", "Rejected"]
    assert len(await world.events()) == 2


async def test_a_number_that_no_evse_has_is_refused_and_asked_of_nobody(world: Any) -> None:
    station = await world.dial("ocpp2.1")

    answer = await station.call("NotifyEVChargingNeeds", NEEDS | {"evseId": 10**30})

    assert answer[:3] == [4, "m1", "PropertyConstraintViolation"]
    assert world.back_office.charging_questions == []
