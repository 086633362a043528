"""Carry a message from party to party (OCPI 2.2.1, 4.3): by the OCPI-to headers, bytes untouched, failures told apart.

The receiver sees the same OCPI-to and OCPI-from, a new X-Request-ID, the same X-Correlation-ID and its own token; the
sender gets the receiver's answer as it is, or S 4000 to 4003 in the hub's name. Three URLs are the hub's own instead:
the `Link` of a page, the `Location` of a created object, and a command's `response_url`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import unquote, urljoin

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from emobility.domain.errors import EmobilityError, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.http import EgressRefused, HttpResponse, PeerTimedOut, PeerUnreachable
from emobility.ports.ports import Ports
from emobility.protocols.ocpi import headers as names
from emobility.protocols.ocpi.client import Envelope
from emobility.protocols.ocpi.headers import Routing, authorization, link_to, next_link, routing_headers, routing_of
from emobility.protocols.ocpi.host import Caller, OCPIHost, body_of
from emobility.protocols.ocpi.peers import PEER, PEER_ROLE, Peer, PeerRole, PeerState
from emobility.protocols.ocpi.server import MessageIds, Reply, envelope, reply_to
from emobility.protocols.ocpi.status import InvalidParameters, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import VERSION, Endpoint, InterfaceRole, ModuleID, NotAnOCPIObject, NotJSON, read
from roaming_hub.bulkhead import Bulkhead, ReceiverBusy
from roaming_hub.forwards import Forwards
from roaming_hub.metrics import HubMetrics
from roaming_hub.presence import Presence
from roaming_hub.proxies import Proxies, response_url_of, with_response_url
from roaming_hub.records import HUB_CLIENT, ProxiedResource, ResourceKind
from roaming_hub.rules import rule_verdict

ROUTED_MODULES: Final = (
    ModuleID.AGREEMENTS,
    ModuleID.CDRS,
    ModuleID.COMMANDS,
    ModuleID.DISPUTES,
    ModuleID.LOCATIONS,
    ModuleID.SESSIONS,
    ModuleID.TARIFFS,
    ModuleID.TOKENS,
)
"""Modules between parties; credentials, versions and hubclientinfo are between platforms."""
RECEIVER_TIMEOUT_S: Final = 4.0
"""How long a receiver may take; below the five seconds that a sender of ours waits for the hub."""
METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_PASSED_ON: Final = ("x-total-count", "x-limit", "content-type")
_SIDES: Final = {side.value.lower(): side for side in InterfaceRole}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request on its way through the hub."""

    ids: MessageIds
    sender: Peer
    sender_party: PartyId
    receiver: Peer
    receiver_party: PartyId
    method: str
    module: str
    url: str
    body: bytes
    content_type: str | None
    stand_in_callback: str | None = None

    def answer_headers(self) -> dict[str, str]:
        """4.3.1: an answer goes to the requester, from the receiver."""
        return routing_headers(Routing(to_party=self.sender_party, from_party=self.receiver_party))


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Forwards what arrives at the hub's module endpoints and proxied URLs."""

    ports: Ports
    hub: PartyId
    presence: Presence
    proxies: Proxies
    forwards: Forwards
    metrics: HubMetrics
    bulkhead: Bulkhead = field(default_factory=Bulkhead)
    timeout_s: float = RECEIVER_TIMEOUT_S

    def routes(self, host: OCPIHost) -> list[BaseRoute]:
        """Return the routes below `/ocpi`; authentication is the host's."""

        async def forward(request: Request) -> Response:
            return await self._answered(request, host, is_proxied=False)

        async def proxied(request: Request) -> Response:
            return await self._answered(request, host, is_proxied=True)

        return [
            Route(f"/{VERSION}/proxy/{{resource_id}}", proxied, methods=["GET", "POST"]),
            Route(f"/{VERSION}/{{module}}/{{side}}", forward, methods=METHODS),
            Route(f"/{VERSION}/{{module}}/{{side}}/{{rest:path}}", forward, methods=METHODS),
        ]

    async def _answered(self, request: Request, host: OCPIHost, *, is_proxied: bool) -> Response:
        ids = MessageIds.of(request, self.ports.randomness)
        module = "proxy" if is_proxied else _known_module(request)
        started_s = self.ports.timer.monotonic_s()
        try:
            sender = await host.registered_caller(request, self.hub)
            await self.presence.heard(sender.peer)
            if is_proxied:
                response = await self._through_proxy(request, ids, sender.peer)
            else:
                response = await self._forward(await self._addressed(request, ids, sender))
        except Exception as error:  # noqa: BLE001 - the edge: nothing of our insides leaves, whatever broke
            reply = _hub_reply(error, correlation_id=ids.correlation_id)
            response = envelope(reply, clock=self.ports.clock, ids=ids)
            self.metrics.refused(module, int(reply.status_code))
        self.metrics.took(module, self.ports.timer.monotonic_s() - started_s)
        return response

    # From request to message

    async def _addressed(self, request: Request, ids: MessageIds, sender: Caller) -> Message:
        """Find out from whom, to whom and where. Raises `OCPIError` S 2001, 4001, 4003."""
        module, side = request.path_params["module"], _side(request.path_params["side"])
        if module not in ROUTED_MODULES:
            raise InvalidParameters(f"the hub routes no module {module[:40]}")
        body = await body_of(request)
        if body:
            # The body is not changed, but what is no JSON is refused here: HTTP 400 (4.1.3).
            read(body, msgspec.Raw)
        routing = routing_of(request.headers)
        sender_party = _sender_party(sender.roles, routing)
        if routing.to_party is None or routing.to_party == self.hub:
            raise InvalidParameters("OCPI-to must name a party: this hub offers no broadcast and no open routing")
        receiver = await self._receiver(routing.to_party, sender_party, module)
        base = receiver.endpoint_urls().get((module, side))
        if base is None:
            raise InvalidParameters(f"{routing.to_party} has no {side} interface of {module}")
        return await self._with_callback(
            Message(
                ids=ids,
                sender=sender.peer,
                sender_party=sender_party,
                receiver=receiver,
                receiver_party=routing.to_party,
                method=request.method,
                module=module,
                url=_below(base, request, module, side),
                body=body,
                content_type=request.headers.get("content-type"),
            ),
            side=side,
        )

    async def _receiver(self, party: PartyId, sender_party: PartyId, module: str) -> Peer:
        async with self.ports.units.begin() as unit:
            roles = await unit.table(PEER_ROLE).select({"own_party": self.hub, "party_id": party}, limit=1)
            is_known = bool(roles) or await unit.table(HUB_CLIENT).count({"party_id": party}) > 0
            peer = await unit.table(PEER).get(self.hub, roles[0].peer_id) if roles else None
            verdict = await rule_verdict(
                unit, receiver=party, sender=sender_party, module=module, at=self.ports.clock.now()
            )
        if not is_known:
            raise OCPIError(StatusCode.UNKNOWN_RECEIVER, f"no party {party} at this hub")
        if peer is None or peer.state is not PeerState.REGISTERED or peer.outgoing_token is None:
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{party} is not connected")
        verdict.require()
        return peer

    async def _with_callback(self, message: Message, *, side: InterfaceRole) -> Message:
        """Put a URL of the hub in the place of a command's `response_url`."""
        is_command = message.module == ModuleID.COMMANDS and side is InterfaceRole.RECEIVER
        if not is_command or message.method != "POST":
            return message
        url = await self.proxies.stand_in(
            ResourceKind.CALLBACK,
            response_url_of(message.body),
            owner=message.sender,
            owner_party=message.sender_party,
            user=message.receiver,
            user_party=message.receiver_party,
        )
        return replace(message, body=with_response_url(message.body, url), stand_in_callback=url)

    async def _through_proxy(self, request: Request, ids: MessageIds, user: Peer) -> Response:
        """Use a URL the hub stands in for: a page, an object, or a result for the one who asked."""
        body = await body_of(request)
        if body:
            read(body, msgspec.Raw)
        resource = await self.proxies.find(request.path_params["resource_id"], user=user, method=request.method)
        try:
            message = await self._message_to(resource, request, ids, user, body)
            response = await self._forward(message)
        except EmobilityError:
            if resource.kind is ResourceKind.CALLBACK:
                await self.proxies.give_back(resource)
            raise
        if resource.kind is ResourceKind.CALLBACK and not _is_taken(response):
            await self.proxies.give_back(resource)
        return response

    async def _message_to(
        self, resource: ProxiedResource, request: Request, ids: MessageIds, user: Peer, body: bytes
    ) -> Message:
        async with self.ports.units.begin() as unit:
            owner = await unit.table(PEER).get(self.hub, resource.owner_peer_id)
        if owner is None or owner.state is not PeerState.REGISTERED:
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{resource.owner_party} is not connected")
        return Message(
            ids=ids,
            sender=user,
            sender_party=resource.user_party,
            receiver=owner,
            receiver_party=resource.owner_party,
            method=request.method,
            module="proxy",
            url=resource.url,
            body=body,
            content_type=request.headers.get("content-type"),
        )

    # From message to answer

    async def _forward(self, message: Message) -> Response:
        is_cdr = message.module == ModuleID.CDRS and message.method == "POST"
        if is_cdr:
            await self.forwards.begin(message.sender_party, message.receiver_party, message)
        try:
            answer = await self._call(message)
            code = _status_code_of(answer)
        except EmobilityError:
            if is_cdr:
                await self.forwards.end(message.sender_party, message.receiver_party, message, status_code=None)
            if message.stand_in_callback:
                await self.proxies.drop(message.stand_in_callback)
            raise
        if is_cdr:
            await self.forwards.end(message.sender_party, message.receiver_party, message, status_code=code)
        self.metrics.forwarded(message.module, message.receiver.peer_id, code)
        return await self._answer(message, answer)

    async def _call(self, message: Message) -> HttpResponse:
        """Call the receiver once. Raises `OCPIError` S 4000, 4002, 4003."""
        token = message.receiver.outgoing_token
        assert token is not None, "a registered receiver has a token"
        sent = {
            names.AUTHORIZATION: authorization(await self.ports.vault.open(token)),
            names.REQUEST_ID: self.ports.randomness.uuid(),
            names.CORRELATION_ID: message.ids.correlation_id,
            **routing_headers(Routing(to_party=message.receiver_party, from_party=message.sender_party)),
        }
        if message.body:
            sent["Content-Type"] = message.content_type or "application/json"
        try:
            async with self.bulkhead.place(message.receiver.peer_id):
                answer = await self.ports.http.request(
                    message.method, message.url, headers=sent, body=message.body, timeout_s=self.timeout_s
                )
        except PeerTimedOut as error:
            raise OCPIError(StatusCode.HUB_TIMED_OUT, f"{message.receiver_party} did not answer in time") from error
        except PeerUnreachable as error:
            await self.presence.lost(message.receiver)
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{message.receiver_party} can't be reached") from error
        except EgressRefused as error:
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{message.receiver_party} can't be called") from error
        except ReceiverBusy as error:
            raise OCPIError(StatusCode.HUB_ERROR, f"{message.receiver_party} is busy") from error
        if answer.status in {401, 403}:
            # Between hub and receiver the registration is broken; the sender's own token is fine.
            raise OCPIError(StatusCode.NOT_CONNECTED, f"{message.receiver_party} refuses the hub")
        await self.presence.heard(message.receiver)
        return answer

    async def _answer(self, message: Message, answer: HttpResponse) -> Response:
        headers = {**message.ids.headers(), **message.answer_headers()}
        headers |= {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        following = next_link(answer.headers.get("link"))
        if following:
            page = await self._of_receiver(message, ResourceKind.PAGE, following)
            if page is None:
                # Without its next page the list would look complete.
                raise OCPIError(StatusCode.HUB_ERROR, "the receiver's next page lies elsewhere")
            headers[names.LINK] = link_to(page)
        if answer.headers.get("location"):
            created = await self._of_receiver(message, ResourceKind.OBJECT, answer.headers["location"])
            headers |= {"Location": created} if created else {}
        if message.stand_in_callback and not _is_accepted_command(answer):
            await self.proxies.drop(message.stand_in_callback)
        return Response(answer.body, status_code=answer.status, headers=headers)

    async def _of_receiver(self, message: Message, kind: ResourceKind, url: str) -> str | None:
        """Return a URL of the hub for one the receiver named, None when that is not the receiver's own."""
        try:
            return await self.proxies.stand_in(
                kind,
                urljoin(message.url, url),
                owner=message.receiver,
                owner_party=message.receiver_party,
                user=message.sender,
                user_party=message.sender_party,
            )
        except (InvalidParameters, ValueError):
            _log.warning("url_elsewhere", peer=message.receiver.peer_id, kind=kind)
            return None


def endpoints(base_url: str) -> Sequence[Endpoint]:
    """Return what the hub lists in its version details, besides credentials and hubclientinfo."""
    return [
        Endpoint(identifier=module.value, role=side, url=f"{base_url}/{module}/{side.value.lower()}")
        for module in ROUTED_MODULES
        for side in InterfaceRole
    ]


def _sender_party(roles: Sequence[PeerRole], routing: Routing) -> PartyId:
    """Return in whose name a platform sends. Raises `InvalidParameters` when that is no role of its own."""
    if routing.from_party is None:
        raise InvalidParameters("OCPI-from must name the sending party")
    if all(role.party_id != routing.from_party for role in roles):
        raise InvalidParameters(f"OCPI-from {routing.from_party} is no role of the caller")
    return routing.from_party


def _known_module(request: Request) -> str:
    module = request.path_params.get("module", "")
    return module if module in ROUTED_MODULES else "other"


def _side(text: str) -> InterfaceRole:
    if text not in _SIDES:
        raise _nothing_here()
    return _SIDES[text]


def _nothing_here() -> OCPIError:
    return OCPIError(StatusCode.CLIENT_ERROR, "there is nothing here", http_status=404)


def _below(base: str, request: Request, module: str, side: InterfaceRole) -> str:
    """Return the receiver's URL with the rest of the path and the query as they were written."""
    raw: str = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1").partition("?")[0]
    endpoint = f"{request.scope.get('root_path', '')}/{VERSION}/{module}/{side.value.lower()}"
    rest = raw.removeprefix(endpoint)
    if not raw.startswith(endpoint) or rest[:1] not in {"", "/"}:
        # The router matches decoded text; with another spelling the rest can't be told from the endpoint.
        raise _nothing_here()
    _refuse_leaving(rest)
    query = request.scope["query_string"].decode("latin-1")
    url = f"{base.rstrip('/')}{rest}" if rest.strip("/") else base
    return f"{url}?{query}" if query else url


def _refuse_leaving(rest: str) -> None:
    """Refuse what could lead the receiver out of the endpoint whose rule was asked. Raises `OCPIError` S 2001, 404.

    Decoded once, as the receiver's server does it; `a%2Fb` is an id with a slash and stays, `..%2Fb` goes up.
    """
    decoded = unquote(rest)
    if not {".", ".."}.isdisjoint(re.split(r"[/\\]", decoded)) or _CONTROL.search(decoded):
        raise OCPIError(StatusCode.INVALID_PARAMETERS, "the path leaves the endpoint", http_status=404)


def _status_code_of(answer: HttpResponse) -> int:
    """Return the receiver's status code. Raises `OCPIError` S 4000 for what is no OCPI answer."""
    try:
        return read(answer.body, Envelope).status_code
    except (NotJSON, NotAnOCPIObject) as error:
        raise OCPIError(StatusCode.HUB_ERROR, f"the receiver answered HTTP {answer.status} without OCPI") from error


def _is_taken(response: Response) -> bool:
    """Tell whether the requester has the result: HTTP 2xx with S 1xxx."""
    try:
        code = read(bytes(response.body), Envelope).status_code
    except (NotJSON, NotAnOCPIObject):
        return False
    return 200 <= response.status_code < 300 and 1000 <= code < 2000


def _is_accepted_command(answer: HttpResponse) -> bool:
    try:
        data = read(bytes(read(answer.body, Envelope).data), dict[str, object])
    except (NotJSON, NotAnOCPIObject):
        return False
    return data.get("result") == "ACCEPTED"


def _hub_reply(error: Exception, *, correlation_id: str) -> Reply:
    """Whatever the hub itself fails with is S 4000, never a 3xxx, which would be the receiver's word."""
    if isinstance(error, OCPIError):
        return reply_to(error, correlation_id=correlation_id)
    if isinstance(error, Unavailable):
        _log.warning("hub_unavailable", correlation_id=correlation_id, reason=str(error))
        return Reply(status_code=StatusCode.HUB_ERROR, message="the hub could not; try again later")
    reply = reply_to(error, correlation_id=correlation_id)
    return replace(reply, status_code=StatusCode.HUB_ERROR) if reply.http_status >= 500 else reply
