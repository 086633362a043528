"""Who is at the hub, as the parties learn it (hubclientinfo)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from emobility.adapters.memory import run_virtual
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.event_log import LogUnavailable
from emobility.ports.http import PeerUnreachable
from emobility.protocols.ocpi.peers import PEER
from emobility.protocols.ocpi.v221 import ConnectionStatus
from roaming_hub.presence import PROBE_S
from roaming_hub.records import HUB_CLIENT
from roaming_hub.service import HUB
from tests.hub.world import CPO, MSP, Platform, World, bare_world, running, status_code, until


def told(platform: Platform) -> list[tuple[str, str]]:
    """What a platform was told: (party, status)."""
    bodies = [msgspec.json.decode(each.body) for each in platform.heard if "hubclientinfo" in each.url]
    return [(f"{body['country_code']}-{body['party_id']}", body["status"]) for body in bodies]


async def quiet(world: World) -> None:
    async def is_quiet() -> bool:
        return await world.hub.backlog() == 0

    await until(is_quiet, what="the hub has nothing to send", within_s=600)


def test_a_party_that_joins_leaves_or_is_suspended_is_told_to_the_others() -> None:
    async def scenario() -> None:
        world = bare_world()
        async with running(world.hub):
            cpo = await world.join(CPO, Role.CPO)
            msp = await world.join(MSP, Role.EMSP)
            await quiet(world)
            await msp.call("DELETE", "credentials")
            await quiet(world)
            await world.admin("POST", "/admin/parties/DE-MSP/suspend")
            await quiet(world)

        # PLANNED may be replaced by CONNECTED before it is sent: the newest state of an object is what counts.
        assert [each for each in told(cpo) if each[1] != "PLANNED"] == [
            ("DE-MSP", "CONNECTED"),
            ("DE-MSP", "OFFLINE"),
            ("DE-MSP", "SUSPENDED"),
        ]
        assert all("ocpi-to-party-id" not in heard.headers for heard in cpo.heard)

    run_virtual(scenario())


def test_a_party_that_can_not_be_reached_is_offline_until_it_is_heard_again() -> None:
    async def scenario() -> None:
        world = bare_world()
        async with running(world.hub):
            cpo, msp = await world.join(CPO, Role.CPO), await world.join(MSP, Role.EMSP)
            await quiet(world)
            cpo.heard.clear()
            world.http.cut(msp.origin)
            await cpo.call("PUT", "tariffs/receiver/NL/TNM/1", to=MSP, body=b"{}")
            await quiet(world)
            world.http.mend(msp.origin)
            await msp.call("GET", "tariffs/sender", to=CPO)
            await quiet(world)

        assert told(cpo) == [("DE-MSP", "OFFLINE"), ("DE-MSP", "CONNECTED")]

    run_virtual(scenario())


async def test_a_connection_that_could_not_be_kept_is_kept_with_the_next_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise PeerUnreachable("http://database.test")

    presence = world.hub.router.presence
    async with world.hub.host.ports.units.begin() as unit:
        peer = await unit.table(PEER).get(HUB, MSP.code)
    assert peer is not None
    await presence.lost(peer)
    with monkeypatch.context() as broken:
        broken.setattr(presence, "_set", fail)
        with pytest.raises(PeerUnreachable):
            await presence.heard(peer)
    await presence.heard(peer)

    async with world.hub.host.ports.units.begin() as unit:
        client = await unit.table(HUB_CLIENT).get(MSP, Role.EMSP)
    assert client is not None
    assert client.status is ConnectionStatus.CONNECTED


def test_a_silent_party_is_probed_and_goes_offline_when_it_does_not_answer() -> None:
    async def scenario() -> None:
        world = bare_world()
        async with running(world.hub):
            cpo, msp = await world.join(CPO, Role.CPO), await world.join(MSP, Role.EMSP)
            await asyncio.sleep(3 * PROBE_S)
            well = told(cpo)
            world.http.cut(msp.origin)
            await asyncio.sleep(3 * PROBE_S)

        assert ("DE-MSP", "OFFLINE") not in well
        assert told(cpo)[-1] == ("DE-MSP", "OFFLINE")

    run_virtual(scenario())


def test_a_database_that_is_away_for_a_probe_does_not_end_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise LogUnavailable("the database is away")

    async def scenario() -> None:
        world = bare_world()
        async with running(world.hub):
            cpo, msp = await world.join(CPO, Role.CPO), await world.join(MSP, Role.EMSP)
            world.http.cut(msp.origin)
            with monkeypatch.context() as patched:
                patched.setattr(world.hub.presence, "_set", away)
                await asyncio.sleep(1.5 * PROBE_S)
            await asyncio.sleep(2 * PROBE_S)

        assert told(cpo)[-1] == ("DE-MSP", "OFFLINE")

    run_virtual(scenario())


async def test_the_list_is_paged_with_all_filters_kept(bare: World) -> None:
    parties = [PartyId(f"NL-{name}") for name in ("AAA", "BBB", "CCC", "DDD", "EEE")]
    for party in parties:
        await bare.join(party, Role.EMSP)
        bare.clock.step_by(timedelta(minutes=1))
    reader = bare.platforms[parties[0]]
    seen: list[str] = []
    pages = []
    url = "hubclientinfo/sender?limit=2&date_from=2026-03-01T12:01:00Z"
    while url:
        answer = await reader.call("GET", url)
        pages.append(answer)
        seen += [each["party_id"] for each in msgspec.json.decode(answer.body)["data"]]
        url = answer.headers.get("link", "").removeprefix("<").partition(">")[0]

    assert seen == ["BBB", "CCC", "DDD", "EEE"]
    assert [page.headers["x-total-count"] for page in pages] == ["4", "4"]
    assert [page.headers["x-limit"] for page in pages] == ["2", "2"]
    assert "date_from=2026-03-01T12:01:00Z" in pages[0].headers["link"]
    assert "link" not in pages[-1].headers


async def test_date_to_is_exclusive_and_a_limit_above_the_cap_is_capped(world: World) -> None:
    reader = world.platforms[CPO]

    until_now = await reader.call("GET", "hubclientinfo/sender?date_to=2026-03-01T12:00:00Z&limit=100000")
    from_now = await reader.call("GET", "hubclientinfo/sender?date_from=2026-03-01T12:00:00&limit=100000")

    assert until_now.headers["x-total-count"] == "0"
    assert from_now.headers["x-total-count"] == "2"
    assert from_now.headers["x-limit"] == "100"


async def test_paging_parameters_that_are_none_are_2001(world: World) -> None:
    for query in ("offset=-1", "limit=x", "date_from=yesterday", "offset=1e9", "limit=99999999999", "date_to="):
        answer = await world.platforms[CPO].call("GET", f"hubclientinfo/sender?{query}")
        assert (answer.status, status_code(answer)) == (200, 2001), query
