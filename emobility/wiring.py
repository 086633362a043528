"""Chooses the adapters a process runs on, from its settings. Deployables' own `wiring` modules start from here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from emobility.adapters.chain_registry import ChainPartyRegistry
from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.postgres import open_postgres
from emobility.adapters.postgres.reconciliation import PostgresReconciliation
from emobility.adapters.signing import Ed25519Signer
from emobility.adapters.system import SteppedClock, SystemClock, SystemRandomness, SystemTimer
from emobility.domain.errors import Unavailable
from emobility.ports.clock import Clock
from emobility.ports.event_log import EventLog
from emobility.ports.party_registry import PartyRegistry
from emobility.ports.ports import Ports
from emobility.runtime.settings import Settings

if TYPE_CHECKING:
    from emobility.adapters.ethereum import EthereumChain, QuorumChain


class DatabaseNotNamed(Unavailable):
    """A process was started without knowing its database."""

    def __init__(self) -> None:
        super().__init__("set WATTROAM_DATABASE_URL to a PostgreSQL server, or run `wattroam up`, which brings its own")


def clock_of(settings: Settings) -> Clock:
    """Return real time, or the time master's in a demo."""
    return SystemClock() if settings.clock_file is None else SteppedClock(settings.clock_file)


@asynccontextmanager
async def open_ports(settings: Settings) -> AsyncIterator[Ports]:
    """Open what the settings name and close it with the context. Raises `DatabaseNotNamed`."""
    if settings.database_url is None:
        raise DatabaseNotNamed
    clock, randomness = clock_of(settings), SystemRandomness()
    key = settings.master_key_bytes
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(
            open_postgres(settings.database_url, master_key=key, clock=clock, randomness=randomness)
        )
        http = await stack.enter_async_context(
            GuardedHttpClient(
                embedded_origins=settings.embedded_origins,
                own_origins=settings.own_origins,
                configured_origins=settings.pki_origins,
                internal_token=settings.internal_token.get_secret_value(),
            )
        )
        event_log: EventLog = postgres.event_log
        if settings.event_log == "kafka":
            from emobility.adapters.kafka import open_kafka  # noqa: PLC0415 - heavy, and most do without

            event_log = await stack.enter_async_context(open_kafka(settings.kafka_bootstrap or "", postgres))
        yield Ports(
            clock=clock,
            timer=SystemTimer(),
            randomness=randomness,
            event_log=event_log,
            units=postgres.units,
            vault=postgres.vault,
            http=http,
            signer=Ed25519Signer(key),
            payments=SandboxPayments(postgres.units),
            party_registry=await _party_registry(settings, stack),
            reconciliation=PostgresReconciliation(postgres.units),
        )


def open_chain(settings: Settings, rpc_url: str) -> AbstractAsyncContextManager[EthereumChain | QuorumChain]:
    """Open the chain behind one endpoint or several, as the settings say how far each is believed."""
    from emobility.adapters.ethereum import open_ethereum  # noqa: PLC0415 - most processes read no chain

    return open_ethereum(rpc_url, quorum=settings.chain_rpc_quorum, final_blocks=settings.chain_final_blocks)


async def _party_registry(settings: Settings, stack: AsyncExitStack) -> PartyRegistry | None:
    if settings.party_registry is None or settings.chain_rpc_url is None:
        return None
    chain = await stack.enter_async_context(open_chain(settings, settings.chain_rpc_url))
    return ChainPartyRegistry(chain, bytes.fromhex(settings.party_registry.removeprefix("0x")))
