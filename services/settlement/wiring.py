"""The settlement on real adapters, alone in its process: the only one that speaks to a chain."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial

from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.adapters.chain_keys.keystore import KeyRefused, Keystore, read_passphrase
from emobility.adapters.chain_keys.web3signer import Web3Signer
from emobility.adapters.chain_signing import (
    ledger_operator,
    mnemonic_signer,
    party_signer,
    proposer_signer,
    recovered_address,
)
from emobility.adapters.cosigned_ledger.ledger import WrittenLedger, open_ledger
from emobility.adapters.ethereum import QuorumChain
from emobility.adapters.http_egress import GuardedHttpClient
from emobility.ports.chain import Chain, ChainUnavailable
from emobility.ports.chain_signer import TransactionSigner
from emobility.ports.ports import Ports
from emobility.runtime.garbage import collect_rarely
from emobility.runtime.http_server import serve_app
from emobility.runtime.process_tree import stopping_on_signals
from emobility.runtime.settings import Settings
from emobility.wiring import open_chain, open_ports
from services.settlement.access import ChainAccess
from services.settlement.books import StoredBooks
from services.settlement.crash_points import CrashPoint, dying_at
from services.settlement.deployment import Deployer
from services.settlement.given_deployment import GivenDeployment
from services.settlement.manifest import read_manifest
from services.settlement.opening import Openings
from services.settlement.service import SERVICE, Settlement, build
from services.settlement.spending import Caps

ADMINISTRATOR, PROPOSER = 0, 1
"""Accounts of a chain of our own; each has one sender, so that no two take the same nonce."""


@dataclass(frozen=True, slots=True)
class KeptKeys:
    """Keys that somebody keeps for us: the first when we start, and how to learn of all."""

    first: TransactionSigner
    all: Callable[[], Awaitable[Sequence[TransactionSigner]]]

    async def successors(self) -> Sequence[TransactionSigner]:
        """Return those that take over from the first."""
        return [each for each in await self.all() if each.address != self.first.address]


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        KeyRefused: a key can't be used.
        ManifestRefused, DeploymentGone, OtherDeployment: the contracts that settings name are not there, or not ours.
    """
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(open_ports(settings))
        chain: Chain | None = None
        keys = None
        if settings.settlement_on == "ledger":
            operator = ledger_operator(settings.master_key_bytes)
            chain = await open_ledger(ports.units, operator=operator, clock=ports.clock, randomness=ports.randomness)
            keys = await kept_keys(settings, stack)
        elif settings.chain_rpc_url is not None:
            chain = await stack.enter_async_context(open_chain(settings, settings.chain_rpc_url))
            keys = await kept_keys(settings, stack)
        given = None
        if chain is not None and settings.chain_deployment is not None:
            given = GivenDeployment(ports, chain, read_manifest(settings.chain_deployment))
            with suppress(ChainUnavailable):  # then it is looked at as soon as it answers
                await given.taken()
        settlement = settlement_on(settings, ports, chain, keys, given)
        if isinstance(chain, QuorumChain):
            chain.on_dissent = settlement.counted.dissented
        app = Starlette(routes=[Mount(f"/{SERVICE}", app=settlement.app), Mount("/", app=settlement.app)])
        collect_rarely()
        with stopping_on_signals(stop):
            async with asyncio.TaskGroup() as tasks:
                host, port = settings.settlement_host, settings.settlement_port
                tasks.create_task(serve_app(app, host=host, port=port, stop=stop))
                tasks.create_task(settlement.run(stop))


async def kept_keys(settings: Settings, stack: AsyncExitStack) -> KeptKeys | None:
    """Return the keys that a keystore or a Web3Signer keeps; None: ours follows from the installation's own secrets.

    Raises:
        KeyRefused: the keystore can't be opened, or holds no key.
    """
    if settings.chain_keystore is not None:
        passphrase = read_passphrase(file=settings.chain_passphrase_file, descriptor=settings.chain_passphrase_fd)
        keystore = Keystore(settings.chain_keystore, passphrase)
        opened = await keystore.signers()
        if not opened:
            raise KeyRefused(f"{settings.chain_keystore} holds no key; `wattroam key new` makes one")
        return KeptKeys(first=opened[0], all=keystore.signers)
    if settings.chain_signer_url is None:
        return None
    ca_file = settings.chain_signer_ca_file
    authorities = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    http = GuardedHttpClient(configured_origins=(settings.chain_signer_url,), ssl_context=authorities)
    await stack.enter_async_context(http)
    accounts = [bytes.fromhex(each.removeprefix("0x")) for each in settings.chain_signer_addresses]
    signers = Web3Signer(http, settings.chain_signer_url, accounts).signers()

    async def the_same() -> Sequence[TransactionSigner]:
        return signers

    return KeptKeys(first=signers[0], all=the_same)


def settlement_on(
    settings: Settings,
    ports: Ports,
    chain: Chain | None,
    keys: KeptKeys | None = None,
    given: GivenDeployment | None = None,
) -> Settlement:
    """Put the service together on a chain; None: CDRs are taken in, and wait."""
    point = settings.settlement_crash_point
    reached = dying_at(None if point is None else CrashPoint(point))
    if chain is None:
        return build(settings, ports, reached=reached)
    books, words = StoredBooks(ports.units), settings.chain_mnemonic
    key = settings.master_key_bytes
    derived = proposer_signer(key) if words is None else mnemonic_signer(words.get_secret_value(), PROPOSER)
    access = ChainAccess(
        chain=chain,
        proposer=derived if keys is None else keys.first,
        signer_of=partial(party_signer, key),
        recovered_address=recovered_address,
        books=books,
        successors=None if keys is None else keys.successors,
        caps=Caps(
            fee_gwei_max=settings.chain_fee_gwei_max,
            gwei_per_day=settings.chain_gwei_per_day,
            transactions_per_hour=settings.chain_transactions_per_hour,
        ),
        stuck_after_s=settings.chain_stuck_after_s,
        lease_s=settings.settlement_lease_s,
        ledger=chain if isinstance(chain, WrittenLedger) else None,
    )
    deployer = None
    if isinstance(chain, WrittenLedger):
        mints = settings.environment != "production"
        deployer = Deployer(chain, ledger_operator(key), ports.timer, mints=mints)
    elif words is not None:
        deployer = Deployer(chain, mnemonic_signer(words.get_secret_value(), ADMINISTRATOR), ports.timer)
    return build(settings, ports, access, Openings(ports, access, books, deployer, given), reached=reached)
