"""A Session's PUT from party to party: through our hub, durably recorded, and through a bare FastAPI forwarder.

The forwarder (FastAPI and httpx) knows nobody, checks nothing and keeps nothing. nginx, where it is installed, is
another: a proxy in C. Receivers answer at once; what a hub adds is its latency less that of asking them directly.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from bench.figure import Figure, against_goal, against_rival
from bench.hub_load import Make, Measured, Target, as_many_as_go, paced, put_session
from bench.hub_processes import Joined, process, register
from bench.servers import migrated_postgres, server_folder
from emobility.domain.identifiers import PartyId, Role
from emobility.runtime import network

FIGURES: Final = (
    "hub.route.requests_per_s",
    "hub.route.added_p50",
    "hub.route.added_p99",
    "hub.route.beside_nginx",
)
SENDERS: Final = 4
CONNECTIONS: Final = 32
PACE_PER_S: Final = 200.0
PACED_CONNECTIONS: Final = 16
GOAL_PER_S: Final = 600.0
GOAL_RATIO: Final = 0.3
GOAL_P50_MS: Final = 4.0
GOAL_P99_MS: Final = 20.0
NGINX: Final = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream receiver {{ server 127.0.0.1:{target}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://receiver; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


async def run(*, short: bool) -> list[Figure]:
    """Measure in rounds, in turns."""
    return await measure(rounds=2 if short else 5, round_s=2.0 if short else 8.0)


async def measure(*, rounds: int, round_s: float) -> list[Figure]:
    """Measure rounds of `round_s` seconds each."""
    ours: list[float] = []
    rival: list[float] = []
    beside: list[float] = []
    p50: list[float] = []
    p99: list[float] = []
    async with migrated_postgres() as postgres, process("platform") as receiver:
        origin = f"http://127.0.0.1:{receiver.port}"
        msp = PartyId("DE-MSP")
        parties = [(PartyId(f"NL-C{number:02}"), Role.CPO, origin) for number in range(SENDERS)]
        senders = await register(postgres.dsn, [*parties, (msp, Role.EMSP, origin)], ["sessions"])
        hub_port = network.free_port()
        async with (
            process("hub", postgres.dsn, str(hub_port), origin) as hub,
            process("forwarder", origin) as forwarder,
            nginx(receiver.port) as nginx_port,
        ):
            through_hub = requests(Target(port=hub.port, path="/hub/ocpi/2.2.1"), senders[:SENDERS], msp)
            through_rival = requests(Target(port=forwarder.port, path=""), senders[:SENDERS], msp)
            directly = requests(Target(port=receiver.port, path=""), senders[:SENDERS], msp)
            await _all_taken(as_many_as_go(hub.port, through_hub, connections=8, for_s=1.0))
            for _ in range(rounds):
                most = partial(as_many_as_go, connections=CONNECTIONS, for_s=round_s)
                ours.append((await _all_taken(most(hub.port, through_hub))).per_s)
                rival.append((await _all_taken(most(forwarder.port, through_rival))).per_s)
                if nginx_port is not None:
                    at_nginx = requests(Target(port=nginx_port, path=""), senders[:SENDERS], msp)
                    beside.append((await _all_taken(most(nginx_port, at_nginx))).per_s)
                pace = partial(paced, per_s=PACE_PER_S, for_s=round_s, connections=PACED_CONNECTIONS)
                slow = await _all_taken(pace(hub.port, through_hub))
                quick = await _all_taken(pace(receiver.port, directly))
                p50.append(slow.percentile_ms(0.5) - quick.percentile_ms(0.5))
                p99.append(slow.percentile_ms(0.99) - quick.percentile_ms(0.99))
    figures = [
        against_rival(
            name=FIGURES[0],
            unit="requests/s",
            ours=ours,
            rival=rival,
            rival_name="FastAPI and httpx, which forward and record nothing",
            ratio_min=GOAL_RATIO,
            value_min=GOAL_PER_S,
        ),
        against_goal(name=FIGURES[1], value=median(p50), unit="ms", at_most=GOAL_P50_MS),
        against_goal(name=FIGURES[2], value=median(p99), unit="ms", at_most=GOAL_P99_MS),
    ]
    if beside:
        figures.append(
            against_rival(name=FIGURES[3], unit="requests/s", ours=ours, rival=beside, rival_name="nginx, one worker")
        )
    return figures


def requests(target: Target, senders: list[Joined], receiver: PartyId) -> Make:
    """Return what makes requests of each sender in turn."""
    return lambda number: put_session(target, senders[number % len(senders)], receiver, number)


async def _all_taken(load: Awaitable[Measured]) -> Measured:
    found = await load
    assert not found.refused, found.last_refusal
    return found


@asynccontextmanager
async def nginx(target: int) -> AsyncIterator[int | None]:
    """Run nginx before the receiver; None where it is not installed."""
    found = shutil.which("nginx")
    if found is None:
        yield None
        return
    with server_folder() as folder:
        port = network.free_port()
        await asyncio.to_thread(
            Path(folder, "nginx.conf").write_text, NGINX.format(folder=folder, target=target, port=port)
        )
        started = await asyncio.create_subprocess_exec(found, "-c", f"{folder}/nginx.conf", "-p", str(folder))
        await asyncio.sleep(0.5)
        try:
            yield port
        finally:
            started.kill()
            await started.wait()
