"""Parties at the hub: roles that a registry backs, rules, consents to apps, and the operator's page."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.adapters.memory import MemoryHttp, SeededRandomness, VirtualClock
from emobility.adapters.memory.party_registry import MemoryPartyRegistry
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.party_claims import PartyEntry, platform_hash
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi.peers import PEER, PeerState
from emobility.protocols.ocpi.v221 import read, write
from roaming_hub.claims import WORD_AGE_S
from roaming_hub.service import build
from tests.hub.world import (
    CPO,
    HUB_ORIGIN,
    INTERNAL_TOKEN,
    MSP,
    START,
    Platform,
    World,
    bare_world,
    memory_ports,
    running,
    settings,
    status_code,
    until,
)

APP = PartyId("NL-APP")
TARIFF = "tariffs/receiver/NL/TNM/1"
RULES = "wattroam-rules/receiver"


def told(answer: HttpResponse) -> str:
    return str(read(answer.body, dict[str, Any])["status_message"])


async def joined(*more: tuple[PartyId, Role]) -> World:
    world = bare_world()
    for party, role in ((CPO, Role.CPO), (MSP, Role.EMSP), *more):
        await world.join(party, role)
    return world


async def pushed(world: World, sender: PartyId = CPO, to: PartyId = MSP, path: str = TARIFF) -> HttpResponse:
    return await world.platforms[sender].call("PUT", path, to=to, body=b"{}")


# Rules


async def test_the_most_particular_rule_of_the_receiver_wins() -> None:
    world = await joined()
    for rule in (
        {"is_allowed": False},
        {"counterparty": "NL-TNM", "is_allowed": True},
        {"counterparty": "NL-TNM", "module": "tariffs", "is_allowed": False},
    ):
        assert (await world.admin("PUT", "/admin/parties/DE-MSP/rules", rule)).status == 200

    refused, passed = await pushed(world), await pushed(world, path="locations/receiver/NL/TNM/1")

    assert status_code(refused) == 4003
    assert "DE-MSP takes no tariffs from NL-TNM (RECEIVER_RULE " in told(refused)
    assert status_code(passed) == 1000
    assert [heard.url.partition("2.2.1/")[2] for heard in world.platforms[MSP].heard] == ["locations/receiver/NL/TNM/1"]


async def test_a_party_edits_its_own_rules_with_its_own_token_and_nobody_elses() -> None:
    world = await joined()
    rule = {"counterparty": "DE-MSP", "module": "tariffs", "direction": "OUT", "is_allowed": False}
    cpo, msp = world.platforms[CPO], world.platforms[MSP]

    assert status_code(await cpo.call("PUT", RULES, body=write(rule))) == 1000
    refused = await pushed(world)
    listed = read((await msp.call("GET", RULES)).body, dict[str, Any])["data"]
    # Who names another party as the caller is refused.
    forged = await msp.call("PUT", RULES, to=PartyId("NL-HUB"), as_=CPO, body=write(rule | {"is_allowed": True}))
    dropped = await cpo.call("DELETE", f"{RULES}?counterparty=DE-MSP&module=tariffs&direction=OUT")

    assert status_code(refused) == 2000
    assert "by its own rule NL-TNM/OUT/DE-MSP/tariffs" in told(refused)
    assert listed == []
    assert status_code(forged) == 2001
    assert status_code(dropped) == 1000
    assert status_code(await pushed(world)) == 1000


@pytest.mark.parametrize(
    "rule",
    [
        {"counterparty": "nobody", "is_allowed": False},
        {"module": "../x", "is_allowed": False},
        {"direction": "UP", "is_allowed": False},
    ],
)
async def test_what_is_no_rule_is_refused(rule: dict[str, Any]) -> None:
    world = await joined()

    assert status_code(await world.platforms[CPO].call("PUT", RULES, body=write(rule))) == 2001
    assert (await world.admin("PUT", "/admin/parties/NL-TNM/rules", rule)).status == 422


# Apps with consent


async def test_an_app_has_a_partys_data_only_while_the_consent_runs() -> None:
    world = await joined((APP, Role.OTHER))
    assert status_code(await pushed(world, to=APP)) == 1000, "it is no app yet"
    await world.admin("PUT", "/admin/parties/NL-APP/app")
    cpo, app = world.platforms[CPO], world.platforms[APP]
    consent = {"app": "NL-APP", "module": "tariffs", "expires_at": (START + timedelta(days=30)).isoformat()}

    before = await pushed(world, to=APP), await app.call("GET", "tariffs/sender", to=CPO)
    await cpo.call("PUT", f"{RULES}/consents", body=write(consent))
    during = await pushed(world, to=APP), await app.call("GET", "tariffs/sender", to=CPO)
    other = await pushed(world, to=APP, path="sessions/receiver/NL/TNM/1")
    world.clock.step_to(START + timedelta(days=30))
    after = await pushed(world, to=APP), await app.call("GET", "tariffs/sender", to=CPO)

    assert [status_code(each) for each in (*before, *during, other, *after)] == [
        2000,
        2000,
        1000,
        1000,
        2000,
        2000,
        2000,
    ]
    assert "NL-TNM has given NL-APP no consent to tariffs" in told(before[1])


async def test_a_broadcast_reaches_an_app_only_with_the_senders_consent() -> None:
    world = await joined((APP, Role.OTHER))
    await world.admin("PUT", "/admin/parties/NL-APP/app")
    cpo, app, msp = world.platforms[CPO], world.platforms[APP], world.platforms[MSP]
    consent = {"app": "NL-APP", "module": "tariffs", "expires_at": (START + timedelta(days=30)).isoformat()}

    async def broadcast(tariff_id: str) -> None:
        body = write({"id": tariff_id, "country_code": "NL", "party_id": "TNM"})
        path = f"tariffs/receiver/NL/TNM/{tariff_id}"
        assert status_code(await cpo.call("PUT", path, to=PartyId("NL-HUB"), body=body)) == 1000

    def tariffs_at(platform: Platform) -> list[str]:
        return [heard.url.rpartition("/")[2] for heard in platform.heard if "tariffs" in heard.url]

    async with running(world.hub):
        await broadcast("A")
        await until(lambda: tariffs_at(msp) == ["A"], what="the first to arrive")
        await cpo.call("PUT", f"{RULES}/consents", body=write(consent))
        await broadcast("B")
        await until(lambda: tariffs_at(msp) == ["A", "B"] and bool(tariffs_at(app)), what="the second to arrive")

    assert tariffs_at(app) == ["B"]


async def test_a_consent_that_is_withdrawn_ends_at_once_and_stays_as_proof() -> None:
    world = await joined((APP, Role.OTHER))
    await world.admin("PUT", "/admin/parties/NL-APP/app")
    cpo = world.platforms[CPO]
    consent = {"app": "NL-APP", "expires_at": (START + timedelta(days=30)).isoformat()}
    await cpo.call("PUT", f"{RULES}/consents", body=write(consent))
    assert status_code(await pushed(world, to=APP)) == 1000

    await cpo.call("DELETE", f"{RULES}/consents/NL-APP")

    assert status_code(await pushed(world, to=APP)) == 2000
    [kept] = read((await cpo.call("GET", f"{RULES}/consents")).body, dict[str, Any])["data"]
    assert kept["withdrawn_at"] is not None
    assert status_code(await cpo.call("DELETE", f"{RULES}/consents/NL-APP")) == 2000, "only once"


async def test_a_consent_has_an_end_within_two_years() -> None:
    world = await joined()
    consent = {"app": "NL-APP", "expires_at": (START + timedelta(days=800)).isoformat()}

    assert status_code(await world.platforms[CPO].call("PUT", f"{RULES}/consents", body=write(consent))) == 2001


# Roles that a registry backs


def entry(party: PartyId, *roles: Role, **more: Any) -> PartyEntry:
    backed = PartyEntry(
        party_id=party,
        number=1,
        signer=b"\x01" * 20,
        nonce=0,
        attested_until=START + timedelta(days=1),
        roles=frozenset(roles),
        modules=frozenset(),
        platform=platform_hash(f"http://{party.code.lower()}.test"),
        message_key=None,
    )
    return replace(backed, **more)


def world_with(registry: MemoryPartyRegistry) -> World:
    clock, randomness, http = VirtualClock(START), SeededRandomness(7), MemoryHttp()
    ports = replace(memory_ports(http, clock, randomness), party_registry=registry)
    hub = build(settings(), ports)
    http.mount(HUB_ORIGIN, Starlette(routes=[Mount("/hub", app=hub.app)]))
    return World(http=http, clock=clock, hub=hub, platforms={}, randomness=randomness)


async def reasons(world: World) -> dict[str, str | None]:
    claims = read((await world.admin("GET", "/admin/claims")).body, list[dict[str, Any]])
    return {f"{each['party_id']} {each['state']}": each["reason"] for each in claims}


async def test_a_role_that_the_registry_backs_is_played() -> None:
    registry = MemoryPartyRegistry()
    registry.entries = {CPO: entry(CPO, Role.CPO)}
    world = world_with(registry)

    await world.join(CPO, Role.CPO)

    assert await reasons(world) == {"NL-TNM BACKED": None}


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (None, "NOT_REGISTERED"),
        (entry(CPO, Role.CPO, attested_until=None), "NOT_ATTESTED"),
        (entry(CPO, Role.CPO, attested_until=START), "NOT_ATTESTED"),
        (entry(CPO, Role.EMSP), "ROLE_NOT_CLAIMED"),
        (entry(CPO, Role.CPO, platform=platform_hash("https://elsewhere.test")), "PLATFORM_DIFFERS"),
        (entry(CPO, Role.CPO, platform=bytes(32)), "PLATFORM_DIFFERS"),
    ],
)
async def test_a_role_that_the_registry_does_not_back_is_refused(known: PartyEntry | None, reason: str) -> None:
    registry = MemoryPartyRegistry()
    registry.entries = {} if known is None else {CPO: known}
    world = world_with(registry)

    with pytest.raises(Exception, match=f"does not back CPO NL-TNM: {reason}"):
        await world.join(CPO, Role.CPO)

    assert await reasons(world) == {"NL-TNM REFUSED": reason}


async def test_while_the_registry_is_away_nobody_new_comes_in_and_who_is_in_goes_on() -> None:
    registry = MemoryPartyRegistry()
    registry.entries = {CPO: entry(CPO, Role.CPO), MSP: entry(MSP, Role.EMSP), APP: entry(APP, Role.OTHER)}
    world = world_with(registry)
    for party, role in ((CPO, Role.CPO), (MSP, Role.EMSP)):
        await world.join(party, role)
    registry.is_down = True
    world.hub.claims._words.clear()

    assert status_code(await pushed(world)) == 1000
    await world.hub.host.rotate(await peer_of(world, CPO))
    assert status_code(await pushed(world)) == 1000
    with pytest.raises(Exception, match=r"503|try again later"):
        await world.join(APP, Role.OTHER)


async def peer_of(world: World, party: PartyId) -> Any:
    async with world.hub.ports.units.begin() as unit:
        return await unit.table(PEER).get(PartyId("NL-HUB"), party.code)


async def test_a_revoked_party_is_heard_no_more_until_it_is_backed_again() -> None:
    registry = MemoryPartyRegistry()
    registry.entries = {CPO: entry(CPO, Role.CPO), MSP: entry(MSP, Role.EMSP)}
    world = world_with(registry)
    for party, role in ((CPO, Role.CPO), (MSP, Role.EMSP)):
        await world.join(party, role)

    registry.entries[CPO] = entry(CPO, Role.CPO, attested_until=None)
    await world.hub.claims.look_again()
    assert status_code(await pushed(world)) == 1000, "the registry's word is a minute old at most"
    world.hub.claims._words.clear()
    await world.hub.claims.look_again()
    lost = await pushed(world)
    registry.entries[CPO] = entry(CPO, Role.CPO)
    world.hub.claims._words.clear()
    await world.hub.claims.look_again()

    assert status_code(lost) == 4003
    assert "ROLE_NOT_BACKED" in told(lost)
    assert status_code(await pushed(world)) == 1000


async def test_the_registrys_word_is_asked_for_once_a_minute() -> None:
    registry = MemoryPartyRegistry()
    registry.entries = {CPO: entry(CPO, Role.CPO)}
    world = world_with(registry)
    await world.join(CPO, Role.CPO)
    asked = registry.asked

    await world.hub.claims.look_again()

    assert registry.asked == asked
    assert WORD_AGE_S == 60.0


# The operator's page


async def page(
    world: World, method: str, path: str, form: dict[str, str] | None = None, **headers: str
) -> HttpResponse:
    body = urlencode(form or {}).encode() if method == "POST" else b""
    sent = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
    return await world.http.request(method, f"{HUB_ORIGIN}/hub/admin/page{path}", headers=sent | headers, body=body)


async def logged_in(world: World) -> str:
    answer = await page(world, "POST", "/login", {"token": INTERNAL_TOKEN})
    assert answer.status == 303
    cookie = answer.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    return cookie.partition(";")[0]


def csrf_of(answer: HttpResponse) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', answer.body.decode())
    assert found is not None
    return found[1]


async def test_the_page_is_closed_to_whoever_has_not_logged_in() -> None:
    world = await joined()

    assert (await page(world, "GET", "/")).status == 303
    assert (await page(world, "POST", "/parties/NL-TNM/suspend", {})).status == 303
    assert (await page(world, "POST", "/login", {"token": "x" * 32})).status == 401
    assert (await page(world, "GET", "/", Cookie="wattroam_operator=ab.cd")).status == 303
    assert status_code(await pushed(world)) == 1000


async def test_the_page_shows_parties_and_what_they_say_as_text() -> None:
    world = bare_world()
    platform = world.platform(CPO, Role.CPO)
    async with platform.host.ports.units.begin() as unit:
        await platform.host.add_party(unit, CPO, role=Role.CPO, business_name="<script>alert(1)</script>")
        await unit.commit()
    token_a = await world.invite(CPO, Role.CPO, platform.versions_url)
    await platform.host.register(CPO, versions_url=f"{HUB_ORIGIN}/hub/ocpi/versions", token_a=token_a)

    shown = await page(world, "GET", "/", Cookie=await logged_in(world))

    text = shown.body.decode()
    assert "NL-TNM" in text
    assert "CONNECTED" in text
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "default-src 'none'" in shown.headers["content-security-policy"]


async def test_a_form_counts_only_with_its_login_and_from_its_own_site() -> None:
    world = await joined()
    cookie = await logged_in(world)
    csrf = csrf_of(await page(world, "GET", "/parties/NL-TNM", Cookie=cookie))

    for form, headers in (({}, {}), ({"csrf": "0" * 64}, {}), ({"csrf": csrf}, {"Origin": "http://evil.test"})):
        answer = await page(world, "POST", "/parties/NL-TNM/suspend", form, Cookie=cookie, **headers)
        assert answer.status == 403
    assert status_code(await pushed(world)) == 1000

    done = await page(world, "POST", "/parties/NL-TNM/suspend", {"csrf": csrf}, Cookie=cookie, Origin=HUB_ORIGIN)
    assert done.status == 200
    assert "SUSPENDED" in done.body.decode()


async def test_a_suspended_party_comes_back_with_a_new_token() -> None:
    world = await joined()
    await world.admin("POST", "/admin/parties/NL-TNM/suspend")
    assert (await world.admin("POST", "/admin/parties/DE-MSP/resume")).status == 404, "it is not suspended"

    answer = await world.admin("POST", "/admin/parties/NL-TNM/resume")

    token_a = read(answer.body, dict[str, str])["token_a"]
    cpo = world.platforms[CPO].host
    async with cpo.ports.units.begin() as unit:
        peer = await unit.table(PEER).get(CPO, "hub")
        assert peer is not None
        await cpo.registrar.forget(unit, peer, state=PeerState.UNREGISTERED)
        await unit.commit()
    await cpo.register(CPO, versions_url=f"{HUB_ORIGIN}/hub/ocpi/versions", token_a=token_a)
    listed = read((await world.admin("GET", "/admin/party-overview")).body, list[dict[str, Any]])
    assert {each["party_id"]: each["status"] for each in listed} == {"DE-MSP": "CONNECTED", "NL-TNM": "CONNECTED"}


async def test_the_page_invites_sets_rules_and_records_consents() -> None:
    world = await joined((APP, Role.OTHER))
    cookie = await logged_in(world)
    csrf = {"csrf": csrf_of(await page(world, "GET", "/", Cookie=cookie))}
    asked = csrf | {"party_id": "BE-NSP", "role": "NSP", "versions_url": "http://be-nsp.test/versions"}

    invited = await page(world, "POST", "/invite", asked, Cookie=cookie)
    await page(world, "POST", "/parties/NL-APP/app", csrf, Cookie=cookie)
    without = await pushed(world, to=APP)
    given = csrf | {"app": "NL-APP", "module": "*", "until": "2026-12-31"}
    await page(world, "POST", "/parties/NL-TNM/consent", given, Cookie=cookie)
    with_consent = await pushed(world, to=APP)
    rule = csrf | {"counterparty": "*", "module": "tariffs", "direction": "IN", "verdict": "deny"}
    shown = await page(world, "POST", "/parties/NL-APP/rule", rule, Cookie=cookie)
    wrong = await page(world, "POST", "/parties/NL-APP/rule", csrf, Cookie=cookie)

    assert re.search(r"[0-9a-f]{64}", invited.body.decode())
    assert [status_code(each) for each in (without, with_consent, await pushed(world, to=APP))] == [2000, 1000, 4003]
    assert "tariffs" in shown.body.decode()
    assert wrong.status == 422
