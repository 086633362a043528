"""The hub's module endpoints: who calls is known, a mode of routing is chosen, whatever breaks becomes an answer.

`addressing` finds out from whom and to whom, `forwarding` sends, `steps` are what happens to a message on its way.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.protocols.ocpi import v211
from emobility.protocols.ocpi.host import Caller, OCPIHost
from emobility.protocols.ocpi.server import MessageIds, Reply, envelope, reply_to
from emobility.protocols.ocpi.signing import MessageSigning
from emobility.protocols.ocpi.status import OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import Endpoint, InterfaceRole, ModuleID
from roaming_hub.addressing import Addressing, sender_party
from roaming_hub.broadcasts import Broadcasts
from roaming_hub.callbacks import Callbacks
from roaming_hub.forwarding import Forwarding
from roaming_hub.get_all import GetAll
from roaming_hub.messages import Incoming
from roaming_hub.metrics import HubMetrics
from roaming_hub.open_routing import OpenRouting
from roaming_hub.presence import Presence
from roaming_hub.proxies import Proxies
from roaming_hub.rate_limits import Buckets, TooManyRequests
from roaming_hub.routed_modules import ROUTED_MODULES

METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]

_log = structlog.get_logger(__name__)


class _Routed(StringConvertor):
    """A part of a path that is a module we route."""

    regex = "|".join(map(re.escape, ROUTED_MODULES))


register_url_convertor("routed", _Routed())

Carry = Callable[[Request, MessageIds, Caller, str], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Carries what arrives at the hub's module endpoints and stand-in URLs."""

    ports: Ports
    hub: PartyId
    presence: Presence
    addressing: Addressing
    forwarding: Forwarding
    callbacks: Callbacks
    proxies: Proxies
    metrics: HubMetrics
    parties: Buckets
    broadcasts: Broadcasts
    open_routing: OpenRouting
    get_all: GetAll
    signing: MessageSigning

    def routes(self, host: OCPIHost) -> tuple[list[BaseRoute], list[BaseRoute]]:
        """Return the routes below `/ocpi` that stand before the host's own, and those after; the host authenticates.

        Routes are tried one by one, so those of the messages that come by the thousand come first. Whatever they don't
        know, such as another spelling of a module, gets its answer from those that stand last.
        """

        def served(carry: Carry, version: str) -> Callable[[Request], Awaitable[Response]]:
            async def serve(request: Request) -> Response:
                return await self._answered(request, host, carry, version)

            return serve

        first: list[BaseRoute] = []
        last: list[BaseRoute] = []
        for version in host.registrar.versions:
            endpoint, stand_in = served(self._at_endpoint, version), served(self._at_stand_in, version)
            first += [
                Route(f"/{version}/{{module:routed}}/{{side}}/{{rest:path}}", endpoint, methods=METHODS),
                Route(f"/{version}/{{module:routed}}/{{side}}", endpoint, methods=METHODS),
                Route(f"/{version}/proxy/{{resource_id}}", stand_in, methods=["GET", "POST"]),
            ]
            last += [
                Route(f"/{version}/{{module}}/{{side}}/{{rest:path}}", endpoint, methods=METHODS),
                Route(f"/{version}/{{module}}/{{side}}", endpoint, methods=METHODS),
            ]
        return first, last

    async def _answered(self, request: Request, host: OCPIHost, carry: Carry, version: str) -> Response:
        ids = MessageIds.of(request, self.ports.randomness)
        module = _known_module(request)
        started_s = self.ports.timer.monotonic_s()
        try:
            caller = await host.registered_caller(request, self.hub, version)
            self.parties.draw(caller.peer.peer_id)
            self.forwarding.circuits.answered(caller.peer.peer_id)
            await self.presence.heard(caller.peer)
            response = await carry(request, ids, caller, version)
        except Exception as error:  # noqa: BLE001 - the edge: nothing of our insides leaves, whatever broke
            reply = _hub_reply(error, correlation_id=ids.correlation_id)
            response = envelope(reply, clock=self.ports.clock, ids=ids)
            self.metrics.refused(module, int(reply.status_code))
        await self.signing.sign_answer(request, response)
        self.metrics.took(module, self.ports.timer.monotonic_s() - started_s)
        return response

    async def _at_endpoint(self, request: Request, ids: MessageIds, caller: Caller, version: str) -> Response:
        incoming = await self._entered(await self.addressing.incoming(request, ids, caller, version=version))
        sender, to_party = sender_party(caller, incoming.routing), incoming.routing.to_party
        if to_party is None and _is_push_of_2_1_1(incoming):
            to_party = self.hub
        if to_party == self.hub:
            if incoming.method == "GET" and incoming.side is InterfaceRole.SENDER:
                return await self.get_all.first_page(incoming, sender)
            return await self.broadcasts.push(incoming, sender)
        if to_party is None:
            to_party = await self.open_routing.destination(incoming, sender)
        return await self.callbacks.send(await self.addressing.to_party(incoming, sender, to_party))

    async def _at_stand_in(self, request: Request, ids: MessageIds, caller: Caller, version: str) -> Response:
        incoming = await self.addressing.incoming_at_stand_in(request, ids, caller, version=version)
        incoming, resource_id = await self._entered(incoming), request.path_params["resource_id"]
        listing = await self.proxies.listing(resource_id, user=incoming.sender) if incoming.method == "GET" else None
        if listing is not None:
            return await self.get_all.next_page(incoming, listing)
        return await self.callbacks.through_stand_in(incoming, resource_id)

    async def _entered(self, incoming: Incoming) -> Incoming:
        for step in self.forwarding.steps:
            await step.entered(incoming)
        return incoming


def endpoints(base_url: str) -> Sequence[Endpoint]:
    """Return what the hub lists in its version details, besides credentials and hubclientinfo."""
    return [
        Endpoint(identifier=module, role=side, url=f"{base_url}/{module}/{side.value.lower()}")
        for module in ROUTED_MODULES
        for side in InterfaceRole
    ]


def _is_push_of_2_1_1(incoming: Incoming) -> bool:
    """Tell whether a push can only be meant for all: 2.1.1 has no headers to say so, nor to name one party."""
    is_for_all = incoming.module in {ModuleID.LOCATIONS, ModuleID.TARIFFS, ModuleID.TOKENS}
    return incoming.version == v211.VERSION and incoming.side is InterfaceRole.RECEIVER and is_for_all


def _known_module(request: Request) -> str:
    if "resource_id" in request.path_params:
        return "proxy"
    module: str = request.path_params.get("module", "")
    return module if module in ROUTED_MODULES else "other"


def _hub_reply(error: Exception, *, correlation_id: str) -> Reply:
    """Whatever the hub itself fails with is S 4000, never a 3xxx, which would be the receiver's word."""
    if isinstance(error, TooManyRequests):
        return error.reply()
    if isinstance(error, OCPIError):
        return reply_to(error, correlation_id=correlation_id)
    if isinstance(error, Unavailable):
        _log.warning("hub_unavailable", correlation_id=correlation_id, reason=str(error))
        return Reply(status_code=StatusCode.HUB_ERROR, message="the hub could not; try again later")
    reply = reply_to(error, correlation_id=correlation_id)
    return replace(reply, status_code=StatusCode.HUB_ERROR) if reply.http_status >= 500 else reply
