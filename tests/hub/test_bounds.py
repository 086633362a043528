"""What one platform, dead, slow or greedy, may cost the hub and the others; and that each message leaves a row."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import Response

from emobility.adapters.memory import run_virtual
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.event_log import LogUnavailable
from roaming_hub.bulkhead import FAILURES_UNTIL_OPEN, OPEN_S_MIN
from roaming_hub.forwards import MESSAGE_AGE
from roaming_hub.rate_limits import BAD_TOKEN_COST, Buckets
from roaming_hub.recording import Recording
from roaming_hub.records import HUB_MESSAGE
from tests.hub.world import CPO, MSP, OK, Heard, World, bare_world, say_ok, status_code

PUT_TARIFF = "tariffs/receiver/NL/TNM/1"


async def never(_: Heard) -> Response:
    await asyncio.sleep(3_600)
    return Response(OK)


async def joined() -> World:
    world = bare_world()
    await world.join(CPO, Role.CPO)
    await world.join(MSP, Role.EMSP)
    return world


# Circuit breaker


def test_a_platform_that_answers_nothing_is_not_waited_for_any_more_until_it_does() -> None:
    async def scenario() -> None:
        world = await joined()
        cpo, msp = world.platforms[CPO], world.platforms[MSP]
        loop = asyncio.get_running_loop()

        async def push() -> tuple[int, float]:
            began_s = loop.time()
            answer = await cpo.call("PUT", PUT_TARIFF, to=MSP, body=b"{}")
            return status_code(answer), loop.time() - began_s

        msp.script = never
        slow = [await push() for _ in range(FAILURES_UNTIL_OPEN)]
        at_once = [await push() for _ in range(3)]
        await asyncio.sleep(OPEN_S_MIN + 0.1)
        trial = await push()
        closed_again = await push()
        msp.script = say_ok
        await asyncio.sleep(2 * OPEN_S_MIN + 0.1)
        mended = await push()

        assert [(code, round(took_s, 3)) for code, took_s in slow] == [(4002, 4.0)] * FAILURES_UNTIL_OPEN
        assert at_once == [(4003, 0)] * 3
        assert (trial[0], closed_again, mended) == (4002, (4003, 0), (1000, 0))

    run_virtual(scenario())


def test_of_many_that_wait_one_tries_a_platform_that_was_dead() -> None:
    async def scenario() -> None:
        world = await joined()
        cpo, msp = world.platforms[CPO], world.platforms[MSP]
        msp.script = never
        for _ in range(FAILURES_UNTIL_OPEN):
            await cpo.call("PUT", PUT_TARIFF, to=MSP, body=b"{}")
        await asyncio.sleep(OPEN_S_MIN + 0.1)
        msp.heard.clear()

        answers = await asyncio.gather(*(cpo.call("PUT", PUT_TARIFF, to=MSP, body=b"{}") for _ in range(10)))

        assert sorted(map(status_code, answers)) == [4002, *[4003] * 9]
        assert len(msp.heard) == 1

    run_virtual(scenario())


def test_a_platform_that_calls_is_there_again_at_once() -> None:
    async def scenario() -> None:
        world = await joined()
        cpo, msp = world.platforms[CPO], world.platforms[MSP]
        msp.script = never
        for _ in range(FAILURES_UNTIL_OPEN):
            await cpo.call("PUT", PUT_TARIFF, to=MSP, body=b"{}")
        msp.script = say_ok
        await msp.call("GET", "tariffs/sender", to=CPO)

        assert status_code(await cpo.call("PUT", PUT_TARIFF, to=MSP, body=b"{}")) == 1000

    run_virtual(scenario())


# Rates and sizes


def test_a_platform_that_asks_too_much_is_429_until_its_bucket_fills() -> None:
    async def scenario() -> None:
        world = await joined()
        object.__setattr__(world.hub.router, "parties", Buckets(world.hub.ports, per_s=0.5, burst=2))
        cpo = world.platforms[CPO]

        answers = [await cpo.call("PUT", PUT_TARIFF, to=MSP, body=b"{}") for _ in range(3)]
        other = await world.platforms[MSP].call("GET", "tariffs/sender", to=CPO)
        await asyncio.sleep(2)
        later = await cpo.call("PUT", PUT_TARIFF, to=MSP, body=b"{}")

        assert [each.status for each in answers] == [200, 200, 429]
        assert (status_code(answers[2]), answers[2].headers["retry-after"]) == (2000, "2")
        assert (other.status, later.status) == (200, 200)
        assert len(world.platforms[MSP].heard) == 3

    run_virtual(scenario())


async def test_guessing_tokens_ends_in_429_before_anybody_is_asked(
    monkeypatch: pytest.MonkeyPatch, bare: World
) -> None:
    monkeypatch.setattr("roaming_hub.service.ADDRESS_BURST", 2 * BAD_TOKEN_COST)
    monkeypatch.setattr("roaming_hub.service.ADDRESS_PER_S", 1e-6)
    world = bare_world()
    url = "http://hub.test/hub/ocpi/versions"

    statuses = [
        (await world.http.request("GET", url, headers={"Authorization": "Token bm8="})).status for _ in range(4)
    ]
    refused = await world.http.request("GET", url, headers={"X-Request-ID": "r-1"})

    assert statuses == [401, 401, 429, 429]
    assert (status_code(refused), refused.headers["x-request-id"]) == (2000, "r-1")


async def test_a_url_that_is_too_long_is_414_and_a_body_that_is_too_large_413(world: World) -> None:
    cpo = world.platforms[CPO]

    long = await cpo.call("GET", f"tariffs/sender?x={'x' * 3_000}", to=MSP)
    large = await cpo.call("PUT", PUT_TARIFF, to=MSP, body=b" " * 1_000_001)

    assert (long.status, status_code(long)) == (414, 2000)
    assert (large.status, status_code(large)) == (413, 2000)
    assert world.platforms[MSP].heard == []


# The record of each message


async def test_each_message_leaves_a_row_and_a_failed_one_too(world: World) -> None:
    cpo, msp = world.platforms[CPO], world.platforms[MSP]
    await cpo.call("PUT", PUT_TARIFF, to=MSP, body=b'{"a":1}', headers={"X-Correlation-ID": "c-1"})
    world.http.cut(msp.origin)
    await cpo.call("DELETE", PUT_TARIFF, to=MSP, headers={"X-Correlation-ID": "c-2"})

    async with world.hub.ports.units.begin() as unit:
        rows = {each.correlation_id: each for each in await unit.table(HUB_MESSAGE).select()}

    first, second = rows["c-1"], rows["c-2"]
    assert (first.from_party, first.to_party, first.module, first.method) == (CPO, MSP, "tariffs", "PUT")
    assert first.body_sha256 == hashlib.sha256(b'{"a":1}').hexdigest()
    assert first.message_id == msp.heard[0].headers["x-request-id"]
    assert (first.status_code, second.status_code, second.body_sha256) == (1000, 4003, "")


async def test_a_message_that_can_not_be_recorded_is_not_answered_as_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise LogUnavailable("the database is away")

    monkeypatch.setattr(world.hub.forwarding.recording, "put", away)

    answer = await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")

    assert status_code(answer) == 4000


async def test_old_rows_go(world: World) -> None:
    await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")
    world.clock.step_by(MESSAGE_AGE + timedelta(seconds=1))

    async with world.hub.ports.units.begin() as unit:
        dropped = await world.hub.forwarding.forwards.purge(unit)
        await unit.commit()

    assert dropped == 1


async def test_what_waits_together_is_committed_together_and_one_bad_row_fails_alone(world: World) -> None:
    await world.platforms[CPO].call("PUT", PUT_TARIFF, to=MSP, body=b"{}")
    units: Any = world.hub.ports.units
    async with units.begin() as unit:
        [row] = await unit.table(HUB_MESSAGE).select()
    recording, before = Recording(units), units.commits

    def named(message_id: Any) -> Any:
        return HUB_MESSAGE, type(row)(**{**{f: getattr(row, f) for f in row.__slots__}, "message_id": message_id})

    results = await asyncio.gather(
        *(recording.put([named(f"m{number}")]) for number in range(50)),
        recording.put([named("with NUL \0")]),
        return_exceptions=True,
    )
    async with units.begin() as unit:
        stored = await unit.table(HUB_MESSAGE).count()

    assert results[:50] == [None] * 50
    assert isinstance(results[50], Exception)
    assert stored == 51
    assert units.commits - before < 200


def test_a_dead_platform_adds_no_time_to_others() -> None:
    async def scenario() -> None:
        world = await joined()
        third = await world.join(PartyId("FR-EMS"), Role.EMSP)
        world.platforms[MSP].script = never
        cpo, loop = world.platforms[CPO], asyncio.get_running_loop()
        stuck = [asyncio.create_task(cpo.call("PUT", PUT_TARIFF, to=MSP, body=b"{}")) for _ in range(100)]
        await asyncio.sleep(0.1)
        began_s = loop.time()

        answer = await cpo.call("PUT", PUT_TARIFF, to=third.party, body=b"{}")

        assert (status_code(answer), loop.time() - began_s) == (1000, 0)
        await asyncio.gather(*stuck, return_exceptions=True)

    run_virtual(scenario())
