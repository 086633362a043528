"""The OCPI side of a service: it answers for every party the service hosts and speaks in their names.

A service declares its modules as `Interface`s and mounts one `OCPIHost`::

    host = OCPIHost(ports, service="operations", base_url=f"{settings.public_url}/operations", interfaces=(...))
    host.mount_on(app, authorize=access.party)     # before other routes that begin with /{party}
    ...
    await host.add_party(unit, PartyId("NL-TNM"), role=Role.CPO, business_name="TNM")
    await host.deliveries.enqueue(unit, own_party=..., to_party=..., ...)
    client = await host.connect(own_party, to_party)
    await host.run(stop)

It serves, below `/{party}/ocpi`: `versions` and, for each version, `2.2.1`, `2.2.1/credentials` and each interface at
`2.2.1/{module}/{sender|receiver}`; for the operator `POST /{party}/ocpi-register` (at a platform that invited us) and
`ocpi-invitations` (of a partner without a hub), `GET /{party}/ocpi-peers`,
`PUT /{party}/ocpi-peers/{peer_id}/tolerances`, `GET /{party}/ocpi-deliveries` (what partners refused) and
`POST /{party}/ocpi-deliveries/{delivery_id}/retry`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, Final

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from emobility.domain.errors import EmobilityError, MalformedInput, RuleBroken
from emobility.domain.identifiers import MalformedPartyId, PartyId, Role
from emobility.ports.http import TIMEOUT_S, EgressRefused
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import headers as names
from emobility.protocols.ocpi.bridging import (
    ANSWER_LOSSES_HEADER,
    LOSSES_HEADER,
    NotBridgeable,
    Way,
    bridge,
    losses_header,
    query_in,
)
from emobility.protocols.ocpi.client import OCPIClient
from emobility.protocols.ocpi.deliveries import Deliveries, NoSuchDelivery
from emobility.protocols.ocpi.delivery_worker import DeliveryWorker
from emobility.protocols.ocpi.headers import MalformedAuthorization, Routing, routing_headers, routing_of, token_of
from emobility.protocols.ocpi.key_api import KeyAPI
from emobility.protocols.ocpi.party_keys import ensure_own_key
from emobility.protocols.ocpi.peers import (
    INCOMING_TOKEN,
    PEER,
    PEER_ROLE,
    STRICT,
    Peer,
    PeerRole,
    PeerState,
    PeerTolerances,
    TokenUse,
    client_of,
    peer_of_token,
    roles_of,
    route,
    tolerate,
)
from emobility.protocols.ocpi.registration import OwnIdentity, Registrar, origin_of
from emobility.protocols.ocpi.server import (
    BODY_BYTES_MAX,
    Handler,
    Interface,
    MessageIds,
    OCPICall,
    Reply,
    answered,
)
from emobility.protocols.ocpi.signing import MessageSigning, PeerSigning, targets_of
from emobility.protocols.ocpi.status import (
    InvalidParameters,
    MethodNotAllowed,
    NoSuchObject,
    NotAuthenticated,
    OCPIError,
    StatusCode,
)
from emobility.protocols.ocpi.straight import NarrowedRouter, straight
from emobility.protocols.ocpi.v221 import (
    CredentialsRole,
    Endpoint,
    InterfaceRole,
    ModuleID,
    Version,
    read,
    write,
)
from emobility.protocols.ocpi.versions import (
    NATIVE,
    ONLY_230,
    SPOKEN,
    details_in,
    native_to,
    opposite,
    read_credentials,
)

_log = structlog.get_logger(__name__)

_OF_CALLERS: Final = (INCOMING_TOKEN, PEER, PEER_ROLE)
HUB_PEER_ID: Final = "hub"
"""Name under which a hosted party keeps the platform it registered at, unless the operator names another."""

Authorize = Callable[[Request, PartyId], Awaitable[None]]
"""Raises the HTTP error that refuses an operator; see `emobility/runtime/access`."""
_Served = tuple[str, list[str], Callable[[Request], Awaitable[Response]]]
"""A path, its methods and who answers."""
Connected = Callable[[PartyId, Peer], Awaitable[None]]
"""Told, after the commit, that `own_party` is registered with a peer (again)."""
Left = Callable[[PartyId, Peer, list[tuple[PartyId, Role]]], Awaitable[None]]
"""Told, after the commit, that a peer ended its registration, and which roles it had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedParty:
    """A party in whose name a service acts."""

    service: str
    party_id: PartyId
    role: Role
    business_name: str


HOSTED_PARTY: Final = TableSpec(
    name="ocpi_hosted_party", record=HostedParty, key=("service", "party_id"), is_reference=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated platform, what its token is good for, and the roles it plays."""

    peer: Peer
    token_use: TokenUse
    roles: tuple[PeerRole, ...]


class PartnerNotNamed(MalformedInput):
    """A partner may speak for itself alone, so a registration at one that is no hub says which party it is."""


class NoSuchPeer(RuleBroken):
    """No platform of this name is known to the party."""


class _RegisterRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`expected_party`, `expected_role`: whom the platform may answer as; a hub's party need not be known before.

    `version`: the only one to speak; else the highest that both sides have.
    """

    versions_url: str
    token_a: str
    peer_id: str = HUB_PEER_ID
    expected_party: str | None = None
    expected_role: Role = Role.HUB
    tolerances: PeerTolerances = STRICT
    version: str | None = None


class _Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """Whom we expect, and from where it will call; `peer_id`: our name for its platform."""

    versions_url: str
    expected_party: str
    expected_role: Role
    peer_id: str | None = None


class OCPIHost:
    """See the module's docstring.

    Args:
        ports: The service's ports.
        service: Names the service's parties in `ocpi_hosted_party`.
        base_url: Absolute URL below which the service's app is reached.
        interfaces: The service's modules.
        fixed_party: A service that is one party itself (the hub): its URLs have no party in them.
        extra_endpoints: Further endpoints in the version details, by the version's URL.
        versions: The versions of OCPI that are spoken, oldest first; 2.1.1 with those peers only that may.
    """

    def __init__(
        self,
        ports: Ports,
        *,
        service: str,
        base_url: str,
        interfaces: Sequence[Interface] = (),
        registrar: Registrar | None = None,
        fixed_party: HostedParty | None = None,
        extra_endpoints: Callable[[str], Sequence[Endpoint]] = lambda _: (),
        timeout_s: float = TIMEOUT_S,
        versions: Sequence[str] = SPOKEN,
    ) -> None:
        self.ports = ports
        self.service = service
        self.base_url = base_url.rstrip("/")
        self.interfaces = tuple(interfaces)
        self.registrar = registrar or Registrar(ports=ports, timeout_s=timeout_s, versions=tuple(versions))
        self.deliveries = Deliveries(ports)
        self.signing = MessageSigning(ports)
        self.timeout_s = timeout_s
        self._fixed_party = fixed_party
        self._extra_endpoints = extra_endpoints
        self._on_connected: list[Connected] = []
        self._on_left: list[Left] = []
        self._reachable: Callable[[UnitOfWork, Peer], Awaitable[list[CredentialsRole]]] | None = None
        self._worker = DeliveryWorker(ports, self.deliveries, own_parties=self.parties, connect=self.connect)
        self.app = self._ocpi_app()

    # For the service

    def mount_on(self, app: Any, *, authorize: Authorize) -> None:
        """Add the OCPI app and the operator's routes to the service's FastAPI or Starlette app."""
        below = "" if self._fixed_party else "/{party}"
        app.router.routes += [
            self._mount(),
            Route(f"{below}/ocpi-register", self._operator(authorize, self._register), methods=["POST"]),
            Route(f"{below}/ocpi-peers", self._operator(authorize, self._list_peers), methods=["GET"]),
            Route(
                f"{below}/ocpi-peers/{{peer_id}}/tolerances",
                self._operator(authorize, self._tolerate),
                methods=["PUT"],
            ),
            Route(f"{below}/ocpi-deliveries", self._operator(authorize, self._list_failed), methods=["GET"]),
            *(
                []
                if self._fixed_party  # whose operator has a page for it
                else [Route(f"{below}/ocpi-invitations", self._operator(authorize, self._invite), methods=["POST"])]
            ),
            Route(
                f"{below}/ocpi-deliveries/{{delivery_id}}/retry",
                self._operator(authorize, self._retry),
                methods=["POST"],
            ),
            *KeyAPI(self.ports).routes(below, lambda handler: self._operator(authorize, handler)),
        ]

    def straight(self, app: ASGIApp) -> ASGIApp:
        """Return the service's app, with OCPI served before it: messages need none of its layers."""
        return straight(app, self._mount())

    def _mount(self) -> Mount:
        return Mount("/ocpi" if self._fixed_party else "/{party}/ocpi", app=self.app)

    def add_routes(self, routes: Sequence[BaseRoute]) -> None:
        """Serve further routes below `/ocpi`, after our own."""
        self.app.router.routes += routes

    def add_interface(self, interface: Interface) -> None:
        """Serve a further module; called before anything is served."""
        self.interfaces = (*self.interfaces, interface)
        served = [each for version in self.registrar.versions for each in self._served_by(interface, version)]
        self.app.router.routes[0:0] = _in_both_spellings(served)

    def on_connected(self, told: Connected) -> None:
        """Have `told(own_party, peer)` called after each completed handshake."""
        self._on_connected.append(told)

    def reaching(self, reachable: Callable[[UnitOfWork, Peer], Awaitable[list[CredentialsRole]]]) -> None:
        """Have `reachable` tell, for a hub's credentials in 2.3.0, whom a peer reaches through it."""
        self._reachable = reachable

    def on_left(self, told: Left) -> None:
        """Have `told(own_party, peer, roles)` called after a peer ended its registration."""
        self._on_left.append(told)

    async def add_party(self, unit: UnitOfWork, party_id: PartyId, *, role: Role, business_name: str) -> None:
        """Host a party from now on; twice is as once."""
        await unit.table(HOSTED_PARTY).put(
            HostedParty(service=self.service, party_id=party_id, role=role, business_name=business_name)
        )
        await ensure_own_key(unit, party_id, self.ports.signer, now=self.ports.clock.now())

    async def parties(self, unit: UnitOfWork) -> list[PartyId]:
        """Return the hosted parties."""
        if self._fixed_party is not None:
            return [self._fixed_party.party_id]
        hosted = await unit.table(HOSTED_PARTY).select({"service": self.service}, order_by=("party_id",))
        return [each.party_id for each in hosted]

    async def connect(self, own_party: PartyId, to_party: PartyId | None) -> OCPIClient:
        """Return a client for the route to a party (None: the hub). Raises `NoRoute`."""
        async with self.ports.units.begin() as unit:
            peer = await route(unit, own_party, to_party)
        return await self.client(peer)

    async def client(self, peer: Peer) -> OCPIClient:
        """Return a client for a registered peer. Raises `NoRoute`."""
        client = await client_of(
            peer,
            vault=self.ports.vault,
            http=self.ports.http,
            randomness=self.ports.randomness,
            timeout_s=self.timeout_s,
        )
        async with self.ports.units.begin() as unit:
            roles = await roles_of(unit, peer)
        signing = PeerSigning(
            signing=self.signing,
            own_party=peer.own_party,
            peer=peer,
            roles=roles,
            endpoints=client.endpoints,
            version=peer.version,
        )
        return replace(client, signing=signing)

    async def pending(self) -> int:
        """Return how many messages of the hosted parties still have to be sent."""
        async with self.ports.units.begin() as unit:
            return await self.deliveries.pending(unit, await self.parties(unit))

    async def run(self, stop: asyncio.Event) -> None:
        """Send deliveries until `stop` is set. Registered origins may be called again after a restart."""
        async with self.ports.units.begin() as unit:
            for party in await self.parties(unit):
                await ensure_own_key(unit, party, self.ports.signer, now=self.ports.clock.now())
                for peer in await unit.table(PEER).select({"own_party": party}):
                    try:
                        self.ports.http.allow_origin(peer.origin)
                    except EgressRefused as error:
                        # Rules of egress may have become stricter since it was invited; the others go on.
                        _log.warning("peer_not_called", party=party, peer=peer.peer_id, reason=str(error))
            await unit.commit()
        await self._worker.run(stop)

    async def register(
        self,
        own_party: PartyId,
        *,
        versions_url: str,
        token_a: str,
        peer_id: str = HUB_PEER_ID,
        expected_party: PartyId | None = None,
        expected_role: Role = Role.HUB,
        tolerances: PeerTolerances = STRICT,
        version: str | None = None,
    ) -> Peer:
        """Register a hosted party at a platform. Raises `PartnerNotNamed`, and as `Registrar.register` does."""
        if expected_party is None and expected_role is not Role.HUB:
            raise PartnerNotNamed(f"expected_party says which {expected_role} it is")
        own = await self._identity(own_party)
        peer = await self.registrar.register(
            own,
            peer_id=peer_id,
            versions_url=versions_url,
            token_a=token_a,
            expected_party=expected_party,
            expected_role=expected_role,
            tolerances=tolerances,
            version=version,
        )
        await self.tell_connected(own_party, peer)
        return peer

    async def rotate(self, peer: Peer) -> Peer:
        """Renew the tokens shared with a peer. Raises as `Registrar.rotate` does."""
        return await self.registrar.rotate(await self._identity(peer.own_party, peer), peer)

    async def tell_connected(self, own_party: PartyId, peer: Peer) -> None:
        """Call those who asked to know of completed handshakes."""
        for told in self._on_connected:
            await told(own_party, peer)

    # URLs

    def ocpi_url(self, party: PartyId) -> str:
        """Return the absolute URL of a party's OCPI."""
        return f"{self.base_url}/ocpi" if self._fixed_party else f"{self.base_url}/{party}/ocpi"

    def endpoint_url(self, party: PartyId, module: str, role: InterfaceRole, version: str = NATIVE) -> str:
        """Return the absolute URL of one of our endpoints."""
        return f"{self.ocpi_url(party)}/{version}/{module}/{role.value.lower()}"

    # Serving

    def _ocpi_app(self) -> Starlette:
        routes: list[BaseRoute] = [
            Route(spelled, self._open(self._versions), methods=["GET"]) for spelled in ("/versions", "/versions/")
        ]
        for version in self.registrar.versions:
            routes += self._routes_of(version)
        app = Starlette(exception_handlers={HTTPException: self._http_error, Exception: self._http_error})
        app.router = NarrowedRouter(routes)
        return app

    def _routes_of(self, version: str) -> list[BaseRoute]:
        served: list[_Served] = [
            (f"/{version}", ["GET"], self._open(self._details, version)),
            (f"/{version}/credentials", ["GET", "POST", "PUT", "DELETE"], self._open(self._credentials, version)),
        ]
        for interface in self.interfaces:
            served += self._served_by(interface, version)
        return _in_both_spellings(served)

    def _served_by(self, interface: Interface, version: str) -> list[_Served]:
        if interface.module in ONLY_230 and version != native_to(interface.module):
            return []
        base = f"/{version}/{interface.module}/{interface.role.value.lower()}"
        return [
            (f"{base}{path}".rstrip("/"), [method], self._module(handler, interface, version))
            for method, path, handler in interface.routes
        ]

    async def _http_error(self, request: Request, error: Exception) -> Response:
        """Wrap what the router itself refuses (404, 405) as OCPI asks."""

        async def handle(_: MessageIds) -> Reply:
            if isinstance(error, HTTPException) and error.status_code == 405:
                raise MethodNotAllowed
            if isinstance(error, HTTPException) and error.status_code < 500:
                raise OCPIError(StatusCode.CLIENT_ERROR, "there is nothing here", http_status=error.status_code)
            raise error

        return await answered(request, clock=self.ports.clock, randomness=self.ports.randomness, handle=handle)

    def _open(
        self, handler: Callable[[Request, Caller, str], Awaitable[Reply]], version: str = ""
    ) -> Callable[[Request], Awaitable[Response]]:
        """Serve versions and credentials: any valid token, TOKEN_A included; no routing headers."""

        async def serve(request: Request) -> Response:
            async def handle(_: MessageIds) -> Reply:
                own_party = self.own_party_of(request)
                caller = await self.authenticate(request, own_party)
                if version and version not in self.registrar.versions_with(caller.peer):
                    raise NoSuchObject(f"version {version} for you")
                return await handler(request, caller, version)

            return await answered(request, clock=self.ports.clock, randomness=self.ports.randomness, handle=handle)

        return serve

    def _module(self, handler: Handler, interface: Interface, version: str) -> Callable[[Request], Awaitable[Response]]:
        """Serve a functional module. Handlers speak the version their module is native to; another is bridged."""

        async def serve(request: Request) -> Response:
            async def handle(ids: MessageIds) -> Reply:
                call = await self.call_of(request, ids, version)
                if version == native_to(interface.module):
                    reply = await handler(call)
                else:
                    reply = await _bridged(call, handler, interface, version)
                if call.routing.from_party is None:
                    return reply
                back = routing_headers(Routing(to_party=call.routing.from_party, from_party=call.own_party))
                return replace(reply, headers={**back, **reply.headers})

            answer = await answered(request, clock=self.ports.clock, randomness=self.ports.randomness, handle=handle)
            await self.signing.sign_answer(request, answer)
            return answer

        return serve

    def own_party_of(self, request: Request) -> PartyId:
        """Return the hosted party that the URL names. Raises `NoSuchObject`."""
        if self._fixed_party is not None:
            return self._fixed_party.party_id
        try:
            return PartyId(request.path_params["party"])
        except MalformedPartyId as error:
            raise NoSuchObject("party") from error

    async def authenticate(self, request: Request, own_party: PartyId) -> Caller:
        """Return who calls. Raises `NotAuthenticated` (HTTP 401), for an unknown party too: nothing is given away."""
        value = request.headers.get(names.AUTHORIZATION)
        if value is None:
            raise NotAuthenticated
        question = ("caller", self.service, own_party, sha256(value.encode()).digest())
        caller = await self.ports.units.concluded(question, _OF_CALLERS, partial(self._caller, own_party, value))
        if caller is None:
            raise NotAuthenticated
        return caller

    async def _caller(self, own_party: PartyId, authorization: str, unit: UnitOfWork) -> Caller | None:
        for token, is_plain in _presented_tokens(authorization):
            found = await peer_of_token(unit, own_party, token)
            if found is not None and (found[0].tolerances.accepts_plain_token or not is_plain):
                peer, use = found
                return Caller(peer=peer, token_use=use, roles=tuple(await roles_of(unit, peer)))
        return None

    async def registered_caller(self, request: Request, own_party: PartyId, version: str = NATIVE) -> Caller:
        """Return the registered platform that calls. Raises `NotAuthenticated`, for TOKEN_A too (4.1.1).

        `NoSuchObject`: the version in the path is not offered to it.
        """
        caller = await self.authenticate(request, own_party)
        if caller.token_use is not TokenUse.REQUESTS or caller.peer.state is not PeerState.REGISTERED:
            raise NotAuthenticated("this token is good for the registration only")
        if version not in self.registrar.versions_with(caller.peer):
            raise NoSuchObject(f"version {version} for you")
        return caller

    async def call_of(self, request: Request, ids: MessageIds, version: str = NATIVE) -> OCPICall:
        """Authenticate a request to a module and read it.

        Raises:
            NoSuchObject: the version is not offered to this peer.
            NotAuthenticated: no valid token, or only TOKEN_A.
            InvalidParameters: OCPI-from is no role of the caller, OCPI-to is not us, or `refuse_unprintable`.
            SignatureRefused: it is not signed though it must be, or its signature does not hold.
        """
        own_party = self.own_party_of(request)
        caller = await self.registered_caller(request, own_party, version)
        routing = routing_of(request.headers)
        if routing.to_party is not None and routing.to_party != own_party and self._fixed_party is None:
            raise InvalidParameters(f"OCPI-to {routing.to_party} is not here")
        body = await body_of(request)
        inner = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        party = _caller(routing.from_party, caller.roles)
        signed = await self.signing.incoming(
            request,
            body,
            own_party=own_party,
            caller=party,
            roles=caller.roles,
            targets=targets_of(request, public_url=self.ocpi_url(own_party)),
        )
        call = OCPICall(
            own_party=own_party,
            peer_id=caller.peer.peer_id,
            caller=party,
            routing=routing,
            request_id=ids.request_id,
            correlation_id=ids.correlation_id,
            method=request.method,
            url=f"{self.ocpi_url(own_party)}{inner}",
            path={key: str(value) for key, value in request.path_params.items()},
            query=request.query_params,
            headers=request.headers,
            body=body,
            signed=signed,
        )
        call.refuse_unprintable()
        return call

    # Versions and credentials

    async def _versions(self, _: Request, caller: Caller, __: str) -> Reply:
        base = self.ocpi_url(caller.peer.own_party)
        spoken = self.registrar.versions_with(caller.peer)
        return Reply(data=[Version(version=version, url=f"{base}/{version}") for version in spoken])

    async def _details(self, _: Request, caller: Caller, version: str) -> Reply:
        own_party = caller.peer.own_party
        base = f"{self.ocpi_url(own_party)}/{version}"
        endpoints = [
            Endpoint(identifier=ModuleID.CREDENTIALS.value, role=InterfaceRole.SENDER, url=f"{base}/credentials")
        ]
        for each in self.interfaces:
            url = self.endpoint_url(own_party, each.module, each.role, version)
            endpoints.append(Endpoint(identifier=str(each.module), role=each.role, url=url))
        endpoints += self._extra_endpoints(base)
        if caller.peer.tolerances.appends_to_endpoints:
            endpoints[1:] = [msgspec.structs.replace(each, url=f"{each.url}/") for each in endpoints[1:]]
        own = await self._identity(own_party)
        role = opposite(caller.peer.expected_role or Role.CPO) if own.role is Role.HUB else own.role
        return Reply(data=details_in(version, endpoints, role=role))

    async def _credentials(self, request: Request, caller: Caller, version: str) -> Reply:
        peer, use, own_party = caller.peer, caller.token_use, caller.peer.own_party
        own = await self._identity(own_party, peer)
        if request.method == "GET":
            # Only its hash is stored, so the token that is shown is the one that was presented.
            presented = next(token for token, _ in _presented_tokens(request.headers[names.AUTHORIZATION]))
            return Reply(data=own.credentials(presented, version))
        if request.method == "DELETE":
            async with self.ports.units.begin() as unit:
                roles = [(role.party_id, role.role) for role in await roles_of(unit, peer)]
            await self.registrar.end(peer, use)
            for told in self._on_left:
                await told(own_party, peer, roles)
            return Reply()
        posted = read_credentials(await body_of(request), version, role=peer.expected_role)
        is_update = request.method == "PUT"
        answer = await self.registrar.accept(peer, use, posted, own, is_update=is_update, version=version)
        async with self.ports.units.begin() as unit:
            registered = await unit.table(PEER).get(own_party, peer.peer_id)
        if registered is not None:
            await self.tell_connected(own_party, registered)
        return Reply(data=answer)

    async def _identity(self, own_party: PartyId, peer: Peer | None = None) -> OwnIdentity:
        hosted = self._fixed_party
        reachable: list[CredentialsRole] = []
        if self._reachable is not None and peer is not None:
            async with self.ports.units.begin() as unit:
                reachable = await self._reachable(unit, peer)
        if hosted is None:
            async with self.ports.units.begin() as unit:
                hosted = await unit.table(HOSTED_PARTY).get(self.service, own_party)
        if hosted is None:
            raise NoSuchObject(f"party {own_party}")
        return OwnIdentity(
            party_id=own_party,
            role=hosted.role,
            business_name=hosted.business_name,
            versions_url=f"{self.ocpi_url(own_party)}/versions",
            reachable=tuple(reachable),
        )

    # For the operator

    def _operator(
        self, authorize: Authorize, handler: Callable[[Request, PartyId], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            try:
                own_party = self.own_party_of(request)
                await authorize(request, own_party)
                answer = await handler(request, own_party)
            except EmobilityError as error:
                is_missing = isinstance(error, NoSuchDelivery | NoSuchPeer)
                status = 422 if isinstance(error, MalformedInput) else 404 if is_missing else 502
                return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status_code=status)
            return Response(write(answer), media_type="application/json")

        return serve

    async def _register(self, request: Request, own_party: PartyId) -> Any:
        asked = read(await body_of(request), _RegisterRequest)
        origin_of(asked.versions_url)
        peer = await self.register(
            own_party,
            versions_url=asked.versions_url,
            token_a=asked.token_a,
            peer_id=asked.peer_id,
            expected_party=None if asked.expected_party is None else PartyId(asked.expected_party),
            expected_role=asked.expected_role,
            tolerances=asked.tolerances,
            version=asked.version,
        )
        return {
            "peer_id": peer.peer_id,
            "state": peer.state,
            "version": peer.version,
            "endpoints": len(peer.endpoints),
        }

    async def _invite(self, request: Request, own_party: PartyId) -> Any:
        """Issue TOKEN_A for a partner's platform, which then registers without a hub between."""
        asked = read(await body_of(request), _Invitation)
        await self._identity(own_party)
        async with self.ports.units.begin() as unit:
            token_a = await self.registrar.invite(
                unit,
                own_party=own_party,
                peer_id=asked.peer_id or asked.expected_party.lower(),
                versions_url=asked.versions_url,
                expected_party=PartyId(asked.expected_party),
                expected_role=asked.expected_role,
            )
            await unit.commit()
        return {"token_a": token_a, "versions_url": f"{self.ocpi_url(own_party)}/versions"}

    async def _list_peers(self, _: Request, own_party: PartyId) -> Any:
        async with self.ports.units.begin() as unit:
            peers = await unit.table(PEER).select({"own_party": own_party}, order_by=("peer_id",))
            return [
                {
                    "peer_id": peer.peer_id,
                    "state": peer.state,
                    "version": peer.version,
                    "tolerances": peer.tolerances,
                    "versions_url": peer.versions_url,
                    "roles": [f"{role.role} {role.party_id}" for role in await roles_of(unit, peer)],
                }
                for peer in peers
            ]

    async def _tolerate(self, request: Request, own_party: PartyId) -> Any:
        tolerances = read(await body_of(request), PeerTolerances)
        async with self.ports.units.begin() as unit:
            peer = await tolerate(unit, own_party, request.path_params["peer_id"], tolerances)
            if peer is None:
                raise NoSuchPeer(f"{own_party} has no {request.path_params['peer_id']}")
            await unit.commit()
        return {"peer_id": peer.peer_id, "tolerances": peer.tolerances}

    async def _list_failed(self, _: Request, own_party: PartyId) -> Any:
        async with self.ports.units.begin() as unit:
            failed = await self.deliveries.failed(unit, own_party)
        return [
            {
                "delivery_id": each.delivery_id,
                "to_party": str(each.to_party),
                "method": each.method,
                "module": each.module,
                "object_key": each.object_key,
                "correlation_id": each.correlation_id,
                "reason": each.reason,
                "entered_at": each.entered_at,
            }
            for each in failed
        ]

    async def _retry(self, request: Request, own_party: PartyId) -> Any:
        delivery_id = request.path_params["delivery_id"]
        async with self.ports.units.begin() as unit:
            await self.deliveries.retry(unit, own_party, delivery_id)
            await unit.commit()
        return {"delivery_id": delivery_id, "state": "PENDING"}


def _in_both_spellings(served: Sequence[_Served]) -> list[BaseRoute]:
    """Sloppy peers add or drop the last slash; neither is an error, and a redirect is never sent."""
    return [
        Route(spelled, serve, methods=methods) for exact, methods, serve in served for spelled in (exact, f"{exact}/")
    ]


def _presented_tokens(value: str) -> list[tuple[str, bool]]:
    """Return what `Authorization` may mean, the text's way first, and whether it is the plain way."""
    tokens: list[tuple[str, bool]] = []
    for accepts_plain in (False, True):
        try:
            token = token_of(value, accepts_plain=accepts_plain)
        except MalformedAuthorization:
            continue
        if (token, False) not in tokens:
            tokens.append((token, accepts_plain))
    return tokens


async def _bridged(call: OCPICall, handler: Handler, interface: Interface, version: str) -> Reply:
    """Have a call of another version handled in ours. Raises `NotBridgeable`; S 3000 if the answer can't be said."""
    endpoint = f"/{version}/{interface.module}/{interface.role.value.lower()}"
    way = Way(
        module=interface.module,
        side=interface.role,
        method=call.method,
        path=call.url.partition(endpoint)[2],
        caller=call.caller,
        callee=call.own_party,
    )
    asked = bridge(call.body, way, from_version=version, to_version=NATIVE)
    query = QueryParams(query_in(str(call.query), way, NATIVE))
    reply = await handler(replace(call, body=asked.body, query=query))
    headers = {LOSSES_HEADER: losses_header(asked.losses)} if asked.losses else {}
    if reply.data is not None:
        body = write({"data": reply.data})
        try:
            said = bridge(body, replace(way, is_answer=True), from_version=NATIVE, to_version=version)
        except NotBridgeable as error:
            raise OCPIError(StatusCode.SERVER_ERROR, error.message) from error
        reply = replace(reply, data=read(said.body, dict[str, msgspec.Raw])["data"])
        if said.losses:
            headers[ANSWER_LOSSES_HEADER] = losses_header(said.losses)
    return replace(reply, headers={**reply.headers, **headers})


def _caller(from_party: PartyId | None, roles: Sequence[PeerRole]) -> PartyId:
    """Return in whose name a platform calls; a hub speaks for any party, others only for their own."""
    parties = sorted({role.party_id for role in roles})
    if from_party is None:
        if len(parties) != 1:
            raise InvalidParameters("OCPI-from is needed: the platform plays roles for several parties")
        return parties[0]
    if from_party in parties or any(role.role is Role.HUB for role in roles):
        return from_party
    raise InvalidParameters(f"OCPI-from {from_party} is no role of the caller")


async def body_of(request: Request) -> bytes:
    """Return the body. Raises `OCPIError` (HTTP 413) above `BODY_BYTES_MAX`."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise OCPIError(StatusCode.CLIENT_ERROR, f"more than {BODY_BYTES_MAX} bytes", http_status=413)
    return bytes(body)
