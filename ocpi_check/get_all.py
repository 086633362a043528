"""G: the objects of all parties, from the hub."""

from __future__ import annotations

from typing import Any, Final

from ocpi_check import objects
from ocpi_check.mock import MockParty
from ocpi_check.run import Run
from ocpi_check.table import HUB, SUCCESS, check, expect, hold
from ocpi_check.wire import Answer, next_page, party_in

DOC: Final = "transport_and_format.asciidoc#transport_and_format_get_all_via_hubs"
PAGES_MAX: Final = 100
SINCE: Final = "date_from=2000-01-01T00:00:00Z"


async def _all(run: Run, asking: MockParty, module: str, query: str = SINCE) -> tuple[list[dict[str, Any]], Answer]:
    """Return all objects of a module, page by page, and the first answer."""
    way = await run.to_hub(asking, module, "SENDER")
    answer = first = expect(await way.call("GET", f"?{query}"), http=200, code=SUCCESS)
    found: list[dict[str, Any]] = list(first.data)
    for _ in range(PAGES_MAX):
        following = next_page(answer.headers.get("link"))
        if following is None:
            break
        answer = expect(await way.call("GET", following), http=200, code=SUCCESS)
        found += answer.data
    return found, first


async def _pushed(run: Run, sender: MockParty) -> str:
    """Have a CPO push a tariff to the hub; return its id."""
    way = await run.to_hub(sender, "tariffs", "RECEIVER")
    tariff = objects.tariff(sender.party, run.number(), run.later(), run.target.version)
    expect(await way.call("PUT", f"/{sender.party.path}/{tariff['id']}", tariff), code=SUCCESS)
    sender.modules.listed("tariffs", run.target.version).append(tariff)
    return str(tariff["id"])


def _owners(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(each["country_code"], each["party_id"]) for each in found}


def _owner(party: MockParty) -> tuple[str, str]:
    return party.party.country_code, party.party.party_id


@check("G1", DOC, roles=HUB)
async def merged(run: Run) -> None:
    """TO = hub on a sender interface gives the objects of all parties, paged over the union, FROM = hub."""
    cpo, other_cpo, emsp, _, _ = await run.everybody()
    wanted = {await _pushed(run, cpo), await _pushed(run, other_cpo)}
    found, first = await _all(run, emsp, "tariffs", f"{SINCE}&limit=1")
    hold(len(first.data) == 1, expected="one object with limit=1", got=f"{len(first.data)}", sent=first.sent)
    owners = {_owner(cpo), _owner(other_cpo)}
    hold(owners <= _owners(found), expected="tariffs of both CPOs", got=str(_owners(found)), sent=first.sent)
    ids = [(each["country_code"], each["party_id"], each["id"]) for each in found]
    hold(len(ids) == len(set(ids)), expected="each object once", got=str(ids)[:300], sent=first.sent)
    missing = wanted - {each["id"] for each in found}
    hold(not missing, expected="what was pushed to the hub", got=f"without {missing}", sent=first.sent)
    total = first.headers.get("x-total-count", "")
    hold(total == str(len(found)), expected=f"X-Total-Count: {len(found)}", got=repr(total), sent=first.sent)
    hub = await run.hub_party()
    hold(party_in(first.headers, "from") == hub, expected=f"FROM {hub}", got=str(party_in(first.headers, "from")),
         sent=first.sent)  # fmt: skip


@check("G2", DOC, roles=HUB)
async def only_what_one_may_see(run: Run) -> None:
    """Only objects that the requester may see: an NSP gets no sessions, nobody those of another."""
    cpo, emsp, nsp = await run.cpo(), await run.emsp(), await run.nsp()
    another = await run.party("other_emsp", "EMSP")
    at, version = run.later(), run.target.version
    number = run.number()
    cpo.modules.own["sessions"] = [
        objects.session(cpo.party, emsp.party, number, at, version),
        objects.session(cpo.party, another.party, number + 1, at, version),
    ]
    run.number()
    for session, msp in zip(cpo.modules.own["sessions"], (emsp, another), strict=True):
        way = await run.open_way(cpo, "sessions", "RECEIVER")
        way.to_party = msp.party
        expect(await way.call("PUT", f"/{cpo.party.path}/{session['id']}", session), code=SUCCESS)
    found, first = await _all(run, emsp, "sessions")
    foreign = [each["id"] for each in found if each["cdr_token"]["party_id"] != emsp.party.party_id]
    hold(not foreign, expected=f"only sessions of {emsp.party}", got=f"{foreign} too", sent=first.sent)
    way = await run.to_hub(nsp, "sessions", "SENDER")
    answer = await way.call("GET", f"?{SINCE}")
    hold(not answer.data, expected="no sessions for an NSP", got=f"{answer}: {str(answer.data)[:200]}",
         sent=answer.sent)  # fmt: skip


@check("G3", DOC, roles=HUB)
async def dead_party(run: Run) -> None:
    """A dead CPO does not empty the answer."""
    cpo, other_cpo, emsp, _, _ = await run.everybody()
    await _pushed(run, cpo)
    await other_cpo.fall_silent()
    try:
        found, first = await _all(run, emsp, "tariffs")
        hold(_owner(cpo) in _owners(found), expected=f"tariffs of {cpo.party}", got=str(_owners(found)),
             sent=first.sent)  # fmt: skip
    finally:
        await other_cpo.start()


@check("G4", DOC, roles=HUB)
async def what_is_in_it(run: Run) -> None:
    """What was pushed to the hub is in GET ALL, what was sent from party to party is not."""
    cpo, emsp = await run.cpo(), await run.emsp()
    nsp = await run.nsp()
    shared = await _pushed(run, cpo)
    way = await run.way("tariffs", "RECEIVER")
    private = objects.tariff(cpo.party, run.number(), run.later(), run.target.version)
    expect(await way.call("PUT", f"/{cpo.party.path}/{private['id']}", private), code=SUCCESS)
    await nsp.wait_for(f"/{cpo.party.path}/{shared}", within_s=run.target.arrival_s)
    for asking in (emsp, nsp):
        found, first = await _all(run, asking, "tariffs")
        ids = {each["id"] for each in found}
        hold(shared in ids, expected=f"{shared}, pushed to the hub", got=str(sorted(ids)), sent=first.sent)
        hold(private["id"] not in ids, expected=f"not {private['id']}, sent to one party", got=str(sorted(ids)),
             sent=first.sent)  # fmt: skip
