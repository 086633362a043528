"""Results that come later, of charging profiles too, and until when one is taken."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, quote, urlsplit

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from emobility.adapters.memory import run_virtual
from emobility.domain.identifiers import PartyId, Role
from roaming_hub.callbacks import GRACE_S
from tests.hub.world import CPO, HUB_ORIGIN, OK, Heard, World, bare_world, status_code

SCSP = PartyId("NL-SCP")
URL = "http://nl-scp.test/platform/results/9?x=1&y=a%20b"
RESULT = b'{"result":"ACCEPTED"}'


def promise(timeout: object) -> bytes:
    return b'{"data":{"result":"ACCEPTED","timeout":%s},"status_code":1000}' % msgspec.json.encode(timeout)


async def roaming(answer: bytes) -> World:
    """A CPO that promises a result, and a smart charging service provider."""
    world = bare_world()
    cpo = await world.join(CPO, Role.CPO)
    await world.join(SCSP, Role.SCSP)

    async def accept(_: Heard) -> Response:
        return Response(answer, media_type="application/json")

    cpo.script = accept
    return world


async def asked(world: World, method: str) -> str:
    """Ask something about a session's charging profile; return the `response_url` that the CPO sees."""
    scsp, cpo = world.platforms[SCSP], world.platforms[CPO]
    if method == "PUT":
        body = msgspec.json.encode({"charging_profile": {}, "response_url": URL})
        await scsp.call("PUT", "chargingprofiles/receiver/S1", to=CPO, body=body)
        return str(msgspec.json.decode(cpo.heard[-1].body)["response_url"])
    path = f"chargingprofiles/receiver/S1?duration=900&response_url={quote(URL, safe='')}&z=%2B"
    await scsp.call(method, path, to=CPO)
    query = urlsplit(cpo.heard[-1].url).query
    assert query.startswith("duration=900&response_url=")
    assert query.endswith("&z=%2B")
    return parse_qs(query)["response_url"][0]


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
async def test_a_result_of_a_charging_profile_reaches_who_asked_once(method: str) -> None:
    world = await roaming(promise(30))
    url = await asked(world, method)
    results = catch_results(world)

    first = await world.platforms[CPO].call("POST", url, body=RESULT)
    second = await world.platforms[CPO].call("POST", url, body=RESULT)

    assert url.startswith(f"{HUB_ORIGIN}/hub/ocpi/2.2.1/proxy/")
    assert (first.body, second.status, status_code(second)) == (OK, 404, 2001)
    assert results == [URL]


async def test_the_active_profile_is_pushed_like_any_object() -> None:
    world = await roaming(promise(30))

    answer = await world.platforms[CPO].call("PUT", "chargingprofiles/sender/S1", to=SCSP, body=b'{"start":1.50}')

    [heard] = world.platforms[SCSP].heard
    assert (status_code(answer), heard.body) == (1000, b'{"start":1.50}')


@pytest.mark.parametrize(
    "query",
    ["duration=1", "response_url=http://169.254.169.254/", f"response_url={quote(URL)}&response_url={quote(URL)}", ""],
)
async def test_a_query_without_one_url_of_the_requesters_own_is_2001(query: str) -> None:
    world = await roaming(promise(30))

    answer = await world.platforms[SCSP].call("GET", f"chargingprofiles/receiver/S1?{query}", to=CPO)

    assert (answer.status, status_code(answer)) == (200, 2001)
    assert world.platforms[CPO].heard == []


@pytest.mark.parametrize(("waited_s", "http"), [(30 + GRACE_S - 0.5, 200), (30 + GRACE_S + 0.5, 404)])
def test_a_result_after_its_time_finds_nothing_any_more(waited_s: float, http: int) -> None:
    async def scenario() -> None:
        world = await roaming(promise(30))
        catch_results(world)
        url = await asked(world, "PUT")
        await asyncio.sleep(waited_s)

        answer = await world.platforms[CPO].call("POST", url, body=RESULT)

        assert answer.status == http

    run_virtual(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b'{"data":{"result":"TOO_OFTEN","timeout":30},"status_code":1000}',
        b'{"data":{"timeout":30},"status_code":1000}',
        b'{"data":null,"status_code":2001}',
    ],
)
async def test_no_result_is_taken_where_none_was_promised(answer: bytes) -> None:
    world = await roaming(answer)
    url = await asked(world, "GET")

    late = await world.platforms[CPO].call("POST", url, body=RESULT)

    assert (late.status, status_code(late)) == (404, 2001)


def catch_results(world: World) -> list[str]:
    """Serve the URL that the requester gave."""
    results: list[str] = []

    async def catch(request: Request) -> Response:
        results.append(str(request.url))
        return Response(OK, media_type="application/json")

    world.http.mount(world.platforms[SCSP].origin, Starlette(routes=[Route("/{rest:path}", catch, methods=["POST"])]))
    return results
