"""Messages from party to party, seen from outside (the routing part of the checklist in standards/ocpi)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi.headers import authorization
from tests.hub.world import CPO, HUB_ORIGIN, MSP, OK, Heard, World, bare_world, heard_of, say_ok, status_code

PUT_TARIFF = "tariffs/receiver/NL/TNM/1"


async def test_a_message_reaches_the_party_it_names_with_the_receivers_token(world: World) -> None:
    sender, receiver = world.platforms[CPO], world.platforms[MSP]

    answer = await sender.call(
        "PUT", PUT_TARIFF, to=MSP, body=b'{"a": 1}', headers={"X-Request-ID": "r-1", "X-Correlation-ID": "c-1"}
    )

    assert (answer.status, answer.body) == (200, OK)
    [heard] = receiver.heard
    assert heard.method == "PUT"
    assert heard.url == f"{receiver.origin}/platform/DE-MSP/ocpi/2.2.1/tariffs/receiver/NL/TNM/1"
    assert heard.headers["ocpi-to-party-id"] + heard.headers["ocpi-to-country-code"] == "MSPDE"
    assert heard.headers["ocpi-from-party-id"] + heard.headers["ocpi-from-country-code"] == "TNMNL"
    assert heard.headers["x-correlation-id"] == "c-1"
    assert heard.headers["x-request-id"] != "r-1"
    presented = base64.b64decode(heard.headers["authorization"].removeprefix("Token ")).decode()
    assert presented not in {await sender.token(), await receiver.token()}


async def test_the_answer_names_requester_and_receiver_and_echoes_the_ids(world: World) -> None:
    answer = await world.platforms[CPO].call(
        "PUT", PUT_TARIFF, to=MSP, body=b"{}", headers={"X-Request-ID": "r-1", "X-Correlation-ID": "c-1"}
    )

    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["x-correlation-id"] == "c-1"
    assert answer.headers["ocpi-to-party-id"] == "TNM"
    assert answer.headers["ocpi-from-party-id"] == "MSP"


async def test_a_sender_that_is_no_role_of_the_caller_is_refused(world: World) -> None:
    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, as_=PartyId("NL-XXX"), body=b"{}")

    assert (answer.status, status_code(answer)) == (200, 2001)
    assert world.platforms[MSP].heard == []


async def test_a_party_the_hub_never_heard_of_is_4001(world: World) -> None:
    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=PartyId("FR-ABC"), body=b"{}")

    assert (answer.status, status_code(answer)) == (200, 4001)


async def test_a_receiver_that_takes_too_long_is_4002(world: World) -> None:
    async def sleep(_: Heard) -> Response:
        await asyncio.sleep(60)
        return Response(OK)

    world.platforms[MSP].script = sleep
    object.__setattr__(world.hub.forwarding, "timeout_s", 0.01)

    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")

    assert status_code(answer) == 4002


async def test_a_receiver_that_can_not_be_reached_is_4003(world: World) -> None:
    world.http.cut(world.platforms[MSP].origin)

    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")

    assert status_code(answer) == 4003


async def test_an_invited_party_that_never_registered_is_4003(world: World) -> None:
    await world.invite(PartyId("FR-ABC"), Role.EMSP, "http://abc.test/versions")

    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=PartyId("FR-ABC"), body=b"{}")

    assert status_code(answer) == 4003


async def test_a_suspended_party_is_4003_and_its_own_token_is_dead(world: World) -> None:
    await world.admin("POST", "/admin/parties/DE-MSP/suspend")

    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")
    own = await world.platforms[MSP].call("GET", "tariffs/sender", to=CPO)

    assert status_code(answer) == 4003
    assert own.status == 401


async def test_an_invitation_dies_with_the_suspension_of_who_was_invited(world: World) -> None:
    token_a = await world.invite(PartyId("FR-ABC"), Role.EMSP, "http://abc.test/versions")
    versions, bearer = f"{HUB_ORIGIN}/hub/ocpi/versions", {"Authorization": authorization(token_a)}
    assert (await world.http.request("GET", versions, headers=bearer)).status == 200

    await world.admin("POST", "/admin/parties/FR-ABC/suspend")

    assert (await world.http.request("GET", versions, headers=bearer)).status == 401


async def test_a_receiver_that_answers_no_ocpi_is_4000(world: World) -> None:
    async def html(_: Heard) -> Response:
        return Response("<h1>Bad gateway</h1>", status_code=502)

    world.platforms[MSP].script = html

    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")

    assert (answer.status, status_code(answer)) == (200, 4000)
    assert b"gateway" not in answer.body


@pytest.mark.parametrize(("http_status", "code"), [(200, 2001), (200, 3000), (404, 2004), (201, 1000), (405, 2000)])
async def test_the_receivers_own_word_is_passed_on_as_it_is(world: World, http_status: int, code: int) -> None:
    body = b'{"status_code": %d, "status_message":"mine",  "timestamp":"2026-03-01T12:00:00Z"}' % code

    async def say(_: Heard) -> Response:
        return Response(body, status_code=http_status, media_type="application/json")

    world.platforms[MSP].script = say

    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")

    assert (answer.status, answer.body) == (http_status, body)


async def test_a_receiver_that_refuses_the_hubs_token_is_4003_not_401(world: World) -> None:
    async def refuse(_: Heard) -> Response:
        return Response(b'{"status_code":2000,"timestamp":"2026-03-01T12:00:00Z"}', status_code=401)

    world.platforms[MSP].script = refuse

    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")

    assert (answer.status, status_code(answer)) == (200, 4003)


async def test_a_module_the_hub_does_not_route_is_2001(world: World) -> None:
    answer = await world.platforms[CPO].call("PUT", "credentialsx/receiver/1", to=MSP, body=b"{}")

    assert status_code(answer) == 2001


async def test_a_message_without_routing_headers_is_2001(world: World) -> None:
    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, body=b"{}")

    assert status_code(answer) == 2001


async def test_half_a_routing_header_is_2001(world: World) -> None:
    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, body=b"{}", headers={"OCPI-to-party-id": "MSP"})

    assert (answer.status, status_code(answer)) == (200, 2001)


async def test_routing_headers_match_in_any_case(world: World) -> None:
    headers = {
        "ocpi-TO-party-ID": "msp",
        "ocpi-TO-country-CODE": "de",
        "ocpi-FROM-party-ID": "tnm",
        "ocpi-FROM-country-CODE": "nl",
    }

    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, body=b"{}", headers=headers)

    assert answer.body == OK


@pytest.mark.parametrize("body", [b"{", b"not json", b'{"a": NaN}', b"\xff\xfe", b"{" * 100_000])
async def test_a_body_that_is_not_json_is_400_and_goes_nowhere(world: World, body: bytes) -> None:
    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=body)

    assert answer.status == 400
    assert world.platforms[MSP].heard == []


async def test_an_unknown_token_is_401_with_an_envelope(world: World) -> None:
    answer = await world.platforms[CPO].call(
        "PUT", PUT_TARIFF, to=MSP, body=b"{}", headers={"Authorization": "Token bm8=", "X-Request-ID": "r-9"}
    )

    assert answer.status == 401
    assert answer.headers["x-request-id"] == "r-9"
    assert status_code(answer) == 2000


async def test_path_and_query_arrive_as_they_were_written(world: World) -> None:
    await world.platforms[MSP].call("GET", "tokens/receiver/DE/MSP/a%20b%2Fc?type=RFID&x=%2B", to=CPO)

    [heard] = world.platforms[CPO].heard
    assert heard.url.endswith("/tokens/receiver/DE/MSP/a%20b%2Fc?type=RFID&x=%2B")


@pytest.mark.parametrize(
    "rest",
    [
        "..%2f..%2fcommands/receiver/START_SESSION",
        "%2e%2e/%2e%2e/commands/receiver/START_SESSION",
        "NL/..%5C..%5Ccommands",
        "NL/%2E/TNM",
        "NL/TNM/1%00",
        "NL/TNM/1%1b",
    ],
)
async def test_a_path_that_leaves_the_endpoint_is_404_with_2001(world: World, rest: str) -> None:
    answer = await world.platforms[CPO].call("PUT", f"tariffs/receiver/{rest}", to=MSP, body=b"{}")

    assert (answer.status, status_code(answer)) == (404, 2001)
    assert world.platforms[MSP].heard == []


@pytest.mark.parametrize(
    "path",
    [
        "tokens/RECEIVER/DE/MSP/tok1",
        "toke%6es/receiver/DE/MSP/tok1",
        "tokens/%72eceiver/DE/MSP/tok1",
        "tokens/receiver%2FDE/MSP/tok1",
        "toke%6es/receiver/2.2.1/tokens/receiver/x",
    ],
)
async def test_another_spelling_of_an_endpoint_is_404_and_loses_no_path(world: World, path: str) -> None:
    answer = await world.platforms[MSP].call("DELETE", path, to=CPO)

    assert (answer.status, status_code(answer)) == (404, 2000)
    assert world.platforms[CPO].heard == []


async def test_a_rule_of_the_receiver_refuses_before_it_sees_anything(world: World) -> None:
    await world.admin(
        "PUT", "/admin/parties/DE-MSP/rules", {"sender": "NL-TNM", "module": "tariffs", "is_allowed": False}
    )

    refused = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")
    allowed = await world.platforms[CPO].call("PUT", "locations/receiver/NL/TNM/1", to=MSP, body=b"{}")

    assert status_code(refused) == 4003
    assert allowed.body == OK
    assert len(world.platforms[MSP].heard) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False, places=6).map(
        lambda number: msgspec.Raw(str(number).encode())
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@hypothesis_settings(max_examples=10, deadline=None)
@given(document=st.dictionaries(st.text(), JSON), spaces=st.integers(min_value=0, max_value=3))
def test_the_bytes_of_a_body_pass_unaltered(document: dict[str, Any], spaces: int) -> None:
    body = msgspec.json.encode(document) + b" " * spaces

    async def through() -> tuple[Heard, HttpResponse]:
        world = bare_world()
        await world.join(CPO, Role.CPO)
        await world.join(MSP, Role.EMSP)

        async def echo(heard: Heard) -> Response:
            return Response(b'{"status_code":1000,"data":%s}' % heard.body, media_type="application/json")

        world.platforms[MSP].script = echo
        answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=body)
        return world.platforms[MSP].heard[0], answer

    heard, answer = asyncio.run(through())

    assert heard.body == body
    assert answer.body == b'{"status_code":1000,"data":%s}' % body


# Pages, created objects and results


async def test_the_next_page_is_followed_through_the_hub(world: World) -> None:
    cpo, msp = world.platforms[CPO], world.platforms[MSP]

    async def two_pages(heard: Heard) -> Response:
        headers = {"X-Total-Count": "2", "X-Limit": "1"}
        if "offset=1" not in heard.url:
            headers["Link"] = f'<{heard.url.partition("?")[0]}?limit=1&offset=1>; rel="next"'
        return Response(OK, headers=headers, media_type="application/json")

    cpo.script = two_pages
    first = await msp.call("GET", "locations/sender?limit=1", to=CPO)
    link = first.headers["link"].removeprefix("<").partition(">")[0]
    second = await msp.call("GET", link)

    assert link.startswith(f"{HUB_ORIGIN}/hub/ocpi/2.2.1/proxy/")
    assert (first.headers["x-total-count"], first.headers["x-limit"]) == ("2", "1")
    assert (second.status, second.body) == (200, OK)
    assert "link" not in second.headers
    assert cpo.heard[1].url.endswith("locations/sender?limit=1&offset=1")
    assert cpo.heard[1].headers["ocpi-from-party-id"] == "MSP"


async def test_a_proxied_url_serves_only_the_platform_it_was_made_for(world: World) -> None:
    async def created(heard: Heard) -> Response:
        return Response(OK, status_code=201, headers={"Location": f"{heard.url}/77"}, media_type="application/json")

    world.platforms[MSP].script = created
    answer = await world.platforms[CPO].call("POST", "cdrs/receiver", to=MSP, body=b'{"id":"C1"}')
    url = answer.headers["location"]

    stranger = await world.platforms[MSP].call("GET", url)
    owner = await world.platforms[CPO].call("GET", url)

    assert url.startswith(f"{HUB_ORIGIN}/hub/ocpi/2.2.1/proxy/")
    assert (stranger.status, status_code(stranger)) == (404, 2001)
    assert owner.status == 201  # the script answers everything so
    assert world.platforms[MSP].heard[-1].url.endswith("cdrs/receiver/77")


@pytest.mark.parametrize(
    "link", ["http://169.254.169.254/latest", "file:///etc/passwd", "http://nl-tnm.test.evil/x", "http://[x"]
)
async def test_a_link_that_leads_elsewhere_is_not_proxied(world: World, link: str) -> None:
    async def mislead(_: Heard) -> Response:
        return Response(OK, headers={"Link": f'<{link}>; rel="next"'}, media_type="application/json")

    world.platforms[CPO].script = mislead

    answer = await world.platforms[MSP].call("GET", "locations/sender", to=CPO)

    assert status_code(answer) == 4000
    assert "link" not in answer.headers


START = b'{"response_url":"http://de-msp.test/platform/results/9?x=1", "location_id" : "L1","price":0.10}'
ACCEPTED = b'{"data":{"result":"ACCEPTED","timeout":30},"status_code":1000,"timestamp":"2026-03-01T12:00:00Z"}'
RESULT = b'{"result": "ACCEPTED"}'


async def started(world: World) -> str:
    """An MSP sends a command through the hub; return the `response_url` the CPO sees."""

    async def accept(_: Heard) -> Response:
        return Response(ACCEPTED, media_type="application/json")

    world.platforms[CPO].script = accept
    await world.platforms[MSP].call("POST", "commands/receiver/START_SESSION", to=CPO, body=START)
    seen = msgspec.json.decode(world.platforms[CPO].heard[-1].body)
    assert isinstance(seen["response_url"], str)
    return seen["response_url"]


async def test_a_command_reaches_the_cpo_with_a_response_url_of_the_hub_and_all_else_as_it_was(world: World) -> None:
    url = await started(world)

    body = world.platforms[CPO].heard[-1].body
    assert url.startswith(f"{HUB_ORIGIN}/hub/ocpi/2.2.1/proxy/")
    assert b"de-msp" not in body
    assert b'"price":0.10' in body


async def test_a_result_reaches_the_requesters_own_response_url_once(world: World) -> None:
    results: list[Heard] = []
    msp = world.platforms[MSP]
    catching = _catching(results)
    world.http.mount(msp.origin, catching)
    url = await started(world)

    first = await world.platforms[CPO].call("POST", url, body=RESULT)
    second = await world.platforms[CPO].call("POST", url, body=RESULT)

    assert (first.status, first.body) == (200, OK)
    assert (second.status, status_code(second)) == (404, 2001)
    [heard] = results
    assert heard.url == "http://de-msp.test/platform/results/9?x=1"
    assert heard.body == RESULT
    assert heard.headers["ocpi-to-party-id"] == "MSP"
    assert heard.headers["ocpi-from-party-id"] == "TNM"


async def test_a_result_that_did_not_arrive_may_be_sent_again(world: World) -> None:
    results: list[Heard] = []
    msp = world.platforms[MSP]
    url = await started(world)
    world.http.cut(msp.origin)

    lost = await world.platforms[CPO].call("POST", url, body=RESULT)
    world.http.mend(msp.origin)
    world.http.mount(msp.origin, _catching(results))
    again = await world.platforms[CPO].call("POST", url, body=RESULT)

    assert status_code(lost) == 4003
    assert again.body == OK
    assert len(results) == 1


@pytest.mark.parametrize(("http_status", "code"), [(503, 3000), (200, 3000), (200, 2000), (500, 1000)])
async def test_a_result_that_was_not_taken_may_be_sent_again(world: World, http_status: int, code: int) -> None:
    async def fail(_: Heard) -> Response:
        return Response(OK.replace(b"1000", str(code).encode()), status_code=http_status, media_type="application/json")

    async def take(_: Request) -> Response:
        return await script[0](Heard(method="POST", url="", headers={}, body=b""))

    script = [fail, say_ok]
    url = await started(world)
    world.http.mount(world.platforms[MSP].origin, Starlette(routes=[Route("/{rest:path}", take, methods=["POST"])]))

    failed = await world.platforms[CPO].call("POST", url, body=RESULT)
    script.pop(0)
    again = await world.platforms[CPO].call("POST", url, body=RESULT)
    third = await world.platforms[CPO].call("POST", url, body=RESULT)

    assert (failed.status, status_code(failed)) == (http_status, code)
    assert (again.status, again.body) == (200, OK)
    assert third.status == 404


@pytest.mark.parametrize("resource_id", ["0123456789abcdef", "a%00", "%ff"])
async def test_a_result_for_an_unknown_callback_is_404_with_2001(world: World, resource_id: str) -> None:
    answer = await world.platforms[CPO].call("POST", f"proxy/{resource_id}", body=RESULT)

    assert (answer.status, status_code(answer)) == (404, 2001)


async def test_no_result_is_taken_for_a_command_that_was_rejected(world: World) -> None:
    async def reject(_: Heard) -> Response:
        return Response(ACCEPTED.replace(b"ACCEPTED", b"REJECTED"), media_type="application/json")

    world.platforms[CPO].script = reject
    await world.platforms[MSP].call("POST", "commands/receiver/START_SESSION", to=CPO, body=START)
    url = msgspec.json.decode(world.platforms[CPO].heard[-1].body)["response_url"]

    answer = await world.platforms[CPO].call("POST", url, body=RESULT)

    assert answer.status == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:5432/",
        "http://169.254.169.254/latest/meta-data",
        "http://de-msp.test@evil.test/x",
        "http://de-msp.test:81/x",
        "https://de-msp.test/x",
        "gopher://de-msp.test/x",
        "http://[::1]/x",
        "http://de-msp.test.evil.test/x",
        "//de-msp.test/x",
        "http://de-msp.test:99999/x",
    ],
)
async def test_a_response_url_that_is_not_the_requesters_own_is_refused(world: World, url: str) -> None:
    answer = await world.platforms[MSP].call(
        "POST", "commands/receiver/START_SESSION", to=CPO, body=msgspec.json.encode({"response_url": url})
    )

    assert (answer.status, status_code(answer)) == (200, 2001)
    assert world.platforms[CPO].heard == []


# The log of CDRs


async def test_a_cdr_that_passed_is_on_record_by_its_hash(world: World) -> None:
    body = b'{"id":"C1","total_cost":{"excl_vat":1.20}}'
    await world.platforms[CPO].call("POST", "cdrs/receiver", to=MSP, body=body)
    await world.platforms[CPO].call("POST", "cdrs/receiver", to=MSP, body=body)

    [forward] = msgspec.json.decode((await world.admin("GET", "/admin/forwards")).body)

    assert forward["cdr_id"] == "C1"
    assert forward["outcome"] == "DELIVERED"
    assert forward["attempts"] == 2
    assert forward["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert "1.20" not in str(forward)


async def test_a_cdr_that_was_refused_or_lost_is_on_record_too(world: World) -> None:
    world.http.cut(world.platforms[MSP].origin)
    await world.platforms[CPO].call("POST", "cdrs/receiver", to=MSP, body=b'{"id":"C2"}')
    world.http.mend(world.platforms[MSP].origin)

    async def refuse(_: Heard) -> Response:
        return Response(b'{"status_code":2001,"timestamp":"2026-03-01T12:00:00Z"}')

    world.platforms[MSP].script = refuse
    await world.platforms[CPO].call("POST", "cdrs/receiver", to=MSP, body=b'{"id":"C3"}')

    forwards = msgspec.json.decode((await world.admin("GET", "/admin/forwards")).body)
    assert {(each["cdr_id"], each["outcome"]) for each in forwards} == {("C2", "UNDELIVERED"), ("C3", "REFUSED")}


def _catching(results: list[Heard]) -> Starlette:
    async def catch(request: Request) -> Response:
        results.append(await heard_of(request))
        return Response(OK, media_type="application/json")

    return Starlette(routes=[Route("/{rest:path}", catch, methods=["POST"])])
