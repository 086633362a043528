"""B: one push to the hub that reaches all whom it concerns."""

from __future__ import annotations

from typing import Any, Final

from ocpi_check import objects
from ocpi_check.mock import Heard, MockParty
from ocpi_check.run import Run, Way
from ocpi_check.table import CLIENT_ERRORS, HUB, SUCCESS, check, expect, hold
from ocpi_check.wire import Answer

DOC: Final = "transport_and_format.asciidoc#transport_and_format_message_routing_broadcast_push"


async def push_location(run: Run, sender: MockParty) -> tuple[Way, Answer, str, dict[str, Any]]:
    """Have a CPO push a location to all."""
    way = await run.to_hub(sender, "locations", "RECEIVER")
    pushed = objects.location(sender.party, run.number(), run.later())
    path = f"/{sender.party.path}/{pushed['id']}"
    return way, expect(await way.call("PUT", path, pushed), code=SUCCESS), path, pushed


async def _reach(run: Run, sent: str, path: str, wanted: list[MockParty], others: list[MockParty]) -> list[Heard]:
    """See that all of `wanted` get it, and none of the others."""
    await run.until(lambda: all(each.heard_at(path) for each in wanted), within_s=run.target.arrival_s)
    await run.quiet()
    times = {f"{each.role} {each.party}": len(each.heard_at(path)) for each in wanted}
    amiss = ", ".join(f"{who} {count} times" for who, count in times.items() if count != 1)
    hold(not amiss, expected=f"each of {len(wanted)} receivers gets it once", got=amiss, sent=sent)
    wrong = [f"{each.role} {each.party}" for each in others if each.heard_at(path)]
    hold(not wrong, expected="nobody else gets it", got=f"so did {', '.join(wrong)}", sent=sent)
    return [each.heard_at(path)[0] for each in wanted]


@check("B1", DOC, roles=HUB)
async def opposite_roles(run: Run) -> None:
    """A CPO's push reaches EMSP, NSP and OTHER; an EMSP's and an OTHER's only CPOs; never the sender."""
    cpo, other_cpo, emsp, nsp, other = await run.everybody()
    _, answer, path, _ = await push_location(run, cpo)
    await _reach(run, answer.sent, path, [emsp, nsp, other], [cpo, other_cpo])
    for sender in (emsp, other):
        way = await run.to_hub(sender, "tokens", "RECEIVER")
        token = objects.token(sender.party, f"CARD{run.number()}", run.later())
        path = f"/{sender.party.path}/{token['uid']}"
        answer = expect(await way.call("PUT", path, token), code=SUCCESS)
        await _reach(run, answer.sent, path, [cpo, other_cpo], [emsp, nsp, other])


@check("B2", DOC, roles=HUB)
async def only_with_the_module(run: Run) -> None:
    """Only parties that have the module get it."""
    cpo, other_cpo, emsp, nsp, other = await run.everybody()
    way = await run.to_hub(cpo, "tariffs", "RECEIVER")
    tariff = objects.tariff(cpo.party, run.number(), run.later(), run.target.version)
    path = f"/{cpo.party.path}/{tariff['id']}"
    answer = expect(await way.call("PUT", path, tariff), code=SUCCESS)
    await _reach(run, answer.sent, path, [emsp, nsp], [other, other_cpo])


@check("B3", DOC, roles=HUB)
async def how_receivers_see_it(run: Run) -> None:
    """Receivers see FROM = hub, TO = themselves, and the owner in the URL; the sender is answered by the hub."""
    cpo, _, emsp, nsp, _ = await run.everybody()
    hub = await run.hub_party()
    way, answer, path, pushed = await push_location(run, cpo)
    for receiver, heard in zip((emsp, nsp), await _reach(run, answer.sent, path, [emsp, nsp], [cpo]), strict=True):
        routed = (heard.to_party, heard.from_party)
        hold(routed == (receiver.party, hub), expected=f"TO {receiver.party} FROM {hub}",
             got=f"TO {routed[0]} FROM {routed[1]}", sent=answer.sent)  # fmt: skip
        hold(heard.path.endswith(path), expected=f"a URL that ends in {path}", got=heard.path, sent=answer.sent)
        hold(heard.json == pushed, expected="the object as it was pushed", got=str(heard.json)[:200], sent=answer.sent)
        correlation = heard.headers.get("x-correlation-id")
        hold(correlation == way.last_correlation_id, expected="the same X-Correlation-ID", got=str(correlation),
             sent=answer.sent)  # fmt: skip


@check("B4", DOC, roles=HUB)
async def no_get(run: Run) -> None:
    """GET with TO = hub on a receiver interface is S 2001."""
    cpo = await run.cpo()
    way = await run.to_hub(cpo, "locations", "RECEIVER")
    expect(await way.call("GET", f"/{cpo.party.path}/LOC1"), code=2001)


@check("B5", DOC, roles=HUB)
async def dead_receiver(run: Run) -> None:
    """A dead receiver neither delays nor fails the others, and the outcome per receiver can be asked for."""
    cpo, _, emsp, nsp, _ = await run.everybody()
    await nsp.fall_silent()
    try:
        way, answer, path, _ = await push_location(run, cpo)
        came = await emsp.wait_for(path, within_s=run.target.arrival_s)
        hold(came, expected=f"{emsp.party} gets it", got="it does not", sent=answer.sent)
        outcomes: list[Any] = []

        async def is_told() -> bool:
            outcomes[:] = await run.operator.outcomes(way.last_correlation_id)
            return {str(each["to_party"]) for each in outcomes if each.get("status_code") == 1000} >= {str(emsp.party)}

        for _ in range(100):
            if await is_told():
                break
            await run.until(lambda: False, within_s=0.05)
        told = {str(each["to_party"]): each.get("status_code") for each in outcomes}
        hold(told.get(str(emsp.party)) == 1000, expected=f"{emsp.party} 1000", got=str(told), sent=answer.sent)
        is_known = str(nsp.party) in told and told[str(nsp.party)] != 1000
        hold(is_known, expected=f"{nsp.party} without success", got=str(told), sent=answer.sent)
    finally:
        await nsp.start()


@check("B6", DOC, roles=HUB)
async def not_what_is_between_two(run: Run) -> None:
    """Sessions and CDRs are not broadcast: they concern one party."""
    cpo, other_cpo, emsp, nsp, other = await run.everybody()
    session = objects.session(cpo.party, emsp.party, run.number(), run.later(), run.target.version)
    cdr = objects.cdr(cpo.party, emsp.party, f"CDR{run.number()}", run.later(), run.target.version)
    sessions, cdrs = await run.to_hub(cpo, "sessions", "RECEIVER"), await run.to_hub(cpo, "cdrs", "RECEIVER")
    for way, method, path, body in (
        (sessions, "PUT", f"/{cpo.party.path}/{session['id']}", session),
        (cdrs, "POST", "", cdr),
    ):
        answer = await way.call(method, path, body)
        hold(answer.code in CLIENT_ERRORS, expected="S 2xxx", got=answer)
        await run.quiet()
        ids = way.last_correlation_id
        wrong = [
            str(each.party)
            for each in (other_cpo, emsp, nsp, other)
            if any(heard.headers.get("x-correlation-id") == ids for heard in each.heard)
        ]
        hold(not wrong, expected="nobody gets it", got=f"{wrong} did", sent=answer.sent)
