"""One push that reaches all whom it concerns, its order at each receiver, and what its sender is told of it."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.responses import Response

from emobility.adapters.memory import VirtualTimeLoop, run_virtual
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.event_log import LogUnavailable
from emobility.ports.http import HttpResponse
from roaming_hub import broadcasts
from roaming_hub.broadcast_worker import ATTEMPTS_MAX
from roaming_hub.broadcasts import BROADCAST, BROADCAST_ID, BROADCAST_RECEIVER, BroadcastOutcome
from roaming_hub.service import HUB, RoamingHub, build
from tests.hub.world import (
    CPO,
    MSP,
    OK,
    Heard,
    Platform,
    SharedWorld,
    World,
    bare_world,
    running,
    settings,
    status_code,
    until,
)

OTHER_MSP, SECOND_CPO = PartyId("FR-EMS"), PartyId("NL-CPB")
EXAMPLES = int(os.environ.get("WATTROAM_FUZZ_EXAMPLES", "15"))
TARIFF = "tariffs/receiver/NL/TNM/T1"


def tariff(state: int, **more: Any) -> bytes:
    return msgspec.json.encode({"id": "T1", "country_code": "NL", "party_id": "TNM", "state": state, **more})


async def roaming(*extra: PartyId) -> World:
    """A CPO, and MSPs that all take its tariffs."""
    world = bare_world()
    await world.join(CPO, Role.CPO)
    for party in (MSP, *extra):
        await world.join(party, Role.EMSP)
    return world


async def quiet(world: World) -> None:
    async def is_quiet() -> bool:
        return await world.hub.backlog() == 0

    await until(is_quiet, what="the hub has nothing to send", within_s=600)


def got(platform: Platform) -> list[int]:
    """The states of the tariff that reached a platform, in order."""
    return [msgspec.json.decode(each.body)["state"] for each in platform.heard if "tariffs" in each.url]


async def outcomes(sender: Platform, pushed: HttpResponse) -> dict[str, tuple[str, int | None]]:
    """What the sender is told of its broadcast."""
    answer = await sender.call("GET", f"wattroam-broadcasts/sender/{pushed.headers[BROADCAST_ID.lower()]}")
    assert status_code(answer) == 1000, answer
    told = msgspec.json.decode(answer.body)["data"]["receivers"]
    return {each["to_party"]: (each["outcome"], each["status_code"]) for each in told}


def test_a_push_is_answered_at_once_and_each_outcome_can_be_asked_for() -> None:
    async def scenario() -> None:
        world = await roaming(OTHER_MSP, PartyId("BE-BAD"))
        cpo = world.platforms[CPO]

        async def refuse(_: Heard) -> Response:
            return Response(OK.replace(b"1000", b"2001"), media_type="application/json")

        async def never(_: Heard) -> Response:
            await asyncio.sleep(3_600)
            return Response(OK)

        world.platforms[OTHER_MSP].script = refuse
        world.platforms[PartyId("BE-BAD")].script = never
        async with running(world.hub):
            began_s = asyncio.get_running_loop().time()
            pushed = await cpo.call("PUT", TARIFF, to=HUB, body=tariff(1))
            took_s = asyncio.get_running_loop().time() - began_s
            await quiet(world)
            told = await outcomes(cpo, pushed)

        assert (pushed.status, status_code(pushed), took_s) == (200, 1000, 0)
        assert told == {"DE-MSP": ("DELIVERED", 1000), "FR-EMS": ("REFUSED", 2001), "BE-BAD": ("FAILED", 4002)}
        assert got(world.platforms[MSP]) == [1]

    run_virtual(scenario())


async def test_nobody_else_learns_what_became_of_a_broadcast(world: World) -> None:
    pushed = await world.platforms[CPO].call("PUT", TARIFF, to=HUB, body=tariff(1))

    answer = await world.platforms[MSP].call(
        "GET", f"wattroam-broadcasts/sender/{pushed.headers[BROADCAST_ID.lower()]}"
    )

    assert answer.status == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "http", "code"),
    [
        ("PUT", "tariffs/receiver/NL/XXX/T1", tariff(1), 404, 2000),
        ("PUT", "tariffs/receiver/NL", tariff(1), 404, 2000),
        ("PUT", TARIFF, tariff(1, party_id="XXX"), 200, 2001),
        ("PATCH", TARIFF, b'{"currency":"EUR"}', 200, 2001),
        ("PUT", "sessions/receiver/NL/TNM/S1", b"{}", 200, 2001),
        ("POST", "cdrs/receiver", b"{}", 200, 2001),
        ("PUT", "tokens/receiver/NL/TNM/U1", b"{}", 200, 2001),
        ("POST", "tariffs/receiver/NL/TNM/T1", tariff(1), 200, 2001),
        ("GET", TARIFF, b"", 200, 2001),
    ],
)
async def test_what_may_not_go_to_all_goes_to_nobody(  # noqa: PLR0917 - one case a line
    world: World, method: str, path: str, body: bytes, http: int, code: int
) -> None:
    answer = await world.platforms[CPO].call(method, path, to=HUB, body=body)

    assert (answer.status, status_code(answer)) == (http, code)
    assert world.hub.broadcast_worker.waiting == 0


def test_a_party_that_is_offline_gets_nothing_until_it_is_back() -> None:
    async def scenario() -> None:
        world = await roaming(OTHER_MSP)
        cpo, away = world.platforms[CPO], world.platforms[OTHER_MSP]
        async with running(world.hub):
            world.http.cut(away.origin)
            first = await cpo.call("PUT", TARIFF, to=HUB, body=tariff(1))
            await quiet(world)
            second = await cpo.call("PUT", TARIFF, to=HUB, body=tariff(2))
            await quiet(world)
            world.http.mend(away.origin)
            await away.call("GET", "tariffs/sender", to=CPO)
            third = await cpo.call("PUT", TARIFF, to=HUB, body=tariff(3))
            await quiet(world)
            told = [(await outcomes(cpo, each))["FR-EMS"] for each in (first, second, third)]

        assert told == [("OFFLINE", 4003), ("OFFLINE", 4003), ("DELIVERED", 1000)]
        assert got(away) == [3]

    run_virtual(scenario())


def test_a_repetition_has_no_effect_but_on_those_who_never_got_it() -> None:
    async def scenario() -> None:
        world = await roaming(OTHER_MSP)
        cpo, away = world.platforms[CPO], world.platforms[OTHER_MSP]
        async with running(world.hub):
            world.http.cut(away.origin)
            first = await cpo.call("PUT", TARIFF, to=HUB, body=tariff(1))
            await quiet(world)
            world.http.mend(away.origin)
            await away.call("GET", "tariffs/sender", to=CPO)
            again = await cpo.call("PUT", TARIFF, to=HUB, body=tariff(1), headers={"X-Request-ID": "another"})
            await quiet(world)
            told = await outcomes(cpo, again)

        assert again.headers[BROADCAST_ID.lower()] == first.headers[BROADCAST_ID.lower()]
        assert (got(world.platforms[MSP]), got(away)) == ([1], [1])
        assert {each[0] for each in told.values()} == {"DELIVERED"}

    run_virtual(scenario())


def test_a_receiver_that_fails_for_a_while_gets_the_newest_state() -> None:
    async def scenario() -> None:
        world = await roaming()
        cpo, msp = world.platforms[CPO], world.platforms[MSP]
        failures = iter([True, True])

        async def fail_twice(_: Heard) -> Response:
            code = b"3000" if next(failures, False) else b"1000"
            return Response(OK.replace(b"1000", code), media_type="application/json")

        msp.script = fail_twice
        async with running(world.hub):
            first = await cpo.call("PUT", TARIFF, to=HUB, body=tariff(1))
            await until(lambda: got(msp) == [1], what="the first state was tried")
            second = await cpo.call("PUT", TARIFF, to=HUB, body=tariff(2))
            third = await cpo.call("PUT", TARIFF, to=HUB, body=tariff(3))
            await quiet(world)
            told = [(await outcomes(cpo, each))["DE-MSP"][0] for each in (first, second, third)]

        assert got(msp) == [1, 1, 1, 3]
        assert told[1:] == ["REPLACED", "DELIVERED"]

    run_virtual(scenario())


def test_what_was_entered_before_a_crash_is_sent_after_it() -> None:
    async def scenario() -> None:
        world = await roaming(OTHER_MSP)
        await world.platforms[CPO].call("PUT", TARIFF, to=HUB, body=tariff(1))
        again = restarted(world)
        async with running(again):
            await until(lambda: bool(got(world.platforms[MSP])), what="it is sent", within_s=60)
            await until(lambda: again.broadcast_worker.waiting == 0, what="nothing waits", within_s=60)
        async with again.ports.units.begin() as unit:
            rows = await unit.table(BROADCAST_RECEIVER).select()

        assert (got(world.platforms[MSP]), got(world.platforms[OTHER_MSP])) == ([1], [1])
        assert {each.outcome for each in rows} == {BroadcastOutcome.DELIVERED}

    run_virtual(scenario())


def restarted(world: World) -> RoamingHub:
    """The hub as another process finds its rows."""
    return build(settings(), world.hub.ports)


async def test_a_broadcast_beyond_what_may_wait_is_refused_and_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasts, "WAITING_MAX", 0)

    answer = await world.platforms[CPO].call("PUT", TARIFF, to=HUB, body=tariff(1))

    assert status_code(answer) == 4000
    async with world.hub.ports.units.begin() as unit:
        assert await unit.table(BROADCAST).count() == 0


async def test_a_broadcast_that_could_not_be_kept_is_not_answered_as_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def begin(self) -> Any:
            raise LogUnavailable("the database is away")

    monkeypatch.setattr(world.hub.broadcasts, "_ports", replace(world.hub.ports, units=Away()))  # type: ignore[arg-type]

    answer = await world.platforms[CPO].call("PUT", TARIFF, to=HUB, body=tariff(1))

    assert status_code(answer) == 4000
    assert world.hub.broadcast_worker.waiting == 0


PUSHES = st.lists(st.tuples(st.sampled_from(["T1", "T2"]), st.sampled_from(["PUT", "PATCH"])), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedWorld]:
    """One world for all examples, each with objects of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        yield SharedWorld(runner, runner.run(roaming()))


NUMBERS = itertools.count()


@hypothesis_settings(max_examples=EXAMPLES, deadline=None)
@given(pushes=PUSHES, moods=st.lists(st.sampled_from([b"1000", b"3000"]), max_size=6))
def test_each_receiver_sees_the_states_of_an_object_in_order_and_ends_at_the_newest(
    shared: SharedWorld, pushes: list[tuple[str, str]], moods: list[bytes]
) -> None:
    runner, world = shared.runner, shared.world
    prefix, left, taken = f"X{next(NUMBERS)}", iter(moods), list[Heard]()

    async def moody(heard: Heard) -> Response:
        await asyncio.sleep(0.5)
        code = next(left, b"1000")
        taken.extend([heard] * (code == b"1000"))
        return Response(OK.replace(b"1000", code), media_type="application/json")

    async def push_all() -> None:
        world.platforms[MSP].script = moody
        async with running(world.hub):
            for state, (name, method) in enumerate(pushes):
                body = msgspec.json.encode({"state": state, "last_updated": "2026-03-01T12:00:00Z"})
                path = f"tariffs/receiver/NL/TNM/{prefix}{name}"
                await world.platforms[CPO].call(method, path, to=HUB, body=body)
                await asyncio.sleep(0.3)
            await quiet(world)

    runner.run(push_all())

    for name in ("T1", "T2"):
        pushed = [(state, method) for state, (each, method) in enumerate(pushes) if each == name]
        states = [msgspec.json.decode(each.body)["state"] for each in taken if each.url.endswith(f"{prefix}{name}")]
        assert states == sorted(set(states))
        last_put = max((state for state, method in pushed if method == "PUT"), default=-1)
        if moods.count(b"3000") < ATTEMPTS_MAX:
            assert {state for state, _ in pushed if state >= last_put} <= set(states)
