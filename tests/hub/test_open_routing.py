"""Messages that name no receiver: whose it is follows from what they name, or it goes to nobody."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from starlette.responses import Response

from emobility.domain.identifiers import PartyId, Role
from roaming_hub.object_owners import OBJECT_OWNER, OWNER_AGE
from roaming_hub.service import HUB
from tests.hub.world import CPO, MSP, Heard, Platform, World, status_code

CPO_B = PartyId("NL-CPB")
FROM_MSP = {"OCPI-from-country-code": "DE", "OCPI-from-party-id": "MSP"}
FROM_CPO = {"OCPI-from-country-code": "NL", "OCPI-from-party-id": "TNM"}
URL = b'"response_url":"http://de-msp.test/platform/r/1"'


def last(platform: Platform) -> tuple[str, str, str]:
    """Path, TO and FROM of what a platform got last."""
    heard: Heard = platform.heard[-1]
    return (
        heard.url.partition("/ocpi/2.2.1/")[2],
        heard.headers["ocpi-to-party-id"],
        heard.headers["ocpi-from-party-id"],
    )


async def push(sender: Platform, path: str, to: PartyId, body: bytes = b"{}") -> None:
    assert status_code(await sender.call("PUT", path, to=to, body=body)) == 1000


@pytest.mark.parametrize("to", [HUB, MSP])
async def test_a_command_goes_to_the_cpo_whose_location_it_names(world: World, to: PartyId) -> None:
    cpo, msp = world.platforms[CPO], world.platforms[MSP]
    await push(cpo, "locations/receiver/NL/TNM/L1", to)

    answer = await msp.call(
        "POST", "commands/receiver/START_SESSION", body=b'{"location_id":"l1",%s}' % URL, headers=FROM_MSP
    )

    assert status_code(answer) == 1000
    assert last(cpo) == ("commands/receiver/START_SESSION", "TNM", "MSP")
    assert (answer.headers["ocpi-to-party-id"], answer.headers["ocpi-from-party-id"]) == ("MSP", "TNM")


async def test_an_authorisation_goes_to_the_emsp_of_the_token(world: World) -> None:
    await push(world.platforms[MSP], "tokens/receiver/DE/MSP/U%201?type=RFID", CPO)

    answer = await world.platforms[CPO].call("POST", "tokens/sender/U%201/authorize?type=RFID", headers=FROM_CPO)

    assert status_code(answer) == 1000
    assert last(world.platforms[MSP]) == ("tokens/sender/U%201/authorize?type=RFID", "MSP", "TNM")


async def test_what_was_learnt_of_pulled_objects_counts_too(world: World) -> None:
    async def locations(_: Heard) -> Response:
        own = {"country_code": "NL", "party_id": "TNM", "id": "L7"}
        forged = {"country_code": "FR", "party_id": "XYZ", "id": "L8"}
        return Response(msgspec.json.encode({"data": [own, forged], "status_code": 1000}))

    cpo, msp = world.platforms[CPO], world.platforms[MSP]
    cpo.script = locations
    await msp.call("GET", "locations/sender", to=CPO)

    own = await msp.call("GET", "locations/sender/L7", headers=FROM_MSP)
    forged = await msp.call("GET", "locations/sender/L8", headers=FROM_MSP)

    assert (status_code(own), status_code(forged)) == (1000, 4001)


async def test_a_session_and_a_cdr_go_to_the_emsp_of_their_token(world: World) -> None:
    cpo, msp = world.platforms[CPO], world.platforms[MSP]
    body = b'{"id":"S1","cdr_token":{"country_code":"de","party_id":"msp","uid":"u"}}'

    for method, path, sent in (
        ("PUT", "sessions/receiver/NL/TNM/S1", body),
        ("PATCH", "sessions/receiver/NL/TNM/S1", b'{"kwh":1.20}'),
        ("POST", "cdrs/receiver", body),
    ):
        assert status_code(await cpo.call(method, path, body=sent, headers=FROM_CPO)) == 1000
        assert last(msp) == (path, "MSP", "TNM")


async def test_what_names_a_session_goes_to_its_cpo(world: World) -> None:
    cpo, msp = world.platforms[CPO], world.platforms[MSP]
    await push(cpo, "sessions/receiver/NL/TNM/S1", MSP)

    for method, path, body in (
        ("POST", "commands/receiver/STOP_SESSION", b'{"session_id":"S1",%s}' % URL),
        ("PUT", "sessions/sender/S1/charging_preferences", b"{}"),
        ("PUT", "chargingprofiles/receiver/S1", b"{%s}" % URL),
    ):
        assert status_code(await msp.call(method, path, body=body, headers=FROM_MSP)) == 1000
        assert last(cpo) == (path, "TNM", "MSP")


async def test_a_reservation_is_cancelled_where_it_was_made(world: World) -> None:
    msp = world.platforms[MSP]
    reserve, cancel = b'{"reservation_id":"R1","location_id":"L",%s}' % URL, b'{"reservation_id":"R1",%s}' % URL
    await msp.call("POST", "commands/receiver/RESERVE_NOW", to=CPO, body=reserve)

    answer = await msp.call("POST", "commands/receiver/CANCEL_RESERVATION", body=cancel, headers=FROM_MSP)

    assert status_code(answer) == 1000
    assert last(world.platforms[CPO]) == ("commands/receiver/CANCEL_RESERVATION", "TNM", "MSP")


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "commands/receiver/START_SESSION", b'{"location_id":"NOWHERE",%s}' % URL, 4001),
        ("POST", "commands/receiver/UNLOCK_CONNECTOR", b"{%s}" % URL, 4001),
        ("PUT", "tokens/receiver/DE/MSP/U1", b"{}", 4001),
        ("GET", "tokens/receiver/DE/MSP/U1", b"", 4001),
        ("GET", "locations/sender", b"", 2001),
        ("GET", "locations/sender?limit=1", b"", 2001),
        ("POST", "cdrs/receiver", b'{"cdr_token":{"country_code":"ZZ","party_id":"ZZZ"}}', 4001),
        ("POST", "cdrs/receiver", b'{"cdr_token":{"country_code":"","party_id":"?"}}', 4001),
    ],
)
async def test_without_a_unique_destination_it_goes_to_nobody(
    world: World, method: str, path: str, body: bytes, code: int
) -> None:
    answer = await world.platforms[MSP].call(method, path, body=body, headers=FROM_MSP)

    assert (answer.status, status_code(answer)) == (200, code)
    assert world.platforms[CPO].heard == []


async def test_an_id_that_two_use_leads_to_neither(world: World) -> None:
    other = await world.join(CPO_B, Role.CPO)
    await push(world.platforms[CPO], "locations/receiver/NL/TNM/L1", MSP)
    await push(other, "locations/receiver/NL/CPB/L1", MSP)

    answer = await world.platforms[MSP].call(
        "POST", "commands/receiver/START_SESSION", body=b'{"location_id":"L1",%s}' % URL, headers=FROM_MSP
    )

    assert status_code(answer) == 4001


async def test_nobody_is_believed_about_anothers_objects(world: World) -> None:
    liar = await world.join(CPO_B, Role.CPO)
    await push(liar, "locations/receiver/NL/TNM/L1", MSP)

    answer = await world.platforms[MSP].call("GET", "locations/sender/L1", headers=FROM_MSP)

    assert status_code(answer) == 4001


async def test_what_is_kept_names_no_token_and_is_forgotten_in_time(world: World) -> None:
    await push(world.platforms[MSP], "tokens/receiver/DE/MSP/SECRET-UID", CPO)
    units, owners = world.hub.ports.units, world.hub.owners
    async with units.begin() as unit:
        [kept] = await unit.table(OBJECT_OWNER).select()

    world.clock.step_by(OWNER_AGE + timedelta(seconds=1))
    async with units.begin() as unit:
        dropped = await owners.purge(unit)
        await unit.commit()

    assert "secret-uid" not in repr(kept).lower()
    assert dropped == 1
