"""Parties of different versions of OCPI at one hub: each hears its own, and what is lost is told and kept."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from starlette.responses import Response

from emobility.domain.identifiers import Role
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi.bridging import ANSWER_LOSSES_HEADER, LOSSES_HEADER
from emobility.protocols.ocpi.specified import faults
from roaming_hub.service import HUB
from tests.hub.world import (
    CPO,
    HUB_ORIGIN,
    MSP,
    NSP,
    Heard,
    Platform,
    World,
    bare_world,
    running,
    status_code,
    until,
)
from tests.ocpi import documents as written

T = "2026-03-01T12:00:00Z"


@pytest.fixture
def world() -> World:
    return bare_world()


async def joined(world: World, cpo: str, msp: str) -> tuple[Platform, Platform]:
    """A CPO and an MSP, each with its version."""
    return await world.join(CPO, Role.CPO, **version_of(cpo)), await world.join(MSP, Role.EMSP, **version_of(msp))


def version_of(version: str) -> dict[str, Any]:
    return {"version": version} | ({"speaks_2_1_1": True, "accepts_plain_token": True} if version == "2.1.1" else {})


def saying(data: Any, **headers: str) -> Any:
    async def say(_: Heard) -> Response:
        body = json.dumps({"data": data, "status_code": 1000, "timestamp": T})
        return Response(body, media_type="application/json", headers=headers)

    return say


def data_of(answer: HttpResponse) -> Any:
    assert status_code(answer) == 1000, answer
    return json.loads(answer.body)["data"]


async def losses(world: World, query: str = "") -> Any:
    answer = await world.admin("GET", f"/admin/bridge-losses?{query}")
    assert answer.status == 200
    return json.loads(answer.body)


@pytest.mark.parametrize(("theirs", "ours"), [("2.2.1", "2.3.0"), ("2.3.0", "2.2.1")])
async def test_a_push_arrives_in_the_receivers_version_at_the_receivers_endpoint(
    world: World, theirs: str, ours: str
) -> None:
    cpo, msp = await joined(world, theirs, ours)
    cdr = written.CDR if theirs == "2.2.1" else written.CDR_230

    answer = await cpo.call("POST", "cdrs/receiver", to=MSP, body=json.dumps(cdr).encode())

    heard = msp.heard[-1]
    assert status_code(answer) == 1000
    assert f"/ocpi/{ours}/cdrs/receiver" in heard.url
    assert faults(json.loads(heard.body), "CDR", ours) == []
    assert (LOSSES_HEADER.lower() in answer.headers) == (theirs == "2.3.0")


async def test_of_the_same_version_the_bytes_are_untouched(world: World) -> None:
    cpo, msp = await joined(world, "2.3.0", "2.3.0")
    body = b'{ "id": "1", "price":0.10 , "unheard":[1.00] }'

    answer = await cpo.call("PUT", "tariffs/receiver/NL/TNM/1", to=MSP, body=body)

    assert msp.heard[-1].body == body
    assert LOSSES_HEADER.lower() not in answer.headers
    assert await losses(world) == []


async def test_what_is_lost_is_told_to_the_sender_and_kept_for_the_operator_by_hash(world: World) -> None:
    cpo, msp = await joined(world, "2.3.0", "2.2.1")
    body = json.dumps(written.LOCATION_230).encode()

    ids = {"X-Correlation-ID": "c-1"}
    answer = await cpo.call("PUT", "locations/receiver/NL/TNM/L1", to=MSP, body=body, headers=ids)

    assert b"help_phone" not in msp.heard[-1].body
    told = answer.headers[LOSSES_HEADER.lower()]
    assert told.startswith("5, ")
    assert "NO_FIELD /help_phone" in told
    [kept] = await losses(world, "correlation_id=c-1&party_id=DE-MSP")
    assert (kept["from_party"], kept["to_party"]) == ("NL-TNM", "DE-MSP")
    assert (kept["from_version"], kept["to_version"], kept["is_answer"]) == ("2.3.0", "2.2.1", False)
    assert kept["body_sha256"] == hashlib.sha256(body).hexdigest()
    [phone] = [each for each in kept["losses"] if each["pointer"] == "/help_phone"]
    assert phone["value_sha256"] == hashlib.sha256(b'"+31 800 1"').hexdigest()
    assert "800" not in json.dumps(kept)
    assert await losses(world, "party_id=NL-TNM") == []


async def test_money_that_a_reader_could_take_otherwise_is_marked(world: World) -> None:
    cpo, _ = await joined(world, "2.3.0", "2.2.1")
    taxes = [{"name": "GST", "amount": 0.5}, {"name": "QST", "amount": 1}]
    cdr = written.CDR_230 | {"total_cost": {"before_taxes": 10, "taxes": taxes}}

    answer = await cpo.call("POST", "cdrs/receiver", to=MSP, body=json.dumps(cdr).encode())

    assert "MERGED /total_cost/taxes;money" in answer.headers[LOSSES_HEADER.lower()]
    [kept] = await losses(world)
    assert kept["concerns_money"]


async def test_an_answer_comes_in_the_askers_version_with_its_own_losses(world: World) -> None:
    cpo, msp = await joined(world, "2.3.0", "2.2.1")
    cpo.script = saying([written.TARIFF_230], **{"X-Total-Count": "1", "X-Limit": "50"})

    answer = await msp.call("GET", "tariffs/sender?limit=50", to=CPO)

    [tariff] = data_of(answer)
    assert faults(tariff, "Tariff", "2.2.1") == []
    assert answer.headers["x-total-count"] == "1"
    assert answer.headers[ANSWER_LOSSES_HEADER.lower()] == "1, NO_FIELD /0/preauthorize_amount"
    [kept] = await losses(world)
    assert (kept["is_answer"], kept["from_party"], kept["from_version"]) == (True, "NL-TNM", "2.3.0")


async def test_what_can_not_be_said_is_refused_before_the_receiver_sees_it(world: World) -> None:
    cpo, msp = await joined(world, "2.3.0", "2.2.1")
    before = len(msp.heard)

    answer = await cpo.call("POST", "invoicereconciliation/receiver", to=MSP, body=b"{}")
    trucks = json.dumps(written.EVSE_230 | {"connectors": [written.CONNECTOR_230]}).encode()
    evse = await cpo.call("PUT", "locations/receiver/NL/TNM/L1/E1", to=MSP, body=trucks)

    assert (answer.status, status_code(answer)) == (200, 2001)
    assert (evse.status, status_code(evse)) == (200, 2001)
    assert len(msp.heard) == before


async def test_an_answer_that_can_not_be_said_is_a_failure_of_the_hub(world: World) -> None:
    cpo, msp = await joined(world, "2.3.0", "2.2.1")
    cpo.script = saying(written.EVSE_230 | {"connectors": [written.CONNECTOR_230]})

    answer = await msp.call("GET", "locations/sender/L1/E1", to=CPO)

    assert status_code(answer) == 4000


@pytest.mark.parametrize(("theirs", "ours"), [("2.2.1", "2.3.0"), ("2.3.0", "2.2.1")])
async def test_a_result_comes_back_over_the_bridge_to_the_original_response_url(
    world: World, theirs: str, ours: str
) -> None:
    cpo, msp = await joined(world, theirs, ours)
    cpo.script = saying({"result": "ACCEPTED", "timeout": 30})
    command: dict[str, Any] = {
        "response_url": f"{msp.origin}/platform/DE-MSP/ocpi/{ours}/commands/1",
        "location_id": "L1",
    }
    command |= {"token": written.TOKEN | {"type": "EMAID" if ours == "2.3.0" else "RFID"}}

    answer = await msp.call("POST", "commands/receiver/START_SESSION", to=CPO, body=json.dumps(command).encode())
    sent = json.loads(cpo.heard[-1].body)
    result = await cpo.call("POST", sent["response_url"], body=b'{"result":"ACCEPTED"}')

    assert data_of(answer)["result"] == "ACCEPTED"
    assert sent["token"]["type"] == ("OTHER" if ours == "2.3.0" else "RFID")
    assert sent["response_url"].startswith(f"{HUB_ORIGIN}/hub/ocpi/{theirs}/proxy/")
    assert status_code(result) == 1000
    assert msp.heard[-1].url.endswith(f"/{ours}/commands/1")


async def test_a_cdr_is_fetched_back_from_its_location_in_the_senders_version(world: World) -> None:
    cpo, msp = await joined(world, "2.2.1", "2.3.0")
    there = f"{msp.origin}/platform/DE-MSP/ocpi/2.3.0/cdrs/receiver/C1"
    msp.script = saying(None, Location=there)
    posted = await cpo.call("POST", "cdrs/receiver", to=MSP, body=json.dumps(written.CDR).encode())
    stored = json.loads(msp.heard[-1].body)
    msp.script = saying(stored)

    answer = await cpo.call("GET", posted.headers["location"])

    assert data_of(answer) == written.CDR


# 2.1.1: no routing headers, no roles, another credentials object


async def test_a_platform_of_2_1_1_pushes_and_is_pushed_to(world: World) -> None:
    cpo, msp = await joined(world, "2.1.1", "2.3.0")

    session = json.dumps(written.SESSION_211).encode()
    pushed = await cpo.call("PUT", "sessions/receiver/NL/TNM/S1", to=MSP, body=session)
    heard = json.loads(msp.heard[-1].body)
    token = json.dumps(written.TOKEN).encode()
    back = await msp.call("PUT", "tokens/receiver/DE/MSP/012345?type=RFID", to=CPO, body=token)

    assert status_code(pushed) == 1000
    assert faults(heard, "Session", "2.3.0") == []
    assert (heard["country_code"], heard["party_id"]) == ("NL", "TNM")
    assert heard["cdr_token"]["contract_id"] == written.SESSION_211["auth_id"]
    assert status_code(back) == 1000
    assert faults(json.loads(cpo.heard[-1].body), "Token", "2.1.1") == []
    assert cpo.heard[-1].url.endswith("?type=RFID&token_type=RFID")
    assert cpo.heard[-1].headers["authorization"].startswith("Token ")


async def test_to_a_platform_of_2_1_1_no_tariff_goes_that_would_state_another_price(world: World) -> None:
    cpo, msp = await joined(world, "2.2.1", "2.1.1")

    limited = await cpo.call("PUT", "tariffs/receiver/NL/TNM/T1", to=MSP, body=json.dumps(written.TARIFF).encode())
    plain = {name: value for name, value in written.TARIFF.items() if name not in {"min_price", "max_price"}}
    said = await cpo.call("PUT", "tariffs/receiver/NL/TNM/T1", to=MSP, body=json.dumps(plain).encode())

    assert (status_code(limited), status_code(said)) == (2001, 1000)
    assert faults(json.loads(msp.heard[-1].body), "Tariff", "2.1.1") == []
    assert ";money" in said.headers[LOSSES_HEADER.lower()]


async def test_a_broadcast_reaches_each_in_its_version_and_who_can_not_be_told_is_named(world: World) -> None:
    cpo, msp = await joined(world, "2.3.0", "2.2.1")
    nsp = await world.join(NSP, Role.NSP, version="2.3.0")
    trucks = json.dumps(written.EVSE_230 | {"connectors": [written.CONNECTOR_230]}).encode()
    async with running(world.hub):
        for path, body in (("L1", json.dumps(written.LOCATION_230).encode()), ("L1/E9", trucks)):
            ids = {"X-Correlation-ID": f"c-{path[-2:]}"}
            pushed = await cpo.call("PUT", f"locations/receiver/NL/TNM/{path}", to=HUB, body=body, headers=ids)
            assert status_code(pushed) == 1000

        async def is_over() -> bool:
            outcomes = [each["outcome"] for each in await receivers()]
            return len(outcomes) == 2 and "WAITING" not in outcomes

        async def receivers() -> Any:
            return json.loads((await world.admin("GET", "/admin/broadcasts/c-E9")).body)["receivers"]

        await until(is_over, what="the broadcast is over")
        outcomes = {each["to_party"]: each["outcome"] for each in await receivers()}

    assert outcomes == {"DE-MSP": "REFUSED", "BE-NSP": "DELIVERED"}
    assert [faults(json.loads(each.body), "Location", "2.2.1") for each in msp.heard if each.url.endswith("/L1")] == [
        []
    ]
    assert [each.body for each in nsp.heard if each.url.endswith("/E9")] == [trucks]


async def test_a_platform_of_2_1_1_names_nobody_and_its_pushes_still_arrive(world: World) -> None:
    cpo, msp = await joined(world, "2.1.1", "2.2.1")
    async with running(world.hub):
        location = await cpo.call("PUT", "locations/receiver/NL/TNM/L1", body=json.dumps(written.LOCATION_211).encode())
        await until(lambda: any("/locations/" in each.url for each in msp.heard), what="the location arrives")
        cdr = await cpo.call("POST", "cdrs/receiver", body=json.dumps(written.CDR_211).encode())
        nobodys = written.CDR_211 | {"auth_id": "FR-XYZ-C12345678-X"}
        lost = await cpo.call("POST", "cdrs/receiver", body=json.dumps(nobodys).encode())

    assert (status_code(location), status_code(cdr), status_code(lost)) == (1000, 1000, 4001)
    assert faults(json.loads(msp.heard[-1].body), "CDR", "2.2.1") == []
