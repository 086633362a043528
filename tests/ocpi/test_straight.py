"""The shorter way to a handler ends where the long one does."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Message, Scope

from emobility.protocols.ocpi.straight import KEYS_MAX, NarrowedRouter, straight
from emobility.runtime.http_server import below


def _served(name: str, path: str, *methods: str) -> Route:
    async def serve(request: Request) -> Response:
        return PlainTextResponse(f"{name} {sorted(request.path_params.items())} {request.scope['root_path']}")

    return Route(path, serve, methods=list(methods))


ROUTES = [
    _served("versions", "/versions", "GET"),
    _served("any module of a version", "/2.2.1/{module}/{side}/{rest:path}", "GET"),
    _served("details", "/2.2.1", "GET"),
    _served("details with a slash", "/2.2.1/", "GET"),
    _served("tokens", "/2.2.1/tokens/receiver/{uid}", "GET", "PUT"),
    _served("tokens of 2.3.0", "/2.3.0/tokens/receiver/{uid}", "PUT"),
    _served("any version", "/{version}/{module}/sender", "POST"),
    _served("all of a version", "/2.3.0/{rest:path}", "DELETE"),
]
PATHS = ["", "/", "/versions", "/versions/", "/2.2.1", "/2.2.1/", "/2.2.1//tokens", "//2.2.1/tokens/receiver/1"] + [
    f"/{version}/{module}{rest}"
    for version, module, rest in product(
        ("2.2.1", "2.3.0", "2.1.1", "{version}"),
        ("tokens", "cdrs", "%74okens", ""),
        ("", "/", "/receiver", "/receiver/1", "/receiver/1/", "/sender", "/sender/1/2"),
    )
]


async def _asked(app: ASGIApp, method: str, path: str, root_path: str = "") -> tuple[int, bytes]:
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        said.append(message)

    scope: Scope = {"type": "http", "method": method, "path": path, "root_path": root_path}
    await app({**scope, "headers": [], "query_string": b""}, receive, send)
    status: Any = said[0]["status"]
    return status, b"".join(each.get("body", b"") for each in said)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "PATCH"])
async def test_each_request_gets_the_answer_that_the_framework_would_give(method: str) -> None:
    usual, narrowed = Router(routes=ROUTES, redirect_slashes=False), NarrowedRouter(ROUTES)

    for path in PATHS:
        expected = await _asked(usual, method, f"/hub/ocpi{path}", "/hub/ocpi")
        for _ in range(2):  # found, then remembered
            assert await _asked(narrowed, method, f"/hub/ocpi{path}", "/hub/ocpi") == expected, path


async def test_paths_that_nobody_serves_are_remembered_up_to_a_bound() -> None:
    narrowed = NarrowedRouter(ROUTES)

    for number in range(KEYS_MAX + 10):
        assert (await _asked(narrowed, "GET", f"/{number}/tokens"))[0] == 404

    assert (await _asked(narrowed, "GET", "/2.2.1/tokens/receiver/1"))[0] == 200
    assert len(narrowed._by_key) == KEYS_MAX


async def test_what_a_mount_serves_is_served_before_the_app_to_the_same_effect() -> None:
    mount = Mount("/{party}/ocpi", app=NarrowedRouter(ROUTES))
    usual = Router(routes=[mount, _served("own", "/{party}/page", "GET")])
    shorter = straight(usual, mount)

    for path in (
        "/NL-TUL/ocpi/2.2.1/tokens/receiver/1",
        "/NL-TUL/ocpi/2.2.1/",
        "/NL-TUL/ocpi",
        "/NL-TUL/page",
        "/ocpi/2.2.1",
    ):
        expected = await _asked(usual, "GET", f"/operations{path}", "/operations")
        assert await _asked(shorter, "GET", f"/operations{path}", "/operations") == expected, path


@pytest.mark.parametrize("path", ["/hub/versions", "/hubs/versions", "/versions", "/hub", "/"])
async def test_below_a_prefix_is_what_a_mount_would_serve_there(path: str) -> None:
    app = Router(routes=ROUTES, redirect_slashes=False)
    usual = Router(routes=[Mount("/hub", app=app)], redirect_slashes=False)

    status, body = await _asked(below("hub", app), "GET", path)

    expected_status, expected_body = await _asked(usual, "GET", path)
    assert status == expected_status
    assert status == 404 or body == expected_body
