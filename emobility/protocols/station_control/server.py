"""FastAPI parts of station_control: the route by which the back office answers the gateway's question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response

from emobility.domain.errors import Unavailable
from emobility.events import codec
from emobility.ports.authorizer import AuthorizationRequest, Authorizer

T = TypeVar("T")

BODY_BYTES_MAX: Final = 524_288
"""A local authorisation list of thousands of tokens; no frame to a station is longer."""

Guard = Callable[[Request], Awaitable[Any]]
"""Raises an `HTTPException` unless the caller is one of our own processes."""


async def read_body(request: Request, kind: type[T]) -> T:
    """Read a JSON body strictly. Raises `HTTPException` 413 or 422."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise HTTPException(413, f"a body has at most {BODY_BYTES_MAX} bytes")
    try:
        return codec.decode_with_payload(body, kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        # The sentence names the field and the rule; the value stays out, for it may be a token.
        raise HTTPException(422, str(error)[:200]) from error
    except Exception as error:
        raise HTTPException(422, "a value breaks its own rule") from error


def json_response(value: Any, status: int = 200) -> Response:
    """Write an answer by the codec of events and records."""
    return Response(codec.encode(value), status_code=status, media_type="application/json")


def payload_response(value: Any) -> Response:
    """Write an answer that carries a station's own."""
    return Response(codec.encode_with_payload(value), media_type="application/json")


def authorize_router(authorizer: Authorizer, guard: Guard) -> APIRouter:
    """Return `POST /station_control/authorize`, answered by the back office's own `Authorizer`."""
    router = APIRouter()

    @router.post("/station_control/authorize")
    async def authorize(request: Request) -> Response:
        """Decide on a token that a station reports."""
        await guard(request)
        question = await read_body(request, AuthorizationRequest)
        try:
            answer = await authorizer.authorize(question)
        except Unavailable as error:
            raise HTTPException(503, "no decision can be made now") from error
        return json_response(answer)

    return router
