"""Transport, versions and the credentials handshake, seen from outside at the hub (checklist items T and C)."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from emobility.adapters.http_egress import GuardedHttpClient
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi.headers import authorization
from emobility.protocols.ocpi.peers import INCOMING_TOKEN, PEER, PeerState, roles_of
from emobility.protocols.ocpi.registration import RegistrationRefused
from emobility.protocols.ocpi.status import OCPIError
from emobility.protocols.ocpi.v221 import Credentials, VersionDetails, read, write
from roaming_hub.service import HUB
from tests.hub.world import CPO, HUB_ORIGIN, MSP, START, Platform, World, bare_world, running, status_code, until

VERSIONS = f"{HUB_ORIGIN}/hub/ocpi/versions"
CREDENTIALS = f"{HUB_ORIGIN}/hub/ocpi/2.2.1/credentials"
STRANGER = PartyId("FR-ABC")


class Stranger:
    """A platform written by somebody else: plain routes, no kit; each part can be made wrong."""

    def __init__(self, world: World, origin: str = "http://stranger.test") -> None:
        self.world = world
        self.origin = origin
        self.versions: Any = [
            {"version": "2.1.1", "url": f"{origin}/2.1.1"},
            {"version": "2.2.1", "url": f"{origin}/v"},
        ]
        self.endpoints: Any = [{"identifier": "credentials", "role": "SENDER", "url": f"{origin}/c"}]
        self.presented: list[str] = []
        self.roles: Any = self.credentials()["roles"]
        routes = [
            Route("/versions", self._versions),
            Route("/v", self._details),
            Route("/c", self._credentials, methods=["POST", "PUT"]),
        ]
        world.http.mount(origin, Starlette(routes=routes))

    async def _versions(self, request: Request) -> Response:
        self.presented.append(base64.b64decode(request.headers["authorization"][6:]).decode())
        return JSONResponse({"data": self.versions, "status_code": 1000, "timestamp": "2026-03-01T12:00:00Z"})

    async def _details(self, _: Request) -> Response:
        details = {"version": "2.2.1", "endpoints": self.endpoints}
        return JSONResponse({"data": details, "status_code": 1000, "timestamp": "2026-03-01T12:00:00Z"})

    async def _credentials(self, _: Request) -> Response:
        answer = self.credentials(token="token-c", roles=self.roles)
        return JSONResponse({"data": answer, "status_code": 1000, "timestamp": "2026-03-01T12:00:00Z"})

    async def call(self, method: str, url: str, token: str, body: Any = None) -> HttpResponse:
        headers = {"Authorization": authorization(token), "X-Request-ID": "r", "X-Correlation-ID": "c"}
        return await self.world.http.request(method, url, headers=headers, body=b"" if body is None else write(body))

    def credentials(self, token: str = "token-b", party: str = "ABC", role: str = "EMSP", **more: Any) -> Any:
        one = {"role": role, "party_id": party, "country_code": "FR", "business_details": {"name": "Stranger"}}
        return {"token": token, "url": f"{self.origin}/versions", "roles": [one]} | more

    async def invited(self) -> str:
        return await self.world.invite(STRANGER, Role.EMSP, f"{self.origin}/versions")

    async def registered(self) -> str:
        answer = await self.call("POST", CREDENTIALS, await self.invited(), self.credentials())
        assert status_code(answer) == 1000, answer
        return read(data_of(answer), Credentials).token


def data_of(answer: HttpResponse) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(answer.body)["data"])


@pytest.fixture
def world() -> World:
    return bare_world()


@pytest.fixture
def stranger(world: World) -> Stranger:
    return Stranger(world)


# Transport


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Token dW5rbm93bg=="},
        {"Authorization": "Bearer dW5rbm93bg=="},
        {"Authorization": "Token "},
        {"Authorization": "Token not*base64"},
        {"Authorization": "Token " + "A" * 10_000},
    ],
)
@pytest.mark.parametrize("url", [VERSIONS, CREDENTIALS, f"{HUB_ORIGIN}/hub/ocpi/2.2.1/tokens/sender"])
async def test_without_a_known_token_every_url_is_401_in_an_envelope(
    world: World, headers: dict[str, str], url: str
) -> None:
    answer = await world.http.request("GET", url, headers=headers | {"X-Request-ID": "r-1", "X-Correlation-ID": "c-1"})

    assert answer.status == 401
    envelope = msgspec.json.decode(answer.body)
    assert envelope["status_code"] >= 2000
    assert envelope["timestamp"] == START.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (answer.headers["x-request-id"], answer.headers["x-correlation-id"]) == ("r-1", "c-1")


async def test_a_token_without_base64_is_401_unless_the_peer_is_known_for_it(stranger: Stranger) -> None:
    strict = await stranger.invited()
    plain = {"Authorization": f"Token {strict}"}

    refused = await stranger.world.http.request("GET", VERSIONS, headers=plain)
    known = {"accepts_plain_token": True}
    sloppy = await stranger.world.invite(STRANGER, Role.EMSP, f"{stranger.origin}/versions", tolerances=known)
    taken = await stranger.world.http.request("GET", VERSIONS, headers={"Authorization": f"Token {sloppy}"})

    assert refused.status == 401
    assert taken.status == 200


async def test_token_a_opens_versions_and_nothing_else(stranger: Stranger) -> None:
    token_a = await stranger.invited()

    versions = await stranger.call("GET", VERSIONS, token_a)
    module = await stranger.call("GET", f"{HUB_ORIGIN}/hub/ocpi/2.2.1/hubclientinfo/sender", token_a)
    routed = await stranger.call("GET", f"{HUB_ORIGIN}/hub/ocpi/2.2.1/tokens/sender", token_a)

    assert versions.status == 200
    assert (module.status, routed.status) == (401, 401)


async def test_ids_that_could_break_a_log_line_are_replaced(stranger: Stranger) -> None:
    token = await stranger.registered()
    headers = {"Authorization": authorization(token), "X-Request-ID": "x" * 500, "X-Correlation-ID": "a b"}

    answer = await stranger.world.http.request("GET", VERSIONS, headers=headers)

    assert len(answer.headers["x-request-id"]) == 36
    assert answer.headers["x-correlation-id"] == answer.headers["x-request-id"]


async def test_an_unknown_path_is_404_and_a_wrong_method_405_each_in_an_envelope(stranger: Stranger) -> None:
    token = await stranger.registered()

    missing = await stranger.call("GET", f"{HUB_ORIGIN}/hub/ocpi/9.9/nothing", token)
    method = await stranger.call("PUT", VERSIONS, token, {})

    assert (missing.status, status_code(missing)) == (404, 2000)
    assert (method.status, status_code(method)) == (405, 2000)
    assert missing.headers["x-request-id"] == "r"


async def test_a_body_beyond_the_limit_is_413(stranger: Stranger) -> None:
    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), {"x": "y" * 1_000_001})

    assert answer.status == 413


async def test_a_failure_inside_shows_nothing_of_the_inside(stranger: Stranger, monkeypatch: Any) -> None:
    token = await stranger.registered()

    async def broken(*_: Any) -> Any:
        raise KeyError("secret detail")

    monkeypatch.setattr(stranger.world.hub.host, "_identity", broken)

    answer = await stranger.call("GET", CREDENTIALS, token)

    assert (answer.status, status_code(answer)) == (500, 3000)
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body


# Versions


async def test_the_version_lists_one_absolute_url_per_module_and_role(stranger: Stranger) -> None:
    token = await stranger.registered()
    versions = msgspec.json.decode((await stranger.call("GET", VERSIONS, token)).body)["data"]

    details = read(data_of(await stranger.call("GET", versions[0]["url"], token)), VersionDetails)

    assert [each["version"] for each in versions] == ["2.2.1", "2.3.0"]
    listed = [(each.identifier, each.role) for each in details.endpoints]
    assert len(listed) == len(set(listed))
    assert {"credentials", "locations", "tariffs", "tokens", "sessions", "cdrs", "commands", "hubclientinfo"} <= {
        name for name, _ in listed
    }
    assert all(each.url.startswith(f"{HUB_ORIGIN}/hub/ocpi/2.2.1/") for each in details.endpoints)


# The handshake


async def test_the_hub_fetches_versions_with_token_b_before_it_answers_with_token_c(stranger: Stranger) -> None:
    token_a = await stranger.invited()

    answer = await stranger.call("POST", CREDENTIALS, token_a, stranger.credentials(token="token-b"))

    ours = read(data_of(answer), Credentials)
    assert stranger.presented == ["token-b"]
    assert ours.token not in {token_a, "token-b"}
    assert ours.url == VERSIONS
    assert [(role.owner, role.role) for role in ours.roles] == [(HUB, Role.HUB)]
    assert (await stranger.call("GET", VERSIONS, ours.token)).status == 200


async def test_token_a_is_dead_after_use(stranger: Stranger) -> None:
    token_a = await stranger.invited()
    await stranger.call("POST", CREDENTIALS, token_a, stranger.credentials())

    assert (await stranger.call("GET", VERSIONS, token_a)).status == 401


async def test_a_second_post_is_405(stranger: Stranger) -> None:
    token = await stranger.registered()

    answer = await stranger.call("POST", CREDENTIALS, token, stranger.credentials())

    assert answer.status == 405


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_put_and_delete_before_a_registration_are_405(stranger: Stranger, method: str) -> None:
    body = stranger.credentials() if method == "PUT" else None

    answer = await stranger.call(method, CREDENTIALS, await stranger.invited(), body)

    assert answer.status == 405


async def test_put_rotates_and_the_old_token_is_401_at_once(stranger: Stranger) -> None:
    old = await stranger.registered()

    answer = await stranger.call("PUT", CREDENTIALS, old, stranger.credentials(token="token-b2"))
    new = read(data_of(answer), Credentials).token

    assert stranger.presented == ["token-b", "token-b2"]
    assert (await stranger.call("GET", VERSIONS, old)).status == 401
    assert (await stranger.call("GET", VERSIONS, new)).status == 200


async def test_delete_ends_the_registration(stranger: Stranger) -> None:
    token = await stranger.registered()

    answer = await stranger.call("DELETE", CREDENTIALS, token)

    assert answer.status == 200
    assert (await stranger.call("GET", VERSIONS, token)).status == 401


async def test_versions_that_can_not_be_fetched_are_3001(stranger: Stranger) -> None:
    token_a = await stranger.invited()
    stranger.world.http.cut(stranger.origin)

    answer = await stranger.call("POST", CREDENTIALS, token_a, stranger.credentials())
    stranger.world.http.mend(stranger.origin)
    again = await stranger.call("POST", CREDENTIALS, token_a, stranger.credentials())

    assert (answer.status, status_code(answer)) == (200, 3001)
    assert status_code(again) == 1000


@pytest.mark.parametrize("versions", [[], [{"version": "2.1.1", "url": "http://stranger.test/2.1.1"}]])
async def test_no_common_version_is_3002(stranger: Stranger, versions: Any) -> None:
    stranger.versions = versions

    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), stranger.credentials())

    assert status_code(answer) == 3002


async def test_endpoints_without_credentials_are_3003(stranger: Stranger) -> None:
    stranger.endpoints = []

    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), stranger.credentials())

    assert status_code(answer) == 3003


@pytest.mark.parametrize("versions", ["no list", [{"version": "2.2.1"}], [{"version": 2, "url": 3}]])
async def test_versions_that_are_none_are_3001(stranger: Stranger, versions: Any) -> None:
    stranger.versions = versions

    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), stranger.credentials())

    assert status_code(answer) == 3001


ELSEWHERE = [
    "http://127.0.0.1:5432/versions",
    "http://169.254.169.254/latest",
    "http://stranger.test@evil.test/versions",
    "http://stranger.test.evil.test/versions",
    "https://stranger.test/versions",
    "http://stranger.test:8080/versions",
    "http://[::ffff:127.0.0.1]/versions",
    "http://0x7f000001/versions",
]


@pytest.mark.parametrize("url", ELSEWHERE)
async def test_credentials_that_lead_elsewhere_are_3001_and_nothing_is_called(stranger: Stranger, url: str) -> None:
    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), stranger.credentials() | {"url": url})

    assert status_code(answer) == 3001
    assert stranger.presented == []


async def test_credentials_that_lead_to_another_party_are_3001_and_that_party_is_not_called(world: World) -> None:
    stranger, victim = Stranger(world), Stranger(world, origin="http://victim.test")

    claim = stranger.credentials() | {"url": f"{victim.origin}/versions"}
    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), claim)

    assert status_code(answer) == 3001
    assert victim.presented == []


@pytest.mark.parametrize("url", ELSEWHERE)
async def test_endpoints_that_lead_elsewhere_are_3001(stranger: Stranger, url: str) -> None:
    stranger.endpoints = [*stranger.endpoints, {"identifier": "tokens", "role": "SENDER", "url": url}]

    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), stranger.credentials())

    assert status_code(answer) == 3001


@pytest.mark.parametrize("url", ["ftp://stranger.test/", "javascript:alert(1)", "", "http://", "stranger.test", 7])
async def test_credentials_whose_url_is_none_are_2001(stranger: Stranger, url: Any) -> None:
    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), stranger.credentials() | {"url": url})

    assert status_code(answer) in {2001, 3001}
    assert stranger.presented == []


@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"token": "x" * 65},
        {"token": "with space"},
        {"roles": []},
        {"roles": [{"role": "KING", "party_id": "ABC", "country_code": "FR", "business_details": {"name": "x"}}]},
        {"roles": [{"role": "EMSP", "party_id": "ABCD", "country_code": "FR", "business_details": {"name": "x"}}]},
        {"roles": None},
    ],
)
async def test_malformed_credentials_are_2001(stranger: Stranger, change: dict[str, Any]) -> None:
    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), stranger.credentials() | change)

    assert (answer.status, status_code(answer)) == (200, 2001)


async def test_a_token_issued_to_one_party_registers_no_other(stranger: Stranger) -> None:
    answer = await stranger.call("POST", CREDENTIALS, await stranger.invited(), stranger.credentials(party="XYZ"))

    assert status_code(answer) == 2001


@pytest.mark.parametrize("role", ["HUB", "CPO"])
async def test_a_token_issued_for_one_role_registers_no_other(stranger: Stranger, role: str) -> None:
    claim = stranger.credentials(role=role)
    both = claim | {"roles": [*stranger.credentials()["roles"], *claim["roles"]]}
    token_a = await stranger.invited()

    assert status_code(await stranger.call("POST", CREDENTIALS, token_a, claim)) == 2001
    assert status_code(await stranger.call("POST", CREDENTIALS, token_a, both)) == 2001


async def test_a_registered_party_takes_no_other_role_with_new_credentials(stranger: Stranger) -> None:
    token = await stranger.registered()

    answer = await stranger.call("PUT", CREDENTIALS, token, stranger.credentials(role="HUB"))

    assert status_code(answer) == 2001


async def test_a_role_that_another_platform_holds_is_refused(world: World) -> None:
    await Stranger(world).registered()
    impostor = Stranger(world, origin="http://impostor.test")
    async with world.hub.ports.units.begin() as unit:
        token_a = await world.hub.host.registrar.invite(
            unit, own_party=HUB, peer_id="impostor", versions_url="http://impostor.test/versions"
        )
        await unit.commit()

    answer = await impostor.call("POST", CREDENTIALS, token_a, impostor.credentials())

    assert (answer.status, status_code(answer)) == (200, 2000)
    assert (await impostor.call("POST", CREDENTIALS, token_a, impostor.credentials(party="XYZ"))).status == 200


async def test_nobody_registers_as_the_hub_itself(world: World) -> None:
    impostor = Stranger(world)
    async with world.hub.ports.units.begin() as unit:
        token_a = await world.hub.host.registrar.invite(
            unit, own_party=HUB, peer_id="impostor", versions_url=f"{impostor.origin}/versions"
        )
        await unit.commit()
    claim = impostor.credentials(party="HUB", role="HUB")
    claim["roles"][0]["country_code"] = "NL"

    assert status_code(await impostor.call("POST", CREDENTIALS, token_a, claim)) == 2000


async def test_a_registered_party_is_not_invited_again(stranger: Stranger) -> None:
    await stranger.registered()

    answer = await stranger.world.admin(
        "POST",
        "/admin/registrations",
        {"party_id": STRANGER.code, "role": "EMSP", "versions_url": f"{stranger.origin}/versions"},
    )

    assert answer.status == 409


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://user:pw@a.test/", "nonsense", "http://a.test:99999/"])
async def test_an_invitation_needs_a_plain_origin(world: World, url: str) -> None:
    answer = await world.admin(
        "POST", "/admin/registrations", {"party_id": "FR-ABC", "role": "EMSP", "versions_url": url}
    )

    assert answer.status == 422


async def test_the_operators_side_needs_the_internal_token(world: World) -> None:
    for path in ("/admin/parties", "/admin/forwards", "/internal/backlog"):
        answer = await world.http.request("GET", f"{HUB_ORIGIN}/hub{path}", headers={"Authorization": "Bearer x"})
        assert answer.status == 401


# What is stored, and our side of the handshake


async def test_incoming_tokens_are_stored_as_hashes_and_outgoing_ones_sealed(world: World) -> None:
    platform = await world.join(CPO, Role.CPO)

    async with world.hub.ports.units.begin() as unit:
        stored = repr(await unit.table(INCOMING_TOKEN).select()) + repr(await unit.table(PEER).select())
    async with platform.host.ports.units.begin() as unit:
        stored += repr(await unit.table(INCOMING_TOKEN).select()) + repr(await unit.table(PEER).select())
        [peer] = await unit.table(PEER).select()

    assert await platform.token() not in stored
    assert peer.outgoing_token is not None


async def test_a_hosted_party_rotates_and_goes_on(world: World) -> None:
    platform = await world.join(CPO, Role.CPO)
    await world.join(MSP, Role.EMSP)
    before = await platform.token()
    async with platform.host.ports.units.begin() as unit:
        [peer] = await unit.table(PEER).select()

    await platform.host.rotate(peer)

    assert await platform.token() != before
    assert (await platform.call("PUT", "tariffs/receiver/NL/TNM/1", to=MSP, body=b"{}")).status == 200
    back = await world.platforms[MSP].call("GET", "tariffs/sender", to=CPO)
    assert status_code(back) == 1000
    async with platform.host.ports.units.begin() as unit:
        assert len(await unit.table(INCOMING_TOKEN).select()) == 1


async def test_a_hosted_party_does_not_register_twice(world: World) -> None:
    platform = await world.join(CPO, Role.CPO)

    with pytest.raises(RegistrationRefused):
        await platform.host.register(CPO, versions_url=VERSIONS, token_a=await platform.token())


async def register_at(stranger: Stranger, platform: Platform, **expected: Any) -> HttpResponse:
    """As the operator of a hosted party that connects to a partner without a hub."""
    asked = {"versions_url": f"{stranger.origin}/versions", "token_a": "token-a", "peer_id": "stranger"} | expected
    url = f"{platform.origin}/platform/{platform.party}/ocpi-register"
    return await stranger.world.http.request("POST", url, headers={}, body=write(asked))


async def known_of(platform: Platform) -> tuple[PeerState, list[str]]:
    async with platform.host.ports.units.begin() as unit:
        peer = await unit.table(PEER).get(platform.party, "stranger")
        assert peer is not None
        return peer.state, [f"{each.role} {each.party_id}" for each in await roles_of(unit, peer)]


OTHER_ROLES = [("ABC", "HUB"), ("ABC", "CPO"), ("XYZ", "EMSP")]


@pytest.mark.parametrize(("party", "role"), OTHER_ROLES)
async def test_a_partner_that_answers_as_another_party_or_role_too_is_not_registered(
    stranger: Stranger, party: str, role: str
) -> None:
    platform = await stranger.world.join(CPO, Role.CPO)
    stranger.roles += stranger.credentials(party=party, role=role)["roles"]

    answer = await register_at(stranger, platform, expected_party=STRANGER.code, expected_role="EMSP")

    assert answer.status == 502
    assert await known_of(platform) == (PeerState.REGISTERING, [])


@pytest.mark.parametrize(("party", "role"), OTHER_ROLES)
async def test_a_registered_partner_takes_no_other_role_when_tokens_are_renewed(
    stranger: Stranger, party: str, role: str
) -> None:
    platform = await stranger.world.join(CPO, Role.CPO)
    answer = await register_at(stranger, platform, expected_party=STRANGER.code, expected_role="EMSP")
    stranger.roles += stranger.credentials(party=party, role=role)["roles"]
    async with platform.host.ports.units.begin() as unit:
        peer = await unit.table(PEER).get(CPO, "stranger")
    assert peer is not None

    with pytest.raises(OCPIError, match="expected"):
        await platform.host.rotate(peer)

    assert answer.status == 200
    assert await known_of(platform) == (PeerState.REGISTERED, [f"EMSP {STRANGER}"])


async def test_a_partner_is_no_hub_unless_it_is_registered_as_one(stranger: Stranger) -> None:
    platform = await stranger.world.join(CPO, Role.CPO)

    unnamed = await register_at(stranger, platform, expected_role="EMSP")
    as_hub = await register_at(stranger, platform)

    assert (unnamed.status, as_hub.status) == (422, 502)
    assert await known_of(platform) == (PeerState.REGISTERING, [])


async def test_the_mounts_do_not_mix_parties(world: World) -> None:
    platform = await world.join(CPO, Role.CPO)
    async with platform.host.ports.units.begin() as unit:
        await platform.host.add_party(unit, PartyId("NL-ZZZ"), role=Role.CPO, business_name="Other")
        await unit.commit()
    async with world.hub.ports.units.begin() as unit:
        peer = await unit.table(PEER).get(HUB, CPO.code)
    assert peer is not None
    assert peer.outgoing_token is not None
    token = await world.hub.ports.vault.open(peer.outgoing_token)

    own = await world.http.request("GET", platform.versions_url, headers={"Authorization": authorization(token)})
    other = await world.http.request(
        "GET", f"{platform.host.ocpi_url(PartyId('NL-ZZZ'))}/versions", headers={"Authorization": authorization(token)}
    )

    assert (own.status, other.status) == (200, 401)


async def test_a_platform_that_may_not_be_called_any_more_holds_up_no_other(
    world: World, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stranger.invited()
    platform = await world.join(CPO, Role.CPO)
    guard = GuardedHttpClient(configured_origins=[platform.origin])
    monkeypatch.setattr(world.http, "allow_origin", guard.allow_origin)  # calls nobody, so nothing is to be closed

    with capture_logs() as logs:
        async with running(world.hub):
            await world.invite(PartyId("FR-NEW"), Role.EMSP, "https://new.example/versions")
            await until(lambda: bool(platform.heard), what="the others hear of a newcomer")

    assert [(each["event"], each["peer"]) for each in logs if "peer" in each] == [("peer_not_called", STRANGER.code)]
