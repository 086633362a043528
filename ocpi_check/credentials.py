"""C: versions, credentials, registration."""

from __future__ import annotations

from typing import Any, Final

from ocpi_check.mock import MockParty, credentials_url
from ocpi_check.run import COUNTERPARTS, Run
from ocpi_check.table import CLIENT_ERRORS, HUB, SUCCESS, NotApplicable, check, expect, hold
from ocpi_check.wire import Answer, token_header

DOC: Final = "credentials.asciidoc#credentials_"
VERSIONS_DOC: Final = "version_information_endpoint.asciidoc#version_information_endpoint_"


async def _stranger(run: Run, **settings: Any) -> MockParty:
    role = "EMSP" if run.target.role == "HUB" else COUNTERPARTS[run.target.role]
    return await run.stranger(role, **settings)


async def _post(run: Run, stranger: MockParty, **changes: Any) -> Answer:
    """Post credentials with TOKEN_A whatever comes of it."""
    version = run.target.version
    url = credentials_url(await stranger.look_up(run.target.versions_url, stranger.token_a or "", version))
    hold(url, expected="a credentials endpoint", got="none in the version details", sent="GET version details")
    return await stranger.exchange("POST", str(url), stranger.token_a or "", stranger.credentials(version, **changes))


async def _joined(run: Run) -> tuple[MockParty, str]:
    """Return a registered party and the credentials URL: a stranger, or without another TOKEN_A the one there is."""
    try:
        stranger = await _stranger(run)
        await run.join(stranger)
    except NotApplicable:
        stranger = await run.counterpart()
    assert stranger.connection is not None, "it joined"
    return stranger, str(credentials_url(stranger.connection.endpoints))


@check("C1", f"{VERSIONS_DOC}version_information_endpoint")
async def versions(run: Run) -> None:
    """The versions list the one that is checked, each with an absolute URL; a hub's both 2.2.1 and 2.3.0."""
    asking = await run.counterpart()
    answer = await run.ask(asking, "GET", run.target.versions_url)
    expect(answer, http=200, code=SUCCESS)
    listed = {each["version"]: each["url"] for each in answer.data}
    wanted = {"2.2.1", "2.3.0"} if run.target.role == "HUB" else {run.target.version}
    hold(wanted <= set(listed), expected=f"{', '.join(sorted(wanted))}", got=f"{sorted(listed)}", sent=answer.sent)
    are_absolute = all(str(url).startswith("http") for url in listed.values())
    hold(are_absolute, expected="absolute URLs", got=str(listed), sent=answer.sent)


@check("C2", f"{VERSIONS_DOC}version_details_endpoint")
async def details(run: Run) -> None:
    """The version details list one absolute URL per module and role."""
    asking = await run.counterpart()
    answer = await run.ask(asking, "GET", run.target.versions_url)
    url = next(each["url"] for each in answer.data if each["version"] == run.target.version)
    answer = await run.ask(asking, "GET", url)
    expect(answer, http=200, code=SUCCESS)
    listed = [(each["identifier"], each["role"]) for each in answer.data["endpoints"]]
    hold(answer.data["version"] == run.target.version, expected=run.target.version, got=str(answer.data["version"]),
         sent=answer.sent)  # fmt: skip
    hold(len(listed) == len(set(listed)), expected="each module and role once", got=str(listed), sent=answer.sent)
    hold({role for _, role in listed} <= {"SENDER", "RECEIVER"}, expected="roles SENDER and RECEIVER", got=str(listed),
         sent=answer.sent)  # fmt: skip
    are_absolute = all(str(each["url"]).startswith("http") for each in answer.data["endpoints"])
    hold(are_absolute, expected="absolute URLs", got=str(answer.data["endpoints"])[:200], sent=answer.sent)
    hold("credentials" in dict(listed), expected="credentials among them", got=str(listed), sent=answer.sent)


@check("C3", f"{DOC}registration")
async def registration(run: Run) -> None:
    """POST credentials: the platform looks the poster up with TOKEN_B before it answers with a new token and roles."""
    stranger, _ = await _joined(run)
    assert stranger.registration is not None, "it registered"
    token_a, answer, came = stranger.registration.token_a, stranger.registration.answer, stranger.registration.fetched
    wanted = ["/ocpi/versions", f"/ocpi/{run.target.version}"]
    hold([each for each in came if each in wanted][:2] == wanted, expected=f"GET {' and '.join(wanted)} with TOKEN_B",
         got=str(came), sent=answer.sent)  # fmt: skip
    hold(answer.data["token"] not in {token_a, *stranger.tokens}, expected="a token of its own", got=answer)
    hold(answer.data["roles"], expected="its roles", got=answer)
    role = answer.data["roles"][0]
    hold({"role", "party_id", "country_code", "business_details"} <= set(role), expected="whole roles", got=str(role),
         sent=answer.sent)  # fmt: skip
    hold(str(answer.data["url"]).startswith("http"), expected="its versions URL", got=str(answer.data.get("url")),
         sent=answer.sent)  # fmt: skip


@check("C4", f"{DOC}errors_during_registration")
async def versions_out_of_reach(run: Run) -> None:
    """When the poster's versions can't be fetched the answer is S 3001."""
    stranger = await _stranger(run)
    await stranger.fall_silent()
    expect(await _post(run, stranger), code=3001)


@check("C5", "status_codes.asciidoc#status_codes_3xxx_server_errors")
async def no_common_version(run: Run) -> None:
    """When there is no common version the answer is S 3002."""
    stranger = await _stranger(run, versions=("1.9",))
    expect(await _post(run, stranger), code=3002)


@check("C6", f"{DOC}required_endpoints_not_available")
async def endpoints_missing(run: Run) -> None:
    """When endpoints that are needed are missing the answer is S 3003."""
    stranger = await _stranger(run)
    stranger.hidden_endpoints = True
    expect(await _post(run, stranger), code=3003)


@check("C7", f"{DOC}post_method")
async def second_post(run: Run) -> None:
    """POST of a platform that is registered is answered HTTP 405."""
    stranger, url = await _joined(run)
    assert stranger.connection is not None, "it joined"
    posted = stranger.credentials(run.target.version)
    expect(await stranger.exchange("POST", url, stranger.connection.token, posted), http=405)
    goes_on = await run.ask(stranger, "GET", run.target.versions_url)
    expect(goes_on, "the registration goes on", http=200, code=SUCCESS)


@check("C8", f"{DOC}put_method")
async def put_before_registration(run: Run) -> None:
    """PUT of a platform that is not registered is answered HTTP 405."""
    stranger = await _stranger(run)
    version = run.target.version
    url = credentials_url(await stranger.look_up(run.target.versions_url, stranger.token_a or "", version))
    answer = await stranger.exchange("PUT", str(url), stranger.token_a or "", stranger.credentials(version))
    expect(answer, http=405)


@check("C9", f"{DOC}updating_the_credentials_and_resetting_the_token")
async def rotation(run: Run) -> None:
    """PUT renews: the old token is answered HTTP 401 at once, the new one works, the endpoints are fetched again."""
    stranger, url = await _joined(run)
    assert stranger.connection is not None, "it joined"
    old = stranger.connection.token
    stranger.forget()
    answer = await stranger.exchange("PUT", url, old, stranger.credentials(run.target.version))
    expect(answer, http=200, code=SUCCESS)
    fetched = stranger.heard_at(f"/ocpi/{run.target.version}", "GET")
    hold(fetched, expected="the version details are fetched again", got="nothing was fetched", sent=answer.sent)
    for token, http in ((old, 401), (answer.data["token"], 200)):
        headers = {"Authorization": token_header(token)}
        expect(await run.caller.call("GET", run.target.versions_url, headers=headers), http=http)
    stranger.connection.token = answer.data["token"]


@check("C10", f"{DOC}delete_method")
async def unregistration(run: Run) -> None:
    """DELETE ends it: the token is answered HTTP 401; DELETE of a platform that is not registered HTTP 405."""
    stranger = await _stranger(run)
    await run.join(stranger)
    assert stranger.connection is not None, "it joined"
    url = str(credentials_url(stranger.connection.endpoints))
    token, stranger.connection = stranger.connection.token, None
    expect(await stranger.exchange("DELETE", url, token, None), http=200, code=SUCCESS)
    headers = {"Authorization": token_header(token)}
    expect(await run.caller.call("GET", run.target.versions_url, headers=headers), http=401)
    unregistered = await _stranger(run)
    expect(await unregistered.exchange("DELETE", url, unregistered.token_a or "", None), http=405)


@check("C11", f"{DOC}registration")
async def token_a_after_use(run: Run) -> None:
    """TOKEN_A is dead after its use."""
    stranger, _ = await _joined(run)
    assert stranger.registration is not None, "it registered"
    headers = {"Authorization": token_header(stranger.registration.token_a)}
    expect(await run.caller.call("GET", run.target.versions_url, headers=headers), http=401)


@check("C12", f"{DOC}credentials_role_class", roles=HUB)
async def role_of_another(run: Run) -> None:
    """A role that another platform holds is refused."""
    holder = await run.cpo()
    thief = await run.stranger("CPO")
    claimed = {**thief.credentials(run.target.version)["roles"][0]}
    claimed |= {"party_id": holder.party.party_id, "country_code": holder.party.country_code}
    answer = await _post(run, thief, roles=[claimed])
    hold(not answer.is_success, expected=f"{holder.party} stays with its platform", got=answer)
    hold(answer.code in CLIENT_ERRORS or answer.http in {403, 409}, expected="S 2xxx", got=answer)


@check("C13", f"{DOC}credentials_object", roles=HUB)
async def who_the_hub_is(run: Run) -> None:
    """The hub says who it is (2.2.1: role HUB; 2.3.0: hub_party_id, and all reachable parties); who joins is told."""
    cpo, emsp = await run.cpo(), await run.emsp()
    assert cpo.connection is not None, "it joined"
    url = str(credentials_url(cpo.connection.endpoints))
    answer = expect(await cpo.exchange("GET", url, cpo.connection.token, None), http=200, code=SUCCESS)
    roles = {(each["role"], each["country_code"], each["party_id"]) for each in answer.data["roles"]}
    if run.target.version == "2.2.1":
        hold("HUB" in {role for role, *_ in roles}, expected="role HUB", got=str(roles), sent=answer.sent)
        return
    hub = answer.data.get("hub_party_id")
    hold(isinstance(hub, str) and len(hub) == 5, expected="hub_party_id of 5 characters", got=repr(hub),
         sent=answer.sent)  # fmt: skip
    hold("HUB" not in {role for role, *_ in roles}, expected="no role HUB: 2.3.0 has none", got=str(roles),
         sent=answer.sent)  # fmt: skip
    reachable = ("EMSP", emsp.party.country_code, emsp.party.party_id)
    hold(reachable in roles, expected=f"EMSP {emsp.party} among the roles", got=str(roles), sent=answer.sent)
    cpo.forget()
    newcomer, _ = await _joined(run)
    joined = (newcomer.party.country_code, newcomer.party.party_id)

    def told() -> list[tuple[str, str]]:
        puts = cpo.heard_at("/credentials", "PUT")
        return [(each["country_code"], each["party_id"]) for put in puts for each in put.json["roles"]]

    await run.until(lambda: joined in told())
    hold(joined in told(), expected=f"a credentials PUT with {newcomer.party} among the roles", got=str(told()),
         sent=f"{newcomer.party} registers")  # fmt: skip
