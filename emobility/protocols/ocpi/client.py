"""Speak OCPI to one peer in the name of one of our parties: envelopes, ids, routing, paging, typed failures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec
import structlog

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.clock import Randomness
from emobility.ports.http import TIMEOUT_S, HttpClient, HttpResponse
from emobility.protocols.ocpi import headers as names
from emobility.protocols.ocpi.bridging import Bridged, NotBridgeable, Way, bridge, losses_header
from emobility.protocols.ocpi.headers import Routing, authorization, next_link, routing_headers
from emobility.protocols.ocpi.named_persons import without_persons
from emobility.protocols.ocpi.status import StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, NotAnOCPIObject, NotJSON, read, write
from emobility.protocols.ocpi.versions import NATIVE, native_to

T = TypeVar("T")

PAGES_MAX: Final = 10_000
"""Most pages one listing follows: a peer that links in circles ends here."""

_log = structlog.get_logger(__name__)


class PeerRefused(RuleBroken):
    """The peer understood and said no (HTTP 4xx or S 2xxx); the same request will not succeed later."""

    def __init__(self, *, http_status: int, status_code: int | None, message: str) -> None:
        self.http_status = http_status
        self.status_code = status_code
        self.message = message
        super().__init__(f"the peer refused with HTTP {http_status}, S {status_code}: {message}")


class MissingAtPeer(PeerRefused):
    """The peer has no such object (HTTP 404)."""


class EndpointMissing(RuleBroken):
    """The peer's version details list no such module and role."""

    def __init__(self, *, module: str, role: InterfaceRole) -> None:
        self.module = module
        self.role = role
        super().__init__(f"the peer has no {role} interface of {module}")


class PeerFailed(Unavailable):
    """The peer could not (HTTP 5xx, S 3xxx) or what it said is no OCPI envelope; later it may."""

    def __init__(self, *, http_status: int, status_code: int | None, message: str) -> None:
        self.http_status = http_status
        self.status_code = status_code
        self.message = message
        super().__init__(f"the peer failed with HTTP {http_status}, S {status_code}: {message}")


class HubCouldNotDeliver(PeerFailed):
    """The hub answered 4xxx: the receiver is unknown, silent or not connected."""


class NotAuthenticatedAtPeer(PeerFailed):
    """The peer does not know our token (HTTP 401, 403): the registration must be renewed, the request is not wrong."""


class SignatureRefusedAtPeer(PeerFailed):
    """The peer did not take our signature (S 2901): changed on the way, too old, or under a key it can't take."""


class AnswerNotAuthentic(PeerFailed):
    """The answer is not what the party that was asked signed, so what it says of the request is not believed."""


class RequestSigning(Protocol):
    """Signs requests to one peer and judges its answers (`signing.PeerSigning`)."""

    async def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        """Return the headers that sign a request."""

    async def judge(
        self, method: str, headers: Mapping[str, str], body: bytes, answer: HttpResponse, *, to_party: PartyId | None
    ) -> None:
        """Refuse an answer to it. Raises `AnswerNotAuthentic`."""


@dataclass(frozen=True, slots=True)
class PeerInterface:
    """Which of the peer's interfaces a URL belongs to; `path` is what follows the endpoint."""

    module: str
    role: InterfaceRole
    path: str = ""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer is wrapped in."""

    status_code: int
    status_message: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A successful answer (S 1xxx)."""

    http_status: int
    headers: Mapping[str, str]
    data: bytes

    def as_(self, kind: type[T]) -> T:
        """Read `data` as an OCPI object. Raises `PeerFailed` when it is none."""
        try:
            return read(self.data, kind)
        except (NotAnOCPIObject, NotJSON) as error:
            raise PeerFailed(http_status=self.http_status, status_code=None, message=str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class OCPIClient:
    """Bound to a peer and to one of our own parties.

    Attributes:
        own_party: In whose name we speak (`OCPI-from-*`).
        token: The credentials token the peer gave us.
        endpoints: The peer's (module, role) → URL.
        signing: Signs what is sent; None: nothing is signed.
        sends_plain_token: Present the token without base64 (2.1.1, and peers that never decode).
        version: What is spoken with the peer.
    """

    http: HttpClient
    randomness: Randomness
    own_party: PartyId
    token: str = field(repr=False)
    endpoints: Mapping[tuple[str, InterfaceRole], str]
    timeout_s: float = TIMEOUT_S
    signing: RequestSigning | None = None
    sends_plain_token: bool = False
    version: str = NATIVE

    async def get(
        self,
        module: str,
        role: InterfaceRole,
        path: str = "",
        *,
        to_party: PartyId | None,
        correlation_id: str,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Fetch one object. Raises as `send` does."""
        url = self.url_of(module, role, path, query)
        at = PeerInterface(module, role, path)
        return await self.send("GET", url, to_party=to_party, correlation_id=correlation_id, at=at)

    async def put(
        self,
        module: str,
        role: InterfaceRole,
        path: str,
        body: Any,
        *,
        to_party: PartyId | None,
        correlation_id: str,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Create or replace an object. Raises as `send` does."""
        url = self.url_of(module, role, path, query)
        at = PeerInterface(module, role, path)
        return await self.send("PUT", url, body, to_party=to_party, correlation_id=correlation_id, at=at)

    async def patch(
        self, module: str, role: InterfaceRole, path: str, body: Any, *, to_party: PartyId | None, correlation_id: str
    ) -> Answer:
        """Change fields of an object. Raises as `send` does."""
        url = self.url_of(module, role, path)
        at = PeerInterface(module, role, path)
        return await self.send("PATCH", url, body, to_party=to_party, correlation_id=correlation_id, at=at)

    async def post(
        self,
        module: str,
        role: InterfaceRole,
        path: str,
        body: Any,
        *,
        to_party: PartyId | None,
        correlation_id: str,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Create an object or ask for something. Raises as `send` does."""
        url = self.url_of(module, role, path, query)
        at = PeerInterface(module, role, path)
        return await self.send("POST", url, body, to_party=to_party, correlation_id=correlation_id, at=at)

    async def delete(
        self, module: str, role: InterfaceRole, path: str, *, to_party: PartyId | None, correlation_id: str
    ) -> Answer:
        """Remove an object. Raises as `send` does."""
        url = self.url_of(module, role, path)
        return await self.send("DELETE", url, to_party=to_party, correlation_id=correlation_id)

    async def list_all(
        self,
        module: str,
        role: InterfaceRole,
        kind: type[T],
        *,
        to_party: PartyId | None,
        correlation_id: str,
        query: Mapping[str, str] | None = None,
    ) -> AsyncIterator[T]:
        """Yield all objects of a list, following `Link` page by page; objects that can't be read are left out.

        4.1.4: "the client should at least process the correct OCPI objects".
        Raises as `send` does; `PeerFailed` also for a next page that is no URL of the same origin.
        """
        url: str | None = self.url_of(module, role, "", query)
        at = PeerInterface(module, role)
        for _ in range(PAGES_MAX):
            if url is None:
                return
            answer = await self.send("GET", url, to_party=to_party, correlation_id=correlation_id, at=at)
            for raw in answer.as_(list[msgspec.Raw]):
                try:
                    yield read(bytes(raw), kind)
                except NotAnOCPIObject:
                    continue
            link = next_link(answer.headers.get(names.LINK.lower()))
            url = _page_after(url, link) if link else None

    def url_of(self, module: str, role: InterfaceRole, path: str, query: Mapping[str, str] | None = None) -> str:
        """Return the URL of a module's endpoint with `path` added. Raises `EndpointMissing`."""
        base = self.endpoints.get((module, role))
        if base is None:
            raise EndpointMissing(module=module, role=role)
        joined = f"{base.rstrip('/')}/{path.lstrip('/')}" if path else base
        return f"{joined}?{urlencode(query)}" if query else joined

    async def send(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        to_party: PartyId | None,
        correlation_id: str,
        at: PeerInterface | None = None,
    ) -> Answer:
        """Call a URL of the peer. `body`: an OCPI object, or bytes that are JSON already; None for none.

        With `at`, body and answer are of the version our back offices work in, and bridged to and from the peer's.

        Raises:
            NotBridgeable: the peer's version can't say it.
            PeerRefused: HTTP 4xx or S 2xxx (`MissingAtPeer` for 404).
            PeerFailed: HTTP 5xx, S 3xxx, no envelope; `HubCouldNotDeliver` for S 4xxx, `NotAuthenticatedAtPeer`,
                `SignatureRefusedAtPeer`, `AnswerNotAuthentic`.
            PeerUnreachable, PeerTimedOut, EgressRefused, ResponseTooLarge: see `ports/http`.
        """
        sent = {
            names.AUTHORIZATION: authorization(self.token, is_plain=self.sends_plain_token),
            names.REQUEST_ID: self.randomness.uuid(),
            names.CORRELATION_ID: correlation_id,
        }
        if to_party is not None:
            sent |= routing_headers(Routing(to_party=to_party, from_party=self.own_party))
        payload = b""
        if body is not None:
            payload = self._bridged(body if isinstance(body, bytes) else write(body), method, at, to_party)
            sent["Content-Type"] = "application/json"
        if self.signing is not None:
            sent |= await self.signing.sign(method, url, sent, payload)
        response = await self.http.request(method, url, headers=sent, body=payload, timeout_s=self.timeout_s)
        if self.signing is not None:
            await self.signing.judge(method, sent, payload, response, to_party=to_party)
        path = "" if at is None or at.module != ModuleID.TOKENS else at.path
        without = partial(without_persons, path=path, body=payload)
        return answer_of(self._bridged_answer(response, method, at, to_party), without=without)

    def _bridged(self, body: bytes, method: str, at: PeerInterface | None, to_party: PartyId | None) -> bytes:
        if at is None or self.version == native_to(at.module):
            return body
        way = self._way(method, at, to_party)
        bridged = bridge(body, way, from_version=native_to(at.module), to_version=self.version)
        self._tell(bridged, at)
        return bridged.body

    def _bridged_answer(
        self, answer: HttpResponse, method: str, at: PeerInterface | None, to_party: PartyId | None
    ) -> HttpResponse:
        """Raises `PeerFailed` for an answer that our version can't say."""
        if at is None or self.version == native_to(at.module):
            return answer
        way = replace(self._way(method, at, to_party), is_answer=True)
        try:
            bridged = bridge(answer.body, way, from_version=self.version, to_version=native_to(at.module))
        except NotJSON:
            return answer  # told apart in `answer_of`
        except NotBridgeable as error:
            raise PeerFailed(http_status=answer.status, status_code=None, message=error.message) from error
        self._tell(bridged, at)
        return replace(answer, body=bridged.body)

    def _way(self, method: str, at: PeerInterface, to_party: PartyId | None) -> Way:
        return Way(module=at.module, side=at.role, method=method, path=at.path, caller=self.own_party, callee=to_party)

    def _tell(self, bridged: Bridged, at: PeerInterface) -> None:
        if bridged.losses:
            _log.warning(
                "bridge_loss", own_party=str(self.own_party), module=at.module, losses=losses_header(bridged.losses)
            )


def answer_of(response: HttpResponse, *, without: Callable[[str], str]) -> Answer:
    """Read an envelope; raise what a refusal or failure means, in the peer's words `without` the persons in them.

    See `OCPIClient.send`.
    """
    envelope = _envelope(response.body)
    code = envelope.status_code if envelope else None
    if envelope is not None and response.status < 400 and StatusCode.SUCCESS <= envelope.status_code < 2000:
        return Answer(http_status=response.status, headers=response.headers, data=bytes(envelope.data))
    message = without((envelope.status_message if envelope else None) or "no message")
    if response.status in {401, 403}:
        raise NotAuthenticatedAtPeer(http_status=response.status, status_code=code, message=message)
    if response.status == 404:
        raise MissingAtPeer(http_status=404, status_code=code, message=message)
    if code is not None and 4000 <= code < 5000:
        raise HubCouldNotDeliver(http_status=response.status, status_code=code, message=message)
    if code == StatusCode.SIGNATURE_REFUSED:
        raise SignatureRefusedAtPeer(http_status=response.status, status_code=code, message=message)
    if response.status in {408, 425, 429} or response.status >= 500 or code is None:
        raise PeerFailed(http_status=response.status, status_code=code, message=message)
    if response.status >= 400 or 2000 <= code < 3000:
        raise PeerRefused(http_status=response.status, status_code=code, message=message)
    raise PeerFailed(http_status=response.status, status_code=code, message=message)


def _page_after(url: str, link: str) -> str:
    """Return the next page's URL. Raises `PeerFailed` when it is none or of another origin: it would get the token."""
    try:
        following = urljoin(url, link)
        here, there = urlsplit(url), urlsplit(following)
    except ValueError as error:
        raise PeerFailed(http_status=200, status_code=None, message="the next page's URL is none") from error
    if (there.scheme, there.netloc.lower()) != (here.scheme, here.netloc.lower()):
        raise PeerFailed(http_status=200, status_code=None, message="the next page lies at another origin")
    return following


def _envelope(body: bytes) -> Envelope | None:
    try:
        return read(body, Envelope)
    except (NotAnOCPIObject, NotJSON):
        return None
