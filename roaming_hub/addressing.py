"""Who sends, to whom, and at which URL: what a request's headers and path say, held against what is registered."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from urllib.parse import unquote

import msgspec
from starlette.requests import Request

from emobility.domain.identifiers import PartyId, Role
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import headers as names
from emobility.protocols.ocpi import v211
from emobility.protocols.ocpi.headers import Routing, routing_of
from emobility.protocols.ocpi.host import Caller, body_of
from emobility.protocols.ocpi.peers import PEER, PEER_ROLE, Peer, PeerState
from emobility.protocols.ocpi.server import MessageIds
from emobility.protocols.ocpi.signing import MessageSigning, joined, targets_of
from emobility.protocols.ocpi.status import InvalidParameters, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, read
from roaming_hub.messages import Incoming, Message
from roaming_hub.records import HUB_CLIENT
from roaming_hub.routed_modules import ROUTED_MODULES
from roaming_hub.rules import RULE_TABLES, RuleBook, rule_book

_OF_RECEIVERS: Final = (PEER, PEER_ROLE, *RULE_TABLES)
_SIDES: Final = {side.value.lower(): side for side in InterfaceRole}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """A connected party and its platform."""

    party: PartyId
    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """Finds receivers among the platforms registered at the hub."""

    ports: Ports
    hub: PartyId
    signing: MessageSigning
    public_url: str

    async def incoming(self, request: Request, ids: MessageIds, caller: Caller, *, version: str) -> Incoming:
        """Read a request to a module endpoint. Raises `OCPIError` S 2001, 2901, HTTP 400, 404, 413."""
        module, side = request.path_params["module"], _side(request.path_params["side"])
        if module not in ROUTED_MODULES:
            raise InvalidParameters(f"the hub routes no module {module[:40]}")
        rest = _rest(request, f"{version}/{module}/{side.value.lower()}")
        incoming = await _incoming(request, ids, caller, version=version, module=module, side=side, rest=rest)
        return await self._signed(incoming, request)

    async def incoming_at_stand_in(
        self, request: Request, ids: MessageIds, caller: Caller, *, version: str
    ) -> Incoming:
        """Read a request to a URL that the hub put in the place of another. Raises `OCPIError` HTTP 400, 413."""
        incoming = await _incoming(request, ids, caller, version=version, module="proxy", side=None, rest="")
        return await self._signed(incoming, request)

    async def _signed(self, incoming: Incoming, request: Request) -> Incoming:
        """Judge the signature of a request. Raises `SignatureRefused`."""
        caller = incoming.routing.from_party or min(role.party_id for role in incoming.roles)
        signed = await self.signing.incoming(
            request,
            incoming.body,
            own_party=self.hub,
            caller=caller,
            roles=incoming.roles,
            targets=targets_of(request, public_url=self.public_url),
        )
        return replace(incoming, signed=signed)

    async def to_party(self, incoming: Incoming, sender_party: PartyId, to_party: PartyId) -> Message:
        """Address a message to one party. Raises `OCPIError` S 2001, 4001, 4003."""
        receiver = await self._receiver(to_party, sender_party, incoming.module)
        addressee = Addressee(party=to_party, peer=receiver)
        return self.message(incoming, sender_party, addressee, from_party=sender_party)

    async def connected(
        self, unit: UnitOfWork, *, roles: Collection[Role], module: str, side: InterfaceRole, sender: PartyId
    ) -> list[Addressee]:
        """Return who else plays one of `roles`, serves that side of the module and takes it from `sender`, by party.

        Few reads, however many there are.
        """
        peers = {
            peer.peer_id: peer
            for peer in await unit.table(PEER).select({"own_party": self.hub, "state": PeerState.REGISTERED})
            if peer.outgoing_token is not None and (module, side) in peer.endpoint_urls()
        }
        found: dict[PartyId, Peer] = {}
        for role in await unit.table(PEER_ROLE).select({"own_party": self.hub}, order_by=("party_id", "role")):
            if role.role in roles and role.peer_id in peers and role.party_id != sender:
                found[role.party_id] = peers[role.peer_id]
        book, now = await rule_book(unit, {sender, *found}), self.ports.clock.now()
        return [
            Addressee(party=party, peer=peer)
            for party, peer in found.items()
            if book.verdict(receiver=party, sender=sender, module=module, at=now).is_allowed
        ]

    def message(
        self, incoming: Incoming, sender_party: PartyId, addressee: Addressee, *, from_party: PartyId
    ) -> Message:
        """Address a message to one of `connected`."""
        return Message(
            message_id=self.ports.randomness.uuid(),
            incoming=incoming,
            sender_party=sender_party,
            from_party=from_party,
            receiver=addressee.peer,
            receiver_party=addressee.party,
            url=url_at(addressee.peer, addressee.party, incoming),
            body=incoming.body,
        )

    async def _receiver(self, party: PartyId, sender_party: PartyId, module: str) -> Peer:
        question = ("receiver", self.hub, party, sender_party)
        is_known, peer, book = await self.ports.units.concluded(
            question, _OF_RECEIVERS, partial(self._looked_up, party, sender_party)
        )
        verdict = book.verdict(receiver=party, sender=sender_party, module=module, at=self.ports.clock.now())
        if not is_known:
            async with self.ports.units.begin() as unit:
                is_known = bool(await unit.table(HUB_CLIENT).count({"party_id": party}))
        if not is_known:
            raise OCPIError(StatusCode.UNKNOWN_RECEIVER, f"no party {party} at this hub")
        if peer is None or peer.state is not PeerState.REGISTERED or peer.outgoing_token is None:
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{party} is not connected")
        verdict.require()
        return peer

    async def _looked_up(
        self, party: PartyId, sender_party: PartyId, unit: UnitOfWork
    ) -> tuple[bool, Peer | None, RuleBook]:
        """Return whether a party plays a role here, by which platform, and what decides on messages to it."""
        roles = await unit.table(PEER_ROLE).select({"own_party": self.hub, "party_id": party}, limit=1)
        peer = await unit.table(PEER).get(self.hub, roles[0].peer_id) if roles else None
        return bool(roles), peer, await rule_book(unit, (party, sender_party))


def sender_party(caller: Caller, routing: Routing) -> PartyId:
    """Return in whose name a platform sends. Raises `InvalidParameters` when that is no role of its own.

    2.1.1 has no routing headers, and one party; others without them need `PeerTolerances.lacks_routing_headers`.
    """
    parties = {role.party_id for role in caller.roles}
    if routing.from_party is None:
        is_tolerated = caller.peer.tolerances.lacks_routing_headers or caller.peer.version == v211.VERSION
        if is_tolerated and len(parties) == 1:
            return min(parties)
        raise InvalidParameters("OCPI-from must name the sending party")
    if routing.from_party not in parties:
        raise InvalidParameters(f"OCPI-from {routing.from_party} is no role of the caller")
    return routing.from_party


def url_at(receiver: Peer, party: PartyId, incoming: Incoming) -> str:
    """Return the receiver's URL with the rest of path and query as written. Raises `InvalidParameters`."""
    assert incoming.side is not None, "a stand-in URL leads to one URL, not to an endpoint"
    base = receiver.endpoint_urls().get((incoming.module, incoming.side))
    if base is None:
        raise InvalidParameters(f"{party} has no {incoming.side} interface of {incoming.module}")
    url = f"{base.rstrip('/')}{incoming.rest}" if incoming.rest.strip("/") else base
    return f"{url}?{incoming.query}" if incoming.query else url


async def _incoming(
    request: Request,
    ids: MessageIds,
    caller: Caller,
    *,
    version: str,
    module: str,
    side: InterfaceRole | None,
    rest: str,
) -> Incoming:
    body = await body_of(request)
    if body:
        # The body is not changed, but what is no JSON is refused here: HTTP 400 (4.1.3).
        read(body, msgspec.Raw)
    query = request.scope["query_string"].decode("latin-1")
    return Incoming(
        ids=ids,
        sender=caller.peer,
        roles=caller.roles,
        routing=routing_of(request.headers),
        version=version,
        method=request.method,
        url=_raw_path(request) + (f"?{query}" if query else ""),
        module=module,
        side=side,
        rest=rest,
        query=query,
        headers={
            name: value
            for name, value in joined(request.headers.items()).items()
            if name != names.AUTHORIZATION.lower()
        },
        body=body,
    )


def _side(text: str) -> InterfaceRole:
    if text not in _SIDES:
        raise _nothing_here()
    return _SIDES[text]


def _nothing_here() -> OCPIError:
    return OCPIError(StatusCode.CLIENT_ERROR, "there is nothing here", http_status=404)


def _raw_path(request: Request) -> str:
    raw: bytes = request.scope.get("raw_path", request.scope["path"].encode())
    return raw.decode("latin-1").partition("?")[0]


def _rest(request: Request, endpoint: str) -> str:
    """Return what follows the hub's endpoint in the path, as it was written. Raises `OCPIError` HTTP 404."""
    raw, base = _raw_path(request), f"{request.scope.get('root_path', '')}/{endpoint}"
    rest = raw.removeprefix(base)
    if not raw.startswith(base) or rest[:1] not in {"", "/"}:
        # The router matches decoded text; with another spelling the rest can't be told from the endpoint.
        raise _nothing_here()
    _refuse_leaving(rest)
    return rest


def _refuse_leaving(rest: str) -> None:
    """Refuse what could lead the receiver out of the endpoint whose rule was asked. Raises `OCPIError` S 2001, 404.

    Decoded once, as the receiver's server does it; `a%2Fb` is an id with a slash and stays, `..%2Fb` goes up.
    """
    decoded = unquote(rest)
    if not {".", ".."}.isdisjoint(re.split(r"[/\\]", decoded)) or _CONTROL.search(decoded):
        raise OCPIError(StatusCode.INVALID_PARAMETERS, "the path leaves the endpoint", http_status=404)
