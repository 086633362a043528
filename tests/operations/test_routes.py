"""What the API says of itself is true: its document is valid, its answers are of the shapes it declares."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from emobility.domain.identifiers import PartyId
from emobility.events.charging import ConnectorStatusChanged
from emobility.runtime.access import Access, TokenRole
from services.charging_operations.routes import Route
from services.embedded.openapi import operations_document
from tests.operations.world import CPO, INTERNAL_TOKEN, MASTER_KEY, OTHER_CPO, START, STATION, World, open_for_business

UNKNOWN_TOKEN: Final = "x" * 40
IN_PATH: Final = {"station_id": STATION, "transaction_id": "1", "transaction": "1", "station": STATION}
"""What there is one of in a busy world."""
REQUIRED: Final = {"from": "2022-03-27T00:00:00Z", "to": "2022-03-27T09:00:00Z"}


@dataclass(frozen=True)
class BusyWorld:
    """A world in which there is something to see behind every list."""

    here: World
    document: dict[str, Any]


@asynccontextmanager
async def busy_world() -> AsyncIterator[BusyWorld]:
    async with open_for_business() as here:
        here.gateway.is_online = True
        await here.report(
            ConnectorStatusChanged(
                party_id=CPO,
                charging_station_id=STATION,
                ocpp_evse_id=1,
                connector_id=1,
                status="Available",
                changed_at=START,
            )
        )
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(), here.ended())
        await here.report(await here.started("2", at=70), here.ended("2", at=80))
        document = json.loads((await here.api("GET", "/openapi.json")).content)
        yield BusyWorld(here, document)


async def token_of(here: World, party_id: PartyId, role: TokenRole = TokenRole.OWNER) -> str:
    access = Access(INTERNAL_TOKEN, units=here.ports.units, master_key=MASTER_KEY)
    async with here.ports.units.begin() as unit:
        token = await access.issue(
            unit, party_id, purpose="test", randomness=here.ports.randomness, now=here.clock.now(), role=role
        )
        await unit.commit()
    return token


def named(route: Route, party: str = CPO.code) -> str:
    return f"/{party}" + re.sub(r"{(\w+)}", lambda name: IN_PATH.get(name[1], "1"), route.path)


def with_required(route: Route, **more: str) -> str:
    query = {each.name: REQUIRED[each.name] for each in route.query if each.is_required} | more
    return "?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""


def test_the_document_is_valid_openapi_and_the_same_each_time() -> None:
    printed = operations_document()

    OpenAPIV31SpecValidator(json.loads(printed)).validate()
    assert printed == operations_document()


async def test_what_is_served_is_what_the_command_prints() -> None:
    async with busy_world() as busy:
        assert busy.document == json.loads(operations_document())


async def test_every_get_answers_in_the_shape_that_it_declares() -> None:
    async with busy_world() as busy:
        full = set()
        for _, route in busy.here.operations.routes.routes:
            if route.method != "GET":
                continue
            path = named(route) + with_required(route)

            answer = await busy.here.api("GET", path)

            # The fake gateway has not every route of the real one, and not everything there is has a name here.
            assert answer.status_code in (200, 404, 409), f"{path}: {answer.text}"
            declared = busy.document["paths"][f"/{{party}}{route.path}"]["get"]["responses"][str(answer.status_code)]
            assert errors_in(answer.json(), declared, busy.document) == [], path
            full |= {route.path} if answer.status_code == 200 and answer.json() != [] else set()

        assert full >= {"/sessions", "/cdrs", "/quarantine", "/stations", "/uptime", "/stations/{station_id}/statuses"}


def errors_in(body: Any, declared: dict[str, Any], document: dict[str, Any]) -> list[str]:
    if "$ref" in declared:
        declared = document["components"]["responses"][declared["$ref"].rsplit("/", 1)[1]]
    shape = declared["content"]["application/json"]["schema"]
    validator = jsonschema_rs.validator_for({"components": document["components"]} | shape)
    return [f"{each.instance_path}: {each.message}" for each in validator.iter_errors(body)]


async def test_nobody_but_the_party_and_we_may_use_any_route() -> None:
    async with busy_world() as busy:
        others = await token_of(busy.here, OTHER_CPO)
        for _, route in busy.here.operations.routes.routes:
            strange = await busy.here.api(route.method, named(route), {}, token=UNKNOWN_TOKEN)
            foreign = await busy.here.api(route.method, named(route), {}, token=others)

            assert (strange.status_code, foreign.status_code) == (401, 403), route.path


async def test_a_token_opens_no_more_than_its_role() -> None:
    async with busy_world() as busy:
        routes = [route for _, route in busy.here.operations.routes.routes if not route.is_internal]
        for role in TokenRole:
            token = await token_of(busy.here, CPO, role)
            for route in routes:
                answer = await busy.here.api(route.method, named(route) + "?colour=red", {}, token=token)

                # What is let in is refused for its query, so nothing happens.
                is_let_in = list(TokenRole).index(role) >= list(TokenRole).index(route.needs or TokenRole.OWNER)
                assert answer.status_code == (422 if is_let_in else 403), (role, route.method, route.path)
        owners = {route.path for route in routes if route.needs is TokenRole.OWNER}
        assert owners >= {"/tariffs/{tariff_id}", "/stations/{station_id}/credential", "/load-groups/{load_group_id}"}
        assert {route.needs for route in routes if route.method == "GET"} == {TokenRole.READER}
        assert {route.needs for route in routes if route.method != "GET"} == {TokenRole.OPERATOR, TokenRole.OWNER}


async def test_what_moves_a_station_to_others_needs_its_owner() -> None:
    async with busy_world() as busy:
        operator, owner = [await token_of(busy.here, CPO, role) for role in (TokenRole.OPERATOR, TokenRole.OWNER)]
        path = f"/v1/stations/{STATION}/commands"

        refused = await busy.here.api("POST", f"{path}/SetNetworkProfile", {}, token=operator)
        in_bulk = await busy.here.api("POST", "/v1/commands/InstallCertificate", {}, token=operator)
        allowed = await busy.here.api("POST", f"{path}/SetNetworkProfile", {}, token=owner)
        everyday = await busy.here.api("POST", f"{path}/ClearCache", {}, token=operator)

        statuses = [each.status_code for each in (refused, in_bulk, allowed, everyday)]
        assert statuses == [403, 403, 200, 200]


async def test_a_query_that_no_route_knows_is_refused_by_all_of_them() -> None:
    async with busy_world() as busy:
        for _, route in busy.here.operations.routes.routes:
            answer = await busy.here.api(route.method, named(route) + with_required(route, colour="red"), {})

            assert answer.status_code == 422, route.path
            assert "no query 'colour'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("from=2022-03-27T00:00:00Z", "query to is missing"),
        ("from=yesterday&to=2022-03-27T00:00:00Z", "from is no RFC 3339 date-time"),
        ("from=2022-03-27T00:00:00&to=2022-03-27T00:00:00Z", "from is no RFC 3339 date-time"),
        ("from=2022-03-27T00:00:00Z&from=2022-03-27T00:00:00Z", "query from stands twice"),
    ],
)
async def test_a_query_that_is_not_as_declared_is_refused_with_a_sentence(query: str, words: str) -> None:
    async with open_for_business() as here:
        answer = await here.api("GET", f"/{CPO}/uptime?{query}")

        assert (answer.status_code, answer.json()["error"]) == (422, "NotUnderstood")
        assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"vendor": "Acme", "modell": "One"}, "there is no field modell"),
        ({}, "say which stations: is_all, or one of charging_station_ids, location_id"),
    ],
)
async def test_a_misspelt_criterion_calls_no_station(selection: dict[str, str], words: str) -> None:
    async with open_for_business() as here:
        body = {"selection": selection, "payload": {"type": "Soft"}}

        answer = await here.api("POST", f"/{CPO}/commands/Reset", body)

        assert (answer.status_code, answer.json()["error"]) == (422, "NotUnderstood")
        assert words in answer.json()["detail"]
        assert here.gateway.commands == []


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [("GET", "device-model", 404, "there is no such path"), ("POST", "variables", 405, "this path does not take POST")],
)
async def test_who_asks_for_no_route_is_told_where_they_are(method: str, path: str, status: int, words: str) -> None:
    async with open_for_business() as here:
        answer = await here.api(method, f"/{CPO}/stations/{STATION}/{path}")

        assert (answer.status_code, answer.json()["error"]) == (status, "NoSuchRoute")
        assert words in answer.json()["detail"]
        assert "/operations/openapi.json" in answer.json()["detail"]


async def test_under_v1_a_route_is_about_the_party_of_the_token() -> None:
    async with busy_world() as busy:
        token = await token_of(busy.here, CPO)

        by_token = await busy.here.api("GET", "/v1/sessions", token=token)
        command = await busy.here.api("POST", f"/v1/stations/{STATION}/commands/ClearCache", {}, token=token)
        ours = await busy.here.api("GET", "/v1/sessions")
        ours_for = await busy.here.api("GET", f"/v1/sessions?party={CPO}")
        others = await busy.here.api("GET", f"/v1/sessions?party={OTHER_CPO}", token=token)
        stranger = await busy.here.api("GET", "/v1/sessions", token=UNKNOWN_TOKEN)

        assert by_token.json() == ours_for.json() == (await busy.here.api("GET", f"/{CPO}/sessions")).json() != []
        assert command.json()["result"] == "ACCEPTED"
        assert (ours.status_code, others.status_code, stranger.status_code) == (422, 403, 401)
