"""H: who is at the hub."""

from __future__ import annotations

from typing import Any, Final

from ocpi_check import objects
from ocpi_check.mock import MockParty
from ocpi_check.run import Run, Way
from ocpi_check.table import HUB, SUCCESS, NotApplicable, check, expect, hold
from ocpi_check.wire import next_page

DOC: Final = "mod_hub_client_info.asciidoc#mod_hub_client_info_"


async def _states(run: Run, asking: MockParty, query: str = "?limit=50") -> list[dict[str, Any]]:
    way = Way(run, asking, run.endpoint(asking, "hubclientinfo", "SENDER"), None, None)
    answer = expect(await way.call("GET", query), http=200, code=SUCCESS)
    found: list[dict[str, Any]] = list(answer.data)
    while (following := next_page(answer.headers.get("link"))) is not None:
        answer = expect(await way.call("GET", following), http=200, code=SUCCESS)
        found += answer.data
    return found


async def _told(run: Run, listener: MockParty, about: MockParty, status: str, after: str) -> None:
    """See that a party is told a state of another."""
    part = f"/hubclientinfo/receiver/{about.party.path}"

    def statuses() -> list[str]:
        return [each.json["status"] for each in listener.heard_at(part, "PUT")]

    await run.until(lambda: status in statuses(), within_s=run.target.arrival_s)
    hold(status in statuses(), expected=f"PUT of {about.party} {status} to {listener.party}", got=str(statuses()),
         sent=after)  # fmt: skip
    body = next(each.json for each in listener.heard_at(part, "PUT") if each.json["status"] == status)
    wanted = {"country_code", "party_id", "role", "status", "last_updated"}
    hold(wanted <= set(body), expected=", ".join(sorted(wanted)), got=str(body), sent=after)


@check("H1", f"{DOC}hub_get", roles=HUB)
async def listing(run: Run) -> None:
    """The list of parties is paged, and last_updated filters it."""
    cpo, emsp = await run.cpo(), await run.emsp()
    found = await _states(run, cpo)
    way = Way(run, cpo, run.endpoint(cpo, "hubclientinfo", "SENDER"), None, None)
    first = expect(await way.call("GET", "?limit=1"), http=200, code=SUCCESS)
    hold(len(first.data) == 1 and next_page(first.headers.get("link")), expected="one object and a Link",
         got=f"{len(first.data)} objects, {first.headers.get('link')!r}", sent=first.sent)  # fmt: skip
    states = {(each["country_code"], each["party_id"], each["role"]): each["status"] for each in found}
    key = (emsp.party.country_code, emsp.party.party_id, "EMSP")
    hold(states.get(key) == "CONNECTED", expected=f"{emsp.party} CONNECTED", got=str(states.get(key)), sent="GET list")
    newest = max(each["last_updated"] for each in found)
    since = await _states(run, cpo, f"?date_from={newest}")
    hold(0 < len(since) < len(found), expected=f"those changed since {newest}", got=f"{len(since)} of {len(found)}",
         sent=f"GET ?date_from={newest}")  # fmt: skip


@check("H2", f"{DOC}push_model", roles=HUB)
async def changes_are_told(run: Run) -> None:
    """Each change of a state is PUT to all who have the receiver interface."""
    cpo, nsp = await run.cpo(), await run.nsp()
    stranger = await run.stranger("EMSP")
    await _told(run, cpo, stranger, "PLANNED", "a party is invited")
    await run.join(stranger)
    for listener in (cpo, nsp):
        await _told(run, listener, stranger, "CONNECTED", "it registers")
    await stranger.fall_silent()
    way = Way(run, cpo, run.endpoint(cpo, "tariffs", "RECEIVER"), stranger.party, stranger)
    tariff = objects.tariff(cpo.party, run.number(), run.later(), run.target.version)
    await way.call("PUT", f"/{cpo.party.path}/{tariff['id']}", tariff)
    await _told(run, cpo, stranger, "OFFLINE", "a message can't reach it")
    await stranger.start()
    await run.operator.suspend(stranger.party)
    stranger.connection = None
    await _told(run, cpo, stranger, "SUSPENDED", "it is suspended")


@check("H3", f"{DOC}push_model", roles=HUB)
async def silence_is_looked_into(run: Run) -> None:
    """A party that is silent is asked for its versions, and is OFFLINE when it does not answer."""
    if 3 * run.target.silence_s > run.target.patience_s:
        raise NotApplicable(f"takes {3 * run.target.silence_s:.0f} s: give --patience {3 * run.target.silence_s:.0f}")
    cpo, stranger = await run.cpo(), await run.stranger("EMSP")
    await run.join(stranger)
    stranger.forget()
    probes = await stranger.wait_for("/ocpi/versions", "GET", within_s=3 * run.target.silence_s)
    hold(probes, expected="GET versions of a silent party", got="nothing", sent=f"{run.target.silence_s} s of silence")
    await stranger.fall_silent()
    part = f"/hubclientinfo/receiver/{stranger.party.path}"
    cpo.forget()
    is_told = await run.until(
        lambda: "OFFLINE" in [each.json["status"] for each in cpo.heard_at(part)],
        within_s=3 * run.target.silence_s + run.target.arrival_s,
    )
    hold(is_told, expected=f"{stranger.party} OFFLINE", got="nothing", sent="a party goes silent")


@check("H4", "transport_and_format.asciidoc#transport_and_format_offline_behaviour", roles=HUB)
async def nothing_is_queued(run: Run) -> None:
    """What can't reach a party is not kept for it; on its return it pulls with date_from and is complete."""
    cpo, stranger = await run.cpo(), await run.stranger("EMSP")
    await run.join(stranger)
    await stranger.fall_silent()
    tariff = objects.tariff(cpo.party, run.number(), run.later(), run.target.version)
    path = f"/{cpo.party.path}/{tariff['id']}"
    way = Way(run, cpo, run.endpoint(cpo, "tariffs", "RECEIVER"), stranger.party, stranger)
    answer = expect(await way.call("PUT", path, tariff), code=4003)
    await stranger.start()
    pulling = Way(run, stranger, run.endpoint(stranger, "tariffs", "SENDER"), cpo.party, cpo)
    cpo.modules.listed("tariffs", run.target.version).append(tariff)
    pulled = expect(await pulling.call("GET", f"?date_from={tariff['last_updated']}"), http=200, code=SUCCESS)
    hold(tariff["id"] in {each["id"] for each in pulled.data}, expected=f"{tariff['id']} by pull",
         got=str(pulled.data)[:200], sent=pulled.sent)  # fmt: skip
    await run.quiet()
    hold(not stranger.heard_at(path), expected="no push after its return", got="it was kept", sent=answer.sent)


@check("H5", f"{DOC}hub_connection_type_enum", roles=HUB)
async def nobody_is_deleted(run: Run) -> None:
    """A party is never removed, it is SUSPENDED; hubclientinfo has no DELETE."""
    cpo, stranger = await run.cpo(), await run.stranger("EMSP")
    await run.join(stranger)
    await run.operator.suspend(stranger.party)
    stranger.connection = None
    states = {(each["country_code"], each["party_id"]): each["status"] for each in await _states(run, cpo)}
    key = (stranger.party.country_code, stranger.party.party_id)
    hold(states.get(key) == "SUSPENDED", expected="SUSPENDED in the list", got=str(states.get(key)), sent="GET list")
    way = Way(run, cpo, run.endpoint(cpo, "hubclientinfo", "SENDER"), None, None)
    answer = await way.call("DELETE", f"/{stranger.party.path}")
    hold(not answer.is_success, expected="a refusal of DELETE", got=answer)
