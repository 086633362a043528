"""Every route of the operations API, declared once: path, handler, body, answer and query. From this follow how it is
mounted, who may call it, which queries are refused, and the OpenAPI document at `/operations/openapi.json`.

Every route lies below the party it is about, `/{party}/...`. `v1` in its place is the party of the caller's own token;
our own processes, which act for all, say there `?party=NL-TUL` (decision 16). A party's token has a role: READER may
look, OPERATOR may run stations, OWNER may do everything; each route says which it takes at least. The commands
CertificateSigned, DeleteCertificate, InstallCertificate, SetNetworkProfile, those of firmware and those of tariffs take
OWNER.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec
from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from emobility.domain.errors import EmobilityError, MalformedInput, Unavailable
from emobility.domain.identifiers import MalformedPartyId, PartyId
from emobility.events import codec
from emobility.runtime.access import READING, Access, TokenRole
from services.charging_operations.office import NotFound, NotUnderstood

T = TypeVar("T")

Handler = Callable[[Request, PartyId], Awaitable[Any]]

BODY_BYTES_MAX: Final = 1_000_000
"""A tariff that follows a market for a year has some 10,000 prices."""
ROWS_MAX: Final = 1_000
FIELD_CHARACTERS_SHOWN_MAX: Final = 60
NUMBER_DIGITS_MAX: Final = 9
JSON: Final = "application/json"
OWNERS_ACTIONS: Final = frozenset(
    {
        *("CertificateSigned", "DeleteCertificate", "InstallCertificate", "SetNetworkProfile"),
        *("PublishFirmware", "SignedUpdateFirmware", "UnpublishFirmware", "UpdateFirmware"),
        *("ChangeTransactionTariff", "ClearTariffs", "SetDefaultTariff"),
    }
)
"""Commands to one or many stations by which they trust, obey or charge by somebody else: for a token of role OWNER."""
OWN_PARTY: Final = "v1"
PARTY: Final = "party"
OPENAPI_PATH: Final = "/openapi.json"
DOCUMENTED_AT: Final = "/operations/openapi.json"
API_VERSION: Final = "1"
_REFUSAL: Final = "#/components/schemas/Refusal"
_REFUSALS: Final = {
    401: "no token, or one that is not known",
    403: "the token is another party's, or its role does not reach",
    404: "there is no such object, or it is another party's",
    409: "the state of things does not allow it",
    422: "the body or the query can't be understood",
    503: "what is needed for it does not answer; trying again may help",
}


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter: its name, what it holds (`str`, `int`, `bool`, `datetime`, an enum, `PartyId`), what it does.

    An `int` is a whole number of at most `NUMBER_DIGITS_MAX` digits, a `datetime` an RFC 3339 date-time with offset.
    """

    name: str
    kind: type
    says: str
    is_required: bool = False


PAGE: Final = (
    Query("offset", int, "how many to skip, 0 when not given"),
    Query("limit", int, f"how many to list, {ROWS_MAX} at most and when not given"),
)
FROM_TO: Final = (
    Query("from", datetime, "only what is of then or later"),
    Query("to", datetime, "only what is earlier"),
)
_PARTY_QUERY: Final = Query(PARTY, PartyId, "whose, where the path says v1; not needed with a token of one party")


@dataclass(frozen=True, slots=True)
class Route:
    """A route below `/{party}`. The handler's docstring describes it; its name is the operation's id.

    Attributes:
        method: HTTP's.
        path: Below the party, with `{names}`.
        handler: Returns what is answered as JSON, or a whole response.
        body: What its JSON body holds; None: it has none.
        answers: What it answers; None: an object that the docstring describes.
        query: What its query may hold; anything else is refused.
        status: Of a success.
        also: Statuses besides by which the same answer may come, each with what it says.
        is_internal: Only our own processes may call it.
        needs: The least role of a party's token; None: to read READER, for anything else what its table says.
        takes: Media type of the body; one that is not JSON is a text.
    """

    method: str
    path: str
    handler: Handler
    body: Any = None
    answers: Any = None
    query: tuple[Query, ...] = ()
    status: int = 200
    also: dict[int, str] = field(default_factory=dict)
    is_internal: bool = False
    takes: str = JSON
    needs: TokenRole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """All routes, as they are mounted."""

    app: FastAPI
    access: Access
    routes: list[tuple[str, Route]] = field(default_factory=list)

    def open(self) -> None:
        """Map errors to HTTP and serve the document, which tells nothing that the documentation does not."""
        self.app.add_exception_handler(EmobilityError, error_answer)
        self.app.add_exception_handler(StarletteHTTPException, no_route_answer)

        async def show(_: Request) -> Response:
            return answer(self.document())

        self.app.add_api_route(OPENAPI_PATH, show, methods=["GET"])

    def add(self, tag: str, routes: Sequence[Route], *, writes: TokenRole) -> None:
        """Mount routes; `tag` is the heading they stand under, `writes` the role that those need which do not read."""
        for each in routes:
            by_method = TokenRole.READER if each.method in READING else writes
            route = each if each.needs is not None else replace(each, needs=by_method)
            if any(_operation(route) == _operation(known) for _, known in self.routes):
                raise AssertionError(f"two operations are called {_operation(route)}")
            self.routes.append((tag, route))
            self.app.add_api_route(f"/{{{PARTY}}}{route.path}", self._guarded(route), methods=[route.method])

    def _guarded(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that answers the party itself, or us, and nobody else."""

        async def guarded(request: Request) -> Response:
            if route.is_internal:
                await self.access.internal(request)
            party_id = await self._party(request)
            is_owners = request.path_params.get("action") in OWNERS_ACTIONS
            await self.access.party(request, party_id, needs=TokenRole.OWNER if is_owners else route.needs)
            request.state.query = _query_of(request, route.query)
            handled = await route.handler(request, party_id)
            return handled if isinstance(handled, Response) else answer(handled, route.status)

        return guarded

    async def _party(self, request: Request) -> PartyId:
        named = request.path_params[PARTY]
        if named != OWN_PARTY:
            return party_of(named)
        caller = await self.access.caller(request)
        if PARTY in request.query_params:
            return party_of(request.query_params[PARTY])
        if caller is None:
            raise NotUnderstood(f"whose? say ?{PARTY}=, for this token is every party's")
        return caller

    def document(self) -> dict[str, Any]:
        """Return the OpenAPI 3.1 document of all routes."""
        kinds = [each for _, route in self.routes for each in (route.body, route.answers) if each is not None]
        kinds += [query.kind for _, route in self.routes for query in (*route.query, _PARTY_QUERY)]
        shapes, components = msgspec.json.schema_components(
            kinds, schema_hook=_schema_of, ref_template="#/components/schemas/{name}"
        )
        for component in components.values():
            component["description"] = inspect.cleandoc(component.get("description", ""))
        schema_of = {_kind_key(kind): shape for kind, shape in zip(kinds, shapes, strict=True)}
        paths: dict[str, dict[str, Any]] = {}
        for tag, route in self.routes:
            paths.setdefault(f"/{{{PARTY}}}{route.path}", {})[route.method.lower()] = _described(tag, route, schema_of)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Wattroam operations API",
                "version": API_VERSION,
                "description": inspect.cleandoc(__doc__ or ""),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/operations"}],
            "security": [{"bearer": []}],
            "tags": [{"name": tag} for tag in dict.fromkeys(tag for tag, _ in self.routes)],
            "paths": paths,
            "components": {
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
                "schemas": components | {"Refusal": _refusal_schema()},
                "responses": {
                    f"Refused{status}": {
                        "description": _refusal_words(status),
                        "content": {"application/json": {"schema": {"$ref": _REFUSAL}}},
                    }
                    for status in _REFUSALS
                },
            },
        }


# One request


def asked(request: Request, name: str, default: T) -> T:
    """Return a value of the query as its `Query` declares it, or `default` where it is not given."""
    value: T = request.state.query.get(name, default)
    return value


def narrowed(request: Request, *names: str) -> dict[str, Any]:
    """Return those of the query's values that were given, as a `where` of rows."""
    return {name: request.state.query[name] for name in names if name in request.state.query}


def page_of(request: Request, rows_max: int = ROWS_MAX) -> tuple[int, int]:
    """Return `offset` and `limit` of a list."""
    return asked(request, "offset", 0), min(asked(request, "limit", rows_max), rows_max)


def period_of(request: Request, field: str) -> dict[str, tuple[str, datetime] | None]:
    """Return `since` and `before` of a list by the query's `from` and `to`, which are about this field."""
    begin, end = request.state.query.get("from"), request.state.query.get("to")
    return {"since": None if begin is None else (field, begin), "before": None if end is None else (field, end)}


def _query_of(request: Request, known: Sequence[Query]) -> dict[str, Any]:
    by_name = {query.name: query for query in (*known, _PARTY_QUERY)}
    values: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        query = by_name.get(name)
        if query is None:
            raise NotUnderstood(f"no query {name[:100]!r}; there is {', '.join(sorted(by_name))}")
        if name in values:
            raise NotUnderstood(f"query {name} stands twice")
        values[name] = _read(query, text)
    for query in known:
        if query.is_required and query.name not in values:
            raise NotUnderstood(f"query {query.name} is missing: {query.says}")
    return values


def _read(query: Query, text: str) -> Any:
    if query.kind is int:
        return _number(query.name, text)
    if query.kind is str:
        return text
    if query.kind is bool and text in ("true", "false"):
        return text == "true"
    try:
        if query.kind is datetime:
            at = datetime.fromisoformat(text)
            if at.tzinfo is not None:
                return at.astimezone(UTC)
        elif query.kind is not bool:
            return query.kind(text)
    except (ValueError, OverflowError, MalformedInput):
        pass
    raise NotUnderstood(f"{query.name} is no {_words_of(query.kind)}")


def _words_of(kind: type) -> str:
    if issubclass(kind, StrEnum):
        return f"word of {', '.join(kind)}"
    return {datetime: "RFC 3339 date-time with its offset", bool: "true or false"}.get(kind, "party such as NL-TUL")


def number_in(request: Request, name: str, default: int) -> int:
    """Return a whole number of the query. Raises `NotUnderstood`."""
    return _number(name, request.query_params.get(name, str(default)))


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > NUMBER_DIGITS_MAX:
        raise NotUnderstood(f"{name} is no whole number")
    return int(text)


async def read_body(request: Request, kind: type[T]) -> T:
    """Read a JSON body. Raises `NotUnderstood`, also for a field that it does not have: left out unread, a criterion
    misspelt would mean more stations, not fewer.
    """
    sent = await read_bytes(request)
    try:
        body = codec.decode_with_payload(sent, kind)
        unknown = _unknown_field(body, msgspec.json.decode(sent))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotUnderstood(str(error)) from error
    if not _is_finite(body):
        raise NotUnderstood("NaN and Infinity are no numbers")
    if unknown is not None:
        raise NotUnderstood(f"there is no field {unknown[:FIELD_CHARACTERS_SHOWN_MAX]}")
    return body


def _unknown_field(value: Any, sent: Any) -> str | None:
    """Return the name of a field that was sent and that the object read from it does not have."""
    inner: Iterable[tuple[Any, Any]] = ()
    if is_dataclass(value) and isinstance(sent, dict):
        known = {each.name for each in fields(value)}
        if not known >= sent.keys():
            return str(min(sent.keys() - known))
        inner = ((getattr(value, name), each) for name, each in sent.items())
    elif isinstance(value, list | tuple) and isinstance(sent, list):
        inner = zip(value, sent, strict=True)
    return next((found for pair in inner if (found := _unknown_field(*pair)) is not None), None)


def _is_finite(value: Any) -> bool:
    """Tell whether every decimal in a body is a number: as a text, each could be NaN or Infinity."""
    if isinstance(value, Decimal):
        return value.is_finite()
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_finite, value))
    if is_dataclass(value):
        return all(_is_finite(getattr(value, each.name)) for each in fields(value))
    return True


async def read_bytes(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Read a body. Raises `NotUnderstood`: it is too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > bytes_max:
            raise NotUnderstood(f"more than {bytes_max} bytes")
    return bytes(body)


def party_of(text: str) -> PartyId:
    """Return the party a path names. Raises `NotFound`: what is no party id names nobody."""
    try:
        return PartyId(text)
    except MalformedPartyId as error:
        raise NotFound("no such party") from error


def answer(value: Any, status_code: int = 200) -> Response:
    """Write a value as JSON."""
    return Response(codec.encode(value), status_code=status_code, media_type="application/json")


async def error_answer(_: Request, error: Exception) -> Response:
    """Map an error to HTTP: a name for machines, a sentence for people."""
    return answer({"error": type(error).__name__, "detail": str(error)}, _status_of(type(error)))


async def no_route_answer(request: Request, error: Exception) -> Response:
    """Say where the routes are listed."""
    if not isinstance(error, StarletteHTTPException) or error.status_code not in (404, 405):
        return await http_exception_handler(request, error)  # type: ignore[arg-type]
    says = "there is no such path" if error.status_code == 404 else f"this path does not take {request.method}"
    refused = answer({"error": "NoSuchRoute", "detail": f"{says}; {DOCUMENTED_AT} has them all"}, error.status_code)
    refused.headers.update(error.headers or {})
    return refused


def _status_of(kind: type[Exception]) -> int:
    if issubclass(kind, NotFound):
        return 404
    if issubclass(kind, MalformedInput):
        return 422
    return 503 if issubclass(kind, Unavailable) else 409


# The document


def _operation(route: Route) -> str:
    return str(getattr(route.handler, "__name__", route.path))


def _described(tag: str, route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    says = inspect.cleandoc(route.handler.__doc__ or "")
    who = "our own processes" if route.is_internal else f"a token of role {route.needs}"
    shape = {} if route.answers is None else schema_of[_kind_key(route.answers)]
    content = {"application/json": {"schema": shape}}
    described: dict[str, Any] = {
        "operationId": _operation(route),
        "tags": [tag],
        "summary": says.split("\n", 1)[0].partition(" Raises ")[0],
        "description": f"{says}\n\nFor {who}.",
        "parameters": [
            *(_path_parameter(name) for name in (PARTY, *re.findall(r"{(\w+)}", route.path))),
            *(_query_parameter(query, schema_of) for query in (*route.query, _PARTY_QUERY)),
        ],
        "responses": {
            str(route.status): {"description": "done", "content": content},
            **{str(status): {"$ref": f"#/components/responses/Refused{status}"} for status in _REFUSALS},
            **{str(status): _also(status, says, shape) for status, says in route.also.items()},
        },
    }
    if route.body is not None:
        shape = schema_of[_kind_key(route.body)]
        described["requestBody"] = {"required": True, "content": {route.takes: {"schema": shape}}}
    return described


def _also(status: int, says: str, shape: dict[str, Any]) -> dict[str, Any]:
    """Return a status that may come with the route's own answer, or for the reason it has everywhere."""
    if status in _REFUSALS:
        says, shape = f"{says}; or: {_refusal_words(status)}", {"anyOf": [shape, {"$ref": _REFUSAL}]}
    return {"description": says, "content": {"application/json": {"schema": shape}}}


def _path_parameter(name: str) -> dict[str, Any]:
    says = f"a party such as NL-TUL; {OWN_PARTY}: the one of the caller's token" if name == PARTY else ""
    words = {"description": says} if says else {}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} | words


def _query_parameter(query: Query, schema_of: dict[Any, Any]) -> dict[str, Any]:
    shape = schema_of[_kind_key(query.kind)]
    if query.kind is int:
        shape = {"type": "integer", "minimum": 0, "maximum": 10**NUMBER_DIGITS_MAX - 1}
    return {
        "name": query.name,
        "in": "query",
        "required": query.is_required,
        "schema": shape,
        "description": query.says,
    }


def _schema_of(kind: type) -> dict[str, Any]:
    if kind is PartyId:
        return {"type": "string", "pattern": "^[A-Z]{2}-[A-Z0-9]{3}$", "examples": ["NL-TUL"]}
    raise NotImplementedError(f"{kind} has no schema")


def _kind_key(kind: Any) -> str:
    """Return what tells one type from another; a generic alias need not be hashable."""
    return repr(kind)


def _refusal_schema() -> dict[str, Any]:
    return {
        "title": "Refusal",
        "type": "object",
        "properties": {
            "error": {"type": "string", "description": "the rule that was broken; absent with 401 and 403"},
            "detail": {"type": "string", "description": "a sentence for people"},
        },
        "required": ["detail"],
    }


def _refusal_words(status: int) -> str:
    names = ", ".join(sorted(kind.__name__ for kind in _refusals() if _status_of(kind) == status))
    return _REFUSALS[status] + (f": {names}" if names else "")


def _refusals() -> list[type[EmobilityError]]:
    """Return the back office's own errors and the roots of all others."""
    found: list[type[EmobilityError]] = []
    waiting: list[type[EmobilityError]] = [EmobilityError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("services.charging_operations") or kind in (MalformedInput, Unavailable):
            found.append(kind)
    return found
