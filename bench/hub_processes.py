"""The servers of the hub's benches, each a process of its own: our hub, parties' platforms, and a bare forwarder."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import structlog
import uvloop
from fastapi import FastAPI, Request, Response
from pydantic import SecretStr

from bench.servers import ServerProcess
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.domain.identifiers import PartyId, Role
from emobility.protocols.ocpi.peers import (
    INCOMING_TOKEN,
    PEER,
    PEER_ROLE,
    IncomingToken,
    Peer,
    PeerEndpoint,
    PeerRole,
    PeerState,
    TokenUse,
    token_hash,
)
from emobility.protocols.ocpi.registration import origin_of
from emobility.protocols.ocpi.v221 import ConnectionStatus, InterfaceRole
from emobility.runtime.http_server import serve_app
from emobility.runtime.settings import Settings
from roaming_hub.records import HUB_CLIENT, HubClient
from roaming_hub.service import HUB
from roaming_hub.wiring import run as run_hub

TOKEN: Final = "internal-token-of-a-bench-0123456789"  # noqa: S105 - of a hub that exists for seconds
MASTER_KEY: Final = "ab" * 32
ANSWER_BODY: Final = b'{"data":null,"status_code":1000,"timestamp":"2026-03-01T12:00:00Z"}'
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(ANSWER_BODY),
    ANSWER_BODY,
)
STOP_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A party that is registered at the hub, and what it presents there."""

    party: PartyId
    token: str


async def register(dsn: str, parties: Sequence[tuple[PartyId, Role, str]], modules: Sequence[str]) -> list[Joined]:
    """Enter parties as registered, each with the URL below which it serves both sides of `modules`."""
    clock, randomness = SystemClock(), SystemRandomness()
    joined = []
    async with open_postgres(dsn, master_key=bytes.fromhex(MASTER_KEY), clock=clock, randomness=randomness) as postgres:
        sealed = await postgres.vault.seal("token of the hub", identifier="bench")
        async with postgres.units.begin() as unit:
            for party, role, url in parties:
                token, now = f"token-{party.code}", clock.now()
                await unit.table(PEER).put(
                    Peer(
                        own_party=HUB,
                        peer_id=party.code,
                        state=PeerState.REGISTERED,
                        origin=origin_of(url),
                        versions_url=f"{url}/versions",
                        endpoints=tuple(
                            PeerEndpoint(module=module, role=side, url=f"{url}/{module}/{side.value.lower()}")
                            for module in modules
                            for side in InterfaceRole
                        ),
                        outgoing_token=sealed,
                        last_updated=now,
                    )
                )
                await unit.table(PEER_ROLE).put(
                    PeerRole(
                        own_party=HUB,
                        party_id=party,
                        role=role,
                        peer_id=party.code,
                        business_name=party.code,
                        last_updated=now,
                    )
                )
                await unit.table(INCOMING_TOKEN).put(
                    IncomingToken(
                        token_hash=token_hash(token), own_party=HUB, peer_id=party.code, token_use=TokenUse.REQUESTS
                    )
                )
                await unit.table(HUB_CLIENT).put(
                    HubClient(party_id=party, role=role, status=ConnectionStatus.CONNECTED, last_updated=now)
                )
                joined.append(Joined(party=party, token=token))
            await unit.commit()
    return joined


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[ServerProcess]:
    """Run a server of this module until the context ends; it ends by itself when this process does."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.hub_processes",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert started.stdout is not None
    try:
        yield ServerProcess(pid=started.pid, port=int(await started.stdout.readline()))
    finally:
        started.kill()
        await started.wait()


async def serve_hub(dsn: str, port: int, *origins: str) -> None:
    """Serve the real hub over a real PostgreSQL; print its port once it listens."""
    settings = Settings(
        environment="development",
        internal_token=SecretStr(TOKEN),
        master_key=SecretStr(MASTER_KEY),
        database_url=dsn,
        public_url=f"http://127.0.0.1:{port}",
        business_port=port,
        embedded_origins=origins,
    )
    serving = asyncio.create_task(run_hub(settings))
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            if serving.done():
                serving.result()
        else:
            writer.close()
            break
    print(port, flush=True)
    await _until_input_ends()


class _Platform(asyncio.Protocol):
    """Answers every request with S 1000, as cheaply as can be, so that it is not what is measured."""

    answers: bool = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.waiting = b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while True:
            head, separator, rest = self.waiting.partition(b"\r\n\r\n")
            if not separator:
                return
            length = _content_length(head)
            if len(rest) < length:
                return
            self.waiting = rest[length:]
            if self.answers:
                self.transport.write(ANSWER)


class _Silent(_Platform):
    """Takes requests and never answers."""

    answers = False


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def serve_platform(*, is_silent: bool) -> None:
    """Serve all parties' platforms at one port; print it."""
    kind = _Silent if is_silent else _Platform
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0, backlog=2_048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await _until_input_ends()


async def serve_forwarder(target: str) -> None:
    """Serve the rival: FastAPI and httpx with their defaults, which send a request on and keep nothing."""
    app, client = FastAPI(), httpx.AsyncClient(limits=httpx.Limits(max_connections=200), trust_env=False)

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def forward(path: str, request: Request) -> Response:
        passed = {"content-type", "authorization", "x-request-id", "x-correlation-id"}
        answer = await client.request(
            request.method,
            f"{target}/{path}",
            content=await request.body(),
            headers={
                name: value for name, value in request.headers.items() if name in passed or name.startswith("ocpi-")
            },
        )
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    stop = asyncio.Event()
    serving = asyncio.create_task(
        serve_app(app, host="127.0.0.1", port=0, stop=stop, on_listening=lambda port: print(port, flush=True))
    )
    await _until_input_ends()
    stop.set()
    await serving


async def _until_input_ends() -> None:
    """Return when whoever started this process is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def main(arguments: Sequence[str]) -> None:
    """Serve what is asked for."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if arguments[0] == "hub":
        uvloop.run(serve_hub(arguments[1], int(arguments[2]), *arguments[3:]))
    elif arguments[0] == "forwarder":
        uvloop.run(serve_forwarder(arguments[1]))
    else:
        uvloop.run(serve_platform(is_silent=arguments[0] == "silent"))


if __name__ == "__main__":
    main(sys.argv[1:])
