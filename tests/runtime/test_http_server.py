from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import Body, FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from emobility.runtime.http_server import REQUEST_BYTES_MAX, bounded, serve_app
from emobility.runtime.telemetry import Metrics, health_routes


def an_app(entered: asyncio.Event, leave: asyncio.Event) -> FastAPI:
    async def slow(_: Request) -> Response:
        entered.set()
        await leave.wait()
        return PlainTextResponse("done")

    app = FastAPI(routes=[Route("/slow", slow)])

    @app.post("/echo")
    async def echo(body: Annotated[dict[str, str], Body()]) -> dict[str, str]:
        return body

    return app


async def test_a_request_that_has_begun_is_finished_after_the_stop_and_no_other_begins() -> None:
    entered, leave, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_app(an_app(entered, leave), host="127.0.0.1", port=0, stop=stop, on_listening=port.set_result)
    )
    base = f"http://127.0.0.1:{await port}"
    async with httpx.AsyncClient(base_url=base, timeout=30) as client:
        slow = asyncio.create_task(client.get("/slow"))
        await entered.wait()

        stop.set()
        while True:
            try:
                async with httpx.AsyncClient(base_url=base, timeout=30) as newcomer:
                    await newcomer.post("/echo", json={})
            except httpx.TransportError:
                break
        leave.set()

        assert (await slow).text == "done"
    await serving


async def test_a_port_that_is_taken_is_an_error_and_not_an_exit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve_app(FastAPI(), host="127.0.0.1", port=taken.getsockname()[1], stop=asyncio.Event())


async def test_a_body_above_the_limit_is_refused_by_its_declared_length() -> None:
    transport = httpx.ASGITransport(bounded(an_app(asyncio.Event(), asyncio.Event())))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.post("/echo", content=b"x" * (REQUEST_BYTES_MAX + 1))

    assert response.status_code == 413


async def test_a_body_above_the_limit_is_refused_as_it_comes() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * (REQUEST_BYTES_MAX // 10)

    transport = httpx.ASGITransport(bounded(an_app(asyncio.Event(), asyncio.Event())))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.post("/echo", content=parts())

    assert response.status_code == 413


async def test_an_app_without_a_framework_is_bounded_too() -> None:
    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await PlainTextResponse("read")(scope, receive, send)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * (REQUEST_BYTES_MAX // 10)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(bounded(raw)), base_url="http://test") as client:
        assert (await client.post("/", content=b"small")).text == "read"
        assert (await client.post("/", content=parts())).status_code == 413


async def test_ready_means_that_every_check_passes() -> None:
    database_is_up = [True]

    async def database() -> bool:
        return database_is_up[0]

    async def broken() -> bool:
        raise ConnectionError("secret detail")

    metrics = Metrics()
    metrics.counter("things_total", "Things.", ["kind"]).labels(kind="a").inc()
    good = FastAPI(routes=health_routes(metrics, ready={"database": database}))
    bad = FastAPI(routes=health_routes(metrics, ready={"database": database, "kafka": broken}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(good), base_url="http://test") as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert 'things_total{kind="a"} 1.0' in (await client.get("/metrics")).text
        database_is_up[0] = False
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/livez")).status_code == 200
    database_is_up[0] = True
    async with httpx.AsyncClient(transport=httpx.ASGITransport(bad), base_url="http://test") as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"checks": {"database": True, "kafka": False}})


def test_a_metric_is_made_once_and_keeps_its_kind() -> None:
    metrics = Metrics()

    assert metrics.counter("a_total", "A.") is metrics.counter("a_total", "A.")
    with pytest.raises(AssertionError, match="not a gauge"):
        metrics.gauge("a_total", "A.")
