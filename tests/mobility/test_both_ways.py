"""A CDR that comes from its CPO and through a hub as well is one CDR, and one debt."""

from __future__ import annotations

from typing import Any

from emobility.domain.identifiers import PartyId, Role
from emobility.events.cdr import CDRAccepted, CDRReceived
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.headers import authorization
from emobility.protocols.ocpi.mapping import cdr_to_ocpi
from emobility.protocols.ocpi.peers import PEER, PEER_ROLE, Peer, PeerRole, PeerState, TokenUse, add_incoming_token
from emobility.protocols.ocpi.signing import SIGNATURE_RULE, SignatureRule
from services.driver_mobility.records import BILL, CDRS
from tests.mobility.conftest import BASE, CPO, MSP

HUB = PartyId("NL-HUB")
TOKEN = "h" * 64


async def with_a_hub(world: Any) -> None:
    """Register a hub at the MSP, beside the CPO that is registered directly."""
    now = world.clock.now()
    peer = Peer(
        own_party=MSP,
        peer_id="hub",
        state=PeerState.REGISTERED,
        origin="http://hub.test",
        versions_url="http://hub.test/versions",
        endpoints=(),
        outgoing_token=await world.ports.vault.seal("t"),
        last_updated=now,
    )
    role = PeerRole(own_party=MSP, party_id=HUB, role=Role.HUB, peer_id="hub", business_name="Hub", last_updated=now)
    async with world.ports.units.begin() as unit:
        await unit.table(PEER).put(peer)
        # This hub carries what is not signed; that a signature is needed elsewhere is tested there.
        await unit.table(SIGNATURE_RULE).put(SignatureRule(own_party=MSP, party_id=CPO, is_required=False))
        await unit.table(PEER_ROLE).put(role)
        await add_incoming_token(unit, peer, TOKEN, TokenUse.REQUESTS)
        await unit.commit()


async def through_the_hub(world: Any, body: bytes, *, request_id: str) -> HttpResponse:
    headers = {
        "Authorization": authorization(TOKEN),
        "OCPI-from-country-code": CPO.country_code,
        "OCPI-from-party-id": CPO.party_id,
        "OCPI-to-country-code": MSP.country_code,
        "OCPI-to-party-id": MSP.party_id,
        "X-Request-ID": request_id,
        "X-Correlation-ID": request_id,
        "Content-Type": "application/json",
    }
    answer: HttpResponse = await world.http.request(
        "POST", f"{BASE}/mobility/{MSP}/ocpi/2.2.1/cdrs/receiver", headers=headers, body=body
    )
    return answer


async def test_a_cdr_that_comes_both_ways_is_one(memory_world: Any) -> None:
    world = memory_world
    await with_a_hub(world)
    await world.enrol()
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference)
    await world.cpo.push_session(session)
    body = v221.write(await cdr_to_ocpi(cdr, world.ports.vault))

    directly = await world.cpo.post_cdr(cdr)
    by_hub = await through_the_hub(world, body, request_id="1")
    await world.quiet()
    again = await through_the_hub(world, body, request_id="2")
    await world.quiet()

    assert (directly.status, by_hub.status, again.status) == (201, 200, 200)
    locations = {answer.headers["location"].partition("/cdrs/")[2] for answer in (directly, by_hub)}
    assert locations == {"receiver/S1"}
    async with world.ports.units.begin() as unit:
        assert len(await unit.table(CDRS).select()) == 1
        assert len(await unit.table(BILL).select()) == 1
    assert (await told(world, CDRReceived), await told(world, CDRAccepted)) == (1, 1)


async def told(world: Any, kind: type) -> int:
    return sum([isinstance(each.envelope.event, kind) async for each in world.ports.event_log.read(["cdrs"])])


async def test_another_content_under_its_id_is_refused_whichever_way_it_comes(memory_world: Any) -> None:
    world = memory_world
    await with_a_hub(world)
    await world.enrol()
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference)
    await world.cpo.push_session(session)
    body = v221.write(await cdr_to_ocpi(cdr, world.ports.vault))
    await world.cpo.post_cdr(cdr)

    other = await through_the_hub(world, body.replace(b'"EUR"', b'"SEK"'), request_id="1")

    assert b'"status_code":2001' in other.body
