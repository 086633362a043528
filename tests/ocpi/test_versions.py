"""Versions and credentials in 2.2.1, 2.3.0 and 2.1.1, from outside: checklist items C1 to C13, and sloppy peers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi import v211, v221, v230
from emobility.protocols.ocpi.peers import PEER, Peer, PeerState, PeerTolerances, roles_of
from emobility.protocols.ocpi.specified import faults
from emobility.protocols.ocpi.status import OCPIError
from emobility.protocols.ocpi.versions import highest_common, read_credentials
from roaming_hub.service import HUB
from tests.hub.world import CPO, HUB_ORIGIN, MSP, Platform, World, bare_world, running, status_code, until

VERSIONS = f"{HUB_ORIGIN}/hub/ocpi/versions"
HERE = PartyId("FR-ABC")
ALL = ["2.1.1", "2.2.1", "2.3.0"]
T = "2026-03-01T12:00:00Z"


class Elsewhere:
    """A platform written by somebody else, in one or several versions; each part can be made wrong."""

    def __init__(
        self,
        world: World,
        *versions: str,
        origin: str = "http://elsewhere.test",
        role: str = "EMSP",
        plain: bool = False,
    ) -> None:
        self.world = world
        self.origin = origin
        self.role = role
        self.versions = versions
        self.plain = plain
        self.presented: list[str] = []
        self.credentials: dict[str, Any] = {}
        self.endpoints: list[tuple[str, str]] = [("credentials", "RECEIVER"), ("tokens", "SENDER")]
        self.roles: list[Any] = [self.one_role()]
        self.heard: list[Any] = []
        paths = [Route("/versions", self._versions)]
        for version in ALL:
            paths.append(Route(f"/{version}", self._details))
            paths.append(Route(f"/{version}/credentials", self._credentials, methods=["POST", "PUT", "DELETE"]))
        world.http.mount(origin, Starlette(routes=paths))

    def one_role(self, **changes: Any) -> Any:
        details = {"business_details": {"name": "Elsewhere"}}
        return details | {"role": self.role, "country_code": "FR", "party_id": "ABC"} | changes

    def own(self, version: str, token: str = "token-b", **more: Any) -> dict[str, Any]:
        base = {"token": token, "url": f"{self.origin}/versions"}
        if version == "2.1.1":
            one = self.roles[0]
            return base | {name: value for name, value in one.items() if name != "role"} | more
        return base | {"roles": self.roles} | more

    async def call(self, method: str, url: str, token: str, body: Any = None) -> HttpResponse:
        shown = token if self.plain else base64.b64encode(token.encode()).decode()
        payload = b"" if body is None else msgspec.json.encode(body)
        return await self.world.http.request(method, url, headers={"Authorization": f"Token {shown}"}, body=payload)

    async def invited(self, **tolerances: Any) -> str:
        role = Role(self.role)
        return await self.world.invite(HERE, role, f"{self.origin}/versions", tolerances=tolerances)

    async def registered(self, version: str, **tolerances: Any) -> dict[str, Any]:
        """Register at the hub in a version; return the hub's credentials."""
        answer = await self.call("POST", credentials(version), await self.invited(**tolerances), self.own(version))
        assert status_code(answer) == 1000, answer
        hub: dict[str, Any] = data_of(answer)
        return hub

    def _token(self, request: Request) -> str:
        shown = request.headers["authorization"][6:]
        return shown if self.plain else base64.b64decode(shown).decode()

    async def _versions(self, request: Request) -> Response:
        self.presented.append(self._token(request))
        return enveloped([{"version": each, "url": f"{self.origin}/{each}"} for each in self.versions])

    async def _details(self, request: Request) -> Response:
        version = request.url.path.strip("/")
        listed = [
            {"identifier": module, "url": f"{self.origin}/{version}/{module}"}
            | ({} if version == "2.1.1" else {"role": role})
            for module, role in self.endpoints
        ]
        return enveloped({"version": version, "endpoints": listed})

    async def _credentials(self, request: Request) -> Response:
        version = request.url.path.split("/")[1]
        self.heard.append((request.method, version, await request.json()))
        answer = self.credentials or self.own(version, token=f"token-c{len(self.heard)}")
        return enveloped(answer)


def enveloped(data: Any) -> Response:
    return JSONResponse({"data": data, "status_code": 1000, "timestamp": T})


def credentials(version: str) -> str:
    return f"{HUB_ORIGIN}/hub/ocpi/{version}/credentials"


def data_of(answer: HttpResponse) -> Any:
    return msgspec.json.decode(answer.body)["data"]


def of_version(version: str) -> dict[str, bool]:
    return {"speaks_2_1_1": True} if version == "2.1.1" else {}


@pytest.fixture
def world() -> World:
    return bare_world()


async def peer_of(world: World, party: PartyId = HERE) -> Peer:
    async with world.hub.ports.units.begin() as unit:
        peer = await unit.table(PEER).get(HUB, party.code)
    assert peer is not None
    return peer


# C1, C2


async def test_c1_the_hub_lists_both_versions_and_2_1_1_to_those_who_may(world: World) -> None:
    there = Elsewhere(world, "2.2.1")

    for tolerances, listed in (({}, ALL[1:]), (of_version("2.1.1"), ALL)):
        token = await there.invited(**tolerances)
        versions = data_of(await there.call("GET", VERSIONS, token))
        assert [each["version"] for each in versions] == listed
        assert all(each["url"] == f"{HUB_ORIGIN}/hub/ocpi/{each['version']}" for each in versions)
    refused = await there.call("GET", f"{HUB_ORIGIN}/hub/ocpi/2.1.1", await there.invited())
    assert refused.status == 404


async def test_c1_a_hosted_party_lists_both_versions(world: World) -> None:
    cpo = await world.join(CPO, Role.CPO)
    peer = await peer_of(world, CPO)
    assert peer.outgoing_token is not None
    token = await world.hub.ports.vault.open(peer.outgoing_token)

    versions = data_of(await Elsewhere(world).call("GET", cpo.versions_url, token))

    assert [each["version"] for each in versions] == ALL[1:]


@pytest.mark.parametrize("version", ALL)
async def test_c2_details_have_one_absolute_url_per_module_and_role(world: World, version: str) -> None:
    there = Elsewhere(world, version, plain=True)
    token = await there.invited(accepts_plain_token=True, **of_version(version))

    details = data_of(await there.call("GET", f"{HUB_ORIGIN}/hub/ocpi/{version}", token))

    assert faults(details, "VersionDetails", version) == []
    listed = [(each["identifier"], each.get("role")) for each in details["endpoints"]]
    assert len(listed) == len(set(listed))
    assert all(each["url"].startswith(f"{HUB_ORIGIN}/hub/ocpi/{version}/") for each in details["endpoints"])
    modules = {name for name, _ in listed}
    assert ("payments" in modules) == (version == "2.3.0")
    assert ("hubclientinfo" in modules) == (version != "2.1.1")


@pytest.mark.parametrize(
    ("role", "sides"),
    [
        ("CPO", {"locations": "receiver", "cdrs": "receiver", "tokens": "sender", "commands": "sender"}),
        ("EMSP", {"locations": "sender", "cdrs": "sender", "tokens": "receiver", "commands": "receiver"}),
    ],
)
async def test_c2_in_2_1_1_a_hub_is_to_each_what_the_other_side_would_be(
    world: World, role: str, sides: Mapping[str, str]
) -> None:
    there = Elsewhere(world, "2.1.1", role=role)
    token = await there.invited(speaks_2_1_1=True)

    details = data_of(await there.call("GET", f"{HUB_ORIGIN}/hub/ocpi/2.1.1", token))

    urls = {each["identifier"]: each["url"] for each in details["endpoints"]}
    assert {module: urls[module].rpartition("/")[2] for module in sides} == sides


# C3 to C11


@pytest.mark.parametrize("version", ALL)
async def test_c3_and_c11_registering_is_checked_with_token_b_and_ends_token_a(world: World, version: str) -> None:
    there = Elsewhere(world, *ALL, plain=version == "2.1.1")
    token_a = await there.invited(accepts_plain_token=there.plain, **of_version(version))

    answer = await there.call("POST", credentials(version), token_a, there.own(version))

    ours = data_of(answer)
    assert faults(ours, "Credentials", version) == []
    assert there.presented == ["token-b"]
    assert ours["token"] not in {token_a, "token-b"}
    assert (await there.call("GET", VERSIONS, token_a)).status == 401
    assert (await there.call("GET", VERSIONS, ours["token"])).status == 200
    peer = await peer_of(world)
    assert (peer.state, peer.version) == (PeerState.REGISTERED, version)


@pytest.mark.parametrize("version", ALL)
async def test_c4_and_c5_versions_that_are_away_are_3001_and_others_3002(world: World, version: str) -> None:
    there = Elsewhere(world, *(each for each in ALL if each != version))
    token_a = await there.invited(sends_plain_token=False, **of_version(version))
    there.plain = False
    if version == "2.1.1":
        there.plain = True
        token_a = await there.invited(accepts_plain_token=True, speaks_2_1_1=True)
    world.http.cut(there.origin)
    away = await there.call("POST", credentials(version), token_a, there.own(version))
    world.http.mend(there.origin)
    others = await there.call("POST", credentials(version), token_a, there.own(version))

    assert (status_code(away), status_code(others)) == (3001, 3002)


@pytest.mark.parametrize("version", ALL[1:])
async def test_c6_endpoints_without_credentials_are_3003(world: World, version: str) -> None:
    there = Elsewhere(world, version)
    there.endpoints = [("tokens", "SENDER")]

    answer = await there.call("POST", credentials(version), await there.invited(), there.own(version))

    assert status_code(answer) == 3003


@pytest.mark.parametrize("version", ALL[1:])
async def test_c7_c8_c10_a_second_post_and_a_put_or_delete_before_or_after_are_405(world: World, version: str) -> None:
    there = Elsewhere(world, version)
    early = [
        await there.call(each, credentials(version), await there.invited(), there.own(version))
        for each in ("PUT", "DELETE")
    ]
    token = (await there.registered(version))["token"]
    second = await there.call("POST", credentials(version), token, there.own(version))
    ended = await there.call("DELETE", credentials(version), token)
    after = await there.call("DELETE", credentials(version), token)

    assert [each.status for each in early] == [405, 405]
    assert (second.status, ended.status, after.status) == (405, 200, 401)


@pytest.mark.parametrize(("start", "end"), [("2.2.1", "2.2.1"), ("2.2.1", "2.3.0"), ("2.3.0", "2.2.1")])
async def test_c9_put_rotates_and_switches_to_the_version_it_is_sent_in(world: World, start: str, end: str) -> None:
    there = Elsewhere(world, "2.2.1", "2.3.0")
    old = (await there.registered(start))["token"]
    there.endpoints.append(("cdrs", "RECEIVER"))

    answer = await there.call("PUT", credentials(end), old, there.own(end, token="token-b2"))

    assert there.presented[-1] == "token-b2"
    assert (await there.call("GET", VERSIONS, old)).status == 401
    assert (await there.call("GET", VERSIONS, data_of(answer)["token"])).status == 200
    peer = await peer_of(world)
    assert peer.version == end
    assert {each.url for each in peer.endpoints if each.module == "cdrs"} == {f"{there.origin}/{end}/cdrs"}


@pytest.mark.parametrize("version", ALL[1:])
async def test_c12_a_role_that_another_platform_holds_is_refused(world: World, version: str) -> None:
    await Elsewhere(world, version).registered(version)
    thief = Elsewhere(world, version, origin="http://thief.test")
    async with world.hub.ports.units.begin() as unit:
        token_a = await world.hub.host.registrar.invite(
            unit, own_party=HUB, peer_id="thief", versions_url=f"{thief.origin}/versions"
        )
        await unit.commit()

    answer = await thief.call("POST", credentials(version), token_a, thief.own(version))

    assert (answer.status, status_code(answer)) == (200, 2000)


# C13


async def test_c13_the_hub_says_who_it_is_and_in_2_3_0_whom_it_reaches(world: World) -> None:
    await world.join(CPO, Role.CPO)
    there = Elsewhere(world, "2.2.1", "2.3.0")
    older = await there.registered("2.2.1")
    newer = data_of(await there.call("PUT", credentials("2.3.0"), older["token"], there.own("2.3.0")))

    assert [(each["role"], each["party_id"]) for each in older["roles"]] == [("HUB", "HUB")]
    assert "hub_party_id" not in older
    assert newer["hub_party_id"] == "NLHUB"
    told = {(each["role"], each["country_code"], each["party_id"]) for each in newer["roles"]}
    assert told == {("OTHER", "NL", "HUB"), ("CPO", "NL", "TNM")}


async def test_c13_a_join_and_a_leave_are_put_to_platforms_of_2_3_0_and_tokens_change_with_them(world: World) -> None:
    there = Elsewhere(world, "2.3.0")
    token = (await there.registered("2.3.0"))["token"]
    told: list[set[str]] = []
    async with running(world.hub):

        async def is_told() -> bool:
            return await world.hub.announcing.pending() == 0 and len(there.heard) > len(told)

        cpo = await world.join(CPO, Role.CPO)
        await until(is_told, what="the join is told")
        told.append(parties(there.heard[-1]))
        await cpo.call("DELETE", "credentials")
        await until(is_told, what="the leave is told")
        told.append(parties(there.heard[-1]))

    assert told == [{"NL-HUB", "NL-TNM"}, {"NL-HUB"}]
    assert {(method, version) for method, version, _ in there.heard} == {("PUT", "2.3.0")}
    assert (await there.call("GET", VERSIONS, token)).status == 401
    newest = there.heard[-1][2]["token"]
    assert (await there.call("GET", VERSIONS, newest)).status == 200


def parties(put: Any) -> set[str]:
    return {f"{each['country_code']}-{each['party_id']}" for each in put[2]["roles"]}


async def test_c13_a_put_that_was_not_taken_is_sent_again_after_a_restart(world: World) -> None:
    there = Elsewhere(world, "2.3.0")
    await there.registered("2.3.0")
    await world.join(CPO, Role.CPO)
    world.http.cut(there.origin)
    async with running(world.hub):
        pass
    world.http.mend(there.origin)

    assert await world.hub.announcing.pending() == 1
    async with running(world.hub):
        await until(lambda: bool(there.heard), what="the join is told")
    assert parties(there.heard[-1]) == {"NL-HUB", "NL-TNM"}


async def test_c13_a_platform_of_2_3_0_that_changes_nothing_makes_nobody_hear_of_it(world: World) -> None:
    there = Elsewhere(world, "2.3.0")
    token = (await there.registered("2.3.0"))["token"]
    other = Elsewhere(world, "2.3.0", origin="http://other.test", role="CPO")
    other.roles = [other.one_role(party_id="XYZ")]
    async with world.hub.ports.units.begin() as unit:
        invitation = await world.hub.host.registrar.invite(
            unit, own_party=HUB, peer_id="other", versions_url=f"{other.origin}/versions"
        )
        await unit.commit()
    assert status_code(await other.call("POST", credentials("2.3.0"), invitation, other.own("2.3.0"))) == 1000
    async with running(world.hub):
        await until(lambda: bool(there.heard), what="the join is told")
        await there.call("PUT", credentials("2.3.0"), there.heard[-1][2]["token"], there.own("2.3.0"))

    assert await world.hub.announcing.pending() == 0
    assert (len(there.heard), other.heard) == (1, [])
    assert token


# As the one who calls


@pytest.mark.parametrize(
    ("theirs", "pinned", "chosen"),
    [
        (("2.2.1", "2.3.0"), None, "2.3.0"),
        (("2.1.1", "2.2.1"), None, "2.2.1"),
        (("2.2.1", "2.3.0"), "2.2.1", "2.2.1"),
        (("2.1.1",), None, None),
        (("2.3.0",), "2.2.1", None),
    ],
)
async def test_the_highest_common_version_is_chosen_unless_one_is_named(
    world: World, theirs: tuple[str, ...], pinned: str | None, chosen: str | None
) -> None:
    platform, there = await hosted(world), Elsewhere(world, *theirs)

    if chosen is None:
        with pytest.raises(OCPIError) as refusal:
            await at(platform, there, version=pinned)
        assert refusal.value.status_code == 3002
        assert there.heard == []
        return
    peer = await at(platform, there, version=pinned)

    assert (peer.version, there.heard[0][1]) == (chosen, chosen)
    assert faults(there.heard[0][2], "Credentials", chosen) == []


async def hosted(world: World) -> Platform:
    platform = world.platform(CPO, Role.CPO)
    async with platform.host.ports.units.begin() as unit:
        await platform.host.add_party(unit, CPO, role=Role.CPO, business_name="TNM")
        await unit.commit()
    return platform


async def at(platform: Platform, there: Elsewhere, **more: Any) -> Peer:
    return await platform.host.register(
        CPO,
        versions_url=f"{there.origin}/versions",
        token_a="token-a",
        peer_id="elsewhere",
        expected_party=HERE,
        expected_role=Role.EMSP,
        **more,
    )


async def test_a_party_registers_at_a_platform_of_2_1_1_with_a_plain_token(world: World) -> None:
    platform, there = await hosted(world), Elsewhere(world, "2.1.1", plain=True)

    peer = await at(platform, there, tolerances=PeerTolerances(speaks_2_1_1=True, sends_plain_token=True))

    assert there.presented == ["token-a"]
    assert peer.version == "2.1.1"
    sent = there.heard[0][2]
    assert (sent["party_id"], sent["business_details"]) == ("TNM", {"name": "TNM"})
    assert {(each.module, each.role) for each in peer.endpoints} == {
        ("credentials", v221.InterfaceRole.SENDER),
        ("tokens", v221.InterfaceRole.SENDER),
    }
    async with platform.host.ports.units.begin() as unit:
        assert [(each.party_id, each.role) for each in await roles_of(unit, peer)] == [(HERE, Role.EMSP)]


async def test_a_hub_of_2_3_0_is_known_by_hub_party_id_and_speaks_for_all(world: World) -> None:
    platform, there = await hosted(world), Elsewhere(world, "2.3.0")
    there.credentials = there.own("2.3.0", token="token-c", hub_party_id="frhub", roles=[there.one_role(role="CPO")])

    await platform.host.register(CPO, versions_url=f"{there.origin}/versions", token_a="token-a")

    async with platform.host.ports.units.begin() as unit:
        [peer] = await unit.table(PEER).select()
        roles = [(each.party_id, each.role) for each in await roles_of(unit, peer)]
    assert roles == [(PartyId("FR-HUB"), Role.HUB)]


def test_credentials_of_each_version_are_read_for_what_they_are() -> None:
    one = {"role": "HUB", "party_id": "ABC", "country_code": "FR", "business_details": {"name": "x"}}
    base = {"token": "t", "url": "http://a.test/versions"}

    with pytest.raises(OCPIError, match="hub_party_id"):
        read_credentials(msgspec.json.encode(base | {"roles": [one]}), v230.VERSION, role=None)
    with pytest.raises(OCPIError, match="role"):
        read_credentials(msgspec.json.encode(base | one), v211.VERSION, role=None)
    old = read_credentials(msgspec.json.encode(base | one), v211.VERSION, role=Role.CPO)
    assert [(each.owner, each.role) for each in old.roles] == [(HERE, Role.CPO)]


def test_the_newest_version_of_both_wins() -> None:
    assert highest_common(["2.2.1", "2.3.0"], ["2.3.0", "2.2.1", "9.9"]) == "2.3.0"
    assert highest_common(["2.2.1"], ["2.3.0"]) is None


# Sloppy peers: each tolerance is a setting, and refused without it


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_second_post_is_taken_as_a_put_from_those_known_for_it(world: World, *, is_known: bool) -> None:
    there = Elsewhere(world, "2.2.1")
    token = (await there.registered("2.2.1", posts_again=is_known))["token"]

    again = await there.call("POST", credentials("2.2.1"), token, there.own("2.2.1"))

    assert again.status == (200 if is_known else 405)
    assert (await there.call("GET", VERSIONS, token)).status == (401 if is_known else 200)


@pytest.mark.parametrize("is_known", [True, False])
async def test_requests_without_routing_headers_come_from_the_only_party(world: World, *, is_known: bool) -> None:
    await world.join(CPO, Role.CPO)
    msp = await world.join(MSP, Role.EMSP, lacks_routing_headers=is_known)
    to = {"OCPI-to-country-code": "NL", "OCPI-to-party-id": "TNM"}

    answer = await msp.call("GET", "tariffs/sender", headers=to)

    assert status_code(answer) == (1000 if is_known else 2001)
    if is_known:
        heard = world.platforms[CPO].heard[-1]
        assert (heard.headers["ocpi-from-country-code"], heard.headers["ocpi-from-party-id"]) == ("DE", "MSP")


async def test_a_receiver_that_never_decodes_gets_the_hubs_token_as_it_is(world: World) -> None:
    cpo = await world.join(CPO, Role.CPO)
    await world.join(MSP, Role.EMSP)
    answer = await world.admin("PUT", f"/admin/parties/{CPO}/tolerances", {"sends_plain_token": True})

    await world.platforms[MSP].call("GET", "tariffs/sender", to=CPO)

    assert answer.status == 200
    token = cpo.heard[-1].headers["authorization"].removeprefix("Token ")
    assert len(token) == 64
    assert set(token) <= set("0123456789abcdef")


async def test_tolerances_are_shown_and_set_by_the_hubs_operator_alone(world: World) -> None:
    await world.join(CPO, Role.CPO)

    unknown = await world.admin("PUT", "/admin/parties/NL-XXX/tolerances", {})
    wrong = await world.admin("PUT", f"/admin/parties/{CPO}/tolerances", {"posts_again": "perhaps"})
    stranger = await world.http.request(
        "PUT", f"{HUB_ORIGIN}/hub/admin/parties/{CPO}/tolerances", headers={}, body=b"{}"
    )
    await world.admin("PUT", f"/admin/parties/{CPO}/tolerances", {"posts_again": True})
    shown = data_of_admin(await world.admin("GET", f"/admin/parties/{CPO}/tolerances"))

    assert (unknown.status, wrong.status, stranger.status) == (404, 422, 401)
    assert shown == {
        "version": "2.2.1",
        "accepts_plain_token": False,
        "sends_plain_token": False,
        "lacks_routing_headers": False,
        "posts_again": True,
        "speaks_2_1_1": False,
        "appends_to_endpoints": False,
        "lists_single_objects": False,
    }


def data_of_admin(answer: HttpResponse) -> Any:
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body)


async def test_party_ids_in_lower_case_slashes_and_missing_ids_are_survived(world: World) -> None:
    there = Elsewhere(world, "2.2.1")
    there.roles = [there.one_role(country_code="fr", party_id="abc")]
    token_a = await there.invited()

    answer = await there.call("POST", f"{credentials('2.2.1')}/", token_a, there.own("2.2.1"))

    assert status_code(answer) == 1000
    token = data_of(answer)["token"]
    assert (await there.call("GET", f"{VERSIONS}/", token)).status == 200
    assert (await peer_of(world)).state is PeerState.REGISTERED
