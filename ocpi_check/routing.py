"""R: from party to party through a hub."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from ocpi_check import objects
from ocpi_check.mock import Heard, Reply
from ocpi_check.run import Run, Way
from ocpi_check.table import CLIENT_ERRORS, HUB, SUCCESS, NotApplicable, check, expect, hold
from ocpi_check.transport import pushing
from ocpi_check.wire import Answer, Party, next_page, party_in

DOC: Final = "transport_and_format.asciidoc#transport_and_format_"
CODES_DOC: Final = "status_codes.asciidoc#status_codes_4xxx_hub_errors"
NOBODY: Final = Party("ZZ", "ZZZ")


def start_session(run: Run, way: Way, response_url: str, **changes: Any) -> dict[str, Any]:
    """Return a START_SESSION of the way's sender."""
    token = objects.token(way.sender.party, "CARD1", run.later())
    return {"response_url": response_url, "token": token, "location_id": "LOC1", "evse_uid": "EVSE1", **changes}


def result_url(run: Run, way: Way, name: str) -> str:
    """Return where the way's sender takes a result."""
    return f"{way.sender.base_url}/ocpi/{run.target.version}/commands/sender/{name}"


@check("R1", f"{DOC}message_routing", roles=HUB)
async def forwarding(run: Run) -> None:
    """A message arrives with TO and FROM as they were, a new request id, the same correlation id, its own token."""
    way, path, pushed = await pushing(run)
    answer = expect(await way.call("PUT", path, pushed, headers={"X-Request-ID": "check-r1"}), code=SUCCESS)
    heard = way.arrived(answer)
    assert way.receiver is not None, "through a hub"
    assert way.sender.connection is not None, "it is registered"
    routed = (heard.to_party, heard.from_party)
    hold(routed == (way.to_party, way.sender.party), expected=f"TO {way.to_party} FROM {way.sender.party}",
         got=f"TO {routed[0]} FROM {routed[1]}", sent=answer.sent)  # fmt: skip
    new_id = heard.headers.get("x-request-id")
    hold(new_id not in {None, "check-r1"}, expected="a new X-Request-ID", got=repr(new_id), sent=answer.sent)
    is_own = heard.token in way.receiver.tokens and heard.token != way.sender.connection.token
    hold(is_own, expected="the token that the receiver gave to the hub", got="another", sent=answer.sent)
    hold(heard.path.endswith(path), expected=f"a URL that ends in {path}", got=heard.path, sent=answer.sent)


@check("R2", f"{DOC}message_routing", roles=HUB)
async def foreign_sender(run: Run) -> None:
    """FROM that is no role of the caller is refused with S 2001."""
    way, path, pushed = await pushing(run)
    nsp = await run.nsp()
    answer = await way.call("PUT", path, pushed, headers=nsp.party.headers("from"))
    expect(answer, code=2001)
    assert way.receiver is not None, "through a hub"
    came = [each for each in way.receiver.heard if each.headers.get("x-correlation-id") == way.last_correlation_id]
    hold(not came, expected="the receiver gets nothing", got="it got the message", sent=answer.sent)


@check("R3", CODES_DOC, roles=HUB)
async def unknown_receiver(run: Run) -> None:
    """TO that the hub does not know is answered S 4001."""
    way, path, pushed = await pushing(run)
    expect(await way.call("PUT", path, pushed, headers=NOBODY.headers("to")), code=4001)


@check("R4", CODES_DOC, roles=HUB)
async def late_receiver(run: Run) -> None:
    """A receiver that answers after the time-out is S 4002."""
    way, path, pushed = await pushing(run)
    assert way.receiver is not None, "through a hub"
    is_over = asyncio.Event()

    async def hang(_: Heard) -> Reply:
        await is_over.wait()
        return Reply()

    way.receiver.script(hang, part=path)
    try:
        expect(await way.call("PUT", path, pushed), code=4002)
    finally:
        is_over.set()


@check("R5", CODES_DOC, roles=HUB)
async def receiver_that_is_not_there(run: Run) -> None:
    """A receiver that never registered, refuses connections or is suspended is S 4003."""
    way, path, pushed = await pushing(run)
    invited = await run.stranger("EMSP")
    expect(await way.call("PUT", path, pushed, headers=invited.party.headers("to")), "never registered", code=4003)
    gone = await run.stranger("EMSP")
    await run.join(gone)
    await gone.fall_silent()
    expect(await way.call("PUT", path, pushed, headers=gone.party.headers("to")), "refuses connections", code=4003)
    await run.operator.suspend(gone.party)
    gone.connection = None
    expect(await way.call("PUT", path, pushed, headers=gone.party.headers("to")), "suspended", code=4003)


@check("R6", CODES_DOC, roles=HUB)
async def answer_that_is_no_ocpi(run: Run) -> None:
    """Whatever else goes wrong on the way is S 4000."""
    way, path, pushed = await pushing(run)
    assert way.receiver is not None, "through a hub"
    for http in (200, 502):
        way.receiver.script(Reply(http=http, raw=b"<html>bad gateway</html>"), part=path)
        expect(await way.call("PUT", path, pushed), code=4000)


@check("R7", f"{DOC}message_routing", roles=HUB)
async def receivers_own_word(run: Run) -> None:
    """The receiver's own 2xxx, 3xxx and HTTP 404 are passed on as they are."""
    way, path, pushed = await pushing(run)
    assert way.receiver is not None, "through a hub"
    for http, code in ((200, 2003), (200, 3000), (404, 2000), (201, 1000), (405, 2000)):
        way.receiver.script(Reply(http=http, code=code), part=path)
        expect(await way.call("PUT", path, pushed), http=http, code=code)


@check("R8", f"{DOC}message_routing", roles=HUB)
async def answers_are_routed(run: Run) -> None:
    """An answer has TO = requester and FROM = receiver."""
    way, path, pushed = await pushing(run)
    answer = await way.call("PUT", path, pushed)
    routed = (party_in(answer.headers, "to"), party_in(answer.headers, "from"))
    hold(routed == (way.sender.party, way.to_party), expected=f"TO {way.sender.party} FROM {way.to_party}",
         got=f"TO {routed[0]} FROM {routed[1]}", sent=answer.sent)  # fmt: skip


@check("R9", "credentials.asciidoc#credentials_required_endpoints_not_available", roles=HUB)
async def receiver_without_the_module(run: Run) -> None:
    """A receiver that lacks the module is S 2001 or S 3003, never silent."""
    cpo, nsp = await run.cpo(), await run.nsp()
    way = Way(run, cpo, run.endpoint(cpo, "sessions", "RECEIVER"), nsp.party, nsp)
    number = run.number()
    pushed = objects.session(cpo.party, nsp.party, number, run.later(), run.target.version)
    answer = await way.call("PUT", f"/{cpo.party.path}/{pushed['id']}", pushed)
    hold(answer.code in {2001, 3003}, expected="S 2001 or S 3003", got=answer)


@check("R10", f"{DOC}message_routing", roles=HUB)
async def configuration_modules(run: Run) -> None:
    """credentials, versions and hubclientinfo need no routing headers and answer without them."""
    cpo = await run.cpo()
    assert cpo.connection is not None, "it is registered"
    urls = [run.target.versions_url, run.endpoint(cpo, "hubclientinfo", "SENDER")]
    urls.append(str(cpo.connection.endpoints[("credentials", "SENDER")]))
    for url in urls:
        answer = expect(await run.ask(cpo, "GET", url), http=200, code=SUCCESS)
        routed = [name for name in answer.headers if name.startswith("ocpi-")]
        hold(not routed, expected="no routing headers", got=str(routed), sent=answer.sent)


@check("R11", f"{DOC}message_routing", roles=HUB)
async def untouched(run: Run) -> None:
    """last_updated and every value pass unaltered, numbers to the last digit."""
    way, path, pushed = await pushing(run)
    number = path.rsplit("/", 1)[1]
    exact = b"0.10, 1.0, 12345678901234567890.123456789, 1E+2, -0.0"
    stamp = pushed["last_updated"].replace("Z", ".000Z").encode()
    body = (
        b'{"country_code":"%s","party_id":"%s", "id" : "%s","currency":"EUR","elements":[{"price_components":['
        b'{"type":"ENERGY","price":0.2500,"vat":21.00,"step_size":1}]}],"tax_included":"NO","x_exact":[%s],'
        b'"x_text":"\\u00e9\xc3\xa9","last_updated":"%s"}'
    ) % (way.sender.party.country_code.encode(), way.sender.party.party_id.encode(), number.encode(), exact, stamp)
    answer = expect(await way.call("PUT", path, body), http=(200, 201), code=SUCCESS)
    heard = way.arrived(answer)
    hold(heard.body == body, expected="the body byte for byte", got=heard.body.decode("latin-1")[:300],
         sent=answer.sent)  # fmt: skip
    back = await way.call("GET", path)
    wanted = [b"0.10", b"0.2500", b"21.00", b"12345678901234567890.123456789", stamp]
    lost = [each.decode() for each in wanted if each not in back.body]
    hold(not lost, expected="the answer's numbers digit for digit", got=f"without {lost}", sent=back.sent)


@check("R12", f"{DOC}paginated_response", roles=HUB)
async def urls_lead_through_the_hub(run: Run) -> None:
    """Link, Location of POST cdrs and response_url point at the hub, and work with the hub's token."""
    listing = await run.way("tariffs", "SENDER")
    first = expect(await listing.call("GET", "?limit=2"), http=200, code=SUCCESS)
    assert listing.receiver is not None, "through a hub"
    following = str(next_page(first.headers.get("link")))
    _at_the_hub(run, listing.receiver.base_url, following, first)
    second = expect(await listing.call("GET", following), http=200, code=SUCCESS)
    hold(len(second.data) >= 1, expected="more tariffs behind the Link", got=str(second.data)[:200],
         sent=second.sent)  # fmt: skip
    cdrs = await run.way("cdrs", "RECEIVER")
    assert cdrs.receiver is not None, "through a hub"
    posted = objects.cdr(cdrs.sender.party, cdrs.receiver.party, f"CDR{run.number()}", run.later(), run.target.version)
    created = expect(await cdrs.call("POST", "", posted), http=(200, 201), code=SUCCESS)
    place = created.headers.get("location", "")
    _at_the_hub(run, cdrs.receiver.base_url, place, created)
    back = expect(await cdrs.call("GET", place), http=200, code=SUCCESS)
    hold(back.data == posted, expected="the CDR behind the Location", got=str(back.data)[:200], sent=back.sent)
    command = await run.way("commands", "RECEIVER")
    answer = await command.call("POST", "/START_SESSION", start_session(run, command, result_url(run, command, "r12")))
    url = command.arrived(answer).json["response_url"]
    _at_the_hub(run, command.sender.base_url, url, answer)


def _at_the_hub(run: Run, elsewhere: str, url: str, answer: Answer) -> None:
    is_hub = url.startswith("http") and not url.startswith(elsewhere)
    hold(is_hub, expected="a URL of the hub", got=repr(url), sent=answer.sent)
    del run


@check("R13", "mod_commands.asciidoc#mod_commands_flow", roles=HUB)
async def results_arrive_once(run: Run) -> None:
    """A result reaches the requester's own response_url once, with its token; for commands and charging profiles."""
    way = await run.way("commands", "RECEIVER")
    assert way.receiver is not None, "through a hub"
    wanted = result_url(run, way, f"r13-{run.number()}")
    answer = expect(await way.call("POST", "/START_SESSION", start_session(run, way, wanted)), code=SUCCESS)
    hold(answer.data["result"] == "ACCEPTED" and "timeout" in answer.data, expected="ACCEPTED with its timeout",
         got=answer, sent=answer.sent)  # fmt: skip
    await _result(run, way, way.arrived(answer).json["response_url"], wanted, {"result": "ACCEPTED"})
    profiles = await run.way("chargingprofiles", "RECEIVER")
    wanted = f"{way.sender.base_url}/ocpi/{run.target.version}/chargingprofiles/sender/r13-{run.number()}"
    answer = await profiles.call("GET", f"/SESSION1?duration=900&response_url={wanted}")
    expect(answer, http=200, code=SUCCESS)
    url = profiles.arrived(answer).query.get("response_url", "")
    profile = {"start_date_time": objects.stamp(run.now()), "charging_profile": {"charging_rate_unit": "W"}}
    await _result(run, profiles, url, wanted, {"result": "ACCEPTED", "profile": profile})
    wanted = f"{wanted}-put"
    body = {"charging_profile": {"charging_rate_unit": "W"}, "response_url": wanted}
    answer = expect(await profiles.call("PUT", "/SESSION1", body), http=200, code=SUCCESS)
    await _result(run, profiles, profiles.arrived(answer).json["response_url"], wanted, {"result": "ACCEPTED"})


async def _result(run: Run, way: Way, url: str, wanted: str, result: dict[str, Any]) -> None:
    """Send a result as the receiver and see it arrive."""
    assert way.receiver is not None, "through a hub"
    routed = {**way.receiver.party.headers("from"), **way.sender.party.headers("to")}
    tell = partial(run.ask, way.receiver, "POST", url, headers=routed, body=result)
    sent = await tell()
    expect(sent, http=(200, 201), code=SUCCESS)
    path = wanted.removeprefix(way.sender.base_url)
    came = await way.sender.wait_for(path, "POST", within_s=run.target.arrival_s)
    hold(len(came) == 1, expected=f"one result at {path}", got=f"{len(came)}", sent=sent.sent)
    hold(came[0].json == result, expected=str(result), got=str(came[0].json), sent=sent.sent)
    hold(came[0].token in way.sender.tokens, expected="the requester's token", got="another", sent=sent.sent)
    again = await tell()
    came = await way.sender.wait_for(path, "POST", within_s=0.05, count=2)
    hold(len(came) == 1, expected="a result that is sent again arrives once", got=f"{len(came)} times", sent=again.sent)


@check("R14", "mod_commands.asciidoc#mod_commands_msp_post_method", roles=HUB)
async def results_nobody_waits_for(run: Run) -> None:
    """A result for a callback that is used, unknown or past its timeout is answered HTTP 404 or S 2001."""
    way = await run.way("commands", "RECEIVER")
    assert way.receiver is not None, "through a hub"
    wanted = result_url(run, way, f"r14-{run.number()}")
    answer = expect(await way.call("POST", "/START_SESSION", start_session(run, way, wanted)), code=SUCCESS)
    url = way.arrived(answer).json["response_url"]
    headers = {**way.receiver.party.headers("from"), **way.sender.party.headers("to")}
    tell = partial(run.ask, way.receiver, "POST", headers=headers)
    expect(await tell(url, body={"result": "ACCEPTED"}), code=SUCCESS)
    for used in (url, f"{url}x", f"{url[:-4]}0000"):
        answer = await tell(used, body={"result": "FAILED"})
        hold(answer.http == 404 or answer.code == 2001, expected="HTTP 404 or S 2001", got=answer)
    path = wanted.removeprefix(way.sender.base_url)
    hold(len(way.sender.heard_at(path)) == 1, expected="one result at the requester", got="more", sent=answer.sent)
    # R13's other half: a requester that counted to `timeout` knows that no result will come.
    way.receiver.script(Reply(data={"result": "ACCEPTED", "timeout": 0}), part="/START_SESSION")
    late = result_url(run, way, f"r14-{run.number()}")
    answer = expect(await way.call("POST", "/START_SESSION", start_session(run, way, late)), code=SUCCESS)
    url = way.arrived(answer).json["response_url"]
    await asyncio.sleep(run.target.grace_s)
    answer = await tell(url, body={"result": "ACCEPTED"})
    hold(answer.http == 404 or answer.code == 2001, expected="HTTP 404 or S 2001 past the timeout", got=answer)


@check("R15", f"{DOC}message_routing", roles=HUB)
async def rules(run: Run) -> None:
    """A sender that the receiver's rules refuse is refused before the receiver sees anything."""
    way, path, pushed = await pushing(run)
    if way.receiver is None:
        raise NotApplicable("only a hub has rules")
    allow = partial(run.operator.allow, receiver=way.receiver.party, sender=way.sender.party, module="tariffs")
    await allow(is_allowed=False)
    try:
        answer = await way.call("PUT", path, pushed)
        hold(not answer.is_success, expected="a refusal", got=answer)
        hold(answer.code in CLIENT_ERRORS or answer.code in range(4000, 5000), expected="S 2xxx or 4xxx", got=answer)
        sent_ids = [each.headers.get("x-correlation-id") for each in way.receiver.heard]
        hold(way.last_correlation_id not in sent_ids, expected="the receiver sees nothing", got="it got the message",
             sent=answer.sent)  # fmt: skip
        has_reason = bool(answer.envelope.get("status_message"))
        hold(has_reason, expected="the reason in status_message", got=answer)
    finally:
        await allow(is_allowed=True)
    expect(await way.call("PUT", path, pushed), "allowed again", code=SUCCESS)
