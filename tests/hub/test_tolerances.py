"""What an operator may have the hub bear with in one platform, and in no other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
import pytest
from starlette.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi.peers import STRICT
from tests.hub.world import CPO, MSP, Heard, World


async def tolerate(world: World, party: PartyId, **what: bool) -> None:
    answer = await world.admin("PUT", f"/admin/parties/{party}/tolerances", what)

    shown = msgspec.json.decode(answer.body)
    assert {name: shown[name] for name in asdict(STRICT)} == asdict(STRICT) | what


def listing(*found: Any) -> Any:
    body = msgspec.json.encode({"data": found, "status_code": 1000, "timestamp": "2026-03-01T12:00:00Z"})

    async def script(_: Heard) -> Response:
        return Response(body, media_type="application/json")

    return script


@pytest.mark.parametrize(
    ("is_borne", "path", "data"),
    [
        (True, "tokens/sender/C1/authorize", {"allowed": "ALLOWED"}),
        (False, "tokens/sender/C1/authorize", [{"allowed": "ALLOWED"}]),
        (True, "tokens/sender", [{"allowed": "ALLOWED"}]),
    ],
)
async def test_one_object_in_a_list_is_the_object_where_one_was_asked_for(
    world: World, *, is_borne: bool, path: str, data: Any
) -> None:
    await tolerate(world, MSP, lists_single_objects=is_borne)
    world.platforms[MSP].script = listing({"allowed": "ALLOWED"})

    answer = await world.platforms[CPO].call("POST" if "authorize" in path else "GET", path, to=MSP, body=b"{}")

    assert msgspec.json.decode(answer.body)["data"] == data


@pytest.mark.parametrize("found", [(), ({"id": "A"}, {"id": "B"})])
async def test_no_object_or_several_stay_as_they_are(world: World, found: tuple[Any, ...]) -> None:
    await tolerate(world, MSP, lists_single_objects=True)
    world.platforms[MSP].script = listing(*found)

    answer = await world.platforms[CPO].call("POST", "tokens/sender/C1/authorize", to=MSP, body=b"{}")

    assert msgspec.json.decode(answer.body)["data"] == list(found)


async def test_a_command_accepted_in_a_list_is_followed_by_its_result(world: World) -> None:
    await tolerate(world, CPO, lists_single_objects=True)
    world.platforms[CPO].script = listing({"result": "ACCEPTED", "timeout": 30})
    url = f"{world.platforms[MSP].host.ocpi_url(MSP)}/2.2.1/commands/sender/1"
    command = msgspec.json.encode({"response_url": url})

    await world.platforms[MSP].call("POST", "commands/receiver/START_SESSION", to=CPO, body=command)
    stand_in = msgspec.json.decode(world.platforms[CPO].heard[-1].body)["response_url"]
    told = await world.platforms[CPO].call("POST", stand_in, body=b'{"result":"ACCEPTED"}')

    assert told.status == 200
    assert world.platforms[MSP].heard[-1].url == url


async def test_endpoints_end_in_a_slash_for_whoever_appends_to_them(world: World) -> None:
    await tolerate(world, CPO, appends_to_endpoints=True)

    listed = {}
    for party in (CPO, MSP):
        answer = await world.platforms[party].call("GET", "http://hub.test/hub/ocpi/2.2.1")
        listed[party] = [each["url"] for each in msgspec.json.decode(answer.body)["data"]["endpoints"]]
    pushed = await world.platforms[CPO].call("PUT", f"{listed[CPO][1]}NL/TNM/1", to=MSP, body=b'{"id":"1"}')

    assert all(url.endswith("/") for url in listed[CPO][1:])
    assert not any(url.endswith("/") for url in listed[MSP])
    assert msgspec.json.decode(pushed.body)["status_code"] in {1000, 2001}
