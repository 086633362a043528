"""The hub behind a real HTTP server, on memory adapters, as the runner of the checklist finds it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.memory import SeededRandomness
from emobility.adapters.system import SystemClock, SystemTimer
from emobility.runtime.http_server import serve_app
from ocpi_check.checks import CHECKS
from ocpi_check.operating import WattroamOperator
from ocpi_check.run import Run, Target, run_checks
from ocpi_check.table import Finding
from ocpi_check.wire import Caller
from roaming_hub import callbacks, presence
from roaming_hub.service import RoamingHub, build
from tests.hub.world import INTERNAL_TOKEN, memory_ports, running, settings

SILENCE_S: Final = 0.3
RECEIVER_TIMEOUT_S: Final = 2.0
"""A receiver shares this process and must not seem silent when the machine is busy: it would be sent it again."""
GRACE_S: Final = 0.1
PORTS: Final = 80


@dataclass(frozen=True, kw_only=True)
class CheckedHub:
    """A hub that serves."""

    hub: RoamingHub
    origin: str
    inner_origin: str
    ports: tuple[int, ...]
    arrival_s: float = 10.0

    @property
    def versions_url(self) -> str:
        return f"{self.origin}/hub/ocpi/versions"

    @asynccontextmanager
    async def serving(self, app: Any) -> AsyncIterator[None]:
        """Serve what stands before the hub, where the hub says that it is."""
        async with served(app, int(self.origin.rsplit(":", 1)[1])):
            yield

    async def checked(
        self, version: str, *, only: Sequence[str] = (), after_each: Callable[[Finding], None] = lambda _: None
    ) -> dict[str, Finding]:
        """Run the checklist; the parties leave after its last check."""
        caller = Caller()
        target = Target(
            versions_url=self.versions_url,
            role="HUB",
            version=version,
            ports=self.ports,
            silence_s=SILENCE_S,
            grace_s=2 * GRACE_S,
            arrival_s=self.arrival_s,
        )
        operator = WattroamOperator(caller, f"{self.inner_origin}/hub/admin", INTERNAL_TOKEN)
        try:
            run = Run(target=target, operator=operator, caller=caller, now=SystemClock().now)
            found = await run_checks(run, only=only, tell=after_each)
        finally:
            await caller.close()
        assert len({each.rule for each in CHECKS}) == len(CHECKS)
        return {each.check.rule: each for each in found}


@asynccontextmanager
async def serving_hub(monkeypatch: pytest.MonkeyPatch, *, has_proxy: bool = False) -> AsyncIterator[CheckedHub]:
    """Serve a hub that waits and probes as fast as a test can bear; with a proxy its public URL is the proxy's."""
    monkeypatch.setattr(presence, "PROBE_S", SILENCE_S)
    monkeypatch.setattr(callbacks, "GRACE_S", GRACE_S)
    port, proxy_port, *ports = port_block(PORTS + 2)
    inner = f"http://127.0.0.1:{port}"
    origin = f"http://127.0.0.1:{proxy_port}" if has_proxy else inner
    async with GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{each}" for each in ports]) as http:
        in_memory: Any = memory_ports(http, SystemClock(), SeededRandomness(7))  # type: ignore[arg-type]
        hub = build(settings(origin), replace(in_memory, timer=SystemTimer()))
        object.__setattr__(hub.forwarding, "timeout_s", RECEIVER_TIMEOUT_S)
        async with served(Starlette(routes=[Mount("/hub", app=hub.app)]), port), running(hub):
            yield CheckedHub(hub=hub, origin=origin, inner_origin=inner, ports=tuple(ports))


@asynccontextmanager
async def served(app: Any, port: int) -> AsyncIterator[None]:
    """Serve an app on loopback."""
    stop, is_listening = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(
        serve_app(app, host="127.0.0.1", port=port, stop=stop, on_listening=lambda _: is_listening.set())
    )
    await is_listening.wait()
    try:
        yield
    finally:
        stop.set()
        await serving


def port_block(size: int) -> list[int]:
    """Return ports that nobody listens on, below those that the system gives to callers."""
    first = 15_000 + (os.getpid() * 97) % 15_000
    found: list[int] = []
    for port in range(first, 32_000):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == size:
            return found
    raise AssertionError("no ports are left on this machine")
