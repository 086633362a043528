"""All parties' objects from the hub: merged, each once, whatever happens at a source meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.responses import Response

from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from roaming_hub.service import HUB
from tests.hub.world import CPO, MSP, NSP, Heard, Platform, SharedWorld, World, bare_world, status_code

CPO_B = PartyId("NL-CPB")
EXAMPLES = int(os.environ.get("WATTROAM_FUZZ_EXAMPLES", "20"))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Source:
    """A sender interface with real paging; `limit_max` is its cap."""

    objects: list[dict[str, Any]]
    limit_max: int = 100
    before: Callable[[], None] = lambda: None
    asked: list[Heard] = field(default_factory=list)

    async def __call__(self, heard: Heard) -> Response:
        self.asked.append(heard)
        self.before()
        query = parse_qs(urlsplit(heard.url).query)
        offset, limit = int(query["offset"][0]), min(int(query["limit"][0]), self.limit_max)
        part = self.objects[offset : offset + limit]
        headers = {"X-Total-Count": str(len(self.objects)), "X-Limit": str(limit)}
        if offset + limit < len(self.objects):
            headers["Link"] = f'<{heard.url}&next=1>; rel="next"'
        data = b",".join(msgspec.json.encode(each).replace(b'"PRICE"', b"0.10") for each in part)
        body = b'{"data":[%s],"status_code":1000,"timestamp":"2026-03-01T12:00:00Z"}' % data
        return Response(body, headers=headers, media_type="application/json")


def an_object(owner: PartyId, name: str, minute: int, **more: Any) -> dict[str, Any]:
    at = (NOON + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"country_code": owner.country_code, "party_id": owner.party_id, "id": name, "last_updated": at, **more}


async def roaming(**sources: Source) -> World:
    """Two CPOs that serve tariffs, and an MSP."""
    world = bare_world()
    for party, role in ((CPO, Role.CPO), (CPO_B, Role.CPO), (MSP, Role.EMSP)):
        await world.join(party, role)
    for name, source in sources.items():
        world.platforms[{"a": CPO, "b": CPO_B}[name]].script = source
    return world


async def pages(asking: Platform, path: str, between: Callable[[], None] = lambda: None) -> list[HttpResponse]:
    """Follow the links to the end."""
    found = [await asking.call("GET", path, to=HUB)]
    while "link" in found[-1].headers:
        between()
        url = found[-1].headers["link"].removeprefix("<").partition(">")[0]
        found.append(await asking.call("GET", url, to=HUB))
        assert len(found) < 200
    return found


def ids(answers: list[HttpResponse]) -> list[str]:
    return [each["id"] for answer in answers for each in msgspec.json.decode(answer.body)["data"]]


async def test_the_objects_of_all_are_merged_oldest_first_digit_for_digit() -> None:
    a = Source([an_object(CPO, "A1", 1, price="PRICE"), an_object(CPO, "A2", 5)])
    b = Source([an_object(CPO_B, "B1", 2), an_object(CPO_B, "B2", 3)])
    world = await roaming(a=a, b=b)

    answers = await pages(world.platforms[MSP], "tariffs/sender?limit=3&date_from=2026-01-01T00:00:00Z")

    assert ids(answers) == ["A1", "B1", "B2", "A2"]
    assert [len(msgspec.json.decode(each.body)["data"]) for each in answers] == [3, 1]
    assert b'"price":0.10' in answers[0].body
    first = answers[0].headers
    assert (first["x-total-count"], first["x-limit"], first["ocpi-from-party-id"]) == ("4", "3", HUB.party_id)
    [asked, *_] = a.asked
    assert "date_from=2026-01-01T00:00:00Z" in asked.url
    assert (asked.headers["ocpi-from-party-id"], asked.headers["ocpi-to-party-id"]) == ("MSP", "TNM")


async def test_one_dead_source_is_named_and_does_not_empty_the_answer() -> None:
    world = await roaming(a=Source([an_object(CPO, "A1", 1)]))
    world.http.cut(world.platforms[CPO_B].origin)

    [answer] = await pages(world.platforms[MSP], "tariffs/sender")

    assert ids([answer]) == ["A1"]
    assert answer.headers["wattroam-missing-parties"] == "1; NL-CPB"


async def test_a_source_that_dies_on_the_way_is_named_on_every_page_from_then() -> None:
    a = Source([an_object(CPO, f"A{number}", number) for number in range(30)])
    b = Source([an_object(CPO_B, f"B{number}", number) for number in range(30)])
    world = await roaming(a=a, b=b)

    answers = await pages(
        world.platforms[MSP], "tariffs/sender?limit=10", lambda: world.http.cut(world.platforms[CPO_B].origin)
    )

    assert "wattroam-missing-parties" not in answers[0].headers
    assert all(each.headers["wattroam-missing-parties"] == "1; NL-CPB" for each in answers[1:])
    assert [each for each in ids(answers) if each.startswith("A")] == [f"A{number}" for number in range(30)]


async def test_a_party_sees_of_sessions_its_own_and_an_nsp_none() -> None:
    mine = {"country_code": "DE", "party_id": "MSP"}
    sessions = [
        an_object(CPO, "S1", 1, cdr_token=mine),
        an_object(CPO, "S2", 2, cdr_token={"country_code": "FR", "party_id": "ABC"}),
        an_object(CPO, "S3", 3),
        an_object(CPO, "S4", 4, cdr_token={"country_code": "de", "party_id": "msp"}),
    ]
    source = Source(sessions)
    world = await roaming(a=source, b=Source([]))
    nsp = await world.join(NSP, Role.NSP)

    seen = await pages(world.platforms[MSP], "sessions/sender?date_from=2026-01-01T00:00:00Z&limit=1")
    asked = len(source.asked)
    by_nsp = await pages(nsp, "sessions/sender?date_from=2026-01-01T00:00:00Z")

    assert ids(seen) == ["S1", "S4"]
    assert (ids(by_nsp), len(source.asked)) == ([], asked)


async def test_a_source_lists_its_own_objects_only() -> None:
    world = await roaming(a=Source([an_object(CPO_B, "FORGED", 1), an_object(CPO, "A1", 2)]), b=Source([]))

    assert ids(await pages(world.platforms[MSP], "tariffs/sender")) == ["A1"]


async def test_a_rule_of_a_source_keeps_its_objects_out() -> None:
    world = await roaming(a=Source([an_object(CPO, "A1", 1)]), b=Source([an_object(CPO_B, "B1", 1)]))
    rule = {"sender": "DE-MSP", "module": "tariffs", "is_allowed": False}
    assert (await world.admin("PUT", "/admin/parties/NL-TNM/rules", rule)).status == 200

    assert ids(await pages(world.platforms[MSP], "tariffs/sender")) == ["B1"]


async def test_a_next_page_is_the_requesters_alone() -> None:
    world = await roaming(a=Source([an_object(CPO, f"A{each}", each) for each in range(3)]), b=Source([]))
    first = await world.platforms[MSP].call("GET", "tariffs/sender?limit=1", to=HUB)
    url = first.headers["link"].removeprefix("<").partition(">")[0]

    stranger = await world.platforms[CPO].call("GET", url)

    assert (stranger.status, status_code(stranger)) == (404, 2001)


@pytest.mark.parametrize(
    "path",
    [
        "sessions/sender",
        "cdrs/sender?limit=1",
        "commands/sender",
        "tariffs/sender/T1",
        "tariffs/sender?limit=x",
        "tariffs/sender?offset=-1",
        "tariffs/sender?offset=999999",
        "tariffs/sender?date_from=yesterday",
    ],
)
async def test_what_is_no_list_of_all_is_2001(path: str) -> None:
    world = await roaming(a=Source([]), b=Source([]))

    answer = await world.platforms[MSP].call("GET", path, to=HUB)

    assert (answer.status, status_code(answer)) == (200, 2001)


async def test_an_offset_is_applied_to_the_union() -> None:
    a = Source([an_object(CPO, f"A{number}", 2 * number) for number in range(5)])
    b = Source([an_object(CPO_B, f"B{number}", 2 * number + 1) for number in range(5)])
    world = await roaming(a=a, b=b)

    assert ids(await pages(world.platforms[MSP], "tariffs/sender?offset=3&limit=4")) == [
        *("B1", "A2", "B2", "A3", "B3", "A4", "B4")
    ]


CHANGES = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["insert", "update", "none"]), st.integers(0, 40)), max_size=8
)


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedWorld]:
    """One world for all examples; its sources are changed."""
    with asyncio.Runner() as runner:
        yield SharedWorld(runner, runner.run(roaming()))


@hypothesis_settings(max_examples=EXAMPLES, deadline=None)
@given(
    sizes=st.tuples(st.integers(0, 25), st.integers(0, 25)),
    limit=st.integers(1, 12),
    cap=st.integers(3, 20),
    by_last_updated=st.booleans(),
    changes=CHANGES,
)
def test_walking_the_links_gives_each_object_that_did_not_change_once(  # noqa: PLR0917 - one strategy a line
    shared: SharedWorld,
    sizes: tuple[int, int],
    limit: int,
    cap: int,
    by_last_updated: bool,  # noqa: FBT001 - how sources order: by creation, or by last_updated
    changes: list[tuple[str, str, int]],
) -> None:
    sources = {
        "a": Source([an_object(CPO, f"a{each}", each) for each in range(sizes[0])], limit_max=cap),
        "b": Source([an_object(CPO_B, f"b{each}", each) for each in range(sizes[1])], limit_max=cap),
    }
    begun = {name: [each["id"] for each in source.objects] for name, source in sources.items()}
    changed: set[str] = set()
    pending = iter(changes)
    minutes = iter(range(100, 200))

    def change() -> None:
        name, what, index = next(pending, ("a", "none", 0))
        source, owner = sources[name], {"a": CPO, "b": CPO_B}[name]
        if what == "insert":
            minute = next(minutes)
            source.objects.append(an_object(owner, f"{name}-new{minute}", minute))
        elif what == "update" and index < len(source.objects):
            old = source.objects[index]
            new = an_object(owner, old["id"], next(minutes))
            changed.add(old["id"])
            if by_last_updated:
                source.objects = [*source.objects[:index], *source.objects[index + 1 :], new]
            else:
                source.objects[index] = new

    runner, world = shared.runner, shared.world
    for name, party in (("a", CPO), ("b", CPO_B)):
        world.platforms[party].script = sources[name]

    seen = ids(runner.run(pages(world.platforms[MSP], f"tariffs/sender?limit={limit}", change)))

    for name, source in sources.items():
        unchanged = [each for each in begun[name] if each not in changed]
        assert [each for each in seen if each in set(unchanged)] == unchanged
        assert {each["id"] for each in source.objects} >= {each for each in seen if each[0] == name}
        assert {each for each in changed if each[0] == name} <= set(seen)
