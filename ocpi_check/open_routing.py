"""O: the hub finds out from the content for whom a message is."""

from __future__ import annotations

from typing import Final

from ocpi_check import objects
from ocpi_check.broadcast import push_location
from ocpi_check.mock import MockParty
from ocpi_check.routing import result_url, start_session
from ocpi_check.run import Run, Way
from ocpi_check.table import CLIENT_ERRORS, HUB, SUCCESS, check, expect, hold
from ocpi_check.wire import Answer

DOC: Final = "transport_and_format.asciidoc#transport_and_format_message_routing_open_routing_request"


def _arrived(way: Way, receiver: MockParty, answer: Answer) -> None:
    way.receiver = receiver
    heard = way.arrived(answer)
    routed = (heard.to_party, heard.from_party)
    hold(routed == (receiver.party, way.sender.party), expected=f"TO {receiver.party} FROM {way.sender.party}",
         got=f"TO {routed[0]} FROM {routed[1]}", sent=answer.sent)  # fmt: skip


@check("O1", DOC, roles=HUB)
async def command_by_location(run: Run) -> None:
    """START_SESSION without TO goes to the CPO of its location."""
    cpo, _, emsp, _, _ = await run.everybody()
    _, _, path, pushed = await push_location(run, cpo)
    await emsp.wait_for(path, within_s=run.target.arrival_s)
    way = await run.open_way(emsp, "commands", "RECEIVER")
    body = start_session(run, way, result_url(run, way, "o1"), location_id=pushed["id"])
    answer = await way.call("POST", "/START_SESSION", body)
    # The mock CPO itself knows other locations; that it was asked is what counts.
    hold(answer.code in {1000, 2003}, expected="the CPO's own answer", got=answer)
    _arrived(way, cpo, answer)


@check("O2", DOC, roles=HUB)
async def authorisation_by_token(run: Run) -> None:
    """A token's authorisation without TO goes to its EMSP."""
    cpo, other_cpo, emsp, _, _ = await run.everybody()
    uid = f"OPEN{run.number()}"
    emsp.modules.whitelists[uid] = "ALLOWED"
    pushed = await run.to_hub(emsp, "tokens", "RECEIVER")
    path = f"/{emsp.party.path}/{uid}"
    expect(await pushed.call("PUT", path, objects.token(emsp.party, uid, run.later())), code=SUCCESS)
    await run.until(lambda: bool(cpo.heard_at(path) and other_cpo.heard_at(path)))
    way = await run.open_way(cpo, "tokens", "SENDER")
    answer = expect(await way.call("POST", f"/{uid}/authorize?type=RFID", {"location_id": "LOC1"}), code=SUCCESS)
    _arrived(way, emsp, answer)


@check("O3", DOC, roles=HUB)
async def session_by_token(run: Run) -> None:
    """A Session and a CDR without TO go to the EMSP of their cdr_token."""
    cpo, emsp = await run.cpo(), await run.emsp()
    sessions = await run.open_way(cpo, "sessions", "RECEIVER")
    session = objects.session(cpo.party, emsp.party, run.number(), run.later(), run.target.version)
    answer = await sessions.call("PUT", f"/{cpo.party.path}/{session['id']}", session)
    expect(answer, http=(200, 201), code=SUCCESS)
    _arrived(sessions, emsp, answer)
    cdrs = await run.open_way(cpo, "cdrs", "RECEIVER")
    cdr = objects.cdr(cpo.party, emsp.party, f"CDR{run.number()}", run.later(), run.target.version)
    answer = expect(await cdrs.call("POST", "", cdr), http=(200, 201), code=SUCCESS)
    _arrived(cdrs, emsp, answer)


@check("O4", DOC, roles=HUB)
async def nobody_in_particular(run: Run) -> None:
    """Without a receiver that can be told the answer is S 4001; a push may be broadcast."""
    emsp, cpo = await run.emsp(), await run.cpo()
    way = await run.open_way(emsp, "commands", "RECEIVER")
    body = start_session(run, way, result_url(run, way, "o4"), location_id="NOWHERE")
    expect(await way.call("POST", "/START_SESSION", body), code=4001)
    pushing = await run.open_way(cpo, "tariffs", "RECEIVER")
    tariff = objects.tariff(cpo.party, run.number(), run.later(), run.target.version)
    answer = await pushing.call("PUT", f"/{cpo.party.path}/{tariff['id']}", tariff)
    hold(answer.code == 4001 or answer.is_success, expected="S 4001, or a broadcast", got=answer)


@check("O5", DOC, roles=HUB)
async def no_list(run: Run) -> None:
    """GET of a list without TO is refused: GET ALL is no open routing request."""
    emsp = await run.emsp()
    await run.cpo()
    way = await run.open_way(emsp, "locations", "SENDER")
    answer = await way.call("GET")
    hold(answer.code in CLIENT_ERRORS or answer.code == 4001, expected="S 2xxx or S 4001", got=answer)
