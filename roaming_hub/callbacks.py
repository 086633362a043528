"""Results that come later: the hub's own URL stands in for a requester's `response_url`, and works once.

Commands and charging profiles name it in their body, GET and DELETE of a charging profile in the query; the platform
that was asked POSTs the result to it. Its answer to the request says within how many seconds (`timeout`): a result that
comes later finds nothing any more (HTTP 404), so a requester that counted to `timeout` knows that none will come. The
hub itself never makes up a result: TIMEOUT is the word of a CPO on its station, and charging profiles have no such
word. What a restart of the hub forgets is when a result is late, not that one is expected.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

import msgspec
from starlette.responses import Response

from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.ports.http import HttpResponse
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.client import Envelope
from emobility.protocols.ocpi.peers import PEER, PeerState
from emobility.protocols.ocpi.status import OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, NotAnOCPIObject, NotJSON, read
from roaming_hub.forwarding import Forwarding
from roaming_hub.messages import Incoming, Message
from roaming_hub.proxies import (
    NoSuchResource,
    Proxies,
    response_url_in,
    response_url_of,
    with_response_url,
    with_response_url_in,
)
from roaming_hub.records import ProxiedResource, ResourceKind

GRACE_S: Final = 5.0
"""How long after its `timeout` a result is still taken: it was on its way."""
CALLBACKS_MAX: Final = 100_000
"""Callbacks whose time is kept; of the oldest beyond that it is forgotten when they are late."""


class _Place(Enum):
    """Where a request names its `response_url`."""

    BODY = "body"
    QUERY = "query"


_ASYNCHRONOUS: Final = {
    ModuleID.COMMANDS.value: {"POST": _Place.BODY},
    ModuleID.CHARGINGPROFILES.value: {"PUT": _Place.BODY, "GET": _Place.QUERY, "DELETE": _Place.QUERY},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """Requests that are answered twice, and the URLs the hub stands in for."""

    ports: Ports
    hub: PartyId
    proxies: Proxies
    forwarding: Forwarding
    due_s: OrderedDict[str, float] = field(default_factory=OrderedDict)
    """When a callback's time is over, by the transport's clock: business time may be stepped."""

    async def send(self, message: Message) -> Response:
        """Send a message and answer its sender; a `response_url` in it is the hub's on the way."""
        sent = await self._with_callback(message)
        asked_s = self.ports.timer.monotonic_s()
        try:
            answer = await self.forwarding.exchange(sent)
        except EmobilityError:
            if sent.stand_in_callback:
                await self.proxies.drop(sent.stand_in_callback)
            raise
        if sent.stand_in_callback:
            timeout_s = _result_within_s(answer)
            if timeout_s is None:
                await self.proxies.drop(sent.stand_in_callback)
            else:
                self._expires(sent.stand_in_callback, asked_s + timeout_s + GRACE_S)
        return await self.forwarding.answer(sent, answer)

    async def through_stand_in(self, incoming: Incoming, resource_id: str) -> Response:
        """Use a URL the hub stands in for: a page, an object, or a result for the one who asked."""
        if self._is_late(resource_id):
            raise NoSuchResource
        resource = await self.proxies.find(resource_id, user=incoming.sender, method=incoming.method)
        try:
            message = await self._message_to(resource, incoming)
            response = await self.forwarding.answer(message, await self.forwarding.exchange(message))
        except EmobilityError:
            if resource.kind is ResourceKind.CALLBACK:
                await self.proxies.give_back(resource)
            raise
        if resource.kind is ResourceKind.CALLBACK and not _is_taken(response):
            await self.proxies.give_back(resource)
        return response

    def _expires(self, url: str, at_s: float) -> None:
        self.due_s[url.rsplit("/", 1)[-1]] = at_s
        if len(self.due_s) > CALLBACKS_MAX:
            self.due_s.popitem(last=False)

    def _is_late(self, resource_id: str) -> bool:
        return self.ports.timer.monotonic_s() > self.due_s.get(resource_id, math.inf)

    async def _with_callback(self, message: Message) -> Message:
        """Put a URL of the hub in the place of the `response_url`. Raises `InvalidParameters`, `NotAnOCPIObject`."""
        names_it = _ASYNCHRONOUS.get(message.module, {}).get(message.method)
        if message.incoming.side is not InterfaceRole.RECEIVER or names_it is None:
            return message
        endpoint, _, query = message.url.partition("?")
        url = await self.proxies.stand_in(
            ResourceKind.CALLBACK,
            response_url_of(message.body) if names_it is _Place.BODY else response_url_in(query),
            owner=message.incoming.sender,
            owner_party=message.sender_party,
            user=message.receiver,
            user_party=message.receiver_party,
            module=message.module,
            version=message.receiver.version,
        )
        if names_it is _Place.BODY:
            return replace(message, body=with_response_url(message.body, url), stand_in_callback=url)
        return replace(message, url=f"{endpoint}?{with_response_url_in(query, url)}", stand_in_callback=url)

    async def _message_to(self, resource: ProxiedResource, incoming: Incoming) -> Message:
        async with self.ports.units.begin() as unit:
            owner = await unit.table(PEER).get(self.hub, resource.owner_peer_id)
        if owner is None or owner.state is not PeerState.REGISTERED:
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{resource.owner_party} is not connected")
        return Message(
            message_id=self.ports.randomness.uuid(),
            incoming=replace(incoming, module=resource.module or incoming.module),
            sender_party=resource.user_party,
            from_party=resource.user_party,
            receiver=owner,
            receiver_party=resource.owner_party,
            url=resource.url,
            body=incoming.body,
        )


def _is_taken(response: Response) -> bool:
    """Tell whether the requester has the result: HTTP 2xx with S 1xxx."""
    try:
        code = read(bytes(response.body), Envelope).status_code
    except (NotJSON, NotAnOCPIObject):
        return False
    return 200 <= response.status_code < 300 and 1000 <= code < 2000


def _result_within_s(answer: HttpResponse) -> float | None:
    """Return how soon a result is to follow, in s; None: none will."""
    try:
        said = read(bytes(read(answer.body, Envelope).data), _Promise)
    except (NotJSON, NotAnOCPIObject):
        return None
    if said.result != "ACCEPTED":
        return None
    return math.inf if said.timeout is None else float(max(0, said.timeout))


class _Promise(msgspec.Struct, frozen=True):
    """What a command's or a charging profile's answer says of the result."""

    result: str
    timeout: int | None = None
