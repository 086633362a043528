"""Serve OCPI: a module's handlers see an authenticated `OCPICall` and return a `Reply`; this file does the rest.

    locations = Interface(ModuleID.LOCATIONS, InterfaceRole.SENDER)

    @locations.route("GET", "/{location_id}")
    async def location(call: OCPICall) -> Reply:
        ...
        return Reply(data=found)

Every answer, errors too, is an envelope with `status_code` and `timestamp` and repeats X-Request-ID and
X-Correlation-ID. A handler raises `OCPIError`; a `MalformedInput` becomes S 2001, another `RuleBroken` S 2000,
`Unavailable` HTTP 503 with S 3000, anything else HTTP 500 with S 3000 and nothing of our insides.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec
import structlog
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response

from emobility.domain.errors import MalformedInput, RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.clock import Clock, Randomness
from emobility.protocols.ocpi import headers as names
from emobility.protocols.ocpi.headers import Routing, link_to, message_id
from emobility.protocols.ocpi.signing import SignedCall
from emobility.protocols.ocpi.status import InvalidParameters, NoSuchObject, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, NotJSON, Owned, read, write

T = TypeVar("T")
OwnedT = TypeVar("OwnedT", bound=Owned)

PAGE_OBJECTS_DEFAULT: Final = 50
PAGE_OBJECTS_MAX: Final = 100
"""Most objects of one page; a larger `limit` is capped to it (4.1.4.1)."""
BODY_BYTES_MAX: Final = 1_000_000
"""Largest body; a larger one is answered 413."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a paged GET asks for: `last_updated` in [date_from, date_to), objects [offset, offset + limit)."""

    date_from: datetime | None
    date_to: datetime | None
    offset: int
    limit: int

    @property
    def since(self) -> tuple[str, datetime] | None:
        """For `Table.select`."""
        return ("last_updated", self.date_from) if self.date_from else None

    @property
    def before(self) -> tuple[str, datetime] | None:
        """For `Table.select`."""
        return ("last_updated", self.date_to) if self.date_to else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a handler answers; `data` is an OCPI object, a list of them, or None."""

    data: Any = None
    http_status: int = 200
    status_code: StatusCode = StatusCode.SUCCESS
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OCPICall:
    """An authenticated request.

    Attributes:
        own_party: The hosted party that is called.
        peer_id: The platform that calls, by its credentials token (the hub, say).
        caller: The party in whose name it calls: OCPI-from, else the only role the platform has.
        url: Absolute URL as it was called, without the query.
        signed: The caller's signature (`signing`), if there is one.
    """

    own_party: PartyId
    peer_id: str
    caller: PartyId
    routing: Routing
    request_id: str
    correlation_id: str
    method: str
    url: str
    path: Mapping[str, str]
    query: QueryParams
    headers: Headers
    body: bytes
    signed: SignedCall | None = None

    def read(self, kind: type[T]) -> T:
        """Read the body. Raises `NotJSON` (HTTP 400) or `NotAnOCPIObject` (S 2001)."""
        return read(self.body, kind)

    def read_owned(self, kind: type[OwnedT], *, object_id: str, id_field: str = "id") -> OwnedT:
        """Read a pushed client-owned object and see that URL and body agree.

        Raises:
            NotJSON: HTTP 400.
            NotAnOCPIObject, InvalidParameters: S 2001; also when the id in the URL differs from the body's.
            NoSuchObject: the URL names a party that the caller is not (4.1.6.1: HTTP 404).
        """
        owner = self.owner()
        pushed = self.read(kind)
        if pushed.owner != owner:
            raise InvalidParameters("country_code and party_id differ between URL and body")
        if str(getattr(pushed, id_field)).lower() != object_id.lower():
            raise InvalidParameters(f"{id_field} differs between URL and body")
        return pushed

    def refuse_unprintable(self) -> None:
        """Refuse what no id has (types, CiString): control characters in path or query, NUL in any text of the body.

        Of other texts the body may hold line ends; NUL is kept by no database. An escaped backslash before `u0000`
        is no NUL. Raises `InvalidParameters`.
        """
        written = [*self.path.values(), *(text for pair in self.query.multi_items() for text in pair)]
        if any(_CONTROL.search(text) for text in written):
            raise InvalidParameters("the URL holds a control character")
        if b"\\u0000" in self.body.replace(b"\\\\", b""):
            raise InvalidParameters("a text of the body holds NUL")

    def owner(self) -> PartyId:
        """Return the party that `{country_code}/{party_id}` of the URL names.

        Raises:
            NoSuchObject: it is no party id, or another party than the caller.
        """
        try:
            owner = PartyId.of(self.path["country_code"], self.path["party_id"])
        except MalformedInput as error:
            raise NoSuchObject("party") from error
        if owner != self.caller:
            raise NoSuchObject("party's objects for this caller")
        return owner

    def page(self, *, needs_date_from: bool = False) -> Page:
        """Read the paging parameters. Raises `InvalidParameters` for what is no date or number."""
        date_from = _date(self.query, "date_from")
        if needs_date_from and date_from is None:
            raise InvalidParameters("date_from is required")
        limit = _whole(self.query, "limit", PAGE_OBJECTS_DEFAULT)
        return Page(
            date_from=date_from,
            date_to=_date(self.query, "date_to"),
            offset=_whole(self.query, "offset", 0),
            limit=max(1, min(limit, PAGE_OBJECTS_MAX)),
        )

    def paged(self, objects: Sequence[Any], *, page: Page, total: int) -> Reply:
        """Answer one page with X-Total-Count, X-Limit and, unless it is the last, `Link` with all filters kept."""
        written = {names.TOTAL_COUNT: str(total), names.LIMIT: str(page.limit)}
        following = page.offset + len(objects)
        if objects and following < total:
            kept = [(key, value) for key, value in self.query.multi_items() if key not in {"offset", "limit"}]
            query = urlencode([*kept, ("offset", str(following)), ("limit", str(page.limit))], safe=":")
            written[names.LINK] = link_to(f"{self.url}?{query}")
        return Reply(data=list(objects), headers=written)


Handler = Callable[[OCPICall], Awaitable[Reply]]


@dataclass(slots=True)
class Interface:
    """One side of a module and its handlers, by path below the endpoint's URL."""

    module: str
    role: InterfaceRole
    routes: list[tuple[str, str, Handler]] = field(default_factory=list)

    def route(self, method: str, path: str = "") -> Callable[[Handler], Handler]:
        """Enter a handler for `method` on `path` ("" is the endpoint itself; "/{id}" an object)."""

        def enter(handler: Handler) -> Handler:
            self.routes.append((method, path, handler))
            return handler

        return enter


def _date(query: QueryParams, name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        # An unescaped "+" of an offset arrives as a space.
        moment = msgspec.convert(text.strip().replace(" ", "+"), datetime)
    except msgspec.ValidationError as error:
        raise InvalidParameters(f"{name} is no RFC 3339 timestamp") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _whole(query: QueryParams, name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise InvalidParameters(f"{name} is no whole number")
    return int(text)


# From request to envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageIds:
    """The two ids of a request; ours where the caller gave none that may be repeated."""

    request_id: str
    correlation_id: str

    @classmethod
    def of(cls, request: Request, randomness: Randomness) -> MessageIds:
        """Read them from the headers."""
        request_id = message_id(request.headers.get(names.REQUEST_ID)) or randomness.uuid()
        return cls(
            request_id=request_id,
            correlation_id=message_id(request.headers.get(names.CORRELATION_ID)) or request_id,
        )

    def headers(self) -> dict[str, str]:
        """Return them as they are echoed."""
        return {names.REQUEST_ID: self.request_id, names.CORRELATION_ID: self.correlation_id}


async def answered(
    request: Request, *, clock: Clock, randomness: Randomness, handle: Callable[[MessageIds], Awaitable[Reply]]
) -> Response:
    """Run `handle` and wrap what it returns or raises."""
    ids = MessageIds.of(request, randomness)
    try:
        reply = await handle(ids)
    except Exception as error:  # noqa: BLE001 - the edge: nothing of our insides leaves, whatever broke
        reply = reply_to(error, correlation_id=ids.correlation_id)
    return envelope(reply, clock=clock, ids=ids)


def envelope(reply: Reply, *, clock: Clock, ids: MessageIds) -> Response:
    """Write a reply as an HTTP response."""
    content: dict[str, Any] = {"status_code": int(reply.status_code)}
    if reply.data is not None:
        content = {"data": reply.data} | content
    if reply.message is not None:
        content["status_message"] = reply.message[:255]
    content["timestamp"] = clock.now()
    return Response(
        write(content),
        status_code=reply.http_status,
        media_type="application/json",
        headers={**ids.headers(), **reply.headers},
    )


def reply_to(error: Exception, *, correlation_id: str) -> Reply:
    """Turn what a handler raised into the answer the text asks for."""
    if isinstance(error, OCPIError):
        challenge = {"WWW-Authenticate": "Token"} if error.http_status == 401 else {}
        return Reply(
            http_status=error.http_status, status_code=error.status_code, message=error.message, headers=challenge
        )
    if isinstance(error, NotJSON):
        return Reply(http_status=400, status_code=StatusCode.INVALID_PARAMETERS, message="the body is not JSON")
    if isinstance(error, MalformedInput):
        return Reply(status_code=StatusCode.INVALID_PARAMETERS, message=str(error))
    if isinstance(error, RuleBroken):
        return Reply(status_code=StatusCode.CLIENT_ERROR, message=str(error))
    if isinstance(error, Unavailable):
        _log.warning("ocpi_unavailable", correlation_id=correlation_id, reason=str(error))
        return Reply(http_status=503, status_code=StatusCode.SERVER_ERROR, message="try again later")
    _log.error("ocpi_failed", correlation_id=correlation_id, exc_info=error)
    return Reply(http_status=500, status_code=StatusCode.SERVER_ERROR, message="internal error")
