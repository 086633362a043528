"""Results that come later: the hub's own URL stands in for a requester's `response_url`, and works once.

Commands name it in their body (13.2); the result is POSTed to it by the platform that was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from roaming_hub.proxies import Proxies, response_url_of, with_response_url
from roaming_hub.records import ProxiedResource, ResourceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """Requests that are answered twice, and the URLs the hub stands in for."""

    ports: Ports
    hub: PartyId
    proxies: Proxies
    forwarding: Forwarding

    async def send(self, message: Message) -> Response:
        """Send a message and answer its sender; a `response_url` in it is the hub's on the way."""
        sent = await self._with_callback(message)
        try:
            answer = await self.forwarding.exchange(sent)
        except EmobilityError:
            if sent.stand_in_callback:
                await self.proxies.drop(sent.stand_in_callback)
            raise
        if sent.stand_in_callback and not _is_accepted(answer):
            await self.proxies.drop(sent.stand_in_callback)
        return await self.forwarding.answer(sent, answer)

    async def through_stand_in(self, incoming: Incoming, resource_id: str) -> Response:
        """Use a URL the hub stands in for: a page, an object, or a result for the one who asked."""
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

    async def _with_callback(self, message: Message) -> Message:
        is_command = message.module == ModuleID.COMMANDS and message.incoming.side is InterfaceRole.RECEIVER
        if not is_command or message.method != "POST":
            return message
        url = await self.proxies.stand_in(
            ResourceKind.CALLBACK,
            response_url_of(message.body),
            owner=message.incoming.sender,
            owner_party=message.sender_party,
            user=message.receiver,
            user_party=message.receiver_party,
            module=message.module,
            version=message.receiver.version,
        )
        return replace(message, body=with_response_url(message.body, url), stand_in_callback=url)

    async def _message_to(self, resource: ProxiedResource, incoming: Incoming) -> Message:
        async with self.ports.units.begin() as unit:
            owner = await unit.table(PEER).get(self.hub, resource.owner_peer_id)
        if owner is None or owner.state is not PeerState.REGISTERED:
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{resource.owner_party} is not connected")
        return Message(
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


def _is_accepted(answer: HttpResponse) -> bool:
    try:
        data = read(bytes(read(answer.body, Envelope).data), dict[str, object])
    except (NotJSON, NotAnOCPIObject):
        return False
    return data.get("result") == "ACCEPTED"
