"""Chains for tests: one in memory and a real one (anvil), alike but for what is behind them; and ledgers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

import settlement_contracts
from emobility.adapters.chain_signing import mnemonic_signer
from emobility.adapters.cosigned_ledger.ledger import WrittenLedger, open_ledger
from emobility.adapters.ethereum import open_ethereum
from emobility.adapters.memory import SeededRandomness, VirtualClock, open_memory
from emobility.adapters.memory.chain import FINALITY_BLOCKS, FakeChain
from emobility.adapters.memory.contracts import settlement_contracts_in_python
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.domain.batch.abi import encode
from emobility.ports.chain import Chain, Fees, TransactionReceipt
from emobility.ports.chain_signer import ChainSigner, UnsignedTransaction
from emobility.ports.unit_of_work import Units
from emobility.runtime.embedded_chain import EmbeddedChain

T0: Final = datetime(2022, 3, 28, tzinfo=UTC)
DEADLINE_S: Final = 30.0
GAS_LIMIT: Final = 5_000_000
KINDS: Final = ("fake", pytest.param("anvil", marks=pytest.mark.chain))
LEDGERS: Final = ("ledger", "ledger in PostgreSQL")
EVERY_KIND: Final = (*KINDS, *LEDGERS)
MNEMONIC: Final = "test test test test test test test test test test test junk"


class ChainWorld:
    """A chain, an account that can pay on it, and ways to make it misbehave."""

    chain: Chain
    mnemonic: str
    clock: VirtualClock

    @property
    def payer(self) -> ChainSigner:
        """The first account that can pay."""
        return self.account(0)

    def account(self, index: int) -> ChainSigner:
        """Return one of the accounts that can pay."""
        return mnemonic_signer(self.mnemonic, index)

    def held(self) -> AbstractContextManager[None]:
        """Have transactions wait."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Have nobody answer."""
        raise NotImplementedError

    async def restart_without_state(self) -> None:
        """Begin anew at the same address."""
        raise NotImplementedError

    async def signed(
        self,
        to: bytes | None,
        calldata: bytes,
        *,
        by: ChainSigner | None = None,
        nonce: int | None = None,
        chain_id: int | None = None,
        bid: int = 100,
    ) -> bytes:
        """Sign a transaction, by the payer if nobody else is named; `bid`: percent of what is to be offered now."""
        signer, fees = by or self.payer, await self.chain.fees()
        return await signer.sign_transaction(
            UnsignedTransaction(
                chain_id=await self.chain.chain_id() if chain_id is None else chain_id,
                nonce=await self.chain.nonce(signer.address, with_waiting=True) if nonce is None else nonce,
                gas_limit=GAS_LIMIT,
                fees=Fees(
                    max_fee_per_gas=fees.max_fee_per_gas * bid // 100,
                    max_priority_fee_per_gas=fees.max_priority_fee_per_gas * bid // 100,
                ),
                to=to,
                calldata=calldata,
            )
        )

    async def sent(self, to: bytes | None, calldata: bytes, *, by: ChainSigner | None = None) -> bytes:
        return await self.chain.send_raw(await self.signed(to, calldata, by=by))

    async def final(self, transaction_hash: bytes) -> TransactionReceipt:
        """Wait until a transaction is in a block that is final."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                receipt = await self.chain.receipt(transaction_hash)
                if receipt is not None and receipt.block_number <= (await self.chain.finalized()).number:
                    return receipt
                await asyncio.sleep(0.02)

    async def currency(self) -> bytes:
        """Make a currency that the payer can mint."""
        arguments = encode("(string,string,address)", (b"Euro", b"EUR", self.payer.address))
        code = bytes.fromhex(settlement_contracts.bytecode("EmbeddedCurrency")[2:])
        receipt = await self.final(await self.sent(None, code + arguments))
        assert receipt.contract_address is not None
        return receipt.contract_address


class FakeWorld(ChainWorld):
    def __init__(
        self, *, mnemonic: str = MNEMONIC, chain_id: int | None = None, finality_blocks: int = FINALITY_BLOCKS
    ) -> None:
        self.mnemonic = mnemonic
        self.clock = VirtualClock(T0)
        self.fake = FakeChain(
            clock=self.clock,
            randomness=SeededRandomness(1),
            execute=settlement_contracts_in_python(),
            chain_id=chain_id,
            finality_blocks=finality_blocks,
        )
        self.chain = self.fake

    @contextmanager
    def held(self) -> Iterator[None]:
        self.fake.is_held = True
        yield
        self.fake.is_held = False
        self.fake.mine(3)

    async def stop(self) -> None:
        self.fake.is_down = True

    async def restart_without_state(self) -> None:
        self.fake.forget()


class LedgerWorld(ChainWorld):
    """A ledger whose operator is the first account; nothing on it waits, so nothing can be held."""

    def __init__(self, ledger: WrittenLedger, units: Units, clock: VirtualClock) -> None:
        self.mnemonic = MNEMONIC
        self.clock = clock
        self.ledger = ledger
        self.units = units
        self.chain = ledger

    async def reopened(self) -> WrittenLedger:
        """Open it as another process does: from rows alone."""
        return await open_ledger(self.units, operator=self.payer, clock=self.clock, randomness=SeededRandomness(2))


@asynccontextmanager
async def a_ledger(dsn: str | None = None) -> AsyncIterator[LedgerWorld]:
    """A ledger in memory, or over a database."""
    clock, randomness = VirtualClock(T0), SeededRandomness(1)
    async with AsyncExitStack() as stack:
        opening: Any = open_memory(master_key=bytes(32), clock=clock, randomness=randomness)
        if dsn is not None:
            opening = open_postgres(dsn, master_key=bytes(32), clock=clock, randomness=randomness)
        units = (await stack.enter_async_context(opening)).units
        operator = mnemonic_signer(MNEMONIC, 0)
        ledger = await open_ledger(units, operator=operator, clock=clock, randomness=randomness)
        yield LedgerWorld(ledger, units, clock)


class AnvilWorld(ChainWorld):
    def __init__(self, server: EmbeddedChain, clock: VirtualClock, chain: Chain, folder: Path) -> None:
        self.server = server
        self.clock = clock
        self.chain = chain
        self.folder = folder
        self.mnemonic = server.mnemonic

    @contextmanager
    def held(self) -> Iterator[None]:
        waiting = self.server._is_work_waiting

        async def none() -> bool:
            return False

        self.server._is_work_waiting = none  # type: ignore[method-assign]
        yield
        self.server._is_work_waiting = waiting  # type: ignore[method-assign]

    async def stop(self) -> None:
        self.server.kill()

    async def restart_without_state(self) -> None:
        self.server.kill()
        (self.folder / "state.json").unlink()
        await self.server.start()


@asynccontextmanager
async def an_anvil(folder: Path, *, finality_blocks: int = FINALITY_BLOCKS) -> AsyncIterator[AnvilWorld]:
    clock = VirtualClock(T0)
    server = EmbeddedChain(
        folder, clock=clock, timer=SystemTimer(), randomness=SystemRandomness(), finality_blocks=finality_blocks
    )
    await server.start()
    try:
        async with open_ethereum(server.rpc_url) as chain:
            yield AnvilWorld(server, clock, chain, folder)
    finally:
        await server.stop()


@asynccontextmanager
async def a_chain_world(kind: str, folder: Path, *, dsn: str | None = None) -> AsyncIterator[ChainWorld]:
    """A `fake` chain, an `anvil`, or a `ledger`, in memory or over a database."""
    if kind == "fake":
        yield FakeWorld()
        return
    if kind.startswith("ledger"):
        async with a_ledger(dsn) as ledger:
            yield ledger
        return
    async with an_anvil(folder) as anvil:
        yield anvil
