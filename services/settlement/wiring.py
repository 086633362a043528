"""The settlement on real adapters, alone in its process: the only one that speaks to a chain."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial

from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.adapters.chain_signing import mnemonic_signer, party_signer, proposer_signer, recovered_address
from emobility.adapters.ethereum import open_ethereum
from emobility.ports.chain import Chain
from emobility.ports.ports import Ports
from emobility.runtime.garbage import collect_rarely
from emobility.runtime.http_server import serve_app
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.settings import Settings
from emobility.wiring import open_ports
from services.settlement.access import ChainAccess
from services.settlement.books import StoredBooks
from services.settlement.crash_points import CrashPoint, dying_at
from services.settlement.deployment import Deployer
from services.settlement.opening import Openings
from services.settlement.service import SERVICE, Settlement, build

ADMINISTRATOR, PROPOSER = 0, 1
"""Accounts of a chain of our own; each has one sender, so that no two take the same nonce."""


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(open_ports(settings))
        chain = None
        if settings.chain_rpc_url is not None:
            chain = await stack.enter_async_context(open_ethereum(settings.chain_rpc_url))
        settlement = settlement_on(settings, ports, chain)
        app = Starlette(routes=[Mount(f"/{SERVICE}", app=settlement.app), Mount("/", app=settlement.app)])
        collect_rarely()
        with stopping_on_signals(stop):
            async with asyncio.TaskGroup() as tasks:
                host, port = settings.settlement_host, settings.settlement_port
                tasks.create_task(serve_app(app, host=host, port=port, stop=stop))
                tasks.create_task(settlement.run(stop))


def settlement_on(settings: Settings, ports: Ports, chain: Chain | None) -> Settlement:
    """Put the service together on a chain; None: CDRs are taken in, and wait."""
    point = settings.settlement_crash_point
    reached = dying_at(None if point is None else CrashPoint(point))
    if chain is None:
        return build(settings, ports, reached=reached)
    books, words = StoredBooks(ports.units), settings.chain_mnemonic
    key = settings.master_key_bytes
    proposer = proposer_signer(key) if words is None else mnemonic_signer(words.get_secret_value(), PROPOSER)
    access = ChainAccess(
        chain=chain,
        proposer=proposer,
        signer_of=partial(party_signer, key),
        recovered_address=recovered_address,
        books=books,
    )
    deployer = None
    if words is not None:
        deployer = Deployer(chain, mnemonic_signer(words.get_secret_value(), ADMINISTRATOR), ports.timer)
    return build(settings, ports, access, Openings(ports, access, books, deployer), reached=reached)
